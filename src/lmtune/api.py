"""lmtune from Python: what the command line does, without a terminal.

    import lmtune

    config = lmtune.load_config("train", ["data=bio", "model=gpt2-small-pt", "training.max_steps=100"])
    results = lmtune.train(config)
    lmtune.evaluate(lmtune.load_config("eval", [f"ckpt={results['folder']}"]))

Nothing is written to stdout. What the command line says on stderr goes to the logger `lmtune`:
`logging.basicConfig(level=logging.INFO)` shows it, and a notebook shows it below the cell. Whatever the user can mend is
raised as an LmtuneError.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmtune import console, notebook
from lmtune.cli.commands import COMMANDS
from lmtune.cli.dispatch import Dispatch
from lmtune.cli.main import check_command
from lmtune.cli.options import Options
from lmtune.commands.result import Result, Values
from lmtune.config import EvalCommandConfig, GenerateConfig, TrainConfig
from lmtune.environment import set_environment, set_waiting
from lmtune.errors import ConfigError, Stopped
from lmtune.secrets import check_secrets
from lmtune.versions import check_versions

_composing = threading.Lock()
"""Hydra keeps what it composes in global variables."""


def load_config(command: str, overrides: Sequence[str] = ()) -> Any:
    """The configuration of a command, as `lmtune <command> key=value ...` composes it: groups, conf/ where you stand, checks.

    command: one that takes keys, such as train, eval or export. overrides: `key=value` each, a value taken as it is typed
    behind `=` on the command line. Raises ConfigError, with what was expected, for a key or a value that cannot work.
    """
    set_environment()
    check_command(command, tuple(COMMANDS))
    check_versions()
    if isinstance(overrides, str | Mapping):
        raise ConfigError(f"{overrides!r}: expected a list of overrides, such as ['data=bio', 'seed=1'].")
    keys = [str(each) for each in overrides]
    option = next((key for key in keys if key.startswith("-") or "=" not in key), None)
    if option is not None:
        raise ConfigError(f"{option}: expected key=value, such as data=bio.")
    check_secrets(keys)
    with _composing:
        return Dispatch(command, Options()).compose(keys)


def train(config: TrainConfig) -> dict[str, Any]:
    """Fine-tune a model; return what `lmtune train format=json` prints: results.json, with the run folder.

    Ctrl-C ends the step that is running, saves a checkpoint, and raises KeyboardInterrupt; resume= goes on from it. Outside
    the main thread no signals are listened to.
    """
    from lmtune.commands import train as command

    check_config(config, "train", TrainConfig)
    with _running():
        return _as_dict(command.run(config))


def evaluate(config: EvalCommandConfig) -> dict[str, Any]:
    """Score checkpoints; return what `lmtune eval format=json` prints: `eval`, or `models` and `comparison` of several."""
    from lmtune.commands import evaluate as command

    check_config(config, "eval", EvalCommandConfig)
    with _running():
        return _as_dict(command.run(config))


def generate(config: GenerateConfig) -> Values:
    """Continue prompts; return what `lmtune generate format=json` prints: `prompt` and `texts`, a list for several prompts."""
    from lmtune.commands import generate as command

    check_config(config, "generate", GenerateConfig)
    with _running():
        return command.run(config).values


def show(results: Mapping[str, Any] | str | Path) -> None:
    """Show the report of a run below the cell of a notebook. results: what train() returned, or a run folder.

    Raises ConfigError where there is no notebook, and for what has no report.
    """
    folder = results.get("folder") if isinstance(results, Mapping) else results
    if folder is None:
        raise ConfigError(
            "lmtune.show: expected what lmtune.train() returns, or a run folder; found results without one."
        )
    file = Path(folder).expanduser() / "report.html"
    if not file.is_file():
        raise ConfigError(f"lmtune.show: expected a run folder with a report, found no {file}.")
    if not notebook.is_notebook():
        raise ConfigError(f"lmtune.show: expected a notebook, found none. Open {file} in a browser.")
    notebook.show_page(file.read_text(encoding="utf-8"))


def check_config(config: object, command: str, kind: type) -> None:
    """Raise ConfigError for anything but the configuration of a command."""
    if type(config) is not kind:
        raise ConfigError(
            f'Expected what lmtune.load_config("{command}", [...]) returns, a {kind.__name__}, found {type(config).__name__}.'
        )


def _as_dict(result: Result) -> dict[str, Any]:
    values = result.values
    assert isinstance(values, dict)
    return values


@contextmanager
def _running() -> Iterator[None]:
    """The environment of the command line; a stop by Ctrl-C is what Python calls it."""
    set_environment()
    set_waiting()
    try:
        with console.painting(), notebook.saying():
            yield
    except Stopped as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped
