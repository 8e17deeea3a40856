"""Files on disk: finding them, opening them through compression, decoding them without a guess."""

import bz2
import codecs
import glob
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from lmtune.errors import DataError, first_line

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
    """Files behind paths, globs and folders, sorted within each; raise DataError for what matches nothing."""
    files: list[Path] = []
    for pattern in given if isinstance(given, list) else [given]:
        found = _expand(pattern)
        if not found:
            raise DataError(
                f"{key}={pattern}: expected files that end in {', '.join(TEXT_SUFFIXES + TABLE_SUFFIXES)} (also compressed: "
                f"{', '.join(COMPRESSIONS)}), found none. Check the path; quote globs for the shell."
            )
        files.extend(found)
    return list({file.resolve(): file for file in files}.values())  # named twice is still one file


def _expand(pattern: str) -> list[Path]:
    if pattern.startswith(PACKAGE):
        pattern = str(Path(__file__).resolve().parents[1] / pattern.removeprefix(PACKAGE))
    path = Path(pattern).expanduser()
    if path.is_dir() and not (path / "state.json").exists():
        return sorted(file for file in path.rglob("*") if file.is_file() and kind_of(file))
    if path.is_symlink() and not path.exists():
        raise DataError(
            f"{path} is a link to {path.readlink()}, which is not there. Mend the link, or name the file itself."
        )
    if path.exists():
        _check_kind(path)
        return [path]
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
    return [Path(file) for file in matches if Path(file).exists() and kind_of(Path(file))]


def _check_kind(path: Path) -> None:
    if not kind_of(path):
        raise DataError(
            f"{path} ends in {path.suffix or 'nothing'}, expected one of {', '.join(TEXT_SUFFIXES + TABLE_SUFFIXES)}, "
            f"also compressed ({', '.join(COMPRESSIONS)}). Rename it: plain text is .txt."
        )


def kind_of(file: Path) -> str:
    """The suffix that says what is inside, compression left out; empty for a kind we do not read."""
    if file.is_dir():
        return ".arrow" if (file / "state.json").exists() else ""
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
