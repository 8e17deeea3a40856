"""Passages of text, by which a copy is found wherever it starts: lines, and the sentences of a line.

Any white space counts as one blank, so that a copy with other line ends or indents is one all the same.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lmtune.data.columns import Texts, build_texts, edges_of, sum_bytes

COPY_BYTES = 64
"""Bytes without white space, about 13 words, from which on passages in a row are a copy and no figure of speech."""
LONG_BYTES = 128
"""A passage of this length is a copy by itself, whatever is around it."""
ROW = 3
"""Number of consecutive passages that have to be equal, where they are shorter."""
_AT_ONCE = 1 << 19
_BASE, _NEXT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_TABLE = 1 << 12


def build_powers(base: np.uint64, count: int) -> np.ndarray:
    """[count] uint64: the first, second, ... power of an odd base, modulo 2^64."""
    with np.errstate(over="ignore"):
        return np.cumprod(np.full(count, base, np.uint64))


_NEAR, _FAR = build_powers(_BASE, _TABLE), build_powers(_NEXT, _TABLE)


class Passages(NamedTuple):
    """The passages of some texts, in order; what is blank belongs to the passage before it."""

    starts: np.ndarray
    """[passages] int64: byte of the column where each starts."""
    documents: np.ndarray
    """[passages] number of its text."""
    sizes: np.ndarray
    """[passages] bytes that are not white space, one at least."""
    hashes: np.ndarray
    """[passages] uint64 of those bytes."""


def cut_passages(texts: Texts) -> Passages:
    """Cut texts behind line ends, and behind `.`, `!`, `?` before white space and their full-width kin."""
    edges = edges_of(texts)
    content = (
        np.frombuffer(texts.buffers()[2] or b"", np.uint8)[edges[0] : edges[-1]]
        if len(texts)
        else np.empty(0, np.uint8)
    )
    edges = edges - edges[0]
    inked = content > 0x20
    is_start = np.zeros(len(content), bool)
    is_start[edges[:-1][np.diff(edges) > 0]] = True
    is_start[1:] |= _mark_ends(content, inked)[:-1]
    opened = np.flatnonzero(is_start)
    groups = np.append(np.flatnonzero(np.diff(opened // _AT_ONCE, prepend=-1)), len(opened))
    ends = np.append(opened, len(content))
    parts = [
        _hash_passages(content, inked, opened[start:end], int(ends[end])) for start, end in pairwise(groups.tolist())
    ]
    sizes = np.concatenate([np.empty(0, np.int64), *(part[0] for part in parts)])
    hashes = np.concatenate([np.empty(0, np.uint64), *(part[1] for part in parts)])
    filled = sizes > 0  # what is blank goes with the passage before it
    starts = opened[filled]
    return Passages(starts, np.searchsorted(edges, starts, side="right") - 1, sizes[filled], hashes[filled])


def _mark_ends(content: np.ndarray, inked: np.ndarray) -> np.ndarray:
    """[bytes] of bool: True at the last byte of a line or sentence."""
    ends = content == 0x0A
    stops = (content == 0x2E) | (content == 0x21) | (content == 0x3F)
    ends[:-1] |= stops[:-1] & ~inked[1:]
    wide = np.flatnonzero((content[2:] == 0x82) | (content[2:] == 0x81) | (content[2:] == 0x9F)) + 2
    for before, middle, last in ((0xE3, 0x80, 0x82), (0xEF, 0xBC, 0x81), (0xEF, 0xBC, 0x9F)):
        here = wide[content[wide] == last]
        ends[here[(content[here - 1] == middle) & (content[here - 2] == before)]] = True
    return ends


def _hash_passages(
    content: np.ndarray, inked: np.ndarray, opened: np.ndarray, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, hashes) of the passages that start at `opened`, the last of which ends at `end`; hashes are polynomials."""
    start = int(opened[0])
    ink = inked[start:end]
    sizes = np.add.reduceat(ink, opened - start, dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    place = np.arange(int(sizes.sum())) - np.repeat(first, sizes)
    spaced = np.zeros(end - start, np.uint16)
    spaced[1:] = ~ink[:-1] * np.uint16(256)
    letters = (content[start:end] + np.uint16(1) + spaced)[ink]
    letters[place == 0] &= np.uint16(0xFF)  # what is before a passage is no part of it
    with np.errstate(over="ignore"):
        values = letters.astype(np.uint64) * _NEAR[place % _TABLE]
        if sizes.max() > _TABLE:
            values *= _FAR[place // _TABLE % _TABLE]
        hashes = np.zeros(len(sizes), np.uint64)
        if len(values):
            hashes[sizes > 0] = np.add.reduceat(values, first[sizes > 0])
        hashes ^= hashes >> np.uint64(29)
        hashes *= _NEXT
    return sizes, hashes


def list_runs(passages: Passages, marked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(first, last, size) of marked passages in a row of one text; size: bytes that are not white space."""
    row = np.flatnonzero(marked)
    if not len(row):
        return row, row, row
    breaks = (np.diff(row) > 1) | (np.diff(passages.documents[row]) > 0)
    first = row[np.append(True, breaks)]
    last = row[np.append(breaks, True)]
    sizes = np.cumsum(passages.sizes)
    return first, last, sizes[last] - sizes[first] + passages.sizes[first]


def holds(known: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """[hashes] of bool: True for those among `known`, which are sorted; np.isin would sort them at every call."""
    if not len(known):
        return np.zeros(len(hashes), bool)
    found: np.ndarray = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
    return found


class Copies:
    """Finds the passages of held-out texts in others, in the same order as there."""

    def __init__(self, held_out: Iterable[Texts]) -> None:
        marks = [(cut, _hash_rows(cut)) for cut in map(cut_passages, held_out)]
        empty = np.empty(0, np.uint64)
        self._rows = np.unique(np.concatenate([empty, *(rows for _, rows in marks)]))
        self._long = np.unique(np.concatenate([empty, *(cut.hashes[cut.sizes >= LONG_BYTES] for cut, _ in marks)]))

    def leave_out(self, texts: Texts) -> tuple[Texts, int]:
        """(texts without copies, bytes left out). A text with a copy in its middle becomes two."""
        cut = cut_passages(texts)
        first, last, sizes = list_runs(cut, self._mark(cut))
        whole = _is_edge(cut, first, -1) & _is_edge(cut, last, 1)
        chosen = (sizes >= COPY_BYTES) | whole
        left, copied = cut_runs(texts, cut, first[chosen], last[chosen])
        return left, sum_bytes(copied)

    def _mark(self, cut: Passages) -> np.ndarray:
        """[passages] of bool: True in a run of passages that is also in the held-out text."""
        marked = (cut.sizes >= LONG_BYTES) & holds(self._long, cut.hashes)
        for length in range(1, ROW + 1):
            rows = _hash_in_row(cut, length)
            for start in np.flatnonzero(holds(self._rows, rows)):
                marked[start : start + length] = True
        return marked


def _is_edge(cut: Passages, places: np.ndarray, step: int) -> np.ndarray:
    """True where the passage is the first (step -1) or last (step 1) of its text."""
    beside = places + step
    inside = (beside >= 0) & (beside < len(cut.documents))
    same = cut.documents[np.clip(beside, 0, len(cut.documents) - 1)] == cut.documents[places]
    return ~(inside & same)


def _hash_in_row(cut: Passages, length: int) -> np.ndarray:
    """[passages] uint64: hash of `length` passages from each on; 0 where the text ends before. Runs of other lengths differ."""
    count = len(cut.hashes) - length + 1
    rows = np.zeros(max(0, count), np.uint64)
    if count <= 0:
        return rows
    with np.errstate(over="ignore"):
        for offset in range(length):
            rows = rows * _BASE + cut.hashes[offset : offset + count]
        rows = (rows ^ (rows >> np.uint64(31))) * _NEXT + np.uint64(length)
    rows[cut.documents[:count] != cut.documents[length - 1 :]] = 0
    return rows


def _hash_rows(cut: Passages) -> np.ndarray:
    """Hashes of ROW consecutive passages for each text; of all of it if it has fewer."""
    counts = np.bincount(cut.documents, minlength=1)[cut.documents]
    found = []
    for length in range(1, ROW + 1):
        rows = _hash_in_row(cut, length)
        wanted = counts[: len(rows)] >= ROW if length == ROW else counts[: len(rows)] == length
        found.append(rows[wanted & (rows != 0)])
    return np.concatenate(found)


def cut_runs(texts: Texts, cut: Passages, first: np.ndarray, last: np.ndarray) -> tuple[Texts, Texts]:
    """(what is left, what was taken out): texts cut at the passages from each of `first` to that of `last`."""
    if not len(first):
        return texts, build_texts([])
    edges = edges_of(texts)
    kept: list[str] = []
    taken: list[str] = []
    runs = _by_document(cut, first, last, edges - edges[0])
    for number, text in enumerate(texts.to_pylist()):
        content, done = text.encode(), 0
        for start, end in runs.get(number, []):
            kept.append(content[done:start].decode())
            taken.append(content[start:end].decode())
            done = end
        kept.append(content[done:].decode())
    return build_texts(filter(None, kept)), build_texts(taken)


def _by_document(
    cut: Passages, first: np.ndarray, last: np.ndarray, edges: np.ndarray
) -> dict[int, list[tuple[int, int]]]:
    """(start, end) of the runs of each text, in its own bytes, by its number; blanks before its first passage go with that."""
    runs: dict[int, list[tuple[int, int]]] = {}
    for head, tail in zip(first.tolist(), last.tolist(), strict=True):
        number = int(cut.documents[head])
        opens = head == 0 or cut.documents[head - 1] != number
        closes = tail + 1 == len(cut.documents) or cut.documents[tail + 1] != number
        start = 0 if opens else int(cut.starts[head] - edges[number])
        stop = int((edges[number + 1] if closes else cut.starts[tail + 1]) - edges[number])
        runs.setdefault(number, []).append((start, stop))
    return runs
