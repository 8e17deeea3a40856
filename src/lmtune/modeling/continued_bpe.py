"""BPE learning taken up where a vocabulary left off (continued BPE training: Purason, Chizhov, Yamshchikov, Fishel 2025,
arXiv:2512.03989).

Words are cut by the merges that there are; pairs of the pieces are counted and merged as in learning from bytes, the most
frequent first and of equals the one with the smaller ids. Continued on the text that a vocabulary was learned from, it
gives the merges that learning more entries at once gives. Trainers of the tokenizers library start from characters alone.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import NamedTuple, TypeAlias

Pair: TypeAlias = tuple[int, int]
"""Ids of two neighbours."""


class Continuation(NamedTuple):
    """The new merges of a vocabulary."""

    merges: list[Pair]
    """Pairs of old and new ids, in the order in which they are merged. The one at place i makes the id `first + i`."""
    counts: Counter[int]
    """How often each id occurs in the words, cut by old and new merges."""


def continue_merges(
    words: Mapping[tuple[int, ...], int],
    tokens: Mapping[int, str],
    first: int,
    entries: int,
    min_frequency: int = 2,
) -> Continuation:
    """Merges for up to `entries` new tokens: fewer where no pair is seen min_frequency times.

    words: ids of each word to how often it is seen. tokens: id to string. first: the id of the first new token.

    A pair whose joined string is an entry already is left alone: that entry has a merge, and with a second one merges of old
    tokens could come about in another order than before.
    """
    pairs = _Pairs(words)
    names = dict(tokens)
    known = set(names.values())
    merges: list[Pair] = []
    while len(merges) < entries and (found := pairs.pop_most_frequent(min_frequency)) is not None:
        name = names[found[0]] + names[found[1]]
        if name in known:
            continue
        made = first + len(merges)
        names[made] = name
        known.add(name)
        merges.append(found)
        pairs.merge(found, made)
    return Continuation(merges, pairs.count_ids())


class _Pairs:
    """Words, the pairs in them, and a queue of these in the order of their counts."""

    def __init__(self, words: Mapping[tuple[int, ...], int]) -> None:
        self._words = [list(word) for word in words]
        self._seen = list(words.values())
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for place in range(len(self._words)):
            self._count(place, 1)
        self._queue = [(-count, pair) for pair, count in self._counts.items()]
        heapify(self._queue)

    def pop_most_frequent(self, least: int) -> Pair | None:
        """The pair with the highest count, which leaves the queue; None where none is seen `least` times."""
        while self._queue:
            count, pair = heappop(self._queue)
            now = self._counts[pair]
            if now == -count:
                return pair if now >= least else None
            if now > 0:  # merges of its neighbours made it rarer since it was put in
                heappush(self._queue, (-now, pair))
        return None

    def merge(self, pair: Pair, made: int) -> None:
        """Put `made` in the place of each occurrence of the pair."""
        changed: set[Pair] = set()
        for place in self._places.pop(pair):
            self._count(place, -1)
            self._words[place] = _replace(self._words[place], pair, made)
            changed |= self._count(place, 1)
        self._counts.pop(pair, None)
        for grown in changed:
            if made in grown:
                heappush(self._queue, (-self._counts[grown], grown))

    def count_ids(self) -> Counter[int]:
        """How often each id occurs."""
        counts: Counter[int] = Counter()
        for word, seen in zip(self._words, self._seen, strict=True):
            for number in word:
                counts[number] += seen
        return counts

    def _count(self, place: int, sign: int) -> set[Pair]:
        found = set()
        for pair in pairwise(self._words[place]):
            self._counts[pair] += sign * self._seen[place]
            found.add(pair)
            if sign > 0:
                self._places[pair].add(place)
        return found


def _replace(word: list[int], pair: Pair, made: int) -> list[int]:
    """The word with the pair merged, from the left."""
    merged: list[int] = []
    place = 0
    while place < len(word):
        if place + 1 < len(word) and (word[place], word[place + 1]) == pair:
            merged.append(made)
            place += 2
        else:
            merged.append(word[place])
            place += 1
    return merged
