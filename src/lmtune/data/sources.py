"""Reading text: files of many kinds, and datasets of the Hub.

A source hands out rows (a row of a table, or a document of a text file) for each split it has, and a fingerprint of
its content that can be known without reading rows.
"""

import bz2
import codecs
import glob
import gzip
import itertools
import json
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import zstandard

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.cache import checksum_file
from lmtune.errors import DataError
from lmtune.runs import checksum_of

PACKAGE = "pkg://lmtune/"
TEXT_SUFFIXES = (".txt",)
TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
COMPRESSIONS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": zstandard.open,
}
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
WIKITEXT_TITLE = re.compile(r"^ = [^=\n](?:[^\n]*[^=\n])? = *$", re.MULTILINE)


class Source(Protocol):
    """Something that rows of text come from."""

    rules: tuple[DocumentRule, ...]
    """What a document is, as the source hands it out; several where files of several kinds are read."""
    unwanted: int
    """Rows passed over so far, because data.where asks for other values."""

    def fingerprint(self) -> str:
        """Changes when the content does."""

    def describe(self) -> list[dict[str, Any]]:
        """What is read, for the ledger."""

    def splits(self) -> tuple[str, ...]:
        """`train`, and those of `validation` and `test` that the source itself keeps apart."""

    def load_rows(self, split: str) -> Iterator[str]:
        """Rows of one split, in the order of the source."""


def build_source(config: DataConfig) -> Source:
    """The source that the configuration names."""
    return HubSource(config) if config.files is None else FileSource(config)


@dataclass(slots=True)
class FileSource:
    """Text files and tables on disk."""

    config: DataConfig
    files: dict[str, list[Path]] = field(init=False)
    rules: tuple[DocumentRule, ...] = field(init=False)
    unwanted: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.files = {"train": find_files("data.files", self.config.files)}
        if self.config.validation_files is not None:
            self.files["validation"] = find_files("data.validation_files", self.config.validation_files)
        if not any(file.is_dir() or file.stat().st_size for files in self.files.values() for file in files):
            raise DataError(
                f"{self.config.files}: expected text, found {_count(self.files['train'])}. Give files with something in them."
            )
        found = {self.rule_of(file) for files in self.files.values() for file in files}
        self.rules = tuple(rule for rule in DocumentRule if rule in found)

    def rule_of(self, file: Path) -> DocumentRule:
        """What was asked for, else the whole file for text and the row for tables."""
        return self.config.documents or (DocumentRule.file if kind_of(file) in TEXT_SUFFIXES else DocumentRule.row)

    def fingerprint(self) -> str:
        # The kind stands beside the content: the same bytes read differently as .txt and as .jsonl.
        return checksum_of(
            "".join(
                f"{split}:{kind_of(file)}:{checksum_file(file)};"
                for split, files in self.files.items()
                for file in files
            )
        )

    def describe(self) -> list[dict[str, Any]]:
        return [
            {"name": str(file), "split": split, "bytes": file.stat().st_size if file.is_file() else None}
            for split, files in self.files.items()
            for file in files
        ]

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def load_rows(self, split: str) -> Iterator[str]:
        for file in self.files[split]:
            if kind_of(file) in TEXT_SUFFIXES:
                yield from split_text(load_text(file, self.config.encoding), self.rule_of(file))
            else:
                yield from self._load_texts(file)

    def _load_texts(self, file: Path) -> Iterator[str]:
        table, dropped = keep_rows(load_table(file), self.config.where, str(file))
        self.unwanted += dropped
        yield from _by_rule(render_rows(table, self.config.text_column, str(file)), self.rule_of(file))


@dataclass(slots=True)
class HubSource:
    """A dataset of the Hugging Face Hub."""

    config: DataConfig
    rules: tuple[DocumentRule, ...] = field(init=False)
    unwanted: int = field(init=False, default=0)
    _loaded: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rules = (self.config.documents or DocumentRule.row,)

    def fingerprint(self) -> str:
        return checksum_of(json.dumps({split: self._load(split)._fingerprint for split in self.splits()}))

    def describe(self) -> list[dict[str, Any]]:
        name = "/".join(filter(None, [self.config.path, self.config.subset]))
        return [
            {"name": name, "split": split, "revision": self.config.revision, "rows": len(self._load(split))}
            for split in self.splits()
        ]

    def splits(self) -> tuple[str, ...]:
        given = {"validation": self.config.validation_split, "test": self.config.test_split}
        return ("train", *(side for side, split in given.items() if split))

    def load_rows(self, split: str) -> Iterator[str]:
        where = f"{self.config.path} ({split})"
        table, dropped = keep_rows(self._load(split), self.config.where, where)
        self.unwanted += dropped
        yield from _by_rule(render_rows(table, self.config.text_column, where), self.rules[0])

    def _load(self, side: str) -> Any:
        if side not in self._loaded:
            import datasets

            config = self.config
            split = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}[
                side
            ]
            try:
                self._loaded[side] = datasets.load_dataset(
                    config.path, config.subset, revision=config.revision, split=split
                )
            except (ValueError, RuntimeError, OSError) as error:
                raise DataError(
                    f"{config.path} (data.subset={config.subset}, split {split}) does not load as a dataset: "
                    f"{_first_line(error)}. Check data.path, data.subset and data.train_split; data sets that need a "
                    "script of their own are not supported by datasets 5."
                ) from error
        return self._loaded[side]


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
    return files


