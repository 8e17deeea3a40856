"""Tables on disk and datasets of the Hub, in batches of rows; no file is held in memory whole.

Text is text: nothing here turns `007` into 7, `None` into nothing or `2020-01-25` into a moment, as readers do that guess
types. What a row holds as text is for lmtune.data.rendering to say.
"""

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pyarrow as pa

from lmtune.data.columns import BATCH_BYTES, Texts
from lmtune.data.decoding import Reading, check_pointer, load_pieces
from lmtune.data.files import kind_of, size_of
from lmtune.data.remote import TextFile
from lmtune.data.values import build_json_decoder
from lmtune.errors import DataError, first_line
from lmtune.paths import show

if TYPE_CHECKING:
    import datasets

ROWS_AT_ONCE = 1000
"""Objects of a JSON file, or rows of a stream."""
SHOWN_NAMES = 20
MAX_ROWS = 100_000
"""Most rows in a batch, however short they are."""
ARROW_FILE, ARROW_END = b"ARROW1", b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""First bytes of an Arrow file, and last ones of an Arrow stream."""


TableBatch: TypeAlias = pa.Table | pa.RecordBatch | list[dict[str, Any]]
"""Rows of a table, or objects of a JSON file."""


class Table(NamedTuple):
    """Rows with the names of their columns."""

    names: list[str] | None
    """None for objects, each of which may have others."""
    read: Callable[[list[str]], Iterable[TableBatch]]
    """Batches of these columns at least. Can be called once."""
    where: str
    """The file or dataset, for messages."""


class Rows(NamedTuple):
    """A batch of consecutive rows."""

    texts: Texts
    unwanted: int = 0
    """Rows passed over, because data.where asks for other values."""
    beside: dict[str, int] = {}  # noqa: RUF012  never changed
    """Bytes of the source since the batch before that are in no row, by the kinds of lmtune.data.ledger.LEFT_OUT."""


def wrap_dataset(dataset: "datasets.Dataset | datasets.IterableDataset", where: str) -> Table:
    """A datasets.Dataset or IterableDataset as a table."""
    if dataset.column_names is None:
        dataset = dataset._resolve_features()  # as its first rows show them
    streamed = not hasattr(dataset, "num_rows")
    rows = ROWS_AT_ONCE if streamed else _rows_per_batch(dataset.num_rows, dataset.data.nbytes)
    return Table(
        dataset.column_names, lambda names: dataset.select_columns(names).with_format("arrow").iter(rows), where
    )


def is_text(kind: pa.DataType) -> bool:
    """True for a column of strings."""
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def is_bytes(kind: pa.DataType) -> bool:
    """True for a column of bytes."""
    return any(check(kind) for check in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary))


def _rows_per_batch(rows: int, size: int) -> int:
    """Number of rows of a table that have BATCH_BYTES together, if they are of equal size."""
    return min(MAX_ROWS, max(1, BATCH_BYTES * rows // max(1, size)))


def iterate_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines without their ends; however long one is, it is put together once."""
    begun: list[str] = []
    for piece in pieces:
        first, *lines = piece.split("\n")
        begun.append(first)
        if lines:
            yield "".join(begun)
            *whole, last = lines
            yield from whole
            begun = [last]
    if last := "".join(begun):
        yield last


def load_json(reading: Reading) -> Table:
    """Objects of a .jsonl, one a line, or of a list in a .json."""
    file = show(reading.file)
    if kind_of(reading.file) == ".jsonl":
        return _objects(_parse_lines(file, load_pieces(reading)), file)
    text = "".join(load_pieces(reading))
    if not text.lstrip().startswith(("[", "{")):
        return _objects(_parse_lines(file, [text]), file)
    try:
        loaded = build_json_decoder().decode(text)
    except ValueError as error:
        if text.lstrip().startswith("{"):
            return _objects(_parse_lines(file, [text]), file)  # lines of objects, as many name .json too
        raise DataError(f"{file} is not JSON: {first_line(error)}.") from error
    except RecursionError as error:
        raise _refuse_depth(file) from error
    if not isinstance(loaded, list):
        names = ", ".join(list(loaded)[:SHOWN_NAMES]) + (", ..." if len(loaded) > SHOWN_NAMES else "")
        raise DataError(
            f"{file} holds one object with {names}; expected a list of objects, or one object a line. "
            "Write out the part that holds the texts."
        )
    return _objects(iter(loaded), file)


