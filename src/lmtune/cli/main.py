"""The command line: `lmtune <command> key=value ...`.

    lmtune train data=bio model=gpt2-small-pt
    lmtune eval ckpt=outputs/...
    lmtune generate ckpt=... prompt="O paciente chegou no hospital"

stdout is for results, stderr for progress and logs. Exit codes: 0 done; 2 the user can mend it; 130 and 143 stopped by
a signal; 1 a fault of ours. Nothing heavy is imported until a configuration has been composed and checked.
"""

import importlib
import logging
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from lmtune import __version__, console, stopping
from lmtune.cli.commands import COMMANDS
from lmtune.cli.options import Options, take_options
from lmtune.errors import ConfigError, LmtuneError, Stopped, first_line
from lmtune.secrets import check_secrets, hide_secrets
from lmtune.upstream import Typed

if TYPE_CHECKING:
    from omegaconf import DictConfig


logger = logging.getLogger(__name__)


def main() -> NoReturn:
    """Entry point of the `lmtune` command."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; return its exit code."""
    with console.speaking() as stdout:
        try:
            return _run(arguments, stdout)
        except LmtuneError as error:
            return report(error)
        except Stopped as stopped:
            return stopped.exit_code
        except BrokenPipeError:  # `| head` has read enough
            return 128 + signal.SIGPIPE
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        except SystemExit as end:  # Hydra ends so after --help
            return int(end.code or 0)


