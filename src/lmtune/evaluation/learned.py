"""How much of a text that is scored the model has learned: a number of such text says nothing about other text."""

from typing import NamedTuple

from lmtune.config import EvalSplit
from lmtune.data.columns import count_bytes
from lmtune.data.corpus import Corpus
from lmtune.data.past import Past


class Learned(NamedTuple):
    """Documents of a text that a model has learned, or a good part of each (lmtune.data.past)."""

    documents: int
    of: int
    share: float
    """Of the bytes of the text, 0 to 1."""

    def render(self, ckpt: str) -> str:
        """A warning for people."""
        return (
            f"{ckpt} has learned {self.documents:,} of the {self.of:,} documents of this text, {self.share:.1%} of its bytes: its "
            "numbers here say little about text that it has not seen"
        )


def find_learned(corpus: Corpus, split: EvalSplit, past: Past) -> Learned | None:
    """What of a split a model has learned; None for nothing. past: of the run that the model comes from, at its end."""
    documents = of = learned = whole = 0
    for texts in corpus.batches(split.value):
        known, sizes = past.mark_learned(texts), count_bytes(texts)
        documents, of = documents + int(known.sum()), of + len(texts)
        learned, whole = learned + int(sizes[known].sum()), whole + int(sizes.sum())
    return Learned(documents, of, learned / whole) if documents else None
