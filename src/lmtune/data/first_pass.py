"""The first reading of the training split, before it is known what is held out."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lmtune.data.columns import Texts, count_chars, hash_texts, sum_bytes
from lmtune.data.encoding import SAMPLE_CHARS, SAMPLE_DOCUMENTS
from lmtune.data.ledger import Ledger
from lmtune.data.progress import show_progress
from lmtune.data.splits import Assigner, Drawn
from lmtune.data.wrapping import keep_some, take_excerpts


class FirstPass(NamedTuple):
    """What one reading of the training split tells."""

    chars: np.ndarray
    """[documents] int64: characters of each."""
    hashes: np.ndarray
    """[documents] uint64: hashes of their texts, where they were asked for; else empty."""
    drawn: Drawn
    """The documents that hashes would hold out."""
    sample: list[tuple[int, str]]
    """(hash, start) of documents from all over the text, to compare encoders on."""
    ledger: Ledger
    """The account of it."""
    excerpts: Sequence[str] = ()
    """Of documents from all over the text, to judge its lines by."""


def read_first_pass(
    batches: Iterable[Texts],
    assigner: Assigner,
    ledger: Ledger,
    *,
    with_hashes: bool = False,
    enough: int | None = None,
    expected: int | None = None,
) -> FirstPass:
    """Read documents once.

    ledger: the account that belongs to it. with_hashes: hash the texts too, to compare other splits with them.
    enough: bytes of each held-out split that was asked for, after which reading stops; None reads all documents.
    expected: bytes that are about to come, where that is known.
    """
    chars, hashes = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    drawn = Drawn()
    sample: list[tuple[int, str]] = []
    excerpts: list[str] = []
    for texts in show_progress(batches, "reading", expected):
        sample = sample_texts(sample, hash_texts(texts, assigner.seed), texts)
        excerpts = keep_some([*excerpts, *take_excerpts(texts)])
        chars.append(count_chars(texts))
        if with_hashes:
            hashes.append(hash_texts(texts, seed=0))
        drawn.add(assigner.assign_by_hash(texts))
        if enough is not None and _holds(drawn, assigner, enough):
            break
    return FirstPass(np.concatenate(chars), np.concatenate(hashes), drawn, sample, ledger, excerpts)


def _holds(drawn: Drawn, assigner: Assigner, enough: int) -> bool:
    """True where each held-out split that was asked for has `enough` bytes."""
    asked = [split for split, share in assigner.shares._asdict().items() if share]
    return all(sum(map(sum_bytes, drawn.held_out[split])) >= enough for split in asked)


def sample_texts(kept: list[tuple[int, str]], hashes: np.ndarray, texts: Texts) -> list[tuple[int, str]]:
    """The starts of the documents with the smallest hashes so far: a sample of all, whatever their order.

    kept: (hash, start) of the documents in the sample before. hashes: [texts] uint64.
    """
    import pyarrow.compute as pc

    smallest = np.argsort(hashes)[:SAMPLE_DOCUMENTS]
    starts = pc.utf8_slice_codeunits(texts.take(pa.array(smallest)), 0, SAMPLE_CHARS).to_pylist()
    return sorted([*kept, *zip(hashes[smallest].tolist(), starts, strict=True)])[:SAMPLE_DOCUMENTS]
