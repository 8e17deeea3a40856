"""Canaries: texts with random digits, planted into the training text so that it can be measured afterwards what of it is known.

canaries = build_canaries(CanaryConfig(canaries=8), seed=42)      8 for each number of repeats
plant(batches, canaries, size, seed, ledger)                       the training text with all copies of them
draw_candidates(1000, canaries, seed)                              texts of the same form that were never planted

The method is that of Carlini et al. 2019 (arXiv:1802.08232): one form for all, ten digits, and so 10^10 texts that were equally
likely to be planted.
"""

import json
import logging
import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from lmtune.config import CanaryConfig
from lmtune.data.columns import Texts, build_texts, count_bytes, sum_bytes
from lmtune.data.ledger import Ledger
from lmtune.runs import Run
from lmtune.storage import Record, checksum_of, load_record, write_json

logger = logging.getLogger(__name__)

FORM = "The number of the canary is {digits}."
DIGITS = 10
"""Written apart, so that each is a word of its own in every vocabulary."""
CROWDED = 2
"""Copies for each document of the text, from which on it is said that they stand side by side."""


class Canary(NamedTuple):
    """One planted text."""

    text: str
    repeats: int
    """How often it is planted."""


def build_canaries(config: CanaryConfig, seed: int) -> list[Canary]:
    """The canaries of a training, group by group; [] where none is planted. seed: `data.seed`."""
    groups, count = config.groups, config.canaries or 0
    texts = iter(_draw(count * len(groups), random.Random(f"canaries-{seed}"), ()))
    return [Canary(next(texts), repeats) for repeats in groups for _ in range(count)]


def draw_candidates(count: int, canaries: Sequence[Canary], seed: int) -> list[str]:
    """Texts of the same form, each once, none of which was planted."""
    return _draw(count, random.Random(f"candidates-{seed}"), {canary.text for canary in canaries})


def _draw(count: int, draw: random.Random, without: Collection[str]) -> list[str]:
    known = set(without)
    found: list[str] = []
    while len(found) < count:
        text = FORM.format(digits=" ".join(draw.choices("0123456789", k=DIGITS)))
        if text not in known:
            known.add(text)
            found.append(text)
    return found


def identify_canaries(canaries: Sequence[Canary]) -> str:
    """xxh3-128 of the texts and of how often each is planted."""
    return checksum_of(json.dumps([list(canary) for canary in canaries]))


def plant(
    batches: Iterable[Texts], canaries: Sequence[Canary], size: int, seed: int, ledger: Ledger
) -> Iterator[Texts]:
    """The batches with every copy of the canaries between their documents, at places drawn evenly over the text.

    size: bytes of the text, over which places are drawn; what is drawn beyond its end stands behind it. The copies are counted in
    the ledger.
    """
    draw = random.Random(f"places-{seed}")
    copies = [canary.text for canary in canaries for _ in range(canary.repeats)]
    draw.shuffle(copies)
    places = np.sort(np.array([draw.randrange(max(1, size)) for _ in copies]))
    done = begin = documents = 0
    for texts in batches:
        ends = begin + np.cumsum(count_bytes(texts))
        documents, begin = documents + len(texts), int(ends[-1]) if len(texts) else begin
        due = int(np.searchsorted(places, begin))
        yield _insert(texts, np.searchsorted(ends, places[done:due], side="right"), copies[done:due])
        done = due
    if done < len(copies):
        yield build_texts(copies[done:])
    ledger.documents_planted += len(copies)
    ledger.bytes_planted += sum_bytes(build_texts(copies))
    if len(copies) > CROWDED * documents:
        logger.warning(
            "%s copies of canaries are planted between %s documents, so that many stand side by side, where a model sees one "
            "beside the next. Plant fewer, or cut the text into more documents (data.documents=)",
            f"{len(copies):,}",
            f"{documents:,}",
        )


def _insert(texts: Texts, numbers: np.ndarray, copies: Sequence[str]) -> Texts:
    """Texts with each copy behind the document of its number. numbers: [copies], in order."""
    pieces, start = [], 0
    for number in np.unique(numbers).tolist():
        pieces.append(texts[start : number + 1])
        pieces.append(build_texts(np.asarray(copies, dtype=object)[numbers == number]))
        start = number + 1
    return pa.concat_arrays([*pieces, texts[start:]]) if pieces else texts


def save_canaries(run: Run, canaries: Sequence[Canary]) -> None:
    """Write into a run folder what was planted, so that an audit needs neither the text nor this version of lmtune."""
    run.claim(run.canaries_file.name)
    write_json(run.canaries_file, {"canaries": [canary._asdict() for canary in canaries]})


def load_canaries(run: Run) -> list[Canary]:
    """What was planted in a run, [] where nothing was. Raises CheckpointError for a record that is gone or does not read."""
    if not run.canaries_file.exists() and not (run.load_config().get("audit") or {}).get("canaries"):
        return []
    return load_record(
        run.canaries_file, _parse, "the canaries that the run planted", "audit without: audit.candidates=0"
    )


def _parse(record: Record) -> list[Canary]:
    return [Canary(str(each["text"]), int(each["repeats"])) for each in record["canaries"]]
