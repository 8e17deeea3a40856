"""From the bytes of a file to its text, without a guess: what does not decode, or is no text, is refused with its place.

reading = Reading(Path("corpus.txt.gz"), "utf-8")
text = "".join(load_pieces(reading))
reading.content == len(text.encode()) + sum(reading.left.values())
"""

import codecs
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lmtune.data.columns import count_utf8
from lmtune.data.remote import TextFile
from lmtune.data.unpacking import UNPACKING_ERRORS, open_unpacked
from lmtune.errors import DataError, LedgerError, LmtuneError, first_line
from lmtune.paths import show

PIECE_BYTES = 16_000_000
"""Bytes that are read and decoded at once."""
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # starts with the mark of UTF-16, so it is asked for first
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
NEEDS_MARK = {"utf-16": "utf-16-le or utf-16-be", "utf-32": "utf-32-le or utf-32-be"}
"""Encodings whose order of bytes only a mark tells."""
MOST_NULS = 0.001
"""Largest share of NUL characters in a piece; text has none, and other encodings read as UTF-8 have one after each letter."""
POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("Git LFS", "git lfs pull"),
    b"version https://hawser.github.com/spec/": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get"),
}
MAGICS = {
    b"\x1f\x8b": "a gzip file (.gz)",
    b"BZh91AY&SY": "a bzip2 file (.bz2)",
    b"\xfd7zXZ\x00": "an xz file (.xz)",
    b"\x28\xb5\x2f\xfd": "a zst file (.zst)",
    b"PK\x03\x04": "a zip file, as .docx, .xlsx and .epub are",
    b"%PDF-": "a PDF",
    b"PAR1": "a parquet file (.parquet)",
    b"ARROW1": "an Arrow file (.arrow)",
    b"SQLite format 3\x00": "an SQLite data base",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"{\\rtf": "a text of a word processor (.rtf)",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "a file of an office program (.doc, .xls)",
}
"""First bytes of files that are no text."""
MAGIC_BYTES = 64


@dataclass(slots=True)
class Reading:
    """One reading of a file, and what of its bytes is in no row."""

    file: TextFile
    encoding: str
    content: int = 0
    """Bytes read so far, compression undone."""
    left: Counter[str] = field(default_factory=Counter)
    """Bytes by the kinds of lmtune.data.ledger.LEFT_OUT, since take_left."""

    def take_left(self) -> dict[str, int]:
        """Take out the bytes that went into no row since the last call."""
        taken = dict(self.left)
        self.left.clear()
        return taken


def load_pieces(reading: Reading) -> Iterator[str]:
    """A text file decoded piece by piece, line ends as LF. Never guesses and never replaces: what does not decode is an error.

    The bytes of the content are those of the pieces in UTF-8 and what is counted in `reading.left`.
    """
    file = reading.file
    check_pointer(file)
    with name_faults(file), open_unpacked(file) as stream:
        raw = stream.read(PIECE_BYTES)
        _check_magic(file, raw)
        mark = next((mark for mark in BYTE_ORDER_MARKS if raw.startswith(mark)), b"")
        if mark:
            reading.left["marks"] += len(mark)
            reading.content += len(mark)
        decode = _Decoder(reading, BYTE_ORDER_MARKS[mark] if mark else reading.encoding, len(mark))
        piece = raw[len(mark) :]
        while raw:
            yield decode(piece)
            raw = piece = stream.read(PIECE_BYTES)
        yield decode(b"", final=True)


def check_pointer(file: TextFile) -> None:
    """Raise DataError for the pointer of a large file that has not been fetched."""
    with name_faults(file), file.open("rb") as stream:
        start = stream.read(MAGIC_BYTES)
    for sign, (program, command) in POINTERS.items():
        if start.startswith(sign):
            raise DataError(
                f"{show(file)} is a pointer of {program}: expected the text, found a note of where it lies. "
                f"Fetch it with `{command}`."
            )


def _check_magic(file: TextFile, raw: bytes) -> None:
    found = next((words for magic, words in MAGICS.items() if raw.startswith(magic)), None)
    if found:
        inside = "" if raw.isascii() else ", whatever its name says"
        raise DataError(
            f"{show(file)}: expected text, found the begin of {found}{inside}. Name it as what it is where that can be read; "
            "else take the text out first."
        )


