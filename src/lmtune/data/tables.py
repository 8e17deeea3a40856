"""Rows of tables: files on disk and datasets of the Hub, and the text that a row holds.

Text is text: nothing here turns `007` into 7, `None` into nothing or `2020-01-25` into a moment, as readers do that guess
types.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lmtune.data.files import first_line, kind_of, load_text, open_file
from lmtune.errors import DataError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SAMPLED_ROWS = 1000
"""Rows of a JSON file whose keys count as its columns: not each row has each key."""


class Table(NamedTuple):
    """Rows with the names of their columns."""

    names: list[str]
    rows: Iterable[dict[str, Any]]
    where: str
    """The file or dataset, for messages."""


def load_table(file: Path, encoding: str) -> Table:
    """A table on disk; raise DataError, with the place, for one that does not read."""
    kind = kind_of(file)
    if kind in DELIMITERS:
        return _load_separated(file, DELIMITERS[kind], encoding)
    if kind in (".json", ".jsonl"):
        return _load_json(file, encoding)
    return _load_arrow(file)


def wrap_dataset(dataset: Any, where: str) -> Table:
    """A datasets.Dataset as a table."""
    return Table(dataset.column_names, dataset, where)


def render_rows(table: Table, column: str, wanted: dict[str, Any], count: Callable[[], None]) -> Iterator[str]:
    """The text of each row: a column, a dotted path into it, or a template of columns.

    wanted: values that columns have to have; `count` is called for each row that has others.
    """
    fields = re.findall(r"\{([^{}]+)\}", column)
    needed = [column] if column in table.names else [name.split(".")[0] for name in fields or [column]]
    for purpose, names in (("text_column", needed), ("where", list(wanted))):
        absent = [name for name in names if name not in table.names]
        if absent:
            raise DataError(
                f"{table.where} has no column {absent[0]!r}; it has {', '.join(table.names)}. "
                f"Name one of those with data.{purpose}=."
            )
    rows = table.rows
    if hasattr(rows, "select_columns"):
        rows = rows.select_columns(sorted({*needed, *wanted}))
    for row in rows:
        if all(row.get(name) == value for name, value in wanted.items()):
            yield _render_row(row, column, fields, table.where)
        else:
            count()


def _load_separated(file: Path, delimiter: str, encoding: str) -> Table:
    from pyarrow import csv, lib

    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    read = csv.ReadOptions(encoding=encoding)
    try:
        with open_file(file) as stream, csv.open_csv(stream, read, parse) as reader:
            names = reader.schema.names
        convert = csv.ConvertOptions(column_types=dict.fromkeys(names, lib.string()), strings_can_be_null=False)
        with open_file(file) as stream:
            table = csv.read_csv(stream, read, parse, convert)
    except (lib.ArrowInvalid, OSError, EOFError, UnicodeDecodeError, LookupError) as error:
        raise DataError(
            f"{file} does not read as {kind_of(file).lstrip('.')}: {first_line(error)}. Text with {delimiter!r} or line ends in "
            "it belongs between quotes; say data.encoding= if it is not UTF-8."
        ) from error
    return Table(names, (row for batch in table.to_batches() for row in batch.to_pylist()), str(file))


def _load_json(file: Path, encoding: str) -> Table:
    """Objects of a .jsonl, one a line, or of a list in a .json."""
    text = load_text(file, encoding)
    if kind_of(file) == ".jsonl" or not text.lstrip().startswith(("[", "{")):
        return _objects(list(_parse_lines(file, text)), file)
    try:
        loaded = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("{"):
            return _objects(list(_parse_lines(file, text)), file)  # lines of objects, as many name .json too
        raise DataError(f"{file} is not JSON: {first_line(error)}.") from error
    if not isinstance(loaded, list):
        raise DataError(
            f"{file} holds one object with {', '.join(loaded)}; expected a list of objects, or one object a line. "
            "Write out the part that holds the texts."
        )
    return _objects(loaded, file)


def _parse_lines(file: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line and not line.isspace():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}, line {number:,}, is not JSON: {first_line(error)}.") from error


def _objects(rows: list[Any], file: Path) -> Table:
    wrong = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise DataError(
            f'{file}, row {wrong:,}: expected an object such as {{"text": "..."}}, found {type(rows[wrong - 1]).__name__}.'
        )
    if not rows:
        raise DataError(f"{file}: expected rows, found none.")
    names = list(dict.fromkeys(name for row in rows[:SAMPLED_ROWS] for name in row))
    return Table(names, rows, str(file))


def _load_arrow(file: Path) -> Table:
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)  # it logs what we raise
    try:
        if file.is_dir():
            dataset = datasets.load_from_disk(str(file))
        else:
            dataset = (
                datasets.Dataset.from_parquet(str(file))
                if kind_of(file) == ".parquet"
                else datasets.Dataset.from_file(str(file))
            )
    except Exception as error:  # datasets lets through whatever pyarrow and the codecs raise
        raise DataError(
            f"{file} does not read as {kind_of(file).lstrip('.')}: {first_line(error.__cause__ or error)}."
        ) from error
    if len(dataset) == 0:
        raise DataError(f"{file}: expected rows, found none.")
    return wrap_dataset(dataset, str(file))


def _render_row(row: dict[str, Any], column: str, fields: list[str], where: str) -> str:
    if column in row:
        return _as_text(row[column], column, where)
    if fields:
        return re.sub(r"\{([^{}]+)\}", lambda match: _as_text(_reach(row, match[1]), match[1], where), column)
    return _as_text(_reach(row, column), column, where)


def _reach(row: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(row, list):
            row = row[int(part)] if part.isdigit() and int(part) < len(row) else None
        else:
            row = row.get(part) if isinstance(row, dict) else None
    return row


def _as_text(value: Any, column: str, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        inside = ", ".join(value) if isinstance(value, dict) else f"{len(value)} items"
        raise DataError(
            f"{where}: {column!r} holds no text but {type(value).__name__} ({inside}). "
            f"Reach inside with data.text_column={column}.<name or number>."
        )
    return str(value)
