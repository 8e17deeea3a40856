"""Files on disk: finding them, opening them through compression, decoding them without a guess."""

import bz2
import codecs
import gzip
import io
import lzma
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from lmtune.errors import DataError, first_line
from lmtune.paths import GivenPath, Kind, describe, show

PACKAGE = "pkg://lmtune/"
TEXT_SUFFIXES = (".txt",)
TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
COMPRESSIONS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": zstandard.open,
}
PIECE_BYTES = 16_000_000
"""Read and decoded at once."""
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def find_files(key: str, given: Any) -> list[Path]:
    """Files behind paths, patterns and folders, sorted within each; raise DataError for what matches nothing.

    `*`, `?` and `**` make a pattern, except in a name that is there as it stands; brackets always stand for themselves.
    """
    files: dict[Path, Path] = {}
    for pattern in given if isinstance(given, list) else [given]:
        typed = GivenPath(key, pattern, DataError)
        found = _expand(typed)
        if not found:
            raise DataError(
                f"{typed}: expected files that end in {', '.join(TEXT_SUFFIXES + TABLE_SUFFIXES)} (also compressed: "
                f"{', '.join(COMPRESSIONS)}), found none. Check the path; quote globs for the shell."
            )
        files |= {typed.resolve(file): file for file in found}  # named twice is still one file
    for file in files.values():
        _check_name(key, file)
    return list(files.values())


def _check_name(key: str, file: Path) -> None:
    """Raise DataError for a name whose bytes are no text: no record could hold it."""
    try:
        str(file.absolute()).encode()
    except UnicodeEncodeError as fault:
        raise DataError(
            f"{key}: {show(file)} has a name that is not UTF-8, expected one that the records of a run can hold. Rename it."
        ) from fault


def _expand(typed: GivenPath) -> list[Path]:
    if typed.given.startswith(PACKAGE):
        path = Path(__file__).resolve().parents[1] / typed.given.removeprefix(PACKAGE)
    else:
        path = typed.expand()
    kind = typed.find_kind(path)
    if kind is Kind.NOTHING:
        return [file for file in match_pattern(typed, path) if _is_readable(typed, file)]
    if kind is Kind.FOLDER and not _is_saved(typed, path):
        return sorted(file for file in typed.walk_files(path) if _is_text_file(typed, file))
    if kind is Kind.BROKEN_LINK:
        raise DataError(f"{show(path)} is {describe(path)}. Mend the link, or name the file itself.")
    if kind not in (Kind.FILE, Kind.FOLDER):
        raise typed.refuse("a file or a folder", kind.value, "Write its text to a file first.")
    _check_kind(path)
    return [path]


def match_pattern(typed: GivenPath, pattern: Path) -> list[Path]:
    """Paths that a pattern stands for, in the order of their names. A part that is there as it stands is no pattern.

    `*` and `?` stand for letters of a name, `**` for any folders in between; names that begin with a dot have to be given one.
    Raises DataError for a folder on the way that may not be looked into.
    """
    anchor = Path(pattern.anchor)
    *above, last = pattern.relative_to(anchor).parts
    found = [anchor]
    for part in above:
        found = [match for folder in found for match in _match_part(typed, folder, part) if typed.is_folder(match)]
    return sorted({match for folder in found for match in _match_part(typed, folder, last)}, key=str)


def _match_part(typed: GivenPath, folder: Path, part: str) -> list[Path]:
    literal = folder / part
    if typed.find_kind(literal) is not Kind.NOTHING:
        return [literal]
    if part == "**":
        return [folder, *_list_below(typed, folder)]
    if not set(part) & set("*?"):
        return []
    wanted = re.compile("".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in part), re.DOTALL)
    names = [entry.name for entry in typed.list_folder(folder)]
    return [folder / name for name in names if wanted.fullmatch(name) and (part[0] == "." or name[0] != ".")]


def _list_below(typed: GivenPath, folder: Path) -> list[Path]:
    """All below a folder, hidden names left out. Each folder is entered once, by its own name rather than by a link."""
    found, waiting, links, entered = [], [folder], deque[Path](), set()
    while waiting or links:
        inside = waiting.pop() if waiting else links.popleft()
        real = typed.resolve(inside)
        if real in entered:
            continue
        entered.add(real)
        paths = [inside / entry.name for entry in typed.list_folder(inside) if entry.name[0] != "."]
        found += paths
        for path in filter(typed.is_folder, paths):
            (links if path.is_symlink() else waiting).append(path)
    return found


