"""How each held-out document was scored at the end of a run, kept beside its results: intervals need more than a sum."""

import math
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmtune.evaluation.comparison import DocumentBits
from lmtune.measures import BITS_PER_BYTE
from lmtune.storage import Record

MOST = 1_000_000
"""Documents of a set up to which they are kept."""
TOLERANCE = 1e-6
"""Relative; scores that do not add up to the result are those of another model."""


class SetScores(NamedTuple):
    """One held-out set as it was scored."""

    text: str
    """Identity of the text, as in the protocol of its measures."""
    documents: DocumentBits


def save_scores(file: Path, scored: dict[str, SetScores]) -> None:
    """Write the scores of all sets that are not too many. scored: by the name of the set."""
    kept = [each for each in scored.values() if len(each.documents.nll) <= MOST]
    arrays: dict[str, np.ndarray] = {"texts": np.array([each.text for each in kept], dtype=str)}
    for number, each in enumerate(kept):
        arrays |= {f"nll{number}": each.documents.nll, f"bytes{number}": each.documents.sizes}
    with file.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def find_scores(file: Path, measures: Record) -> DocumentBits | None:
    """The documents behind these measures, in the order of their text; None where there is no record that adds up to them."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as saved:
            number = saved["texts"].tolist().index(measures["protocol"]["text"])
            found = DocumentBits(saved[f"nll{number}"].astype(float), saved[f"bytes{number}"].astype(np.int64))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    whole, stored = float(found.bits_per_byte(np.arange(len(found.nll)))), measures[BITS_PER_BYTE.name]
    same = stored is not None and math.isclose(whole, stored, rel_tol=TOLERANCE)
    return found if same and len(found.nll) == len(found.sizes) else None
