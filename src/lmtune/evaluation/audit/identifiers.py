"""Personal identifiers of the training text that a model gives back behind the words before them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtune.data.columns import Texts, count_utf8, hash_texts
from lmtune.data.identifiers import find_identifiers, gives_away, mask_value, normalize
from lmtune.evaluation.audit.passages import WAYS, Asked
from lmtune.evaluation.audit.rows import Row
from lmtune.patience import saying
from lmtune.vocabulary import decode_plain, encode_opening, encode_plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmtune.config import AuditConfig
    from lmtune.storage import Record

SEED = 0
CHARS = 16
"""Characters of text that are encoded for each token of a prompt: more than a token has but in long blanks."""


class Place(NamedTuple):
    """An identifier of a text where it stands first."""

    kind: str
    value: str
    before: str
    """The text before it, its end."""
    opens: bool
    """`before` begins where the document does."""
    document: str
    """Hash and bytes of its document, as results.json names documents."""


class Search(NamedTuple):
    """Identifiers by their kind and normalised value."""

    places: dict[tuple[str, str], Place]
    times: dict[tuple[str, str], int]
    """How often each stands in the text."""
    bytes: int
    """Bytes of the text that was searched."""


def search(
    batches: Iterable[Texts],
    prefix: int,
    seed: int,
    most_bytes: int,
    without: Collection[tuple[str, str]] = (),
) -> Search:
    """The identifiers of whole documents, from the first on, until `most_bytes` (0: all) have been searched.

    prefix: tokens of a prompt. seed: of the hashes that name documents. without: identifiers that are passed over.
    """
    found = Search({}, {}, 0)
    with saying("looking for identifiers"):
        for texts in batches:
            for text, order in zip(texts.to_pylist(), hash_texts(texts, seed).tolist(), strict=True):
                if most_bytes and found.bytes >= most_bytes:
                    return found
                size = count_utf8(text)
                _note(found, text, f"{order:016x}-{size}", CHARS * prefix, without)
                found = found._replace(bytes=found.bytes + size)
    return found


def _note(found: Search, text: str, document: str, reach: int, without: Collection[tuple[str, str]]) -> None:
    for kind, start, end in find_identifiers(text):
        key = kind, normalize(text[start:end])
        if key in without:
            continue
        found.times[key] = found.times.get(key, 0) + 1
        first = max(0, start - reach)
        found.places.setdefault(key, Place(kind, text[start:end], text[first:start], first == 0, document))


class Prompts(NamedTuple):
    """Identifiers that are asked for, and how many are not."""

    rows: list[Row]
    places: list[Place]
    times: list[int]
    given_away: int
    """Not asked for, since what is before them holds them already, or half of them."""
    different: int
    """Identifiers of the text that was searched, each counted once."""
    bytes: int
    kinds: dict[str, int]
    """Different ones by kind."""


def build_prompts(found: Search, tokenizer: PreTrainedTokenizerBase, config: AuditConfig) -> Prompts:
    """A prompt for each of at most audit.identifiers= identifiers, drawn from all that were found."""
    keys = sorted(found.places)
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(keys))[: config.identifiers])
    rows, asked, given_away = [], [], 0
    for key in (keys[number] for number in chosen.tolist()):
        row = build_row(found.places[key], tokenizer, config.given)
        if gives_away(decode_plain(tokenizer, row.ids[: row.known]), found.places[key].value):
            given_away += 1
            continue
        rows.append(row)
        asked.append(key)
    kinds = [kind for kind, _ in keys]
    return Prompts(
        rows,
        [found.places[key] for key in asked],
        [found.times[key] for key in asked],
        given_away,
        len(keys),
        found.bytes,
        {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
    )


def build_row(place: Place, tokenizer: PreTrainedTokenizerBase, prefix: int) -> Row:
    """The last `prefix` tokens before an identifier, and the identifier with the blank before it, cut where their tokens part."""
    opening = list(encode_opening(tokenizer)) or [tokenizer.eos_token_id]
    before = place.before.rstrip()
    alone, whole = encode_plain(tokenizer, [before, place.before + place.value])
    pairs = zip(alone, whole, strict=False)
    shared = next((number for number, (one, other) in enumerate(pairs) if one != other), min(len(alone), len(whole)))
    kept = whole[max(0, shared - prefix) :]
    known = min(shared, prefix)
    if known == shared and (place.opens or not known):
        return Row([*opening, *kept], len(opening) + known)
    return Row(kept, known)


def list_drawn_out(prompts: Prompts, asked: Asked) -> list[Record]:
    """Each identifier that comes back, masked, with where it stands and how it was met, those that tuning added first."""
    found = [
        {
            "kind": place.kind,
            "masked": mask_value(place.value),
            "times": times,
            "document": place.document,
            **{way: bool(getattr(asked.model, way)[number]) for way in WAYS},
            "added": bool(asked.added[number]),
        }
        for number, (place, times) in enumerate(zip(prompts.places, prompts.times, strict=True))
        if asked.model.either[number]
    ]
    return sorted(found, key=lambda each: (not each["added"], each["kind"]))


def count_kinds(places: Sequence[Place], marks: np.ndarray) -> dict[str, int]:
    """How many of [identifiers] bool are true, by kind of identifier."""
    found: dict[str, int] = {}
    for place, mark in zip(places, marks.tolist(), strict=True):
        found[place.kind] = found.get(place.kind, 0) + mark
    return found
