"""Files of text: paths, addresses, patterns and folders resolved to files, and the kind of each file."""

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from lmtune.data.remote import RemoteFile, TextFile, list_remote
from lmtune.data.unpacking import PACKINGS
from lmtune.errors import DataError
from lmtune.paths import GivenPath, Kind, describe, find_near, show
from lmtune.urls import find_protocol

PACKAGE = "pkg://lmtune/"
TEXT_SUFFIXES = (".txt",)
TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
ALIASES = {".ndjson": ".jsonl", ".feather": ".arrow"}
"""Other names of those kinds."""
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
"""What tells the folder of a dataset, and of several splits, that save_to_disk has written."""
NAMED_OVER = 3
"""Names of files passed over that a line gives as examples."""
REMEDIES = {
    (".md", ".markdown", ".rst"): "Its marks would be learned as text; copy it to a .txt if that is wanted",
    (".html", ".htm", ".xml", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".epub"): "Take the text out of it first",
    (".xls", ".xlsx", ".ods"): "Save its sheet as .csv",
    (".zip", ".tar", ".tgz", ".7z", ".rar"): "Unpack it, and name the folder",
    (".jsonlines", ".jsonld", ".tab"): "Rename it: objects one a line are .jsonl, columns separated by tabs are .tsv",
}
"""What to do with a file of a kind that is not read."""

PassedOver = dict[str, list[TextFile]]
"""Files that match a folder or pattern and are not read, by reason."""


def list_files(key: str, given: str | list[str], passed_over: PassedOver | None = None) -> list[TextFile]:
    """Files behind paths, addresses, patterns and folders, sorted within each; raise DataError for what matches nothing.

    `*`, `?` and `**` make a pattern, except in a name that exists literally; brackets are always literal.
    A folder means what `folder/**` means: all below it, hidden names left out.
    passed_over: is filled with what folders and patterns match and is not read.
    """
    passed_over = {} if passed_over is None else passed_over
    files: dict[TextFile, TextFile] = {}
    for pattern in given if isinstance(given, list) else [given]:
        typed = GivenPath(key, pattern, DataError)
        found = _list_one(typed, passed_over)
        if not found:
            _check_there(typed, pattern)
            raise DataError(
                f"{typed}: expected files that end in {', '.join(TEXT_SUFFIXES + TABLE_SUFFIXES)} (also compressed: "
                f"{', '.join(PACKINGS)}), found none{_found_instead(passed_over)}. Check the path; quote globs for the shell."
            )
        files |= {_resolve(typed, file): file for file in found}  # named twice is still one file
    for file in files.values():
        _check_name(key, file)
    return list(files.values())


def _check_there(typed: GivenPath, given: str) -> None:
    """Raise DataError for a name, not a pattern, that nothing has, with the name beside it that is spelt most like it."""
    if find_protocol(given) is not None or set(given) & set("*?") or given.startswith(PACKAGE):
        return
    path = typed.expand()
    if typed.find_kind(path) is not Kind.NOTHING:
        return
    near = find_near(path)
    remedy = f"Did you mean {near}?" if near else "Check the path, and where you stand; quote a pattern for the shell."
    found = "none of that name" if typed.is_folder(path.parent) else describe(path)
    raise DataError(f"{typed}: expected a file, a folder or a pattern, found {found}. {remedy}")


def _list_one(typed: GivenPath, passed_over: PassedOver) -> Sequence[TextFile]:
    """Files behind one path or address."""
    if find_protocol(typed.given) is None:
        return _expand(typed, passed_over)
    return list_remote(typed.key, typed.given, lambda file: bool(_suffix_of(file)), passed_over)


def _resolve(typed: GivenPath, file: TextFile) -> TextFile:
    return file if isinstance(file, RemoteFile) else typed.resolve(file)


def _found_instead(passed_over: PassedOver) -> str:
    return f" (passed over: {describe_passed_over(passed_over)})" if passed_over else ""


def describe_passed_over(passed_over: PassedOver) -> str:
    """How many files were passed over for each reason, with examples."""
    return "; ".join(
        f"{len(files):,} {reason} ({', '.join(show(file.name) for file in files[:NAMED_OVER])}"
        f"{', ...' if len(files) > NAMED_OVER else ''})"
        for reason, files in passed_over.items()
    )


def _check_name(key: str, file: TextFile) -> None:
    """Raise DataError for a name whose bytes are no text: no record could hold it."""
    try:
        (str(file) if isinstance(file, RemoteFile) else str(file.absolute())).encode()
    except UnicodeEncodeError as fault:
        raise DataError(
            f"{key}: {show(file)} has a name that is not UTF-8, expected one that the records of a run can hold. Rename it."
        ) from fault


def _expand(typed: GivenPath, passed_over: PassedOver) -> list[Path]:
    if typed.given.startswith(PACKAGE):
        path = Path(__file__).resolve().parents[1] / typed.given.removeprefix(PACKAGE)
    else:
        path = typed.expand()
    kind = typed.find_kind(path)
    if kind is Kind.NOTHING:
        return _choose(typed, match_pattern(typed, path, passed_over), passed_over)
    if kind is Kind.FOLDER and not _is_saved(typed, path):
        return _choose(typed, sorted(_list_below(typed, path, passed_over), key=str), passed_over)
    if kind is Kind.BROKEN_LINK:
        raise DataError(f"{show(path)} is {describe(path)}. Mend the link, or name the file itself.")
    if kind not in (Kind.FILE, Kind.FOLDER):
        raise typed.refuse("a file or a folder", kind.value, "Write its text to a file first.")
    _check_kind(path)
    return [path]


