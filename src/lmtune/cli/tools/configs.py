"""`lmtune config list|show|copy`: the choices of each group, and how one becomes yours.

lmtune config list                                    every group, every choice
lmtune config list data                               one group
lmtune config show data/bio                           the file behind data=bio
lmtune config copy data/bio conf/data/mine.yaml       your own, to be changed: data=mine
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lmtune import upstream
from lmtune.cli.schemas import GROUPS, RESUMED, find_conf
from lmtune.cli.user_conf.folders import list_choices, register
from lmtune.commands.result import Result
from lmtune.errors import ConfigError, first_line
from lmtune.plain_yaml import Document, load_document
from lmtune.storage import write_text

USAGE = "lmtune config list [GROUP], lmtune config show GROUP/CHOICE, or lmtune config copy GROUP/CHOICE conf/GROUP/NAME.yaml"


def run(arguments: list[str]) -> Result:
    """List, show or copy configs. Raises ConfigError for an unknown group or choice, or an unsuitable target."""
    register(find_conf())
    verb, *rest = arguments or [""]
    verbs: dict[str, tuple[Callable[..., Result], tuple[int, ...]]] = {
        "list": (_list, (0, 1)),
        "show": (_show, (1,)),
        "copy": (_copy, (2,)),
    }
    if verb not in verbs or len(rest) not in verbs[verb][1]:
        raise ConfigError(f"config: expected list, show or copy, found {' '.join(arguments) or 'nothing'}. {USAGE}.")
    return verbs[verb][0](*rest)


def _list(group: str | None = None) -> Result:
    if group is not None and group not in GROUPS:
        raise ConfigError(
            f"{group} is no group; expected one of {', '.join(GROUPS)}.{upstream.render_suggestion(group, GROUPS)}"
        )
    rows = [row for name in ([group] if group else GROUPS) for row in _list_group(name)]
    width = max(len(row["typed"]) for row in rows) + 2
    return Result(rows, lambda: [f"{row['typed']:<{width}}{row['summary']}{row['note']}" for row in rows])


def _list_group(group: str) -> Iterator[dict[str, Any]]:
    for choice, file in list_choices(group).items():
        if choice != RESUMED:
            own = find_conf() not in file.parents
            note = f"  ({file})" if own else ""
            yield {"typed": f"{group}={choice}", "summary": _summarize(file), "note": note}


def _summarize(file: Path) -> str:
    """The first sentence of a file, or why it cannot be read: an invalid file of the user's does not hide the others."""
    try:
        return _find_summary(load_document(file))
    except ConfigError as error:
        return f"cannot be chosen: {error}"


def _find_summary(document: Document) -> str:
    """The first sentence above the first key."""
    lines = [line.lstrip("# ") for line in document.header if not line.startswith("# @package")]
    return re.split(r"(?<!et al)\. |: lmtune ", " ".join(lines))[0].rstrip(".")


def _show(name: str) -> Result:
    text = _load_text(_find_file(name))
    return Result({"config": name, "text": text}, lambda: text.rstrip("\n").split("\n"))


def _load_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: expected text in UTF-8, found: {first_line(error)}. Mend the file.") from error


def _copy(name: str, target: str) -> Result:
    source, place = _find_file(name), Path(target)
    group = name.rpartition("/")[0]
    if place.suffix != ".yaml" or place.parent.absolute() != Path.cwd() / "conf" / group:
        raise ConfigError(f"{target}: expected conf/{group}/NAME.yaml, so that {group}=NAME finds it. Give that.")
    if place.stem in list_choices(group):
        raise ConfigError(f"{target}: {group}={place.stem} is there already. Give the copy another name.")
    try:
        text = _load_text(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_text(place, text)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}. Give another place.") from error
    typed = f"{group}={place.stem}"
    return Result({"config": name, "file": str(place), "typed": typed}, lambda: [f"{place}, chosen by {typed}"])


def _find_file(name: str) -> Path:
    group, _, choice = name.removesuffix(".yaml").removeprefix("conf/").replace("=", "/").rpartition("/")
    choices = list_choices(group) if group in GROUPS else {}
    if choice not in choices:
        known = [f"{each}/{one}" for each in ([group] if choices else GROUPS) for one in list_choices(each)]
        nearest = upstream.find_nearest(name, known)
        said = f" Did you mean {nearest}?" if nearest else " lmtune config list names them all."
        raise ConfigError(f"{name} is no config; expected GROUP/CHOICE such as data/bio.{said}")
    return choices[choice]
