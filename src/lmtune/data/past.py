"""What a model has learned, and what was held out from it, so that a run that starts from it holds out nothing it knows.

Each run leaves this beside its model as hashes: of whole documents, and of the passages in them, since the next run may
take other parts of the same text for documents.
"""

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from lmtune.data.columns import Texts, hash_texts
from lmtune.data.passages import COPY_BYTES, Passages, cut_passages, cut_runs, holds, list_runs

LEARNED_SHARE = 0.25
"""A document with a larger share of its text in learned passages is not held out."""
EARLIER = "earlier_"
"""Before the names of what was known before a run."""
HELD_SHARE = 0.5
"""A document with a larger share of it in passages that were held out before is held out again."""


@dataclass(frozen=True, slots=True)
class Past:
    """Sorted uint64 hashes of what a model has learned, and of what was held out while it did."""

    learned: np.ndarray
    """[passages]"""
    held: np.ndarray
    """[passages]"""
    learned_texts: np.ndarray
    """[documents]"""
    held_texts: np.ndarray
    """[documents]"""

    def identify(self) -> str:
        """xxh3-128 of all of it."""
        digest = xxhash.xxh3_128()
        for item in fields(self):
            digest.update(f"{item.name} {len(getattr(self, item.name))} ".encode())
            digest.update(getattr(self, item.name).tobytes())
        return digest.hexdigest()

    def join(self, earlier: "Past") -> "Past":
        """This and what was before it. What has been learned at any time is held out no longer."""
        learned, texts = (
            np.union1d(self.learned, earlier.learned),
            np.union1d(self.learned_texts, earlier.learned_texts),
        )
        held = np.union1d(self.held, np.setdiff1d(earlier.held, self.learned))
        return Past(learned, held, texts, np.setdiff1d(self.held_texts, texts))

    def without_learned(self) -> "Past":
        """What was held out and has not been learned, alone: for text of which all that is known may be learned again."""
        none = np.empty(0, np.uint64)
        return Past(
            none, np.setdiff1d(self.held, self.learned), none, np.setdiff1d(self.held_texts, self.learned_texts)
        )

    def mark_learned(self, texts: Texts) -> np.ndarray:
        """[texts] of bool: True where the model knows the text, or a good part of it."""
        cut, whole = cut_passages(texts), hash_texts(texts, 0)
        learned, known = holds(self.learned, cut.hashes), holds(self.learned_texts, whole)
        sizes = _sum_by_text(cut, cut.sizes, len(texts))
        all_of_it = _sum_by_text(cut, cut.sizes * learned, len(texts)) == sizes
        part = self._measure_runs(cut, learned & ~holds(self.held, cut.hashes), sizes) > LEARNED_SHARE * sizes
        held = holds(self.held_texts, whole)
        return known | (~held & (sizes > 0) & (all_of_it | part))

    def mark_held(self, texts: Texts) -> np.ndarray:
        """[texts] of bool: True where most of the text was held out from the model, and is not known to it."""
        cut, whole = cut_passages(texts), hash_texts(texts, 0)
        held = holds(self.held, cut.hashes) & ~holds(self.learned, cut.hashes)
        sizes = _sum_by_text(cut, cut.sizes, len(texts))
        most = self._measure_runs(cut, held, sizes) > HELD_SHARE * sizes
        found = holds(self.held_texts, whole) | most
        found[found] = ~self.mark_learned(texts.filter(pa.array(found)))
        return found

    def cut_learned(self, texts: Texts) -> tuple[Texts, Texts]:
        """(the rest, what the model knows): texts cut where runs of learned passages start and end."""
        cut = cut_passages(texts)
        return self._divide(texts, cut, holds(self.learned, cut.hashes) & ~holds(self.held, cut.hashes))

    def cut_held(self, texts: Texts) -> tuple[Texts, Texts]:
        """(the rest, what was held out from the model): texts cut likewise."""
        cut = cut_passages(texts)
        return self._divide(texts, cut, holds(self.held, cut.hashes) & ~holds(self.learned, cut.hashes))

    @staticmethod
    def _divide(texts: Texts, cut: Passages, marked: np.ndarray) -> tuple[Texts, Texts]:
        first, last, sizes = list_runs(cut, marked)
        counts = _sum_by_text(cut, cut.sizes, len(texts))
        chosen = sizes >= np.minimum(COPY_BYTES, counts[cut.documents[first]]) if len(first) else np.zeros(0, bool)
        return cut_runs(texts, cut, first[chosen], last[chosen])

    @staticmethod
    def _measure_runs(cut: Passages, marked: np.ndarray, wholes: np.ndarray) -> np.ndarray:
        """[texts] bytes in marked passages in runs of at least COPY_BYTES bytes, or make up all of a text.

        wholes: [texts] bytes that are not white space.
        """
        first, _, sizes = list_runs(cut, marked)
        documents = cut.documents[first]
        long = sizes >= np.minimum(COPY_BYTES, wholes[documents])
        return np.bincount(documents[long], weights=sizes[long], minlength=len(wholes))


def build_past(training: Iterable[Texts], held_out: Iterable[Texts]) -> Past:
    """What a model will have learned of a text, and what was held out."""
    learned, learned_texts = _hash_all(training)
    held, held_texts = _hash_all(held_out)
    return Past(learned, held, learned_texts, np.setdiff1d(held_texts, learned_texts))


def save_past(file: Path, past: Past | None, earlier: Past | None) -> None:
    """Write what a run has learned in all, if that is known, and what the model that it started from had learned before."""
    arrays = {
        f"{prefix}{item.name}": getattr(each, item.name)
        for prefix, each in (("", past), (EARLIER, earlier))
        if each is not None
        for item in fields(Past)
    }
    with file.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_past(file: Path, prefix: str = "") -> Past | None:
    """What save_past wrote, with EARLIER for what was before; None where there is none, or it does not read."""
    try:
        with np.load(file, allow_pickle=False) as saved:
            return Past(*(np.asarray(saved[prefix + item.name], np.uint64) for item in fields(Past)))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _hash_all(batches: Iterable[Texts]) -> tuple[np.ndarray, np.ndarray]:
    """(passages, documents): sorted hashes."""
    passages, documents = [np.empty(0, np.uint64)], [np.empty(0, np.uint64)]
    for texts in batches:
        passages.append(np.unique(cut_passages(texts).hashes))
        documents.append(hash_texts(texts, 0))
    return np.unique(np.concatenate(passages)), np.unique(np.concatenate(documents))


def _sum_by_text(cut: Passages, values: np.ndarray, count: int) -> np.ndarray:
    """[count] float64: the sums of [passages] values by text."""
    return np.bincount(cut.documents, weights=values, minlength=count)