def _run(arguments: list[str], stdout: IO[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        stdout.write(render_help() + "\n")
        return 0
    if arguments[0] == "--version":
        stdout.write(f"lmtune {__version__}\n")
        return 0
    name, *rest = arguments
    set_environment()
    stopping.forget()
    _listen()
    if name not in COMMANDS:
        raise LmtuneError(_explain_unknown(name))
    _check_where_one_stands()
    check_secrets(rest)
    options, keys = take_options(rest, partial(_spell_out, name))
    if options.version:
        stdout.write(f"lmtune {__version__}\n")
        return 0
    return Dispatch(name, options).run(keys)


def _listen() -> None:
    stopping.forget()
    for number in (
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGHUP,
    ):  # SLURM can be asked for the second before it ends a job
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, stopping.request)


def _spell_out(command: str, option: str) -> str:
    from lmtune.cli.explain import spell_out

    return spell_out(option, command)


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
        "USE_HUB_KERNELS": "NO",  # some models would fetch compiled code and run it
        "TOKENIZERS_PARALLELISM": "true",  # said, so that tokenizers does not warn after a fork
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def report(error: BaseException) -> int:
    """Say what went wrong in one paragraph on stderr; return the exit code."""
    if os.environ.get("LMTUNE_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    sys.stderr.write(hide_secrets(f"error: {error}\n"))
    return getattr(error, "exit_code", 1)


@dataclass
class Dispatch:
    """Composes a command's configuration with Hydra and opens its door."""

    name: str
    options: Options
    exit_code: int = 0
    typed: Typed = field(default_factory=Typed)
    """What stands on the command line."""
    told: dict[str, Any] = field(default_factory=dict)
    """What the run that resume= names was told."""

    def run(self, keys: list[str]) -> int:
        """Run the command, or each job of a sweep; return the exit code."""
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting by itself
        from lmtune.cli import composition
        from lmtune.cli.effects.typed import check_sections
        from lmtune.cli.explain import HYDRA_ERRORS, explain_error
        from lmtune.cli.overrides import check_forms, find_typed
        from lmtune.cli.user_conf.typed import check_hydra_overrides

        check_hydra_overrides(keys)
        composition.register(self.name, self.options.config_dir)
        check_forms(keys)
        self.typed = find_typed(keys)
        check_sections(self.name, self.typed)
        try:
            with ExitStack() as stack:
                self._compose(self._prepare(keys, stack))
        except HYDRA_ERRORS as error:
            raise LmtuneError(explain_error(error, self.name)) from error
        except RecursionError as error:
            raise ConfigError(
                "The configuration names itself: a value that takes its own, or a file that lists itself."
            ) from error
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

    def _prepare(self, keys: list[str], stack: ExitStack) -> list[str]:
        """Arguments for Hydra. The folder of a sweep is made here, after all its jobs have been checked."""
        from lmtune.cli import sweeps
        from lmtune.cli.overrides import prepare_overrides
        from lmtune.cli.schemas import find_conf

        if self.name == "eval" and any(text.startswith(("data.files=", "data.sources=")) for text in keys):
            keys = ["eval.split=all", *keys]  # one's own files are scored whole, unless told otherwise
        overrides = prepare_overrides(self._restore(keys, stack))
        if not self.options.multirun:
            sweeps.check_single(overrides)
        elif not self.options.shows:
            conf = find_conf()
            sweeps.check_jobs(sweeps.list_jobs(overrides, conf) or [], self.name, conf, self._check_job)
            if self.name == "train":
                overrides = stack.enter_context(sweeps.settled_folder(overrides))
        return [*self.options.render(), *overrides]

    def _restore(self, keys: list[str], stack: ExitStack) -> list[str]:
        """`resume=RUN` goes on with what RUN was told: that stands before what is typed now."""
        from lmtune.runs import find_resumed

        typed = dict(text.split("=", 1) for text in keys if "=" in text)
        folder = typed.get("resume") or typed.get("training.resume_from_checkpoint") or "off"
        if self.name != "train" or folder in ("off", "auto", "null"):
            return keys
        from lmtune.cli import resumption

        self.told = find_resumed(folder).load_config()
        stack.callback(resumption.forget)
        return [*resumption.restore_overrides(self.told, keys), *resumption.drop_repeated(self.told, keys)]

    def _compose(self, arguments: list[str]) -> None:
        import hydra

        from lmtune.cli.schemas import find_conf

        sys.argv = ["lmtune", *arguments]
        main = hydra.main(version_base="1.3", config_path=str(find_conf()), config_name=self.name)
        with ExitStack() as stack:
            if self.options.shows:  # Hydra prints that
                stack.enter_context(redirect_stdout(stack.enter_context(console.lend_results())))
            main(self.open_door)()

    def _check_job(self, node: "DictConfig") -> None:
        """What can be known of a job before any is run."""
        config = self._build_config(node)
        if self.name in ("train", "lr-find"):
            from lmtune.training.setup import check_training

            check_training(config)

    def _build_config(self, node: "DictConfig") -> Any:
        from lmtune.cli import composition
        from lmtune.cli.schemas import SCHEMAS

        return composition.build_config(node, SCHEMAS[self.name], self.typed, self.told)

    def open_door(self, node: "DictConfig") -> Any:
        """Hydra's task: one job. Returns what a sweeper minimises."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            config = self._build_config(node)
            if self.name == "train":
                _choose_hydra_folder(config, sweeping)
            door: Callable[..., Any] = importlib.import_module(COMMANDS[self.name].module).run
            with console.lend_results() as stdout:
                return door(config, stdout)
        except LmtuneError as error:
            return self._end_job(error, sweeping)

    def _end_job(self, error: LmtuneError, sweeping: bool) -> float | None:
        """Say at once what ended a job, which Hydra would keep until the whole sweep has ended; the others go on."""
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        if sweeping:
            logger.info("job %s of the sweep (%s):", hydra.job.num, hydra.job.override_dirname)
        self.exit_code = report(error)
        objective: float | None = getattr(error, "objective", None)  # of a run that completed, but was not pushed
        if not sweeping or objective is not None:
            return objective
        if hydra.runtime.choices["hydra/launcher"] == "basic":
            return math.nan
        error.reported = True  # type: ignore[attr-defined]  # another process has said it; the launcher has to hear of it
        raise error


def _choose_hydra_folder(config: Any, sweeping: bool) -> None:
    """Take the folder that Hydra gives a job of a sweep, or that the user gave with hydra.run.dir=."""
    from hydra.core.hydra_config import HydraConfig

    folder = str(HydraConfig.get().runtime.output_dir)
    if sweeping:
        config.job_folder = folder
    elif config.output is None and not Path(folder).samefile(Path.cwd()):
        config.output = folder


def _check_where_one_stands() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise LmtuneError(
            f"The folder where you stand is not there any more ({first_line(error)}); expected one to take paths from. Go to "
            "another folder."
        ) from error


def _explain_unknown(name: str) -> str:
    from lmtune.upstream import render_suggestion

    return f"{name} is not a command; expected one of {', '.join(COMMANDS)}.{render_suggestion(name, COMMANDS)}"


if __name__ == "__main__":
    main()
