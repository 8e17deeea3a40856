"""Experiment trackers: which there are, what they need, and where they keep a run. tracking.py tells them of it.

lmtune train tracker=[tensorboard,wandb]
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from lmtune.errors import ConfigError
from lmtune.runs import Run
from lmtune.upstream import render_suggestion
from lmtune.versions import render_install

TRACKERS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb", "tracker.json"),
    "mlflow": ("mlflow.db", "mlflow.db-shm", "mlflow.db-wal", "mlruns", "tracker.json"),
    "trackio": ("trackio", "tracker.json"),
    "codecarbon": ("tracker.json",),
}
"""Tracker, called as its package, to what it makes in the run folder."""


class Variable(NamedTuple):
    """An environment variable that configures a tracker, with the value that it gets unless the user has set it."""

    name: str
    value: str


def check_trackers(names: list[str]) -> None:
    """Raise ConfigError for a tracker that there is not, that is named twice, or whose package is not installed."""
    for number, name in enumerate(names):  # names first: a package may take minutes to install
        if name not in TRACKERS:
            meant = render_suggestion(name, TRACKERS)
            raise ConfigError(f"tracker={name}: expected none, or one or several of {', '.join(TRACKERS)}.{meant}")
        if name in names[:number]:
            raise ConfigError(
                f"tracker names {name} twice. Expected each once: tracker=[{','.join(dict.fromkeys(names))}]."
            )
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"tracker={name} needs the package {name}, which is not installed. {render_install(name)}"
            )


def point_trackers(names: list[str], run: Run, project: str) -> Callable[[], None]:
    """Point trackers to the run folder and to their earlier ids, by environment variables that the user has not set.

    Returns a function that unsets them: the next job of a sweep would take them for the user's.
    """
    wanted = [variable for name in names for variable in _list_variables(name, run, project)]
    ours = [variable for variable in wanted if variable.name not in os.environ]
    os.environ.update(ours)

    def undo() -> None:
        for variable in ours:
            os.environ.pop(variable.name, None)

    return undo


def _list_variables(name: str, run: Run, project: str) -> list[Variable]:
    known = run.find_tracker_id(name)
    match name:
        case "tensorboard":
            return [Variable("TENSORBOARD_LOGGING_DIR", str(run.folder / "tensorboard"))]
        case "wandb":
            same = [] if known is None else [Variable("WANDB_RUN_ID", known)]
            place = [Variable("WANDB_DIR", str(run.folder)), Variable("WANDB_PROJECT", project)]
            return [*place, Variable("WANDB_RESUME", "allow"), *same]
        case "mlflow":
            same = [] if known is None else [Variable("MLFLOW_RUN_ID", known)]
            store = Variable("MLFLOW_TRACKING_URI", locate_mlflow(run))
            return [store, Variable("MLFLOW_EXPERIMENT_NAME", project), *same]
        case "trackio":
            return [Variable("TRACKIO_DIR", str(run.folder / "trackio"))]
        case _:
            return []


def locate_mlflow(run: Run) -> str:
    """The address of the store that MLflow keeps in a run folder."""
    return f"sqlite:///{run.folder.resolve() / 'mlflow.db'}"
