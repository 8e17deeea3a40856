"""What a user's config file may contain: settings of its own group, names of other configs, and nothing that runs code.

Hydra instantiates what is under hydra.callbacks, hydra.launcher and hydra.sweeper by the name in `_target_`, and sets up logging,
folders and the environment from the rest of hydra.*. A file that came with somebody's project must not control that.
"""

import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import NoReturn

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtune.cli.schemas import GROUPS as OWN_GROUPS
from lmtune.cli.schemas import keys_of
from lmtune.config import DataConfig, FinetuneConfig, ModelConfig, SuiteConfig, TrackerConfig, TrainConfig
from lmtune.config.keys import facts_of, section_of
from lmtune.errors import ConfigError
from lmtune.plain_yaml import Document, shorten
from lmtune.secrets import SECRET_VARIABLE, find_secret

GROUPS = (*OWN_GROUPS, "hydra/launcher", "hydra/sweeper")
"""Groups that a user's file may add a choice to."""

RESOLVERS = frozenset(["oc.env", "oc.select", "oc.dict.keys", "oc.dict.values", "hydra", "now", "python_version"])
"""Resolvers that are allowed before the colon of `${...:...}`. Others build mappings from text, in which `_target_` could hide."""

_CODE_KEYS = frozenset(["_target_", "_args_", "_partial_", "_recursive_", "_convert_", "custom_search_space"])
"""Keys that Hydra, or one of its sweepers, takes as the name of code."""

_HYDRA_KEY = re.compile(r"(^|\.)[+~]*hydra([./@]|$)|@[\w.]*hydra")
"""A key of Hydra's own, anywhere: parameters of a sweep are overrides, and may be taken from another key."""

_REMEDIES = {
    "hydra.run": "Type output=FOLDER",
    "hydra.sweep": "Type hydra.sweep.dir=FOLDER",
    "hydra.mode": "Type -m",
    "hydra.searchpath": "Type --config-dir FOLDER",
    "hydra.job": "Type it, or set it in your shell",
    "hydra.launcher": "Write conf/hydra/launcher/mine.yaml, and type hydra/launcher=mine",
}
"""What to do instead of setting one of Hydra's own keys in a config."""

_ITEM = re.compile(r"(?P<keywords>(?:(?:optional|override) )*)(?P<path>/?[\w.+-]+(?:/[\w.+-]+)*)")
_RESOLVER = re.compile(r"(?<!\\)(?:\\\\)*\$\{\s*([\w.-]+)\s*:")
_VARIABLE = re.compile(r"oc\.env\s*:([^,}]*)")


def find_group(name: str) -> str | None:
    """The group that a config belongs to, such as `data` for `data/pt/news`; None for a file that does not concern lmtune."""
    return next((group for group in GROUPS if name.startswith(f"{group}/") and ".." not in name.split("/")), None)


def resolve_prefix(group: str) -> str:
    """The prefix of keys in a group's files; '' for an experiment, which sets keys of all groups."""
    return "" if group == "experiment" else group.replace("/", ".") + "."


def check_document(document: Document, group: str) -> None:
    """Raise ConfigError for anything that a file of this group may not contain."""
    _check_package(document, group)
    if group == "experiment":
        _check_sections(document)
    _check_keys(document, group)
    for key, text in find_strings(document.values):
        _check_interpolations(document, key, text)
        _check_secret(document, key, text)
    _check_text(document, group)


def build_node(document: Document) -> DictConfig:
    """The values as Hydra takes them. Raises ConfigError for a `${` that is never closed."""
    try:
        return OmegaConf.create(document.values)
    except (OmegaConfBaseException, RecursionError) as error:
        key = str(getattr(error, "full_key", None) or "").replace("[", ".").replace("]", "")
        raise ConfigError(
            f"{document.place(key)}: {shorten(key) or 'a value'}: expected ${{key}} of another key, found a ${{ that nothing "
            "closes or that holds no name. Write \\${ for the characters."
        ) from error


