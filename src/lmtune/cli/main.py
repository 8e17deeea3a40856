"""The command line: `lmtune <command> key=value ...`.

    lmtune train data=bio model=gpt2-small-pt
    lmtune eval ckpt=outputs/...
    lmtune generate ckpt=... prompt="O paciente chegou no hospital"

stdout is for results, stderr for progress and logs. Exit codes: 0 done; 2 the user can fix it; 130 and 143 stopped by
a signal; 1 a bug of ours. Nothing heavy is imported until a configuration has been composed and checked.
"""

import errno
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, NoReturn

from lmtune import __version__, console, patience, stopping
from lmtune.cli.commands import COMMANDS
from lmtune.cli.dispatch import Dispatch, explained, report
from lmtune.cli.options import check_line_ends, take_options
from lmtune.cli.tools import TOOLS
from lmtune.environment import set_environment
from lmtune.errors import LmtuneError, Stopped, first_line
from lmtune.paths import show
from lmtune.secrets import check_secrets
from lmtune.versions import check_versions

FULL = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EROFS])
"""Error numbers of a disk that takes no more."""


def main() -> NoReturn:
    """Entry point of the `lmtune` command."""
    arguments = sys.argv[1:]
    leave(run(arguments, begun(arguments)))


def leave(code: int) -> NoReturn:
    """Exit after a command has ended."""
    stopping.leave()
    gc.freeze()  # else exiting scans all objects of torch and transformers, which takes a second of CPU
    sys.exit(code)


@contextmanager
def begun(arguments: Sequence[str]) -> Iterator[None]:
    """Show at once that a command has started, and then what it is doing; libraries take seconds to import."""
    if arguments and arguments[0] in COMMANDS:
        with patience.doing(patience.CommandWork(f"lmtune {__version__} {arguments[0]}")):
            yield
    else:
        yield


def run(arguments: list[str], work: AbstractContextManager[object] | None = None) -> int:
    """Run one command; return its exit code. work: a context to enter meanwhile, once the console can be written to."""
    return run_guarded(partial(_run, arguments), work)


def run_guarded(command: Callable[[IO[str]], int], work: AbstractContextManager[object] | None = None) -> int:
    """Run a command, which is passed stdout; return its exit code, however it ends."""
    try:
        with console.speaking() as stdout, work or nullcontext():
            return _guard(command, stdout)
    except Stopped as stopped:  # the signal came while another end was being reported
        return stopped.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _guard(command: Callable[[IO[str]], int], stdout: IO[str]) -> int:
    try:
        return command(stdout)
    except LmtuneError as error:
        return report(error)
    except Stopped as stopped:
        return stopped.exit_code
    except BrokenPipeError:  # `| head` has read enough
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in FULL:
            raise
        return report(explain_full(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as end:  # how Hydra ends after --help
        return int(end.code or 0)


def _run(arguments: list[str], stdout: IO[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        stdout.write(render_help() + "\n")
        return 0
    if arguments[0] == "--version":
        stdout.write(f"lmtune {__version__}\n")
        return 0
    name, *rest = arguments
    prepare_process()
    check_command(name)
    check_line_ends(arguments)
    check_secrets(rest)
    check_versions()
    if name in TOOLS:
        return run_tool(name, rest, stdout)
    options, keys = take_options(rest, partial(_spell_out, name))
    if options.version:
        stdout.write(f"lmtune {__version__}\n")
        return 0
    if name == "check" and keys[:1] in (["train"], ["lr-find"]):
        told, *keys = keys
        return Dispatch("check" if told == "train" else told, options, checks=told != "train").run(keys)
    return Dispatch(name, options).run(keys)


def explain_full(error: OSError) -> LmtuneError:
    """Turn the error of a full disk, wherever it was met, into one that the user can fix."""
    place = f"{show(error.filename)}: " if error.filename is not None else ""
    explained = LmtuneError(
        f"{place}expected a disk that takes what is written, found: {error.strerror}. Make room, or name another folder with "
        "output=, LMTUNE_CACHE= or TMPDIR=; then give the command again."
    )
    explained.__cause__ = error  # LMTUNE_DEBUG=1 shows where
    return explained


def run_tool(name: str, arguments: list[str], stdout: IO[str]) -> int:
    """Run a command about the command line itself; return its exit code. `--help` shows its usage."""
    from lmtune.cli.output import write_result
    from lmtune.config import OutputFormat

    module = import_module(TOOLS[name].module)
    if {"-h", "--help"} & set(arguments):
        stdout.write(f"{str(module.__doc__).strip()}\n")
        return 0
    as_json = "format=json" in arguments
    rest = [argument for argument in arguments if argument not in ("format=json", "format=table")]
    with explained("train"):
        result = module.run(rest)
    write_result(result, OutputFormat.json if as_json else OutputFormat.table, stdout)
    return 0


def prepare_process() -> None:
    """Settle what libraries read when they are imported, and what signals do."""
    set_environment()
    stopping.listen()


def _spell_out(command: str, option: str) -> str:
    from lmtune.cli.explain import spell_out

    return spell_out(option, command)


def render_help() -> str:
    """The table of commands."""
    summaries = {each.name: each.summary for each in COMMANDS.values()} | {
        each.name: each.summary for each in TOOLS.values()
    }
    width = max(map(len, summaries)) + 2
    lines = [f"  {name:<{width}}{summary}" for name, summary in summaries.items()]
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


def check_command(name: str, known: Sequence[str] = (*COMMANDS, *TOOLS)) -> None:
    """Raise LmtuneError for an unknown command, and if the working directory is gone."""
    from lmtune.upstream import render_suggestion

    if name not in known:
        raise LmtuneError(
            f"{name} is not a command; expected one of {', '.join(known)}.{render_suggestion(name, known)}"
        )
    try:
        Path.cwd()
    except OSError as error:
        raise LmtuneError(
            f"The folder where you stand is not there any more ({first_line(error)}); expected one to take paths from. Go to "
            "another folder."
        ) from error


if __name__ == "__main__":
    main()
