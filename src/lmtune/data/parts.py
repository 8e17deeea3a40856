"""One part of a text, prepared by itself: whole files, which any machine may take, in any order.

part = prepare_part(config, Shard(3, 8), GivenPath("output", "parts/3"), tokenizer, past)

A part holds the training ids of its files, their held-out documents, and the account of both. Which documents are held out
is for their text alone to say, so no part has to know another, and lmtune.data.merging makes of all parts what one process
would have made, however many there are.
"""

import json
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lmtune.config import DataConfig, SplitRule, render_plain
from lmtune.config.data import select_settings
from lmtune.config.parts import Shard
from lmtune.data import cache
from lmtune.data.columns import Texts, hash_texts
from lmtune.data.corpus import Corpus
from lmtune.data.file_source import FileSource
from lmtune.data.ledger import Ledger
from lmtune.data.part_files import COLUMN, IDS, SUMS, Part, check_content, check_part, load_part
from lmtune.data.past import Past
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.splits import Split
from lmtune.errors import DataError
from lmtune.paths import GivenPath, show
from lmtune.runs.search import check_creatable, make_folders
from lmtune.storage import checksum_of, render_json
from lmtune.units import render_count
from lmtune.vocabulary import hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def cut_files(sizes: Sequence[int], parts: int) -> list[range]:
    """[parts] runs of consecutive files of about equal size together, each of at least one file.

    sizes: bytes of each file. The cuts depend on nothing else. Raises DataError for fewer files than parts.
    """
    if len(sizes) < parts:
        raise DataError(
            f"shard=.../{parts}: expected at most as many parts as there are files, which stay whole; found "
            f"{render_count(len(sizes), 'file')}. Cut the text into more files, or into fewer parts."
        )
    middles = np.cumsum(sizes) - np.asarray(sizes) / 2
    cuts = [0]
    for part in range(1, parts):
        near = int(np.searchsorted(middles, sum(sizes) * part / parts))
        cuts.append(min(max(near, cuts[-1] + 1), len(sizes) - (parts - part)))
    return [range(start, end) for start, end in zip(cuts, [*cuts[1:], len(sizes)], strict=True)]


class PartCorpus(Corpus):
    """The files of one part. It may hold no document at all, or none that is held out: whether that is enough, all parts tell."""

    def __init__(self, config: DataConfig, shard: Shard, past: Past | None) -> None:
        super().__init__(config, config.seed, past=past)
        source = get_files(self)
        self.outline = source.outline()
        self.files = cut_files([file["bytes"] for file in self.outline], shard.of)[shard.number - 1]
        source.narrow(self.files)

    @cached_property
    def split(self) -> Split:
        return Split(SplitRule.hash, {}, SplitRule.hash.value, self.first_pass.ledger)

    def find_met(self) -> np.ndarray:
        """[documents] uint64: hashes of the documents that the source keeps apart and that are in this part as well."""
        apart = [
            hash_texts(texts, seed=0) for split in self.kept_apart for texts in self.load_documents(split, Ledger())
        ]
        return np.intersect1d(np.concatenate([np.empty(0, np.uint64), *apart]), self.first_pass.hashes)

    def _check_found(self, split: str, read: int, kept: int, held_elsewhere: int = 0) -> None:
        """Nothing is asked of one part."""


def get_files(corpus: Corpus) -> FileSource:
    """The source of a text that can be prepared in parts. Raises DataError for one that is no files."""
    if isinstance(corpus.source, FileSource):
        return corpus.source
    raise DataError(
        f"data.path={corpus.config.path}: expected files, which parts can be made of, found a data set of the Hub that is loaded "
        "as a whole. Name its files: data.files='hf://datasets/OWNER/NAME/**/*.parquet'."
    )


def identify_text(corpus: Corpus, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    """What all parts of a text have to agree on, beside the files themselves."""
    source = get_files(corpus)
    apart = {
        split: [cache.checksum_file(file) for file in source.files[split]] for split in source.files if split != "train"
    }
    identity = {
        "format": cache.FORMAT,
        "settings": render_plain(select_settings(corpus.config)),
        "tokenizer": hash_tokenizer(tokenizer),
        "past": None if corpus.past is None else corpus.past.identify(),
        "documents": [rule.value for rule in source.rules],
        "kept apart": checksum_of(str(apart)),
    }
    plain: dict[str, Any] = json.loads(render_json(identity))  # as the record of a part gives it back
    return plain


def prepare_part(
    config: DataConfig, shard: Shard, given: GivenPath, tokenizer: "PreTrainedTokenizerBase", past: Past | None
) -> Part:
    """Write one part into the folder that `given` names, whole or not at all, unless it is there already.

    Raises DataError for a folder that holds another part, CheckpointError for one that holds anything else or cannot be written.
    """
    folder, corpus = given.anchor(), PartCorpus(config, shard, past)
    if not given.is_file(folder / cache.RECORD):
        check_creatable(given)
        try:
            if _write_part(folder, corpus, shard, tokenizer):
                return load_part(folder)
        except OSError as error:
            raise given.refuse(
                "a folder to write in", error.strerror or str(error), "Make room, or give another output=."
            ) from error
    part = load_part(folder)
    if (part.number, part.record["of"]) != shard:
        raise DataError(
            f"output={show(given.given)} holds {part}, expected part {shard.number}/{shard.of}. Give another output=."
        )
    check_part(part, identify_text(corpus, tokenizer), corpus.outline)
    check_content(part, get_files(corpus).files["train"])
    logger.info("%s is there already, and whole", part)
    return part


def _write_part(folder: Path, corpus: PartCorpus, shard: Shard, tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Write a part; False where another process has just done so."""
    make_folders(folder.parent)
    with cache.locked(folder.with_name(f".{folder.name}.lock")) as alone:
        if (folder / cache.RECORD).is_file():
            return False
        cache.build_entry(folder, lambda aside: _build(aside, corpus, shard, tokenizer), sweeps=alone)
    return True


def _build(folder: Path, corpus: PartCorpus, shard: Shard, tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    encoded, first = EncodedCorpus(corpus, tokenizer), corpus.first_pass
    learned, counts = Ledger(), encoded.open_counts()
    with (folder / IDS).open("wb") as stream:
        for ids, _ in encoded.count(encoded.encode_batches("train", ledger=learned), learned, counts):
            stream.write(ids.astype(encoded.dtype).tobytes())
    np.savez(folder / SUMS, counts=counts, chars=first.chars, met=corpus.find_met())
    for split, texts in first.drawn.held_out.items():
        _write_texts(folder / f"{split}.arrow", texts)
    return {
        "part": shard.number,
        "of": shard.of,
        "identity": identify_text(corpus, tokenizer),
        "files": corpus.outline,
        "notes": [cache.load_note(file) for file in get_files(corpus).files["train"]],
        "read": first.ledger.as_dict(),
        "learned": learned.as_dict(),
        "drawn": {
            "documents": first.drawn.documents,
            "learned": first.drawn.learned,
            "held_again": first.drawn.held_again,
        },
        "sample": first.sample,
        "encoder": encoded.encoder.name,
    }


def _write_texts(file: Path, batches: list[Texts]) -> None:
    schema = pa.schema({COLUMN: pa.large_string()})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for texts in batches:
            writer.write_batch(pa.record_batch([texts], schema=schema))