def find_strings(values: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in nested values, with its dotted key."""
    if isinstance(values, str):
        yield key, values
        return
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for name, value in items:
        yield from find_strings(value, f"{key}.{name}" if key else str(name))


def find_defaults(document: Document, name: str) -> Iterator[str]:
    """Names of the configs that the config `name` includes by its defaults list. Raises ConfigError for an invalid list."""
    listed = document.values.get("defaults", [])
    if not isinstance(listed, list):
        refuse(document, "defaults", f"expected a list of names, found {shorten(listed)}. Write defaults: [NAME]")
    overriding = False
    for number, item in enumerate(listed):
        place = f"defaults.{number}"
        match, choices = _parse_item(document, place, item)
        if match["path"] == "_self_":
            if listed.count(item) > 1:
                refuse(document, place, "expected _self_ once, found it again. Keep one")
            continue
        if overriding and "override" not in match["keywords"]:
            refuse(document, place, "expected overrides at the end of the list, found one before it. Put it above them")
        overriding = "override" in match["keywords"]
        bases = [""] if match["path"].startswith("/") else [f"{name.rpartition('/')[0]}/", f"{find_group(name)}/"]
        for base in dict.fromkeys(bases):  # for a file in a subfolder of its group, Hydra starts from either
            path = base + match["path"].lstrip("/")
            names = [path] if choices is None else [f"{path}/{choice}" for choice in choices]
            _check_item(document, place, match, path, choices)
            yield from names if "override" not in match["keywords"] else []


def refuse(document: Document, key: str, reason: str) -> NoReturn:
    """Raise ConfigError with the place of a key."""
    raise ConfigError(f"{document.place(key)}: {shorten(key)}: {reason}.")


def _check_package(document: Document, group: str) -> None:
    found = [line for line in document.header if re.match(r"#\s*@\s*package\b", line)]
    package = found[0].split("package", 1)[1].strip(" :") if found else None
    if group != "experiment":
        if package not in (None, "_group_", group.replace("/", ".")):
            raise ConfigError(
                f"{document.file} begins with {shorten(found[0])}, which would put its keys elsewhere than under "
                f"{group.replace('/', '.')}. Take that line out: keys of {group} stand in it by their own names."
            )
    elif package != "_global_" and set(document.values) - {"defaults"}:
        raise ConfigError(
            f"{document.file}: expected the line `# @package _global_` at its top, found "
            f"{shorten(found[0]) if found else 'none'}. Without it an experiment sets nothing: put it before all else, as line 1."
        )


def _check_sections(document: Document) -> None:
    """Raise ConfigError if a section of an experiment holds anything but keys."""
    sweep = document.values.get("hydra")
    inner = {"hydra.sweeper": sweep["sweeper"]} if isinstance(sweep, dict) and "sweeper" in sweep else {}
    for key, value in {**document.values, **inner}.items():
        if key in _section_names() and not isinstance(value, dict):
            found = "nothing" if value is None else shorten(value)
            refuse(document, key, f"expected `key: value` lines below it, found {found}. Write them, or take it out")


@cache
def _section_names() -> frozenset[str]:
    """Keys of lmtune train that hold keys of their own, and those of Hydra that an experiment may set."""
    own = (item.name for item in keys_of(TrainConfig) if section_of(item.type) or facts_of(item).names)
    return frozenset([*own, "hydra", "hydra.sweeper"])


def _check_keys(document: Document, group: str) -> None:
    """Raise ConfigError for names of code, and for settings of Hydra itself other than those of a sweep."""
    for key in document.lines:
        if _CODE_KEYS.intersection(key.split(".")):
            refuse(
                document,
                key,
                "names code to run, and lmtune runs none that a config names. Take it out; "
                "a launcher or sweeper takes its class from the one in its defaults list",
            )
        inner = re.sub(r"^hydra(\.sweeper(\.|$)|$)", "", key) if group == "experiment" else key
        if _HYDRA_KEY.search(inner):
            remedy = next(
                (words for name, words in _REMEDIES.items() if re.match(rf"{name}(\.|$)", key)), "Take it out"
            )
            refuse(
                document,
                key,
                f"a setting of Hydra itself; expected none in a config but those of hydra.sweeper. {remedy}",
            )
    if group in ("hydra/launcher", "hydra/sweeper"):
        _check_builds_on(document, group)


def _check_builds_on(document: Document, group: str) -> None:
    """Raise ConfigError unless a launcher or sweeper names, in its defaults list, the one it takes its class from."""
    listed = document.values.get("defaults", [])
    if document.values and isinstance(listed, list) and not set(map(str, listed)) - {"_self_"}:
        kind = group.removeprefix("hydra/")
        builds_on = {"launcher": "submitit_slurm", "sweeper": "basic"}[kind]
        raise ConfigError(
            f"{document.file}: expected a defaults list that names the {kind} it builds on, found none. "
            f"Write defaults: [{builds_on}] at its top."
        )


def _check_interpolations(document: Document, key: str, text: str) -> None:
    if "${" not in text:
        return
    for name in _RESOLVER.findall(text):
        if name not in RESOLVERS:
            refuse(
                document,
                key,
                f"${{{shorten(name)}:...}} is nothing that lmtune resolves here; expected one of "
                f"{', '.join(sorted(RESOLVERS))}, or ${{key}} of another key. Write the value itself",
            )
    for variable in _VARIABLE.findall(text):
        name = variable.strip(" '\"")
        if SECRET_VARIABLE.search(name):
            refuse(
                document,
                key,
                f"{name} holds a secret, which would be written into records. Leave it in the environment",
            )
        if not re.fullmatch(r"\w+", name):
            refuse(
                document,
                key,
                f"{shorten(text)}: expected the name of a variable behind oc.env:. Write ${{oc.env:NAME}}",
            )
    if re.search(r"\$\{[^{}:]*\$\{", text):
        refuse(document, key, f"{shorten(text)} names a key by another; expected the name itself. Write it out")


def _check_secret(document: Document, key: str, text: str) -> None:
    found = find_secret(text)
    if found:
        refuse(document, key, f"holds {found}, which would be written into records. Leave it in the environment")


def _check_text(document: Document, group: str) -> None:
    """Raise ConfigError for a number whose text is lost where text is expected: `revision: 1.10` would become 1.1."""
    for key, (written, value) in document.written.items():
        if value is None or str(value) == written or not _takes_text(resolve_prefix(group) + key):
            continue
        refuse(
            document, key, f"{written} is read as {value}, and text is wanted here. Write '{written}' between quotes"
        )


def _takes_text(key: str) -> bool:
    return re.sub(r"\.\d+$", "", key) in _text_keys()


@cache
def _text_keys() -> frozenset[str]:
    sections = {
        "": TrainConfig,
        "data.": DataConfig,
        "model.": ModelConfig,
        "finetune.": FinetuneConfig,
        "tracker.": TrackerConfig,
        "suite.": SuiteConfig,
    }
    kinds = (str, str | None, list[str])
    return frozenset(
        prefix + item.name for prefix, section in sections.items() for item in fields(section) if item.type in kinds
    )


def _parse_item(document: Document, place: str, item: object) -> tuple[re.Match[str], list[str] | None]:
    """An item of a defaults list: the part before the colon, and the choices after it, or None without a colon."""
    name, choice = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, None)
    match = _ITEM.fullmatch(name) if isinstance(name, str) else None
    choices = choice if isinstance(choice, list) else [] if choice is None else [choice]
    sound = all(isinstance(each, str) and re.fullmatch(r"[\w./+ -]+", each) for each in choices)
    if match is None or not sound or ".." in f"{name}/{choices}":
        refuse(
            document, place, f"expected a name, or `override /GROUP: NAME`, found {shorten(item)}. Write one of the two"
        )
    return match, choices if isinstance(item, dict) else None


def _check_item(document: Document, place: str, match: re.Match[str], path: str, choices: list[str] | None) -> None:
    """Raise ConfigError unless an item of a defaults list belongs to one of lmtune's groups.

    It has to be written as `override /GROUP` if the group has a choice already.
    """
    group = path if choices is not None else path.rpartition("/")[0]
    name = match["path"].lstrip("/")
    if match["path"].startswith("/"):
        sound = "override" in match["keywords"]
    else:
        sound = name not in GROUPS and not path.startswith("experiment/")
    if choices is not None and not sound:
        choice = choices[0] if choices else "null"
        refuse(
            document,
            place,
            f"expected `override /GROUP: NAME`, found {shorten(match[0])}. Write `override /{name}: {choice}`",
        )
    if find_group(f"{group}/") is None:
        refuse(
            document,
            place,
            f"{shorten(group)} is no group of lmtune's; expected one of {', '.join(GROUPS)}. Take it out",
        )
