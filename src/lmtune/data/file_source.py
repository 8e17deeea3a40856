"""Text files and tables as a source, on disk or behind addresses; each file is a shard."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from lmtune.config import DataConfig, DocumentRule
from lmtune.config.data import FilePart
from lmtune.data.boundaries import split_text
from lmtune.data.cache import checksum_file
from lmtune.data.columns import batch_strings, build_texts, find_misread, sum_bytes
from lmtune.data.decoding import Reading, load_pieces, name_faults
from lmtune.data.files import TEXT_SUFFIXES, PassedOver, describe_passed_over, has_splits, kind_of, list_files, size_of
from lmtune.data.remote import RemoteFile, TextFile
from lmtune.data.rendering import Wanted, render_rows
from lmtune.data.separated import DELIMITERS, load_separated
from lmtune.data.shards import say_remark, split_rows
from lmtune.data.tables import Rows, Table, load_arrow, load_json, load_parquet, load_split_names
from lmtune.errors import DataError, LedgerError
from lmtune.paths import show
from lmtune.storage import checksum_of

SPLIT_OF_NAME = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}
"""Our splits by the names that saved datasets give them."""


@dataclass(slots=True)
class FileSource:
    """Text files and tables on disk; each file is a shard."""

    config: DataConfig
    given: Mapping[str, Sequence[TextFile]] | None = None
    """Files by split, where they have been found already; else those of the configuration."""
    files: dict[str, list[TextFile]] = field(init=False)
    rules: tuple[DocumentRule, ...] = field(init=False)
    remarks: dict[str, None] = field(init=False, default_factory=dict)
    passed_over: dict[str, int] = field(init=False)
    _wanted: dict[str, Wanted] = field(init=False, default_factory=dict)
    _alone: set[str] = field(init=False)
    """Splits of one file, which has to have rows."""
    _parts: dict[TextFile, FilePart] = field(init=False, default_factory=dict)
    """The settings of each file."""
    _looks: "dict[TextFile, Look]" = field(init=False)
    """Of the files on disk, as they were found."""

    def __post_init__(self) -> None:
        passed_over: PassedOver = {}
        self.files = (
            self._list_files(passed_over) if self.given is None else {k: list(v) for k, v in self.given.items()}
        )
        self._take_apart()
        if not any(size_of(file) for files in self.files.values() for file in files):
            raise DataError(
                f"{self.config.given_files or self.config.path}: expected text, found {_count(self.files['train'])}. "
                "Give files with something in them."
            )
        self._looks = {file: look_at(file) for files in self.files.values() for file in files if isinstance(file, Path)}
        self._alone = {split for split, files in self.files.items() if len(files) == 1}
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

    def _list_files(self, passed_over: PassedOver) -> dict[str, list[TextFile]]:
        config, found = self.config, {"train": dict[TextFile, None]()}
        for number, part in enumerate(config.parts):
            key = "data.files" if config.sources is None else f"data.sources.{number}.files"
            for file in list_files(key, part.files, passed_over):
                if file in found["train"]:
                    raise DataError(
                        f"{key}: {show(file)} stands in two entries of data.sources, expected in one. Name it once."
                    )
                self._parts[file] = part
                found["train"][file] = None
        if config.validation_files is not None:
            found["validation"] = dict.fromkeys(
                list_files("data.validation_files", config.validation_files, passed_over)
            )
        return {split: list(files) for split, files in found.items()}

    def _part_of(self, file: TextFile) -> FilePart:
        """The settings of a file, or of the saved dataset that it is a split of."""
        config = self.config
        own = FilePart(config.files, config.text_column, config.encoding, config.documents)
        folder = None if isinstance(file, RemoteFile) else self._parts.get(file.parent)
        return self._parts.get(file) or folder or own

    def _take_apart(self) -> None:
        """Saved datasets with splits: each of their splits to ours of that name."""
        whole, self.files = self.files, {split: [] for split in self.files}
        for split, files in whole.items():
            for file in files:
                if not has_splits(file):
                    self.files[split].append(file)
                    continue
                for name in load_split_names(file):
                    self._place_split(file, name, split)
        if not self.files["train"]:
            folders = [file for file in whole["train"] if has_splits(file)]
            names = [show(file / name) for file in folders for name in load_split_names(file)]
            raise DataError(
                f"{self.config.given_files}: expected a split `train`, found {', '.join(names)}. Name one of those."
            )

    def _place_split(self, folder: Path, name: str, split: str) -> None:
        given = split == "validation" or self.config.validation_files is not None
        to = SPLIT_OF_NAME.get(name)
        if split == "validation":
            to = "validation" if to == "validation" else None
        elif to == "validation" and given:
            to = None
        if to is None:
            self.remark(f"{show(folder)}: its split {name!r} is not read; data.files={show(folder / name)} would")
            return
        self.files.setdefault(to, []).append(folder / name)
        if to != split:
            self.remark(f"{show(folder)}: its split {name!r} is held out, as {to}")

    def rule_of(self, file: TextFile) -> DocumentRule:
        """What was asked for, else the whole file for text and the row for tables."""
        return self._part_of(file).documents or (
            DocumentRule.file if kind_of(file) in TEXT_SUFFIXES else DocumentRule.row
        )

    def fingerprint(self) -> str:
        # The kind stands beside the content: the same bytes read differently as .txt and as .jsonl.
        return checksum_of(
            "".join(
                f"{split}:{kind_of(file)}:{checksum_file(file)}{self._own_settings(file) or ''};"
                for split, files in self.files.items()
                for file in files
            )
        )

    def describe(self) -> list[dict[str, Any]]:
        return [self._describe(split, file) for split, files in self.files.items() for file in files]

    def _describe(self, split: str, file: TextFile) -> dict[str, Any]:
        if isinstance(file, RemoteFile):
            seen = {"name": file.url, "split": split, "bytes": file.size, **dict(file.facts)}
            return {**seen, **self._own_settings(file), "identity": file.identify()}
        modified = datetime.fromtimestamp(file.stat().st_mtime).astimezone()
        known = {"name": str(file), "split": split, "bytes": size_of(file), "modified": modified.isoformat()}
        return {**known, **self._own_settings(file)} | (
            {} if self.config.streaming else {"xxh3_128": checksum_file(file)}
        )

    def _own_settings(self, file: TextFile) -> dict[str, Any]:
        """How a file of data.sources is read; nothing for files that are all read alike."""
        if self.config.sources is None:
            return {}
        part = self._part_of(file)
        return {"text_column": part.text_column, "encoding": part.encoding, "documents": self.rule_of(file).value}

    def outline(self) -> list[dict[str, Any]]:
        """The files of the training split without their folders and contents: the same on every machine that has them."""
        return [{"name": file.name, "bytes": size_of(file), **self._own_settings(file)} for file in self.files["train"]]

    def narrow(self, part: range) -> None:
        """Leave of the training split the files with these numbers alone."""
        self.files = {**self.files, "train": self.files["train"][part.start : part.stop]}

    def splits(self) -> tuple[str, ...]:
        return tuple(self.files)

    def expect_bytes(self, split: str) -> int | None:
        files = self.files.get(split, [])
        plain = all(file.suffix.lower() in TEXT_SUFFIXES for file in files)  # others hold more than text, or less bytes
        return sum(map(size_of, files)) if plain else None

    def count_shards(self, split: str) -> int:
        return len(self.files[split])

    def find_empty(self, split: str) -> frozenset[int]:
        return frozenset(number for number, file in enumerate(self.files[split]) if not size_of(file))

    def load_rows(self, split: str, shard: int) -> Iterator[Rows]:
        file = self.files[split][shard]
        self._check_unchanged(file)
        reading = Reading(file, self._part_of(file).encoding)
        is_text = kind_of(file) in TEXT_SUFFIXES
        batches = self._read_text(reading) if is_text else self._read_table(reading, split)
        used = rows = 0
        last: Rows | None = None
        with name_faults(file):
            for batch in batches:
                if not used and (remark := find_misread(batch.texts)):
                    self.remark(f"{show(file)}: {remark}")
                whole = _add_beside(batch, reading.take_left())
                used += sum_bytes(whole.texts) + sum(whole.beside.values())
                if last is not None:
                    yield last
                rows += len(whole.texts) + whole.unwanted
                last = whole
        self._check_unchanged(file)
        if not rows and not is_text and split in self._alone:
            raise DataError(f"{show(file)}: expected rows, found none.")
        end = self._close(reading, used)
        yield _add_beside(last or Rows(build_texts([])), end)  # with the last rows: who has them has read all

    def _check_unchanged(self, file: TextFile) -> None:
        """Raise DataError for a file that is not as it was found, whose text nobody has accounted for.

        Of a stream, which may be read for days, another date is told alone: its content has not been read to compare it with.
        """
        if isinstance(file, RemoteFile):
            return
        was, now = self._looks[file], look_at(file)
        if was == now:
            return
        if was.bytes == now.bytes and self.config.streaming:
            self.remark(
                f"{show(file)} has another date than when it was found, and as many bytes: whether it is still the same text is "
                "not known"
            )
            return
        found = f"{was.bytes:,} bytes that are {now.bytes:,} now" if was.bytes != now.bytes else "another date now"
        raise DataError(
            f"{show(file)}: expected a file that stays as it is while it is read, found {found}. Let nothing write to it, and give "
            "the command again; a run that was reading it goes on with resume= once the file is as it was."
        )

    def explain_empty(self, split: str) -> str:
        names = ", ".join(show(file) for file in self.files[split][:3])
        wanted = self._wanted.get(split)
        if wanted is not None and wanted.met and not wanted.found:
            return f"{names} ({split}): {wanted.explain()}"
        return f"{names}: expected text, found none ({split}). Check the files and data.text_column."

    def _read_text(self, reading: Reading) -> Iterator[Rows]:
        documents = split_text(load_pieces(reading), self.rule_of(reading.file), reading.left)
        return map(Rows, batch_strings(documents))

    def _read_table(self, reading: Reading, split: str) -> Iterator[Rows]:
        wanted = self._wanted.setdefault(split, Wanted(self.config.where))
        with name_faults(reading.file):
            table = self._load_table(reading)
        rows = render_rows(table, self._part_of(reading.file).text_column, wanted, reading.encoding)
        return split_rows(rows, self.rule_of(reading.file))

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
            raise LedgerError(
                f"the ledger does not close: of {reading.file} {rest:,} bytes are neither read nor left out"
            )
        if reading.content and rest:  # what is known of parquet and Arrow is the texts alone
            left["table"] = rest
        return left


class Look(NamedTuple):
    """What tells whether a file may have been changed, with none of it read."""

    bytes: int
    modified: int
    """Of a folder, when a file in it came or went; nanoseconds."""


def look_at(file: Path) -> Look:
    """A file, or the folder of a saved dataset, as it is now. Raises DataError for one that is gone."""
    return Look(size_of(file), file.stat().st_mtime_ns)


def _add_beside(rows: Rows, more: dict[str, int]) -> Rows:
    beside = Counter(rows.beside)
    beside.update(more)
    return rows._replace(beside=dict(beside))


def _count(files: Sequence[TextFile]) -> str:
    return "an empty file" if len(files) == 1 else f"{len(files):,} empty files"
