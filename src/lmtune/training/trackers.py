"""Experiment trackers: TensorBoard, W&B, MLflow and trackio, which Trainer reports to."""

import importlib
import importlib.util
import os
from collections.abc import Callable

from lmtune.errors import ConfigError
from lmtune.runs import Run

TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
"""Tracker to the package that it needs."""

TRACKER_IDS = {"wandb": "WANDB_RUN_ID", "mlflow": "MLFLOW_RUN_ID"}
"""Tracker to the environment variable that makes it continue a run it knows."""

TRACKER_NAMES = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb", "tracker.json"),
    "mlflow": ("mlflow.db", "mlflow.db-shm", "mlflow.db-wal", "mlruns", "tracker.json"),
    "trackio": ("trackio",),
}
"""Tracker to what it makes in the run folder."""


def check_tracker(name: str) -> None:
    """Raise ConfigError where the tracker's package is not installed."""
    package = TRACKERS.get(name)
    if name != "none" and package is None:
        raise ConfigError(f"tracker={name}: expected none, {', '.join(TRACKERS)}.")
    if package is not None and importlib.util.find_spec(package) is None:
        raise ConfigError(
            f"tracker={name} needs the package {package}, which is not installed. pip install 'lmtune[track]'"
        )


def point_tracker(name: str, run: Run) -> Callable[[], None]:
    """Keep a tracker's files in the run folder, and continue its curve, unless the user's environment says otherwise.

    Returns what undoes it at the end of the run: the next job of a sweep would take it for the user's own wish.
    """
    places = {
        "tensorboard": {"TENSORBOARD_LOGGING_DIR": str(run.folder / "tensorboard")},
        "wandb": {"WANDB_DIR": str(run.folder), "WANDB_RESUME": "allow"},
        "mlflow": {"MLFLOW_TRACKING_URI": f"sqlite:///{run.folder / 'mlflow.db'}"},
        "trackio": {"TRACKIO_DIR": str(run.folder / "trackio")},  # it continues a run of the same name by itself
    }
    wanted = places[name]
    if name in TRACKER_IDS and (known := run.find_tracker_id(name)):
        wanted[TRACKER_IDS[name]] = known
    ours = {variable: value for variable, value in wanted.items() if variable not in os.environ}
    os.environ.update(ours)

    def undo() -> None:
        for variable in ours:
            os.environ.pop(variable, None)

    return undo


def find_tracker_id(name: str) -> str | None:
    """The id that a tracker has given the run that is being logged, None where it needs none."""
    if name not in TRACKER_IDS:
        return None
    tracker = importlib.import_module(name)
    if name == "wandb":
        return None if tracker.run is None else str(tracker.run.id)
    active = tracker.active_run()
    return None if active is None else str(active.info.run_id)
