"""The text of the rows of a table: the column, path or template it comes from, and which rows are wanted.

A name that no row has is refused, with those that there are; a row without it is an empty one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pyarrow as pa

from lmtune.data.columns import Texts, build_texts
from lmtune.data.tables import Rows, Table, TableBatch, is_text
from lmtune.data.values import is_wanted, render_value
from lmtune.errors import DataError
from lmtune.paths import show

FIELD = re.compile(r"\{([^{}]+)\}")
"""A column in a template."""
SHOWN_NAMES = 40
LONGEST_NAME = 60
"""Characters of a name that are shown; a longer one is hardly a name."""
SHOWN_VALUES = 8
KEPT_VALUES = 1000
"""Different values of a column that are kept to be shown."""
ABSENT = object()
"""The value at a path that a row does not have."""


Row: TypeAlias = dict[str, object]
"""Values by the names of their columns, or keys."""


@dataclass(slots=True)
class Wanted:
    """data.where, and what was met of its columns."""

    values: dict[str, Any]
    met: dict[str, Counter[str]] = field(default_factory=dict)
    """How often each value was there, by column."""
    found: int = 0
    """Rows that were wanted."""

    def explain(self) -> str:
        """Why no row was wanted, with the values that there are."""
        unmet = [
            f"no row has {name}={value}: it has {_list_values(self.met.get(name, Counter()))}"
            for name, value in self.values.items()
            if not any(is_wanted(met, value) for met in self.met.get(name, ()))
        ]
        together = f"no row has {' and '.join(f'{name}={value}' for name, value in self.values.items())} together"
        return (
            f"expected rows that data.where= asks for, found none; {'; '.join(unmet) or together}. Correct data.where=."
        )


def _list_values(met: Counter[str]) -> str:
    shown = ", ".join(f"{value!r} ({times:,})" for value, times in met.most_common(SHOWN_VALUES))
    return shown + (f" and {len(met) - SHOWN_VALUES:,} more" if len(met) > SHOWN_VALUES else "") or "no value"


def render_rows(
    table: Table, column: str | list[str], wanted: dict[str, Any] | Wanted, encoding: str = "utf-8"
) -> Iterator[Rows]:
    """The text of each row: a column, a dotted path into it, or a template of columns; of several, the first that is there.

    wanted: values that columns, or paths, have to have.
    encoding: of columns of bytes.
    """
    wanted = wanted if isinstance(wanted, Wanted) else Wanted(wanted)
    renderer = _Renderer(table, column if isinstance(column, list) else [column], wanted, encoding)
    for batch in table.read(renderer.needed):
        yield renderer.render(batch)
    renderer.check_names()


class _Renderer:
    """Renders batches of one table, and remembers which names any row had."""

    def __init__(self, table: Table, columns: list[str], wanted: Wanted, encoding: str) -> None:
        self._table, self._wanted, self._encoding = table, wanted, encoding
        self._rows = self._rendered = 0
        self._met: set[str] = set()
        """Paths that some row has."""
        self._names: dict[str, None] = {}
        """Keys of objects, as far as they are shown."""
        self._inside: dict[str, dict[str, None]] = {}
        """Names that were found instead, by a path that ended too early."""
        self._columns = columns if table.names is None else self._choose(columns, table.names)
        self._paths = {each: _list_paths(each, table.names) for each in self._columns}
        paths = [*wanted.values, *(path for paths in self._paths.values() for path in paths)]
        self.needed = sorted({self._top(path) for path in paths})

    def _choose(self, columns: list[str], names: list[str]) -> list[str]:
        """The first of the alternatives whose columns are there."""
        for name in self._wanted.values:
            if self._top(name) not in names:
                raise self._refuse([self._top(name)], "where", names)
        fit = [each for each in columns if all(self._top(path) in names for path in _list_paths(each, names))]
        if not fit:
            tops = [self._top(path) for each in columns for path in _list_paths(each, names)]
            absent = list(dict.fromkeys(name for name in tops if name not in names))
            raise self._refuse(absent if len(columns) > 1 else absent[:1], "text_column", names)
        return fit[:1]

    def _top(self, path: str) -> str:
        """The column that a path starts with; a column may have dots in its own name."""
        names = self._table.names
        return path if names is not None and path in names else path.split(".")[0]

    def render(self, batch: TableBatch) -> Rows:
        """Texts of one batch."""
        column, wanted = self._columns[0], self._wanted.values
        if not isinstance(batch, list) and not wanted and column in batch.column_names and is_text(batch[column].type):
            self._met.add(column)
            self._rows += len(batch[column])
            self._rendered += len(batch[column])
            return Rows(as_texts(batch[column]))
        if isinstance(batch, list) and not wanted and len(self._paths) == 1:
            plain: list[Any] = [row.get(column) for row in batch]
            if all(type(value) is str for value in plain):
                self._met.add(column)
                self._rows += len(plain)
                self._rendered += len(plain)
                return Rows(self._encodable(plain))
        rows = batch if isinstance(batch, list) else _write_short_floats(batch.select(self.needed)).to_pylist()
        texts, unwanted, beside = [], 0, 0
        for row in rows:
            self._rows += 1
            if wanted and not self._is_wanted(row):
                unwanted += 1
                beside += self._measure(row)
            else:
                texts.append(self._render_row(row))
        return Rows(self._encodable(texts), unwanted, {"unwanted": beside} if beside else {})

    def _is_wanted(self, row: Row) -> bool:
        is_one = True
        for path, value in self._wanted.values.items():
            found = self._reach(row, path)
            met = self._wanted.met.setdefault(path, Counter())
            if found is not ABSENT and (len(met) < KEPT_VALUES or str(found) in met):
                met[found if isinstance(found, str) else str(found)] += 1
            is_one = is_one and is_wanted(None if found is ABSENT else found, value)
        return is_one

    def _measure(self, row: Row) -> int:
        """Bytes of the text of a row that is passed over, where that is one value."""
        found = self._reach(row, self._columns[0])
        return len(found.encode("utf-8", "surrogatepass")) if isinstance(found, str) else 0

    def _render_row(self, row: Row) -> str:
        self._rendered += 1
        self._wanted.found += 1
        for column, paths in self._paths.items():
            if column in row or paths == [column]:
                found = self._reach(row, column)
                if found is not ABSENT or len(self._paths) == 1:
                    return self._as_text(found, column)
                continue
            values = {path: self._reach(row, path) for path in paths}
            if len(self._paths) == 1 or ABSENT not in values.values():
                texts = {path: self._as_text(value, path) for path, value in values.items()}
                return FIELD.sub(lambda match: texts[match[1]], column)  # noqa: B023  used at once
        return ""

    def _as_text(self, value: object, path: str) -> str:
        found = None if value is ABSENT else value
        return render_value(found, path, self._table.where, self._rows, self._encoding)

    def _reach(self, row: Row, path: str) -> object:
        """The value at a dotted path, ABSENT where the row does not go that far. A name may have dots itself."""
        if path in row:
            self._met.add(path)
            return row[path]
        value: object = row
        parts = path.split(".")
        for depth, part in enumerate(parts):
            before = value
            if isinstance(value, list):
                value = value[int(part)] if part.isdecimal() and int(part) < len(value) else ABSENT
            else:
                value = value.get(part, ABSENT) if isinstance(value, dict) else ABSENT
            if value is ABSENT:
                if path not in self._met:
                    self._remember(".".join(parts[:depth]), before)
                return ABSENT
        self._met.add(path)
        return value

    def _remember(self, path: str, value: object) -> None:
        names = self._inside.setdefault(path, {})
        if isinstance(value, dict) and len(names) < SHOWN_NAMES:
            names |= dict.fromkeys(value)
        elif isinstance(value, list):
            names[f"{len(value)} items" if value else "no items"] = None

    def check_names(self) -> None:
        """Raise DataError for a name that no row had."""
        if not self._rows:
            return
        absent = next((path for path in self._wanted.values if path not in self._met), None)
        if absent is not None:
            raise self._refuse_path(absent, "where")
        if not self._rendered:
            return
        fits = [each for each, paths in self._paths.items() if each in self._met or set(paths) <= self._met]
        if not fits:
            missing = [path for paths in self._paths.values() for path in paths if path not in self._met]
            names, tops = list(self._inside.get("", {})), list(dict.fromkeys(path.split(".")[0] for path in missing))
            if len(self._paths) > 1 and not set(tops) & set(names):
                raise self._refuse(tops, "text_column", names)
            raise self._refuse_path(missing[0], "text_column")

    def _refuse_path(self, path: str, purpose: str) -> DataError:
        parts = path.split(".")
        start = next(
            (".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in self._inside), ""
        )
        names = list(self._inside.get(start, {}))
        if not start:
            return self._refuse([parts[0]], purpose, names or list(self._table.names or []))
        found = f"{start!r} has {', '.join(names)}" if names else f"{start!r} has no names inside"
        return DataError(
            f"{self._table.where}: expected {path!r}, which data.{purpose}= names, in some row, found it in none of "
            f"{self._rows:,}; {found}. Correct data.{purpose}=."
        )

    def _refuse(self, absent: list[str], purpose: str, names: list[str]) -> DataError:
        asked = " or ".join(repr(name) for name in absent)
        cut = [
            name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
            for name in map(show, names[:SHOWN_NAMES])
        ]
        shown = ", ".join(cut) + (", ..." if len(names) > SHOWN_NAMES else "")
        several = f" Where files differ, a list of names: data.{purpose}=[a,b]." if purpose == "text_column" else ""
        return DataError(
            f"{self._table.where} has no column {asked}; it has {shown or 'none'}. "
            + (
                "Its first line looks like text, not like names of columns: put a line with names above it."
                if any(len(str(name)) > LONGEST_NAME for name in names)
                else f"Name one of those with data.{purpose}=.{several}"
            )
        )

    def _encodable(self, texts: list[str]) -> Texts:
        try:
            return build_texts(texts)
        except UnicodeEncodeError as error:
            start = error.object[max(0, error.start - 30) : error.start]
            raise DataError(
                f"{self._table.where}: a text holds half a character, {error.object[error.start]!r} without its partner, which "
                f"no encoding can write (after {start!r}, at row {self._rows:,} or before). Mend or leave out that row."
            ) from error


def _list_paths(column: str, names: Iterable[str] | None = None) -> list[str]:
    """The paths that a column, a path or a template reads."""
    return [column] if names is not None and column in names else FIELD.findall(column) or [column]


def _write_short_floats(batch: pa.Table | pa.RecordBatch) -> pa.Table | pa.RecordBatch:
    """Floats of less than 64 bits as text: 0.1 is 0.10000000149011612 in Python."""
    import pyarrow.compute as pc

    for number, kind in enumerate(batch.schema.types):
        if kind in (pa.float16(), pa.float32()):
            values = batch.column(number)
            values = pc.if_else(pc.is_nan(values), None, values.cast(pa.float32())).cast(pa.string())
            batch = batch.set_column(number, batch.schema.names[number], values)
    return batch


def as_texts(column: pa.Array | pa.ChunkedArray) -> Texts:
    """A column of strings in one piece, with 64-bit offsets; no value is an empty text."""
    import pyarrow.compute as pc

    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    texts = column.cast(pa.large_string())
    return pc.fill_null(texts, "") if texts.null_count else texts
