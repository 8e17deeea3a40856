"""Options among the arguments of a command: anywhere before, between or after the keys.

    lmtune train data=bio -m seed=1,2 --cfg job

Hydra's own parser takes keys in one piece only and answers a mistake with its usage; so options are taken out first.
"""

import argparse
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NoReturn

from lmtune.errors import ConfigError, Gathering
from lmtune.familiar import find_word

CFG = ("job", "hydra", "all")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
KNOWN = (
    "Options are -m (every combination of values), --help, --cfg job, --resolve, --package NAME, --info and --version."
)
OWN_CONFIG = (
    "a command has one configuration of its own, to which conf/ where you stand and --config-dir FOLDER add: conf/data/mine.yaml "
    "gives data=mine, conf/experiment/mine.yaml experiment=mine"
)
REFUSED = {
    "config_name": OWN_CONFIG,
    "config_path": OWN_CONFIG,
    "experimental_rerun": "it loads a pickle, which may run code; lmtune train resume=RUN goes on with a run",
}
"""Options of Hydra that lmtune refuses, and why."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options that were given."""

    help: bool = False
    hydra_help: bool = False
    version: bool = False
    multirun: bool = False
    cfg: str | None = None
    resolve: bool = False
    package: str | None = None
    info: str | None = None
    shell_completion: bool = False
    config_dir: tuple[str, ...] = ()
    """Folders of the user's own configs, besides conf/ in the working directory."""

    @property
    def shows(self) -> bool:
        """True if something is shown and nothing is run."""
        return bool(self.help or self.hydra_help or self.cfg or self.info or self.shell_completion)

    def render(self) -> list[str]:
        """The options as arguments for Hydra, except --config-dir, which lmtune handles itself."""
        switches = ("help", "hydra_help", "multirun", "resolve", "shell_completion")
        chosen = [f"--{name.replace('_', '-')}" for name in switches if getattr(self, name)]
        return chosen + [f"--{name}={value}" for name in ("cfg", "package", "info") if (value := getattr(self, name))]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}. {KNOWN}")


def take_options(arguments: list[str], spell_out: Callable[[str], str] = "{}=...".format) -> tuple[Options, list[str]]:
    """(options, keys), each in the order given. Raises ConfigError for an unknown option or a value that it does not take.

    spell_out: gives what to type instead of an option of another program.
    """
    taken, keys = _build_parser().parse_known_args(_complete_info(arguments))
    found = Gathering()
    for argument in keys:
        with found.noting():
            _check_no_option(argument, spell_out)
    found.raise_all()
    settings = vars(taken)
    settings.pop("run")
    for name, reason in REFUSED.items():
        if settings.pop(name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is not taken by lmtune: {reason}. Leave it out.")
    if "" in settings["config_dir"]:
        raise ConfigError(
            "--config-dir: expected a folder of configs behind it, found nothing. Give one: --config-dir FOLDER."
        )
    for name in ("package", "resolve"):
        if settings[name] and not settings["cfg"]:
            raise ConfigError(
                f"--{name} has no effect: it is about what --cfg shows, found no --cfg. Add --cfg job, or leave it out."
            )
    for name, choices in (("cfg", CFG), ("info", INFO)):
        if settings[name] not in (None, *choices):
            raise ConfigError(f"--{name} {settings[name]}: expected one of {', '.join(choices)}.")
    return Options(**{**settings, "config_dir": tuple(settings["config_dir"])}), keys


def check_line_ends(arguments: Sequence[str]) -> None:
    """Raise ConfigError for arguments with a carriage return, from a script with Windows line ends; a shell takes it for text."""
    ended = next((each for each in arguments if each.endswith("\r")), None)
    if ended is not None:
        raise ConfigError(
            f"{ended.rstrip() or 'the command line'}: expected an argument, found a carriage return at its end, as a script with "
            "Windows line ends has them. Take them out: sed -i 's/\\r$//' SCRIPT."
        )


def _check_no_option(argument: str, spell_out: Callable[[str], str]) -> None:
    """Raise ConfigError for an argument written as an option, naming the key that is meant."""
    if argument.startswith("-"):
        name = argument.partition("=")[0]
        is_familiar = find_word(name.lstrip("-").replace("-", "_")) is not None
        near = [] if is_familiar else difflib.get_close_matches(name, _list_options(), n=1, cutoff=0.75)
        if near:
            raise ConfigError(f"{argument}: {name} is no option. Did you mean {near[0]}? {KNOWN}")
        spelt = spell_out(name.lstrip("-"))
        spelt += "" if spelt.endswith(".") else "."
        raise ConfigError(f"{argument}: {name} is no option; keys are written without dashes: {spelt} {KNOWN}")


def _list_options() -> list[str]:
    """The options in their long form."""
    return [f"--{item.name.replace('_', '-')}" for item in fields(Options) if item.name != "shell_completion"]


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(add_help=False, allow_abbrev=False, prog="lmtune")
    for names in (
        ("--help", "-h"),
        ("--hydra-help",),
        ("--version",),
        ("--multirun", "-m"),
        ("--run", "-r"),
        ("--resolve",),
        ("--shell-completion", "-sc"),
    ):
        parser.add_argument(*names, action="store_true")
    for names in (
        ("--cfg", "-c"),
        ("--package", "-p"),
        ("--info", "-i"),
        ("--config-name", "-cn"),
        ("--config-path", "-cp"),
        ("--experimental-rerun",),
    ):
        parser.add_argument(*names)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    return parser


def _complete_info(arguments: list[str]) -> list[str]:
    """Make `--info` alone mean `--info=all`: what follows may be a key."""
    followed = dict(zip(range(len(arguments)), arguments[1:], strict=False))
    return [
        f"{argument}=all" if argument in ("--info", "-i") and followed.get(place) not in INFO else argument
        for place, argument in enumerate(arguments)
    ]