def _parse_lines(file: str, pieces: Iterable[str]) -> Iterator[object]:
    decode = build_json_decoder().decode
    for number, line in enumerate(iterate_lines(pieces), 1):
        if line and not line.isspace():
            try:
                yield decode(line)
            except ValueError as error:
                raise DataError(f"{file}, line {number:,}, is not JSON: {first_line(error)}.") from error
            except RecursionError as error:
                raise _refuse_depth(f"{file}, line {number:,},") from error


def _refuse_depth(place: str) -> DataError:
    return DataError(
        f"{place} is nested too deep: expected objects inside each other some hundred times at most. "
        "Leave it out, or write it flat."
    )


def _objects(rows: Iterator[object], file: str) -> Table:
    checked = _check_objects(rows, file)
    return Table(None, lambda _: iter(lambda: list(itertools.islice(checked, ROWS_AT_ONCE)), []), file)


def _check_objects(rows: Iterator[object], file: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            kind = "a number" if type(row) is not str and isinstance(row, str) else type(row).__name__
            raise DataError(f'{file}, row {number:,}: expected an object such as {{"text": "..."}}, found {kind}.')
        yield row


def load_parquet(file: TextFile) -> Table:
    """Row groups of a parquet file, without the copy that datasets would make of it."""
    from pyarrow import parquet

    check_pointer(file)
    try:
        table = parquet.ParquetFile(file if isinstance(file, Path) else file.open())
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{show(file)} does not read as parquet: {first_line(error)}.") from error
    groups = range(table.num_row_groups)
    size = sum(table.metadata.row_group(group).total_byte_size for group in groups)
    rows = _rows_per_batch(table.metadata.num_rows, size)

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            yield from table.iter_batches(rows, columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{show(file)} cannot be read to its end: {first_line(error)}.") from error

    return Table(table.schema_arrow.names, batches, show(file))


def load_arrow(file: TextFile) -> Table:
    """An Arrow file or stream, or the folder of a dataset that save_to_disk has written."""
    if isinstance(file, Path) and file.is_dir():
        return wrap_dataset(load_saved(file), show(file))
    check_pointer(file)
    try:
        with file.open("rb") as stream:
            is_file = stream.read(len(ARROW_FILE)) == ARROW_FILE
        source = pa.memory_map(str(file)) if isinstance(file, Path) else pa.PythonFile(file.open(), "r")
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{show(file)} does not read as arrow: {first_line(error)}.") from error

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            found = map(reader.get_batch, range(reader.num_record_batches)) if is_file else iter(reader)
            for batch in found:
                rows = _rows_per_batch(batch.num_rows, batch.nbytes)
                for start in range(0, batch.num_rows, rows):
                    yield batch.select(columns).slice(start, rows)
            if not is_file:
                _check_stream_end(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{show(file)} cannot be read to its end: {first_line(error)}.") from error

    return Table(reader.schema.names, batches, show(file))


def _check_stream_end(file: TextFile) -> None:
    """Raise OSError for a stream without its end: pyarrow takes the end of the file for it."""
    with file.open("rb") as stream:
        stream.seek(-min(len(ARROW_END), size_of(file)), 2)
        end = stream.read()
    if end != ARROW_END:
        raise OSError("it is cut off between two of its batches")


def load_saved(folder: Path) -> "datasets.Dataset | datasets.DatasetDict":
    """A datasets.Dataset that save_to_disk has written. Raises DataError for one that does not load."""
    import datasets

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(logging.CRITICAL)  # it logs what we raise
    try:
        return datasets.load_from_disk(str(folder))
    except Exception as error:  # datasets lets through whatever pyarrow and the codecs raise
        raise DataError(
            f"{show(folder)} does not read as a saved dataset: {first_line(error.__cause__ or error)}."
        ) from error


def load_split_names(folder: Path) -> list[str]:
    """Splits of a dataset that save_to_disk has written with several."""
    try:
        return [str(name) for name in json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{show(folder)}: expected the names of splits in dataset_dict.json, found {first_line(error)}. "
            "Name one of its folders."
        ) from error
