"""lmtune from Python: what the command line does, without a terminal.

    import lmtune

    config = lmtune.load_config("train", ["data=bio", "model=gpt2-small-pt", "training.max_steps=100"])
    results = lmtune.train(config)
    lmtune.evaluate(lmtune.load_config("eval", [f"ckpt={results['folder']}"]))

Nothing is written to stdout. The messages of the command line go to the logger `lmtune`:
`logging.basicConfig(level=logging.INFO)` shows it, and a notebook shows it below the cell. Errors that the user
can fix are raised as LmtuneError.
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
"""Hydra composes in global state, so one thread at a time."""


def load_config(command: str, overrides: Sequence[str] = ()) -> Any:
    """Compose the configuration of a command, as `lmtune <command> key=value ...` does: groups, ./conf/, and all checks.

    command: one that takes keys, such as train, eval or export. overrides: `key=value` strings, with values as
    they are typed on the command line. Raises ConfigError, saying what was expected, for an unknown key or an invalid value.
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

    On Ctrl-C, the current step is finished, a checkpoint saved, and KeyboardInterrupt raised; resume= continues from it.
    Outside the main thread, signals are not handled.
    """
    from lmtune.commands import train as command

    check_config(config, "train", TrainConfig)
    with _running():
        return _as_dict(command.run(config))


def evaluate(config: EvalCommandConfig) -> dict[str, Any]:
    """Score checkpoints; return what `lmtune eval format=json` prints: `eval`, or `models` and `comparison` for several."""
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

    Raises ConfigError outside a notebook, and if there is no report.
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
    """Raise ConfigError unless `config` is a configuration of this command."""
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
    """Set the environment of the command line; turn Stopped into KeyboardInterrupt."""
    set_environment()
    set_waiting()
    try:
        with console.painting(), notebook.saying():
            yield
    except Stopped as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped
