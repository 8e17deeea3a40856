"""Finished parts of a text on disk: found, checked against each other, and against the text as it is now."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lmtune.data import cache
from lmtune.data.columns import Texts
from lmtune.data.files import match_pattern
from lmtune.data.remote import TextFile
from lmtune.errors import CheckpointError, DataError
from lmtune.paths import GivenPath, show
from lmtune.storage import find_signed, load_json

IDS, SUMS = "train.ids", "sums.npz"
"""Files of a part: the training ids without a header, and its counts."""
COLUMN = "text"
"""Name of the column of held-out documents."""
SHOWN_PARTS = 10


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part of a text."""

    folder: Path
    record: dict[str, Any]
    """What lmtune.data.parts wrote."""
    files: dict[str, dict[str, Any]]
    """Sizes and checksums of its files, by name."""

    @property
    def number(self) -> int:
        """Number of the part, from 1."""
        return int(self.record["part"])

    def __str__(self) -> str:
        return f"part {self.number}/{self.record['of']} ({show(self.folder)})"

    @property
    def sources(self) -> list[dict[str, Any]]:
        """The training files of the part, as its ledger describes them."""
        return [source for source in self.record["read"]["sources"] if source["split"] == "train"]

    def describe(self) -> dict[str, Any]:
        """Counts of its files, bytes, documents and tokens."""
        train = self.record["learned"]["sides"]["train"]
        held_out = {split: count for split, count in self.record["drawn"]["documents"].items() if split != "train"}
        return {
            "files": len(self.sources),
            "bytes_kept": self.record["read"]["bytes_kept"],
            "documents": {"train": train["documents"], **held_out},
            "tokens": train["tokens"],
            "encoder": self.record["encoder"],
        }

    def load_held_out(self, split: str) -> list[Texts]:
        """Batches of the documents that are held out, memory-mapped."""
        with pa.ipc.open_stream(pa.memory_map(str(self.folder / f"{split}.arrow"))) as reader:
            return [batch.column(0) for batch in reader]

    def load_sums(self) -> dict[str, np.ndarray]:
        """`counts` of ids, `chars` of documents, hashes of held-out documents that were `met` in the training text."""
        with np.load(self.folder / SUMS, allow_pickle=False) as sums:
            return dict(sums)


def load_part(folder: Path) -> Part:
    """The part in a folder. Raises DataError for one that is unfinished, damaged, or no part."""
    try:
        record = load_json(folder / cache.RECORD)
    except FileNotFoundError:
        record = {}
    except OSError as error:
        raise DataError(
            f"{show(folder / cache.RECORD)} cannot be read: {error.strerror}. Check its permissions, or leave the part out."
        ) from error
    except CheckpointError as error:
        raise _refuse_record(folder) from error
    if record and find_signed(record) is None:
        raise _refuse_record(folder)
    content = record.get("content", {})
    if "part" not in content:
        raise DataError(
            f"Expected a finished part in {show(folder)}, found {'other prepared text' if record else 'none'}. Prepare it "
            f"with lmtune data shard=K/N output={show(folder)}, or leave it out."
        )
    fault = cache.find_fault(folder, record, record["key"], cache.checksum_file)
    if fault is not None:
        raise DataError(
            f"{show(folder / fault)} is not as it was written, so part {content['part']}/{content['of']} is damaged. "
            "Remove its folder, and prepare it again."
        )
    return Part(folder, content, record["files"])


def _refuse_record(folder: Path) -> DataError:
    """For a record whose content nobody can answer for, so that none of it is believed."""
    return DataError(
        f"{show(folder / cache.RECORD)}: expected the record of a part as lmtune has written it, found one that was changed or cut "
        "off, or is another program's. Prepare the part in a folder of its own, and leave this one out."
    )


def load_parts(given: str | list[str]) -> list[Part]:
    """The parts in folders, in those that match a pattern, or in the folders of one that holds parts, in their order."""
    found = [folder for each in (given if isinstance(given, list) else [given]) for folder in _find_folders(each)]
    return order_parts([load_part(folder) for folder in dict.fromkeys(found)])


