"""Rows of tables: files on disk and datasets of the Hub, and the text that a row holds.

Text is text: nothing here turns `007` into 7, `None` into nothing or `2020-01-25` into a moment, as readers do that guess
types. Tables are read in batches; no file is held in memory whole.
"""

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from lmtune.data.files import kind_of, load_pieces, load_text, open_file
from lmtune.data.texts import BATCH_BYTES, Texts, build_texts
from lmtune.errors import DataError, first_line

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SAMPLED_ROWS = 1000
"""Rows of a JSON file whose keys count as its columns: not each row has each key."""
MAX_ROWS = 100_000
"""In a batch, however short they are."""
FIELD = re.compile(r"\{([^{}]+)\}")
"""A column in a template."""


class Table(NamedTuple):
    """Rows with the names of their columns."""

    names: list[str]
    read: Callable[[list[str]], Iterable[Any]]
    """Batches of these columns at least: pyarrow tables or record batches, or lists of dicts."""
    where: str
    """The file or dataset, for messages."""


class Rows(NamedTuple):
    """A batch of consecutive rows."""

    texts: Texts
    unwanted: int = 0
    """Rows passed over, because data.where asks for other values."""


def load_table(file: Path, encoding: str) -> Table:
    """A table on disk; raise DataError, with the place, for one that does not read."""
    kind = kind_of(file)
    if kind in DELIMITERS:
        return _load_separated(file, DELIMITERS[kind], encoding)
    if kind in (".json", ".jsonl"):
        return _load_json(file, encoding)
    return _load_parquet(file) if kind == ".parquet" else _load_arrow(file)


def wrap_dataset(dataset: Any, where: str) -> Table:
    """A datasets.Dataset or IterableDataset as a table."""
    streamed = not hasattr(dataset, "num_rows")
    rows = SAMPLED_ROWS if streamed else _rows_per_batch(dataset.num_rows, dataset.data.nbytes)
    return Table(
        dataset.column_names, lambda names: dataset.select_columns(names).with_format("arrow").iter(rows), where
    )


def render_rows(table: Table, column: str, wanted: dict[str, Any]) -> Iterator[Rows]:
    """The text of each row: a column, a dotted path into it, or a template of columns.

    wanted: values that columns have to have.
    """
    fields = FIELD.findall(column)
    needed = [column] if column in table.names else [name.split(".")[0] for name in fields or [column]]
    for purpose, names in (("text_column", needed), ("where", list(wanted))):
        absent = [name for name in names if name not in table.names]
        if absent:
            raise DataError(
                f"{table.where} has no column {absent[0]!r}; it has {', '.join(table.names)}. "
                f"Name one of those with data.{purpose}=."
            )
    columns = sorted({*needed, *wanted})
    for batch in table.read(columns):
        if not isinstance(batch, list) and not wanted and column in table.names and _is_text(batch[column].type):
            yield Rows(_as_texts(batch[column]))
        else:
            rows = batch if isinstance(batch, list) else batch.select(columns).to_pylist()
            chosen = [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]
            texts = [_render_row(row, column, fields, table.where) for row in chosen]
            yield Rows(_encodable(texts, table.where), len(rows) - len(chosen))


def _encodable(texts: list[str], where: str) -> Texts:
    try:
        return build_texts(texts)
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: a text holds half a character, {error.object[error.start]!r} without its partner, which no encoding "
            f"can write (after {error.object[max(0, error.start - 30) : error.start]!r}). Mend or leave out that row."
        ) from error


