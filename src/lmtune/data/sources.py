"""Reading text: files of many kinds, and datasets of the Hub.

A source hands out rows (a row of a table, or a document of a text file) for each split it has, shard by shard, and a
fingerprint of its content that can be known without reading rows.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.cache import checksum_file
from lmtune.data.documents import split_text
from lmtune.data.files import TEXT_SUFFIXES, find_files, kind_of, load_pieces, size_of
from lmtune.data.tables import Rows, load_table, render_rows, wrap_dataset
from lmtune.data.texts import batch_strings, build_texts, iterate_strings
from lmtune.errors import DataError, first_line
from lmtune.hub import is_local
from lmtune.paths import GivenPath, show
from lmtune.records import checksum_of

SCRIPT = re.compile("scripts are no longer supported")
"""What datasets says of a data set that would run code."""


class Source(Protocol):
    """Something that rows of text come from."""

    rules: tuple[DocumentRule, ...]
    """What a document is, as the source hands it out; several where files of several kinds are read."""

    def fingerprint(self) -> str:
        """Changes when the content does."""

    def describe(self) -> list[dict[str, Any]]:
        """What is read, for the ledger."""

    def splits(self) -> tuple[str, ...]:
        """`train`, and those of `validation` and `test` that the source itself keeps apart."""

    def count_shards(self, split: str) -> int:
        """Parts of a split that can be read one by one."""

    def load_rows(self, split: str, shard: int) -> Iterator[Rows]:
        """Batches of rows of one shard, in the order of the source."""


def build_source(config: DataConfig) -> Source:
    """The source that the configuration names."""
    return HubSource(config) if config.files is None else FileSource(config)


@dataclass(slots=True)
class FileSource:
    """Text files and tables on disk; each file is a shard."""

    config: DataConfig
    files: dict[str, list[Path]] = field(init=False)
    rules: tuple[DocumentRule, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.files = {"train": find_files("data.files", self.config.files)}
        if self.config.validation_files is not None:
            self.files["validation"] = find_files("data.validation_files", self.config.validation_files)
        if not any(size_of(file) != 0 for files in self.files.values() for file in files):
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
            {"name": str(file), "split": split, "bytes": size_of(file)}
            for split, files in self.files.items()
            for file in files
        ]

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def count_shards(self, split: str) -> int:
        return len(self.files[split])

    def load_rows(self, split: str, shard: int) -> Iterator[Rows]:
        file = self.files[split][shard]
        if kind_of(file) in TEXT_SUFFIXES:
            documents = split_text(load_pieces(file, self.config.encoding), self.rule_of(file))
            return map(Rows, batch_strings(documents))
        rows = render_rows(load_table(file, self.config.encoding), self.config.text_column, self.config.where)
        return _by_rule(rows, self.rule_of(file))


@dataclass(slots=True)
class HubSource:
    """A dataset of the Hugging Face Hub; its shards are the files it is kept in, or all of it once downloaded."""

    config: DataConfig
    rules: tuple[DocumentRule, ...] = field(init=False)
    _loaded: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rules = (self.config.documents or DocumentRule.row,)

    def fingerprint(self) -> str:
        return checksum_of(json.dumps({split: self._load(split)._fingerprint for split in self.splits()}))

    def describe(self) -> list[dict[str, Any]]:
        return [
            {
                "name": self._name,
                "split": split,
                "revision": self._find_revision(),
                "rows": getattr(self._load(split), "num_rows", None),
            }
            for split in self.splits()
        ]

    def splits(self) -> tuple[str, ...]:
        given = {"validation": self.config.validation_split, "test": self.config.test_split}
        return ("train", *(side for side, split in given.items() if split))

    def count_shards(self, split: str) -> int:
        return int(self._load(split).num_shards) if self.config.streaming else 1

    def load_rows(self, split: str, shard: int) -> Iterator[Rows]:
        dataset = self._load(split)
        if self.config.streaming:
            dataset = dataset.shard(num_shards=self.count_shards(split), index=shard, contiguous=True)
        table = wrap_dataset(dataset, f"{self.config.path} ({split})")
        return _by_rule(render_rows(table, self.config.text_column, self.config.where), self.rules[0])

    @property
    def _name(self) -> str:
        return "/".join(filter(None, [self.config.path, self.config.subset]))

    def _find_revision(self) -> str | None:
        """The commit that is streamed, since nothing else tells whether the content changed; else what was asked for."""
        config = self.config
        if not config.streaming or config.path is None or is_local(GivenPath("data.path", config.path, DataError)):
            return config.revision
        if "commit" not in self._loaded:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

            try:
                self._loaded["commit"] = HfApi().dataset_info(config.path, revision=config.revision).sha
            except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
                raise DataError(
                    f"{config.path} cannot be streamed: {first_line(error)}. Check the network, or leave out data.streaming."
                ) from error
        return str(self._loaded["commit"])

    def _load(self, side: str) -> Any:
        if side not in self._loaded:
            import datasets

            config = self.config
            splits = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
            try:
                self._loaded[side] = datasets.load_dataset(
                    config.path,
                    config.subset,
                    revision=config.revision,
                    split=splits[side],
                    streaming=config.streaming,
                )
            except (ValueError, RuntimeError, OSError) as error:
                raise self._explain(splits[side], error) from error
        return self._loaded[side]

    def _explain(self, split: str | None, error: Exception) -> DataError:
        config = self.config
        if SCRIPT.search(str(error)):
            script = first_line(error).rpartition(" ")[2]
            return DataError(
                f"data.path={show(config.path)} needs code of its own ({script}), which lmtune never runs; expected a data set of "
                "plain files. Take one, such as its branch data.revision=refs/convert/parquet."
            )
        return DataError(
            f"{show(config.path)} (data.subset={config.subset}, split {split}) does not load as a dataset: {first_line(error)}. "
            "Check data.path, data.subset and data.train_split."
        )


def _by_rule(batches: Iterator[Rows], rule: DocumentRule) -> Iterator[Rows]:
    """Rows of a table, or documents of the text that they are the lines of."""
    if rule is DocumentRule.row:
        yield from batches
        return
    unwanted = 0

    def lines() -> Iterable[str]:
        nonlocal unwanted
        for texts, passed_over in batches:
            unwanted += passed_over
            yield "".join(line if line.endswith("\n") else line + "\n" for line in iterate_strings([texts]))

    for documents in batch_strings(split_text(lines(), rule)):
        yield Rows(documents, unwanted)
        unwanted = 0
    if unwanted:
        yield Rows(build_texts([]), unwanted)


def _count(files: list[Path]) -> str:
    return "an empty file" if len(files) == 1 else f"{len(files):,} empty files"
