"""`ckpt=last`, `ckpt=NAME`, `model.path=PART`: replace typed names of runs by their folders.

This happens once per command, before Hydra, so that each job of a sweep uses the same run even if the jobs themselves are newer.
"""

import logging
import re
from pathlib import Path

from lmtune.cli.overrides import quote, split_list
from lmtune.cli.schemas import facts_for, known_keys
from lmtune.errors import CheckpointError
from lmtune.hub import is_cached, is_local
from lmtune.paths import GivenPath, shorten
from lmtune.runs import MARK, step_of
from lmtune.runs.catalog import survey
from lmtune.runs.naming import LAST, find_named
from lmtune.runs.search import OUTPUTS

logger = logging.getLogger(__name__)

WITHOUT_OWNER = frozenset(["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilgpt2", "openai-gpt", "ctrl"])
"""Language models of the Hub whose ids have no owner. New ids need one, so any other word without an owner can name a run."""
RESERVED = frozenset(["null", "none", ""])
"""Values of such keys that mean none, beside the words that the key itself gives a meaning."""


def settle_names(command: str, keys: list[str]) -> list[str]:
    """Replace each run that is named in a command's arguments by its folder, and report it on stderr.

    Existing paths, and Hub ids that are cached or well known, keep their meaning. Raises CheckpointError if several runs match.
    """
    known = known_keys(command)
    return [_settle(*found.groups()) if (found := _match(argument, known)) else argument for argument in keys]


def _match(argument: str, known: set[str]) -> "re.Match[str] | None":
    found = re.fullmatch(r"([\w.]+)=(.*)", argument, re.DOTALL)
    return found if found and found[1] in known and facts_for(found[1]).names_run else None


def _settle(key: str, value: str) -> str:
    opening = "choice(" if value.startswith("choice(") else "[" if value.startswith("[") else ""
    if not opening:
        return f"{key}={_resolve(key, value)}"
    items = split_list("[" + value.removeprefix(opening).removesuffix(")" if opening == "choice(" else "]") + "]")
    resolved = [_resolve(key, item) for item in items]
    if resolved == items:
        return f"{key}={value}"
    return f"{key}={opening}{','.join(map(quote, resolved))}{')' if opening == 'choice(' else ']'}"


def _resolve(key: str, text: str) -> str:
    """The folder of the run that a text names, or the text itself."""
    given = GivenPath(key, text, CheckpointError)
    if text in RESERVED or text in facts_for(key).words or text.startswith(("pkg://", "$")):
        return text
    if given.is_folder(folder := given.expand()):
        return text if facts_for(key).names_run == "folder" else _resolve_folder(given, folder)
    above, _, end = text.rpartition("/")
    root = GivenPath(key, above, CheckpointError).expand() if end == LAST and above else None
    if root is not None and given.is_folder(root) and survey(root).runs:
        return _take(given, find_named(key, LAST, root), f"below {above}")
    if is_local(given):
        return text
    if end == LAST:
        named = f" of that name ({above})" if above else ""
        return _take(given, find_named(key, text, OUTPUTS), f"below {OUTPUTS}{named}")
    if text in WITHOUT_OWNER or is_cached("model", text):
        return text
    found = find_named(key, text, OUTPUTS)
    return text if found is None else _take(given, found)


def _resolve_folder(given: GivenPath, folder: Path) -> str:
    """An existing folder; if it is neither a model nor a run but contains exactly one run, that run."""
    if any(given.is_file(folder / name) for name in (MARK, "config.yaml", "config.json", "adapter_config.json")):
        return given.given
    if step_of(folder) >= 0:
        return given.given
    runs = survey(folder).runs
    if not runs:  # a folder of texts may have the same name as a run
        is_path = "/" in given.given or given.given.startswith((".", "~"))
        named = None if is_path else find_named(given.key, given.given, OUTPUTS)
        return given.given if named is None else _take(given, named)
    if len(runs) > 1:
        last = f"{given.key}={given.given.rstrip('/')}/{LAST}"
        raise given.refuse("one run", f"{len(runs):,} below it", f"Give one of them, or {last}.")
    return _take(given, runs[0])


def _take(given: GivenPath, folder: Path | None, where: str = "") -> str:
    """The folder of a run, reported on stderr; raises CheckpointError if none was found."""
    if folder is None:
        raise given.refuse("a run", f"none {where}", "lmtune runs lists those there are.")
    logger.info("%s: the run %s", given, shorten(folder.absolute()))
    return str(folder)
