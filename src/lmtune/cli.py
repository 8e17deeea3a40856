"""The command line: `lmtune <command> key=value ...`.

    lmtune train data=bio model=gpt2-small-pt
    lmtune eval ckpt=outputs/...
    lmtune generate ckpt=... prompt="O paciente chegou no hospital"

stdout is for results, stderr for progress and logs. Exit codes: 0 done; 2 the user can mend it; 130 and 143 stopped by
a signal; 1 a fault of ours. Nothing heavy is imported until a configuration has been composed and checked.
"""

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from lmtune import __version__
from lmtune.errors import LmtuneError, Stopped
from lmtune.keys import Typed

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Command:
    """One door: the module whose `run` does the work, and a line of help."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("lmtune.commands.train", "fine-tune a model; checkpoints, perplexity, samples, report"),
    "eval": Command("lmtune.commands.evaluate", "perplexity, bits per byte and accuracy of a checkpoint"),
    "data": Command("lmtune.commands.data", "where every document and token goes; nothing is trained"),
    "generate": Command("lmtune.commands.generate", "continue a prompt with a checkpoint"),
    "lr-find": Command("lmtune.commands.lr_find", "which learning rates suit a training: an LR range test"),
    "tokenizer": Command("lmtune.commands.tokenizer", "learn a byte-level BPE vocabulary from text"),
}


def main() -> NoReturn:
    """Entry point of the `lmtune` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(render_help())  # noqa: T201
        return 0
    if arguments[0] == "--version":
        print(f"lmtune {__version__}")  # noqa: T201
        return 0
    name, *overrides = arguments
    set_environment()
    for number in (
        signal.SIGTERM,
        signal.SIGUSR1,
    ):  # the second is what SLURM can be asked to send before it ends a job
        signal.signal(number, _raise_stopped)
    try:
        if name not in COMMANDS:
            raise LmtuneError(_explain_unknown(name))
        return Dispatch(name).run(overrides)
    except LmtuneError as error:
        return report(error)
    except Stopped as stopped:
        return stopped.exit_code
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as end:  # argparse and Hydra end so after --help
        return int(end.code or 0)


def render_help() -> str:
    """The table of commands."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "lmtune: from text to a fine-tuned GPT-style language model you can trust",
            "",
            "usage: lmtune <command> [key=value ...]",
            "",
            *lines,
            "",
            "lmtune <command> --help lists groups and keys. -m runs every combination of key=a,b values.",
            "Without arguments, lmtune train trains a tiny model on a text that comes with it, on any CPU.",
        ]
    )


def set_environment() -> None:
    """Keep the libraries from talking where nobody asked: no telemetry, no download counts, no background conversions."""
    quiet = {
        "DISABLE_SAFETENSORS_CONVERSION": "1",  # from_pretrained would ask the Hub to convert .bin weights
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets would call home even for local files
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TOKENIZERS_PARALLELISM": "true",  # said, so that tokenizers does not warn after a fork
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def report(error: BaseException) -> int:
    """Say what went wrong in one paragraph on stderr; return the exit code."""
    if os.environ.get("LMTUNE_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    sys.stderr.write(f"error: {error}\n")
    return getattr(error, "exit_code", 1)


class Dispatch:
    """Composes a command's configuration with Hydra and opens its door."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.exit_code = 0
        self.typed = Typed()

    def run(self, overrides: list[str]) -> int:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting by itself
        import hydra

        from lmtune import composition
        from lmtune.config.effects import check_sections
        from lmtune.overrides import check_forms, find_typed, prepare_overrides
        from lmtune.secrets import check_secrets

        check_secrets(overrides)
        composition.check_user_conf()
        composition.check_flags(self.name, overrides)
        composition.register(self.name)
        check_forms(overrides)
        self.typed = find_typed(overrides)
        check_sections(self.name, self.typed)
        if self.name == "eval" and any(text.startswith("data.files=") for text in overrides):
            overrides = ["eval.split=all", *overrides]  # one's own files are scored whole, unless told otherwise
        sys.argv = ["lmtune", *resumed_overrides(overrides), *prepare_overrides(overrides)]
        compose = hydra.main(version_base="1.3", config_path=str(composition.find_conf()), config_name=self.name)
        try:
            compose(self.open_door)()
        except composition.HYDRA_ERRORS as error:
            raise LmtuneError(composition.explain(error, self.name)) from error
        except ValueError as error:
            if "Config group override" in str(error):
                raise LmtuneError(
                    f"{error}: a group takes the name of one of its files, such as training=default."
                ) from error
            raise
        except LmtuneError as error:
            if not getattr(error, "reported", False):
                raise
            self.exit_code = error.exit_code
        return self.exit_code

    def open_door(self, node: "DictConfig") -> Any:
        """Hydra's task: one job. Returns what a sweeper minimises."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        from lmtune import composition

        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            if self.name in ("eval", "data", "tokenizer") and node.data is not None:
                node.data.name = HydraConfig.get().runtime.choices["data"]
            config = composition.build_config(node, composition.SCHEMAS[self.name], self.typed)
            if self.name == "train":
                config.output = config.output or _hydra_folder(sweeping)
            door: Callable[..., Any] = importlib.import_module(COMMANDS[self.name].module).run
            with quiet_stdout() as stdout:
                return door(config, stdout)
        except LmtuneError as error:
            # Said at once: Hydra would keep a job's error until the whole sweep has ended.
            self.exit_code = report(error)
            if not sweeping:
                return None
            error.reported = True  # type: ignore[attr-defined]
            raise


def resumed_overrides(overrides: list[str]) -> list[str]:
    """`resume=RUN` goes on with what RUN was told: its recorded overrides stand before those typed now."""
    from lmtune.runs import load_overrides

    typed = dict(text.split("=", 1) for text in overrides if "=" in text)
    folder = typed.get("resume") or typed.get("training.resume_from_checkpoint") or "off"
    if folder in ("off", "auto"):
        return []
    return [text for text in load_overrides(folder) if text.lstrip("+").split("=", 1)[0] not in typed]


@contextlib.contextmanager
def quiet_stdout() -> Any:
    """Lend out the real stdout for results; whatever a library prints meanwhile goes to stderr."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield stdout


def _hydra_folder(sweeping: bool) -> str | None:
    """The folder that Hydra gives a job of a sweep, or that the user gave with hydra.run.dir=; else None."""
    from hydra.core.hydra_config import HydraConfig

    folder = str(HydraConfig.get().runtime.output_dir)
    return folder if sweeping or not Path(folder).samefile(Path.cwd()) else None


def _explain_unknown(name: str) -> str:
    from lmtune.keys import render_suggestion

    return f"{name} is not a command; expected one of {', '.join(COMMANDS)}.{render_suggestion(name, COMMANDS)}"


def _raise_stopped(number: int, frame: FrameType | None) -> NoReturn:
    """A signal before training has its own handlers, or after: end with 128 + its number, undoing what `finally` undoes."""
    raise Stopped(number, step=0)


if __name__ == "__main__":
    main()
