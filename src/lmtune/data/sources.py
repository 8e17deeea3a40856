"""Reading text: files of many kinds, and datasets of the Hub.

A source hands out rows (a row of a table, or a document of a text file) for each split it has, shard by shard, and a
fingerprint of its content that can be known without reading rows.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.cache import checksum_file
from lmtune.data.documents import split_text
from lmtune.data.decoding import Reading, load_pieces, name_faults
from lmtune.data.files import TEXT_SUFFIXES, PassedOver, describe_passed_over, find_files, has_splits, kind_of, size_of
from lmtune.data.rendering import Wanted, render_rows
from lmtune.data.separated import DELIMITERS, load_separated
from lmtune.data.tables import Rows, Table, load_arrow, load_json, load_parquet, load_saved, load_split_names, wrap_dataset
from lmtune.data.texts import batch_strings, build_texts, count_bytes, find_mojibake, iterate_strings
from lmtune.errors import DataError, LedgerError, first_line
from lmtune.hub import is_local
from lmtune.paths import GivenPath, show
from lmtune.records import checksum_of

logger = logging.getLogger(__name__)

SCRIPT = re.compile("scripts are no longer supported")
"""What datasets says of a data set that would run code."""
SIDE_OF_SPLIT = {"train": "train", "validation": "validation", "valid": "validation", "dev": "validation", "test": "test"}
"""Where the splits of a saved dataset belong."""

_said: set[str] = set()
"""Remarks that this process has made."""


def say_remark(remark: str) -> None:
    """Say once what was guessed about a source, or looks odd."""
    if remark not in _said:
        _said.add(remark)
        logger.warning(remark)


class Source(Protocol):
    """Something that rows of text come from."""

    rules: tuple[DocumentRule, ...]
    """What a document is, as the source hands it out; several where files of several kinds are read."""

    remarks: dict[str, None]
    """What was guessed while it was read, or looks odd, in words."""
    passed_over: dict[str, int]
    """Files that it stands for and that are not read, by the reason."""

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

    def explain_empty(self, split: str) -> str:
        """Why no document was found in a split that has been read."""


def build_source(config: DataConfig) -> Source:
    """The source that the configuration names."""
    return HubSource(config) if config.files is None else FileSource(config)


@dataclass(slots=True)
class FileSource:
    """Text files and tables on disk; each file is a shard."""

    config: DataConfig
    files: dict[str, list[Path]] = field(init=False)
    rules: tuple[DocumentRule, ...] = field(init=False)
    remarks: dict[str, None] = field(init=False, default_factory=dict)
    passed_over: dict[str, int] = field(init=False)
    _wanted: dict[str, Wanted] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        passed_over: PassedOver = {}
        self.files = {"train": find_files("data.files", self.config.files, passed_over)}
        if self.config.validation_files is not None:
            self.files["validation"] = find_files("data.validation_files", self.config.validation_files, passed_over)
        self._take_apart()
        if not any(size_of(file) for files in self.files.values() for file in files):
            raise DataError(
                f"{self.config.files}: expected text, found {_count(self.files['train'])}. Give files with something in them."
            )
        found = {self.rule_of(file) for files in self.files.values() for file in files}
        self.rules = tuple(rule for rule in DocumentRule if rule in found)
        self.passed_over = {reason: len(files) for reason, files in passed_over.items()}
        if passed_over:
            many = sum(map(len, self.files.values()))
            self.remark(f"data.files: {many:,} files are read; passed over: {describe_passed_over(passed_over)}")

    def remark(self, remark: str) -> None:
        """Say something about the source, once, and keep it."""
        self.remarks[remark] = None
        say_remark(remark)

    def _take_apart(self) -> None:
        """Saved datasets with splits: each split to the side that it is named for."""
        whole, self.files = self.files, {side: [] for side in self.files}
        for side, files in whole.items():
            for file in files:
                if not has_splits(file):
                    self.files[side].append(file)
                    continue
                for name in load_split_names(file):
                    self._place_split(file, name, side)
        if not self.files["train"]:
            names = [show(file / name) for file in whole["train"] for name in load_split_names(file)]
            raise DataError(f"{self.config.files}: expected a split `train`, found {', '.join(names)}. Name one of those.")

    def _place_split(self, folder: Path, name: str, side: str) -> None:
        given = side == "validation" or self.config.validation_files is not None
        to = SIDE_OF_SPLIT.get(name)
        if side == "validation":
            to = "validation" if to == "validation" else None
        elif to == "validation" and given:
            to = None
        if to is None:
            self.remark(f"{show(folder)}: its split {name!r} is not read; data.files={show(folder / name)} would")
            return
        self.files.setdefault(to, []).append(folder / name)
        if to != side:
            self.remark(f"{show(folder)}: its split {name!r} is held out, as {to}")

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
        return [self._describe(split, file) for split, files in self.files.items() for file in files]

    def _describe(self, split: str, file: Path) -> dict[str, Any]:
        modified = datetime.fromtimestamp(file.stat().st_mtime).astimezone()
        known = {"name": str(file), "split": split, "bytes": size_of(file), "modified": modified.isoformat()}
        return known if self.config.streaming else {**known, "xxh3_128": checksum_file(file)}

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def count_shards(self, split: str) -> int:
        return len(self.files[split])

    def load_rows(self, split: str, shard: int) -> Iterator[Rows]:
        file = self.files[split][shard]
        reading = Reading(file, self.config.encoding)
        used = rows = 0
        batches = self._read_text(reading) if kind_of(file) in TEXT_SUFFIXES else self._read_table(reading, split)
        with name_faults(file):
            for batch in batches:
                if not used and (remark := find_mojibake(batch.texts)):
                    self.remark(f"{show(file)}: {remark}")
                beside = Counter(batch.beside)
                beside.update(reading.take_left())
                used += int(count_bytes(batch.texts).sum()) + sum(beside.values())
                rows += len(batch.texts) + batch.unwanted
                yield batch._replace(beside=dict(beside))
        if not rows and kind_of(file) not in TEXT_SUFFIXES and len(self.files[split]) == 1:
            raise DataError(f"{show(file)}: expected rows, found none.")
        yield Rows(build_texts([]), beside=self._close(reading, used))

    def explain_empty(self, split: str) -> str:
        names = ", ".join(show(file) for file in self.files[split][:3])
        wanted = self._wanted.get(split)
        if wanted is not None and wanted.met:
            return f"{names}: expected rows that data.where asks for, found none ({split}): {wanted.explain()}. Correct data.where=."
        return f"{names}: expected text, found none ({split}). Check the files and data.text_column."

    def _read_text(self, reading: Reading) -> Iterator[Rows]:
        documents = split_text(load_pieces(reading), self.rule_of(reading.file), reading.left)
        return map(Rows, batch_strings(documents))

    def _read_table(self, reading: Reading, split: str) -> Iterator[Rows]:
        wanted = self._wanted.setdefault(split, Wanted(self.config.where))
        with name_faults(reading.file):
            table = self._load_table(reading)
        rows = render_rows(table, self.config.text_column, wanted, reading.encoding)
        return _by_rule(rows, self.rule_of(reading.file))

    def _load_table(self, reading: Reading) -> Table:
        kind = kind_of(reading.file)
        if kind in DELIMITERS:
            table, guessed = load_separated(reading, kind)
            if guessed:
                self.remark(guessed)
            return table
        if kind in (".json", ".jsonl"):
            return load_json(reading)
        return load_parquet(reading.file) if kind == ".parquet" else load_arrow(reading.file)

    def _close(self, reading: Reading, used: int) -> dict[str, int]:
        """What of a file that has been read to its end is in no row. Raises LedgerError where bytes of a text are missing."""
        left = reading.take_left()
        rest = reading.content - used - sum(left.values())
        kind = kind_of(reading.file)
        if kind in TEXT_SUFFIXES and rest:
            raise LedgerError(f"the ledger does not close: of {reading.file} {rest:,} bytes are neither read nor left out")
        if reading.content and rest:  # what is known of parquet and Arrow is the texts alone
            left["table"] = rest
        return left


@dataclass(slots=True)
class HubSource:
    """A dataset of the Hugging Face Hub; its shards are the files it is kept in, or all of it once downloaded."""

    config: DataConfig
    rules: tuple[DocumentRule, ...] = field(init=False)
    remarks: dict[str, None] = field(init=False, default_factory=dict)
    passed_over: dict[str, int] = field(init=False, default_factory=dict)
    _wanted: dict[str, Wanted] = field(init=False, default_factory=dict)
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
        wanted = self._wanted.setdefault(split, Wanted(self.config.where))
        return _by_rule(render_rows(table, self.config.text_column, wanted), self.rules[0])

    def explain_empty(self, split: str) -> str:
        wanted = self._wanted.get(split)
        if wanted is not None and wanted.met:
            return (
                f"{self._name}: expected rows that data.where asks for, found none ({split}): {wanted.explain()}. Correct data.where=."
            )
        return f"{self._name}: expected text, found none ({split}). Check data.path= and data.text_column=."

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
    unwanted, left = 0, Counter[str]()

    def lines() -> Iterable[str]:
        nonlocal unwanted
        for batch in batches:
            unwanted += batch.unwanted
            left.update(batch.beside)
            lines = [line if line.endswith("\n") else line + "\n" for line in iterate_strings([batch.texts])]
            text = "".join(lines)
            left["joined"] -= len(text.encode()) - int(count_bytes(batch.texts).sum())
            yield text

    for documents in batch_strings(split_text(lines(), rule, left)):
        yield Rows(documents, unwanted, dict(left))
        unwanted = 0
        left.clear()
    yield Rows(build_texts([]), unwanted, dict(left))


def _count(files: list[Path]) -> str:
    return "an empty file" if len(files) == 1 else f"{len(files):,} empty files"
