"""Reading text: files of many kinds, and datasets of the Hub.

A source hands out rows (a row of a table, or a document of a text file) for each split it has, and a fingerprint of
its content that can be known without reading rows.
"""

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.cache import checksum_file
from lmtune.data.files import TEXT_SUFFIXES, find_files, first_line, kind_of, load_text
from lmtune.data.tables import Table, load_table, render_rows, wrap_dataset
from lmtune.errors import DataError
from lmtune.runs import checksum_of

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
                table = load_table(file, self.config.encoding)
                yield from _by_rule(self._render(table), self.rule_of(file))

    def _render(self, table: Table) -> Iterator[str]:
        return render_rows(table, self.config.text_column, self.config.where, self._pass_over)

    def _pass_over(self) -> None:
        self.unwanted += 1


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
        table = wrap_dataset(self._load(split), f"{self.config.path} ({split})")
        rows = render_rows(table, self.config.text_column, self.config.where, self._pass_over)
        yield from _by_rule(rows, self.rules[0])

    def _pass_over(self) -> None:
        self.unwanted += 1

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
                    f"{first_line(error)}. Check data.path, data.subset and data.train_split; data sets that need a "
                    "script of their own are not supported by datasets 5."
                ) from error
        return self._loaded[side]


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