@contextmanager
def name_faults(file: TextFile) -> Iterator[None]:
    """Turn the errors of readers and decompressors into DataErrors that name the file."""
    try:
        yield
    except (LmtuneError, LedgerError):
        raise
    except UNPACKING_ERRORS as error:
        if getattr(error, "errno", None):
            raise DataError(
                f"{show(file)} cannot be read: {getattr(error, 'strerror', None)}. Check the disk and its permissions."
            ) from error
        raise DataError(
            f"{show(file)} cannot be read to its end: {first_line(error)}. "
            "It is cut off, or not what its name says; fetch or pack it again."
        ) from error
    except Exception as error:  # readers of many formats, which raise the errors of the libraries below them
        raise DataError(
            f"{show(file)} does not read: {type(error).__name__}, {first_line(error)}. Mend the file, or leave it out."
        ) from error


class _Decoder:
    """Decodes pieces of a file, counts what decoding leaves out, and tells where in the file one does not decode."""

    def __init__(self, reading: Reading, encoding: str, offset: int) -> None:
        self._decoder = _build_decoder(reading.file, encoding)
        self._lines = io.IncrementalNewlineDecoder(None, translate=True)
        self._reading = reading
        self._encoding = codecs.lookup(encoding).name
        self._bytes, self._line_ends = offset, 0
        self._ends_in_cr = False

    def __call__(self, raw: bytes, final: bool = False) -> str:
        reading = self._reading
        waiting = self._decoder.getstate()[0]
        try:
            text: str = self._decoder.decode(raw, final)
        except UnicodeError as error:
            raise self._refuse(error, waiting, raw) from error
        reading.content += len(raw)
        if self._encoding != "utf-8":
            reading.left["recoding"] += len(raw) - count_utf8(text)
        self._check_nuls(text)
        self._bytes += len(raw)
        self._line_ends += raw.count(b"\n")
        is_plain = "\r" not in text and not self._ends_in_cr
        lines = text if is_plain else self._lines.decode(text, final)
        self._ends_in_cr = text.endswith("\r")
        reading.left["carriage_returns"] += len(text) - len(
            lines
        )  # a CR that may be half of a line end comes with the next
        if self._encoding == "utf-8":
            reading.left["recoding"] += self._count_waiting(waiting, final)
        return lines

    def _count_waiting(self, waiting: bytes, final: bool) -> int:
        """Bytes of half a character at the end of a piece: they have been read, and come out with the next."""
        now = b"" if final else self._decoder.getstate()[0]
        return len(now) - len(waiting)

    def _refuse(self, error: UnicodeError, waiting: bytes, raw: bytes) -> DataError:
        file = show(self._reading.file)
        if not isinstance(error, UnicodeDecodeError):
            return DataError(
                f"{file} is not {self._encoding}: {first_line(error)}. Say what it is with data.encoding=, or convert it to UTF-8."
            )
        self._check_nuls((waiting + raw).decode("latin-1"))
        offset = self._bytes - len(waiting) + error.start
        line = self._line_ends + (waiting + raw).count(b"\n", 0, error.start) + 1
        # Python calls all tables of one byte a character by one name, which is none that anybody types.
        named = self._encoding if error.encoding == "charmap" else error.encoding
        remedy = (
            "Say what it is, for instance data.encoding=cp1252, or convert the file to UTF-8."
            if named == "utf-8"
            else "Say what it is with data.encoding=, or convert the file."
        )
        return DataError(
            f"{file} is not {named}: byte {error.object[error.start]:#04x} at offset {offset:,} (line {line:,}). {remedy} "
            f"Where files differ, each has its own: 'data.sources=[{{files:a.txt,encoding:cp1252}},{{files:b.txt}}]'."
        )

    def _check_nuls(self, text: str) -> None:
        nuls = text.count("\0")
        if nuls > max(1, MOST_NULS * len(text)):
            raise DataError(
                f"{show(self._reading.file)}: expected text, found {nuls:,} NULs among {len(text):,} characters read as "
                f"{self._encoding}. If it is UTF-16 without a mark, say data.encoding=utf-16-le (or utf-16-be); else it is no text."
            )


def _build_decoder(file: TextFile, encoding: str) -> Any:
    """An incremental decoder. Raises DataError where the name is none of text, or needs a byte-order mark."""
    try:
        found = codecs.lookup(encoding)
        is_text = found._is_text_encoding  # the codecs module has no public name for it
        decoder = found.incrementaldecoder() if is_text and found.incrementaldecoder else None
    except (LookupError, ValueError, TypeError) as error:
        raise DataError(
            f"data.encoding={encoding}: no such encoding. Expected a name such as utf-8, cp1252 or latin-1."
        ) from error
    if decoder is None:
        raise DataError(
            f"data.encoding={encoding}: no encoding of text. Expected a name such as utf-8, cp1252 or latin-1."
        )
    if found.name in NEEDS_MARK:
        raise DataError(
            f"data.encoding={encoding}: {show(file)} begins without a byte-order mark, which alone would say the order of its "
            f"bytes. Say {NEEDS_MARK[found.name]}."
        )
    return decoder
