"""All parts of a text joined to the prepared text that one process would have made; no ids are copied.

The joined text stands in the cache under the key that one process would have given it, so that `lmtune train` starts from it.
Held-out documents are encoded here; rows are cut out of the files of the parts whenever they are asked for.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmtune.config import DataConfig
from lmtune.data import cache
from lmtune.data.columns import Texts
from lmtune.data.corpus import Corpus
from lmtune.data.encoding import SAMPLE_DOCUMENTS
from lmtune.data.first_pass import FirstPass
from lmtune.data.ledger import SPLITS, Ledger
from lmtune.data.lines import LineRows
from lmtune.data.part_files import IDS, Part, check_content, check_part
from lmtune.data.parts import get_files, identify_text
from lmtune.data.past import Past
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.splits import HELD_OUT, Drawn
from lmtune.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SETTLED = ("rows", "content_bytes", "bytes_kept", "left_out")
"""Fields of a source in a ledger that tell how it was used."""


class MergedCorpus(Corpus):
    """A text that has been read in parts. Its training documents are not read again."""

    def __init__(self, config: DataConfig, parts: Sequence[Part], past: Past | None) -> None:
        super().__init__(config, config.seed, past=past)
        self.parts = parts

    @cached_property
    def first_pass(self) -> FirstPass:
        opened, drawn = self.open_ledger(), Drawn()
        opened.remarks = list(self.source.remarks)
        for part in self.parts:
            opened.join(Ledger.from_dict(part.record["read"]))
            _join_drawn(drawn, part)
        settled = chain.from_iterable(part.sources for part in self.parts)
        for source, known in zip((each for each in opened.sources if each["split"] == "train"), settled, strict=True):
            source.update({name: known[name] for name in SETTLED})
        sums = [part.load_sums() for part in self.parts]
        sample = sorted(tuple(each) for part in self.parts for each in part.record["sample"])[:SAMPLE_DOCUMENTS]
        self._check_found("train", opened.documents_read, opened.documents_kept)
        chars, met = (np.concatenate([each[name] for each in sums]) for name in ("chars", "met"))
        return FirstPass(chars, np.unique(met), drawn, sample, opened)

    def load_documents(self, split: str, ledger: Ledger) -> Iterator[Texts]:
        """As Corpus has it, of what the source keeps apart. Raises DataError for the training documents.

        They are read again only to cut stretches out of them, since there are few, or a large one.
        """
        if split == "train":
            raise DataError(
                f"merge: {len(self.first_pass.chars):,} documents are few, or one of them is large, so stretches of the text "
                "would be held out, which takes all of it at once. Say data.split_by=hash to hold out whole documents, for all "
                "parts too, or prepare the text in one process, without shard=."
            )
        return super().load_documents(split, ledger)


def _join_drawn(drawn: Drawn, part: Part) -> None:
    """Add what a hash holds out of a part."""
    known = part.record["drawn"]
    drawn.learned += known["learned"]
    drawn.held_again += known["held_again"]
    for split in SPLITS:
        drawn.documents[split] += known["documents"][split]
    for split in HELD_OUT:
        drawn.held_out[split] += part.load_held_out(split)


class MergedText(EncodedCorpus):
    """A text whose training ids parts have written."""

    corpus: MergedCorpus

    def _build_rows(self, folder: Path, block_size: int, ledger: Ledger, counts: np.ndarray) -> dict[str, Any]:
        parts = self.corpus.parts
        for part in parts:
            self._check_encoder(part)
            ledger.join(Ledger.from_dict(part.record["learned"]))
            counts += part.load_sums()["counts"]
        files = {str(part.folder / IDS): part.files[IDS] for part in parts}
        rows = LineRows(
            list(map(Path, files)), self.dtype, block_size, self.corpus.config.stride, self.encoder.separator
        )
        self.account(ledger, block_size, len(rows), max(0, rows.tokens - 1))
        return {cache.ELSEWHERE: files}

    def _check_encoder(self, part: Part) -> None:
        """Raise DataError for ids that one process would have made another way, which could be others."""
        found, expected = part.record["encoder"], self.encoder.name
        if found != expected:
            raise DataError(
                f"merge: {part} was encoded by {found}, the text as a whole would be by {expected}: the two do not agree on all of "
                "it. Prepare the text in one process, without shard=."
            )


def join_parts(
    config: DataConfig, parts: Sequence[Part], tokenizer: "PreTrainedTokenizerBase", past: Past | None
) -> MergedText:
    """The text of all parts, in their order. Raises DataError for parts that are not of the text and the tokenizer of now."""
    corpus = MergedCorpus(config, parts, past)
    source = get_files(corpus)
    identity, outline, files = identify_text(corpus, tokenizer), source.outline(), iter(source.files["train"])
    for part in parts:
        check_part(part, identity, outline)
    for part in parts:
        check_content(part, list(islice(files, len(part.sources))))
    return MergedText(corpus, tokenizer)
