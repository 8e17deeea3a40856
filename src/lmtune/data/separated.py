"""Files of separated values, .csv and .tsv, read strictly: what a quote means is never guessed.

A .csv is read by RFC 4180: a value that starts with a quote ends with one, and quotes inside are doubled. In a .tsv a quote
is a letter like any other, unless it is one of a pair around the whole value.
"""

import csv
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pyarrow as pa

from lmtune.data.columns import BATCH_BYTES
from lmtune.data.decoding import Reading, load_pieces
from lmtune.data.tables import Table, iterate_lines
from lmtune.errors import DataError, first_line
from lmtune.paths import show

DELIMITERS = {".csv": ",", ".tsv": "\t"}
OTHER_DELIMITERS = ";\t,|"
"""Tried, in this order, where the file's usual delimiter does not give all of the first rows as many columns."""
LOOKED_LINES, LOOKED_CHARS = 50, 1_000_000
"""Most lines, and about how many characters of them, that the delimiter is taken from."""
MOST_ROW_CHARS = 1_000_000_000
"""Most characters of a row: a quote that is never closed makes one of all the rest."""
MOST_QUOTED_LINES = 1000
"""Most lines of one value of a .tsv."""
ROWS_AT_ONCE, MAX_ROWS = 100, 10_000
"""Put into columns together, and in a batch, however short they are."""


def load_separated(reading: Reading, kind: str) -> tuple[Table, str | None]:
    """A .csv or .tsv as a table, and in words what was guessed about it."""
    lines = _Lines(iterate_lines(load_pieces(reading)))
    delimiter, remark = _guess_delimiter(lines, DELIMITERS[kind])
    rows = _read_quoted(lines, delimiter) if kind == ".tsv" and delimiter == "\t" else _read_strictly(lines, delimiter)
    numbered = _explain(rows, lines, reading, kind, delimiter)
    names = next(numbered, (0, []))[1]
    # Spreadsheets write empty columns at the right without names; what they hold is left out as other columns are.
    named = [name for name in names if name] or names[:1]
    repeated = next((name for number, name in enumerate(named) if name in named[:number]), None)
    if repeated is not None:
        raise DataError(f"{show(reading.file)} has several columns {repeated!r}, expected each once. Rename them.")

    def read(columns: list[str]) -> Iterable[pa.Table]:
        return _build_batches(numbered, names, columns, reading, kind, delimiter)

    guessed = None if remark is None else f"{show(reading.file)}: {remark}"
    return Table(named or None, read if names else lambda _: (), show(reading.file)), guessed