def _find_folders(given: str) -> list[Path]:
    typed = GivenPath("merge", given, DataError)
    path = typed.anchor()
    if typed.is_folder(path) and not typed.is_file(path / cache.RECORD):
        path /= "*"
    found = [folder for folder in match_pattern(typed, path) if typed.is_folder(folder)]
    if not found:
        raise typed.refuse("folders of parts", "none", "Prepare them with lmtune data shard=K/N output=FOLDER.")
    return found


def order_parts(parts: Sequence[Part]) -> list[Part]:
    """The parts in their order. Raises DataError unless each of them is there once."""
    for part in parts:
        if part.record["of"] != parts[0].record["of"]:
            raise DataError(
                f"{part} and {parts[0]} are cut differently, expected parts of one number. Leave those of the other out."
            )
    by_number: dict[int, Part] = {}
    for part in parts:
        if part.number in by_number:
            raise DataError(
                f"{part} is also in {show(by_number[part.number].folder)}, expected each once. Leave one out."
            )
        by_number[part.number] = part
    count = parts[0].record["of"]
    missing = [str(number) for number in range(1, count + 1) if number not in by_number]
    if missing:
        shown = ", ".join(missing[:SHOWN_PARTS]) + (", ..." if len(missing) > SHOWN_PARTS else "")
        raise DataError(
            f"merge: expected all {count:,} parts, found {len(by_number):,}; missing: {shown}. "
            f"Prepare them with lmtune data shard={missing[0]}/{count}, and so on."
        )
    return [by_number[number] for number in range(1, count + 1)]


def check_part(part: Part, identity: dict[str, Any], outline: list[dict[str, Any]]) -> None:
    """Raise DataError for a part of other settings, another tokenizer, or other files.

    identity, outline: of the text as it is now; see lmtune.data.parts.identify_text and FileSource.outline.
    """
    found = part.record["identity"]
    for name, value in identity.items():
        if found.get(name) != value:
            raise DataError(f"{part} {_explain(name, found.get(name), value)}")
    if part.record["files"] != outline:
        raise DataError(f"{part} {_explain_files(part.record['files'], outline)}")


def check_content(part: Part, files: Sequence[TextFile]) -> None:
    """Raise DataError where files of a part, as they are now, have another content. files: those of the part, in order."""
    for file, note, source in zip(files, part.record["notes"], part.sources, strict=True):
        cache.adopt_note(file, note)
        if cache.checksum_file(file) != source.get("identity", source.get("xxh3_128")):
            raise DataError(
                f"{show(file)} has changed since {part} was prepared. Remove that folder and prepare the part again, or put the "
                "file back."
            )


def _explain(name: str, found: Any, expected: Any) -> str:
    """How a part differs in what all parts have to agree on."""
    if name == "settings":
        key = next(key for key in expected if found.get(key) != expected[key])
        return (
            f"was prepared with data.{key}={found.get(key)}, found data.{key}={expected[key]} here. "
            "Give the same settings to all parts and to the merge, or prepare it again."
        )
    words = {
        "tokenizer": "with another tokenizer than that of model=",
        "past": "for a model that has learned other text before",
        "documents": "with other rules of what a document is",
        "kept apart": "with other files of data.validation_files= (or splits of the source)",
        "format": "by a version of lmtune that writes parts differently",
    }
    return f"was prepared {words[name]}. Give the same to all parts and to the merge, or prepare it again."


def _explain_files(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    """How the files of a text differ from those that it was cut into parts of."""
    if len(found) != len(expected):
        change = f"{len(found):,} files, and there are {len(expected):,} now"
    else:
        was, now = next((was, now) for was, now in zip(found, expected, strict=True) if was != now)
        change = f"{show(was['name'])} of {was['bytes']:,} bytes, where {show(now['name'])} of {now['bytes']:,} is now"
    return f"was cut from other files: {change}. Give the same data.files=, or prepare all parts again."