def _choose(typed: GivenPath, paths: list[Path], passed_over: PassedOver) -> list[Path]:
    """Those of the paths that are read; the names of others say that they hold no text, and they are not even looked at."""
    chosen = []
    for path in paths:
        if not _suffix_of(path):
            is_folder = _is_folder(typed, path)
            if is_folder and _is_saved(typed, path):
                chosen.append(path)
            elif not is_folder:
                passed_over.setdefault("of other kinds", []).append(path)
            continue
        kind = typed.find_kind(path)
        if kind is Kind.FILE or (kind is Kind.FOLDER and _is_saved(typed, path)):
            chosen.append(path)
        elif kind is not Kind.FOLDER:
            reason = "links to nothing" if kind is Kind.BROKEN_LINK else "that are no files"
            passed_over.setdefault(reason, []).append(path)
    return chosen


def _is_folder(typed: GivenPath, path: Path) -> bool:
    """True for a folder. What a name that says no text leads to is none where it may not be looked at; else that is refused."""
    try:
        return typed.is_folder(path)
    except DataError:
        if not path.suffix or _suffix_of(path):
            raise
        return False


def match_pattern(typed: GivenPath, pattern: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """Paths that match a pattern, in the order of their names. A part that exists literally is no pattern.

    `*` and `?` match characters of a name, `**` any folders in between; names that start with a dot need a dot in the pattern.
    Raises DataError for a folder on the way that may not be looked into.
    """
    hidden: PassedOver = {} if passed_over is None else passed_over
    anchor = Path(pattern.anchor)
    *above, last = pattern.relative_to(anchor).parts
    found = [anchor]
    for part in above:
        found = [match for folder in found for match in _match_part(typed, folder, part, {}) if typed.is_folder(match)]
    return sorted({match for folder in found for match in _match_part(typed, folder, last, hidden)}, key=str)


def _match_part(typed: GivenPath, folder: Path, part: str, hidden: PassedOver) -> list[Path]:
    literal = folder / part
    if typed.find_kind(literal) is not Kind.NOTHING:
        return [literal]
    if part == "**":
        return [folder, *_list_below(typed, folder, hidden)]
    if not set(part) & set("*?"):
        return []
    wanted = re.compile("".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in part), re.DOTALL)
    names = [entry.name for entry in typed.list_folder(folder)]
    return [folder / name for name in names if wanted.fullmatch(name) and (part[0] == "." or name[0] != ".")]


def _list_below(typed: GivenPath, folder: Path, passed_over: PassedOver) -> list[Path]:
    """All below a folder, hidden names left out. Each folder is entered once, by its own name rather than by a link.

    The folder of a saved dataset is one thing: its parts are not listed.
    """
    found, waiting, links, entered = [], [folder], deque[Path](), set()
    while waiting or links:
        inside = waiting.pop() if waiting else links.popleft()
        real = typed.resolve(inside)
        if real in entered:
            continue
        entered.add(real)
        entries = [inside / entry.name for entry in typed.list_folder(inside)]
        paths = [path for path in entries if path.name[0] != "."]
        for path in entries:
            if path.name[0] == ".":
                passed_over.setdefault("hidden", []).append(path)
        found += paths
        for path in paths:
            if _is_folder(typed, path) and not _is_saved(typed, path):
                (links if path.is_symlink() else waiting).append(path)
    return found


def _is_saved(typed: GivenPath, folder: Path) -> bool:
    """True for the folder of a dataset, or of one with splits, that save_to_disk has written."""
    return typed.is_file(folder / SAVED) or typed.is_file(folder / SAVED_SPLITS)


def has_splits(folder: TextFile) -> TypeGuard[Path]:
    """True for the folder of a dataset with splits, each in a folder of its own."""
    return not isinstance(folder, RemoteFile) and GivenPath("data.files", str(folder), DataError).is_file(
        folder / SAVED_SPLITS
    )


def _check_kind(path: Path) -> None:
    if not kind_of(path):
        suffix = path.suffix.lower()
        remedy = next((words for kinds, words in REMEDIES.items() if suffix in kinds), "Rename it: plain text is .txt")
        raise DataError(
            f"{show(path)} ends in {path.suffix or 'nothing'}, expected one of {', '.join(TEXT_SUFFIXES + TABLE_SUFFIXES)}, "
            f"also compressed ({', '.join(PACKINGS)}). {remedy}."
        )


def kind_of(file: TextFile) -> str:
    """The suffix that says what is inside, compression left out; empty for a kind we do not read."""
    if isinstance(file, RemoteFile):
        return _suffix_of(file)
    found = GivenPath("data.files", str(file), DataError)
    if found.is_folder(file):
        return ".arrow" if _is_saved(found, file) else ""
    return _suffix_of(file)


def size_of(file: TextFile) -> int:
    """Bytes of a file on disk, compressed as it is, or of all files of a saved dataset. Raises DataError for one that is gone."""
    if isinstance(file, RemoteFile):
        return file.size
    found = GivenPath("data.files", str(file), DataError)
    if found.is_folder(file):
        return sum(size_of(inner) for inner in found.walk_files(file) if found.is_file(inner))
    found.check_file(file, "a file")
    return file.stat().st_size


def _suffix_of(file: TextFile) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in PACKINGS:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    kind = ALIASES.get(kind, kind)
    return kind if kind in TEXT_SUFFIXES + TABLE_SUFFIXES else ""