def _is_text_file(typed: GivenPath, path: Path) -> bool:
    """True for a file whose name says that it holds text; others are not even looked at."""
    return bool(_suffix_of(path)) and typed.is_file(path)


def _is_readable(typed: GivenPath, path: Path) -> bool:
    return _is_text_file(typed, path) or (typed.is_folder(path) and _is_saved(typed, path))


def _is_saved(typed: GivenPath, folder: Path) -> bool:
    """True for the folder of a dataset that save_to_disk has written."""
    return typed.is_file(folder / "state.json")


def _check_kind(path: Path) -> None:
    if not kind_of(path):
        raise DataError(
            f"{show(path)} ends in {path.suffix or 'nothing'}, expected one of {', '.join(TEXT_SUFFIXES + TABLE_SUFFIXES)}, "
            f"also compressed ({', '.join(COMPRESSIONS)}). Rename it: plain text is .txt."
        )


def kind_of(file: Path) -> str:
    """The suffix that says what is inside, compression left out; empty for a kind we do not read."""
    found = GivenPath("data.files", str(file), DataError)
    if found.is_folder(file):
        return ".arrow" if _is_saved(found, file) else ""
    return _suffix_of(file)


def size_of(file: Path) -> int | None:
    """Bytes of a file as it lies on the disk; None for a folder. Raises DataError for one that is gone."""
    found = GivenPath("data.files", str(file), DataError)
    if found.is_folder(file):
        return None
    found.check_file(file, "a file")
    return file.stat().st_size


def _suffix_of(file: Path) -> str:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    return kind if kind in TEXT_SUFFIXES + TABLE_SUFFIXES else ""


def open_file(file: Path) -> Any:
    """A binary stream of the content, compression undone."""
    opener = COMPRESSIONS.get(file.suffix.lower())
    return opener(file, "rb") if opener else file.open("rb")


def load_text(file: Path, encoding: str) -> str:
    """A whole text file; see load_pieces."""
    return "".join(load_pieces(file, encoding))


def load_pieces(file: Path, encoding: str) -> Iterator[str]:
    """A text file decoded piece by piece, line ends as LF. Never guesses and never replaces: what does not decode is an error."""
    try:
        with open_file(file) as stream:
            raw = stream.read(PIECE_BYTES)
            decode = _Decoder(file, _find_mark(raw) or encoding)
            while raw:
                yield decode(raw)
                raw = stream.read(PIECE_BYTES)
            yield decode(b"", final=True)
    except (EOFError, OSError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise DataError(
            f"{file} cannot be read to its end: {first_line(error)}. "
            "It is cut off, or not what its name says; fetch or pack it again."
        ) from error


def _find_mark(raw: bytes) -> str | None:
    """The encoding that a byte-order mark names."""
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if raw.startswith(mark)), None)


class _Decoder:
    """Decodes pieces of a file, and tells where in the file one does not decode."""

    def __init__(self, file: Path, encoding: str) -> None:
        try:
            self._decoder = codecs.getincrementaldecoder(encoding)()
        except LookupError as error:
            raise DataError(
                f"data.encoding={encoding}: no such encoding. Expected a name such as utf-8, cp1252 or latin-1."
            ) from error
        self._lines = io.IncrementalNewlineDecoder(None, translate=True)
        self._file = file
        self._bytes = self._line_ends = 0

    def __call__(self, raw: bytes, final: bool = False) -> str:
        waiting = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(raw, final)
        except UnicodeDecodeError as error:
            offset = self._bytes - len(waiting) + error.start
            line = self._line_ends + (waiting + raw).count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{self._file} is not {error.encoding}: byte {error.object[error.start]:#04x} at offset {offset:,} "
                f"(line {line:,}). Say what it is, for instance data.encoding=cp1252, or convert the file to UTF-8."
            ) from error
        self._bytes += len(raw)
        self._line_ends += raw.count(b"\n")
        return self._lines.decode(text, final)