def _expand(pattern: str) -> list[Path]:
    if pattern.startswith(PACKAGE):
        pattern = str(Path(__file__).resolve().parents[1] / pattern.removeprefix(PACKAGE))
    path = Path(pattern).expanduser()
    if path.is_dir() and not (path / "state.json").exists():
        return sorted(file for file in path.rglob("*") if file.is_file() and kind_of(file))
    if path.exists():
        _check_kind(path)
        return [path]
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
    return [Path(file) for file in matches if kind_of(Path(file))]


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


def load_text(file: Path, encoding: str) -> str:
    """A text file decoded, line ends as LF. Never guesses and never replaces: what does not decode is an error."""
    opener = COMPRESSIONS.get(file.suffix.lower())
    try:
        with opener(file, "rb") if opener else file.open("rb") as stream:
            raw = stream.read()
    except (EOFError, OSError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise DataError(
            f"{file} cannot be read to its end: {_first_line(error)}. It may be cut off; fetch or pack it again."
        ) from error
    mark = next((name for mark, name in BYTE_ORDER_MARKS.items() if raw.startswith(mark)), None)
    try:
        text = raw.decode(mark or encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file} is not {error.encoding}: byte {raw[error.start]:#04x} at offset {error.start:,} (line {line:,}). "
            "Say what it is, for instance data.encoding=cp1252, or convert the file to UTF-8."
        ) from error
    except LookupError as error:
        raise DataError(
            f"data.encoding={encoding}: no such encoding. Expected a name such as utf-8, cp1252 or latin-1."
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def load_table(file: Path) -> Any:
    """A table on disk as a datasets.Dataset."""
    import datasets

    kind = kind_of(file)
    readers: dict[str, Callable[[], Any]] = {
        ".jsonl": lambda: datasets.Dataset.from_json(str(file)),
        ".json": lambda: datasets.Dataset.from_json(str(file)),
        ".csv": lambda: datasets.Dataset.from_csv(str(file)),
        ".tsv": lambda: datasets.Dataset.from_csv(str(file), sep="\t"),
        ".parquet": lambda: datasets.Dataset.from_parquet(str(file)),
        ".arrow": lambda: (
            datasets.load_from_disk(str(file)) if file.is_dir() else datasets.Dataset.from_file(str(file))
        ),
    }
    try:
        return readers[kind]()
    except Exception as error:  # datasets lets through whatever pandas, pyarrow and the codecs raise
        raise DataError(
            f"{file} does not read as {kind.lstrip('.')}: {_first_line(error.__cause__ or error)}."
        ) from error


def keep_rows(table: Any, wanted: dict[str, Any], where: str) -> tuple[Any, int]:
    """(table, dropped): the rows whose columns have the wanted values, and how many do not."""
    import numpy as np

    absent = [name for name in wanted if name not in table.column_names]
    if absent:
        raise DataError(f"{where} has no column {absent[0]!r} for data.where; it has {', '.join(table.column_names)}.")
    keep = np.ones(len(table), dtype=bool)
    for name, value in wanted.items():
        keep &= np.fromiter((found == value for found in table[name]), dtype=bool, count=len(table))
    return table.select(np.flatnonzero(keep)), int((~keep).sum())


def render_rows(table: Any, column: str, where: str) -> Iterator[str]:
    """The text of each row: a column, a dotted path into it, or a template of columns."""
    names = table.column_names
    wanted = re.findall(r"\{([^{}]+)\}", column)
    root = column.split(".")[0]
    absent = [name for name in wanted or [root] if name.split(".")[0] not in names]
    if column not in names and absent:
        raise DataError(
            f"{where} has no column {absent[0]!r}; it has {', '.join(names)}. "
            "Name the one that holds the text with data.text_column=."
        )
    keep = [column] if column in names else sorted({name.split(".")[0] for name in wanted or [root]})
    for row in table.select_columns(keep):
        yield _render_row(row, column, wanted, where)


def _render_row(row: dict[str, Any], column: str, wanted: list[str], where: str) -> str:
    if column in row:
        return _as_text(row[column], column, where)
    if wanted:
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


def split_text(text: str, rule: DocumentRule) -> Iterator[str]:
    """Documents of one text by rule; line ends around each are not part of it."""
    if rule is DocumentRule.blank_line:
        pieces = re.split(r"\n[ \t]*(?:\n[ \t]*)+", text)
    elif rule in (DocumentRule.line, DocumentRule.row):
        pieces = text.split("\n")
    elif rule is DocumentRule.wikitext:
        starts = [match.start() for match in WIKITEXT_TITLE.finditer(text)]
        edges = [0, *starts, len(text)]
        pieces = [text[start:end] for start, end in itertools.pairwise(edges)]
        pieces = pieces if pieces[0].strip() else pieces[1:]
    else:
        pieces = [text]
    yield from (piece.strip("\n") for piece in pieces)


def _by_rule(rows: Iterator[str], rule: DocumentRule) -> Iterator[str]:
    """Rows of a table, or documents of the text that they are the lines of."""
    if rule is DocumentRule.row:
        yield from rows
    else:
        yield from split_text("".join(row if row.endswith("\n") else row + "\n" for row in rows), rule)


def _count(files: list[Path]) -> str:
    return "an empty file" if len(files) == 1 else f"{len(files):,} empty files"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