class _Lines:
    """Lines with their ends, counted; some can be given back."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._waiting: deque[str] = deque()
        self.number = 0
        """Number of the last line that was given out, from 1."""
        self.chars = 0
        """Given out since the row began."""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._lines) + "\n"
        self.number += 1
        self.chars += len(line)
        if self.chars > MOST_ROW_CHARS:
            raise csv.Error(f"a row has more than {MOST_ROW_CHARS:,} characters")
        return line

    def give_back(self, lines: list[str]) -> None:
        """The next ones will be these."""
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)


def _guess_delimiter(lines: _Lines, usual: str) -> tuple[str, str | None]:
    """What separates the columns, all first rows having as many by it, and a remark if that is not the usual."""
    first = next(lines, "")
    if first.lower().startswith("sep=") and len(first.rstrip("\n")) == len("sep=;"):
        return first[4], None  # Excel's own way to say it
    looked = [first] if first else []
    while len(looked) < LOOKED_LINES and sum(map(len, looked)) < LOOKED_CHARS and (line := next(lines, "")):
        looked.append(line)
    lines.give_back(looked)
    if usual == "\t" and usual in first:
        return usual, None
    is_cut = len(looked) == LOOKED_LINES or sum(map(len, looked)) >= LOOKED_CHARS
    columns = {
        delimiter: _count_columns(looked, delimiter, is_cut=is_cut)
        for delimiter in [usual, *OTHER_DELIMITERS.replace(usual, "")]
    }
    fit = [delimiter for delimiter, counts in columns.items() if counts[0] > 1 and len(set(counts)) == 1]
    some = [delimiter for delimiter, counts in columns.items() if counts[0] > 1]
    # Where all rows have as many columns by several, as if each title had one comma, most columns are the likeliest.
    found = max(fit, key=lambda each: columns[each][0]) if fit else next(iter(some), usual)
    if found == usual:
        return usual, None
    words = "tabs" if found == "\t" else repr(found)
    return found, f"its {columns[found][0]} columns are taken to be separated by {words}, as its first lines are"


def _count_columns(looked: list[str], delimiter: str, *, is_cut: bool) -> list[int]:
    """Columns of each row of the first lines, the header first. is_cut: the last row may go on, and counts only as the header."""
    csv.field_size_limit(sys.maxsize)
    counts: list[int] = []
    # What does not read, such as a CR in a value without quotes, is refused with its line when the rows are read.
    with suppress(csv.Error):
        counts += (len(row) for row in csv.reader(looked, delimiter=delimiter) if row)
    return (counts[:-1] if is_cut else counts) or counts or [0]


def _read_strictly(lines: _Lines, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(sys.maxsize)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _read_quoted(lines: _Lines, delimiter: str) -> Iterator[list[str]]:
    """Rows of a .tsv."""
    csv.field_size_limit(sys.maxsize)
    columns = 0
    for line in lines:
        if '"' not in line:
            row = line.rstrip("\n").split(delimiter) if line != "\n" else []
        else:
            row = _parse(line, delimiter) or _read_ambiguous(line, lines, delimiter, columns)
        columns = columns or len(row)
        yield row


def _parse(text: str, delimiter: str) -> list[str] | None:
    """The values of one row; None where its quotes do not pair."""
    try:
        (row,) = csv.reader([text], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError):
        return None
    return row


def _read_ambiguous(line: str, lines: _Lines, delimiter: str, columns: int) -> list[str]:
    """A row whose quotes are letters, or one whose value goes on in other lines; refuse what may be both."""
    literal = line.rstrip("\n").split(delimiter)
    is_literal = len(literal) == columns or not columns
    more = _find_quoted(line, lines, delimiter, columns)
    if more is None:
        return literal
    joined, row = more
    if is_literal and all(each.rstrip("\n").count(delimiter) + 1 == columns for each in joined):
        lines.give_back(joined)
        raise csv.Error(f"a quote opens that may be a letter, or go on to line {lines.number + len(joined):,}")
    return row


def _find_quoted(line: str, lines: _Lines, delimiter: str, columns: int) -> tuple[list[str], list[str]] | None:
    """(further lines, values) of a row that a quote holds together; None where none closes as it should."""
    joined: list[str] = []
    for following in itertools.islice(lines, MOST_QUOTED_LINES):
        joined.append(following)
        if '"' in following:
            row = _parse("".join([line, *joined]), delimiter)
            if row is not None and len(row) == columns:
                return joined, row
            if not _is_open("".join([line, *joined]), delimiter):
                break
    lines.give_back(joined)
    return None


def _is_open(text: str, delimiter: str) -> bool:
    """True if the last value starts with a quote that is not closed, and all quotes before it are."""
    return _parse(text.rstrip("\n") + '"', delimiter) is not None


def _explain(
    rows: Iterator[list[str]], lines: _Lines, reading: Reading, kind: str, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    """(first line, row) of each row that is not empty. Raises DataError, with the line, for one that does not read."""
    while True:
        start, lines.chars = lines.number + 1, 0
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise _refuse(reading, kind, start, delimiter, first_line(error)) from error
        if row is None:
            return
        if row:
            yield start, row


def _refuse(reading: Reading, kind: str, line: int, delimiter: str, fault: str) -> DataError:
    if fault == "unexpected end of data":
        fault = "a quote opens that is never closed"
    return DataError(
        f"{show(reading.file)} does not read as {kind.lstrip('.')}: line {line:,}: {fault}. Text with {delimiter!r}, quotes or "
        "line ends in it belongs between quotes, and quotes inside are doubled; else save it as .jsonl."
    )


def _build_batches(
    rows: Iterator[tuple[int, list[str]]],
    names: list[str],
    columns: list[str],
    reading: Reading,
    kind: str,
    delimiter: str,
) -> Iterator[pa.Table]:
    places = [names.index(name) for name in columns]
    values: list[list[str]] = [[] for _ in columns]
    size = 0
    while chunk := list(itertools.islice(rows, ROWS_AT_ONCE)):
        for line, row in chunk:
            if len(row) != len(names):
                raise _refuse(reading, kind, line, delimiter, f"Expected {len(names)} columns, got {len(row)}")
        for column, place in zip(values, places, strict=True):
            more = [row[place] for _, row in chunk]
            column += more
            size += sum(map(len, more))
        if size >= BATCH_BYTES or len(values[0]) >= MAX_ROWS:
            yield _build_table(columns, values)
            values, size = [[] for _ in columns], 0
    yield _build_table(columns, values)


def _build_table(columns: list[str], values: list[list[str]]) -> pa.Table:
    return pa.table({name: pa.array(each, pa.large_string()) for name, each in zip(columns, values, strict=True)})