def _rows_per_batch(rows: int, size: int) -> int:
    """So many rows of a table are BATCH_BYTES, if they are of equal size."""
    return min(MAX_ROWS, max(1, BATCH_BYTES * rows // max(1, size)))


def _is_text(kind: Any) -> bool:
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _as_texts(column: Any) -> Texts:
    """A column of strings in one piece, with 64-bit offsets; no value is an empty text."""
    import pyarrow.compute as pc

    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    texts = column.cast(pa.large_string())
    return pc.fill_null(texts, "") if texts.null_count else texts


def _load_separated(file: Path, delimiter: str, encoding: str) -> Table:
    from pyarrow import csv

    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    read = csv.ReadOptions(encoding=encoding, block_size=BATCH_BYTES)
    with _reading(file), open_file(file) as stream, csv.open_csv(stream, read, parse) as reader:
        names = reader.schema.names

    def batches(columns: list[str]) -> Iterator[Any]:
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, include_columns=columns
        )
        with _reading(file), open_file(file) as stream, csv.open_csv(stream, read, parse, convert) as reader:
            yield from reader

    return Table(names, batches, str(file))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Words for what goes wrong in a file of separated values."""
    try:
        yield
    except (pa.ArrowInvalid, OSError, EOFError, UnicodeDecodeError, LookupError) as error:
        kind = kind_of(file)
        raise DataError(
            f"{file} does not read as {kind.lstrip('.')}: {first_line(error)}. Text with {DELIMITERS[kind]!r} or line "
            "ends in it belongs between quotes; say data.encoding= if it is not UTF-8."
        ) from error


def _load_json(file: Path, encoding: str) -> Table:
    """Objects of a .jsonl, one a line, or of a list in a .json."""
    if kind_of(file) == ".jsonl":
        return _objects(_parse_lines(file, load_pieces(file, encoding)), file)
    text = load_text(file, encoding)
    if not text.lstrip().startswith(("[", "{")):
        return _objects(_parse_lines(file, [text]), file)
    try:
        loaded = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("{"):
            return _objects(_parse_lines(file, [text]), file)  # lines of objects, as many name .json too
        raise DataError(f"{file} is not JSON: {first_line(error)}.") from error
    if not isinstance(loaded, list):
        raise DataError(
            f"{file} holds one object with {', '.join(loaded)}; expected a list of objects, or one object a line. "
            "Write out the part that holds the texts."
        )
    return _objects(iter(loaded), file)


def _parse_lines(file: Path, pieces: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(_lines(pieces), 1):
        if line and not line.isspace():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise DataError(f"{file}, line {number:,}, is not JSON: {first_line(error)}.") from error


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    yield rest


def _objects(rows: Iterator[Any], file: Path) -> Table:
    checked = _check_objects(rows, file)
    first = list(itertools.islice(checked, SAMPLED_ROWS))
    if not first:
        raise DataError(f"{file}: expected rows, found none.")
    names = list(dict.fromkeys(name for row in first for name in row))
    rest = iter(lambda: list(itertools.islice(checked, SAMPLED_ROWS)), [])
    return Table(names, lambda _: itertools.chain([first], rest), str(file))


def _check_objects(rows: Iterator[Any], file: Path) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(
                f'{file}, row {number:,}: expected an object such as {{"text": "..."}}, found {type(row).__name__}.'
            )
        yield row


def _load_parquet(file: Path) -> Table:
    """Row groups of a parquet file, without the copy that datasets would make of it."""
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} does not read as parquet: {first_line(error)}.") from error
    if table.metadata.num_rows == 0:
        raise DataError(f"{file}: expected rows, found none.")
    groups = range(table.num_row_groups)
    size = sum(table.metadata.row_group(group).total_byte_size for group in groups)
    rows = _rows_per_batch(table.metadata.num_rows, size)

    def batches(columns: list[str]) -> Iterator[Any]:
        try:
            yield from table.iter_batches(rows, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read to its end: {first_line(error)}.") from error

    return Table(table.schema_arrow.names, batches, str(file))


def _load_arrow(file: Path) -> Table:
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)  # it logs what we raise
    try:
        dataset = datasets.load_from_disk(str(file)) if file.is_dir() else datasets.Dataset.from_file(str(file))
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
        return FIELD.sub(lambda match: _as_text(_reach(row, match[1]), match[1], where), column)
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
