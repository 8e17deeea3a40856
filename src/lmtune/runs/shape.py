"""The shape of results.json and ledger.json: what pages and tables rely on.

The seal of a completed run shows that results.json is as it was written, not that this version of lmtune wrote it; runs that go on
or were stopped have no seal.

A shape is written as the values that it stands for:

    int                     a value of this type; None for null
    (int, None)             one of several shapes
    [int]                   a list
    {str: int}              an object with any keys
    {"a": int, "b?": int}   an object with these keys, `b` optional; it may have others
"""

import math
from collections.abc import Iterator
from typing import Any

from lmtune.measures import AMOUNTS, MEASURES, SHOWN
from lmtune.storage import Record

NUMBER = (int, float)
MAYBE = (None, int, float)
"""A number, or null for one that is unknown or not finite."""
COUNTS = dict.fromkeys(AMOUNTS, int)
COMPARED = {f"{name}?": MAYBE for name in MEASURES}
LIMIT = (None, {"max_tokens": int, "of_tokens": int, "of_documents": int})
PROTOCOL = {
    "text": str, "documents": int, "windows": str, "context": int, "stride": int, "dtype": str, "split_by?": str,
    "tokenizer": str, "versions?": {str: str}, "limit?": LIMIT,
}  # fmt: skip
SET = {
    "protocol": PROTOCOL, **COUNTS, **{measure.name: MAYBE for measure in SHOWN}, "separator_loss?": MAYBE,
    "unigram_bits_per_byte?": MAYBE, "seen_in_training?": {"share": MAYBE},
    "while_training?": {
        "text": str, "documents?": int, "limit?": LIMIT, **COUNTS, "before": COMPARED, "after": COMPARED,
    },
}  # fmt: skip
START = {
    "began": str, "step": int, "steps": int, "sets": [str], "parameters": int, "trained": int, "memory": MAYBE,
    "unigram_bits_per_byte?": MAYBE,
    "machine": {
        "processes": int, "threads": int, "compiled": bool,
        **dict.fromkeys(("device", "attention", "python", "torch", "transformers", "lmtune"), str),
    },
}  # fmt: skip
DOCUMENT = {"document": int, "bits_per_byte": NUMBER, "bytes": int, "beginning?": str, "before?": MAYBE}
RESULTS = {
    "status": str, "name?": str, "reason?": (None, str), "fingerprint?": str,
    "text?": {"corpus?": str, "held_out?": {str: {"text?": str}}},
    "train?": {
        "steps": int, "tokens": int, "tokens_left_out?": int, "epochs?": MAYBE, "seconds?": NUMBER,
        "tokens_per_second?": NUMBER, "best_step?": (None, int),
    },
    "starts?": [START],
    "eval?": {str: SET},
    "documents?": {
        "worst": [DOCUMENT], "best": [DOCUMENT],
        "change?": (None, {"counts": [int], "edges": [NUMBER], "better": int, "worse": int}),
    },
    "average?": {"points": int, "kept": bool, "first_step": (None, int), "bits_per_byte": MAYBE, "without": MAYBE},
    "forgetting?": {"rise": MAYBE, "share": NUMBER, "tokens": int, "replay": str, "kept": (None, bool)},
}  # fmt: skip
SIDE = {"documents": int, "bytes": int, "text_tokens": int, "tokens": int, "lengths?": [int]}
LEDGER = {
    **dict.fromkeys(("documents_read", "documents_kept", "bytes_read", "bytes_kept"), int),
    "documents_are": str, "split_by": str, "left_out": {str: int},
    "sides": {"train": SIDE, "validation": SIDE, "test": SIDE},
    "sources?": [{"name": str, "bytes?": MAYBE, "modified?": (None, str)}],
}  # fmt: skip


def keep_sound(results: Record) -> tuple[Record, list[str]]:
    """(results, strange): without the parts that are not as lmtune writes them, and where each of those differs."""
    places = {name.rstrip("?"): find_strange(results, {name: shape}) for name, shape in RESULTS.items()}
    sound = {name: value for name, value in results.items() if places.get(name) is None}
    return sound, [place for place in places.values() if place is not None]


def find_strange(value: Any, shape: Any, place: str = "") -> str | None:
    """The place of the first value of another shape, such as `eval.bio.loss`; None if there is none."""
    if isinstance(shape, tuple):
        faults = [find_strange(value, each, place) for each in shape]
        return None if None in faults else faults[-1]
    if isinstance(shape, dict | list):
        if not isinstance(value, type(shape)):
            return place
        return next(filter(None, _find_inside(value, shape, place)), None)
    return None if _is_a(value, shape) else place


def _find_inside(value: Any, shape: Any, place: str) -> Iterator[str | None]:
    if isinstance(shape, list):
        fields = {str(number): (each, shape[0]) for number, each in enumerate(value)}
    elif str in shape:
        fields = {name: (each, shape[str]) for name, each in value.items()}
    else:
        names = {key: key.rstrip("?") for key in shape}
        fields = {
            name: (value.get(name, ...), shape[key]) for key, name in names.items() if key == name or name in value
        }
    for name, (each, of) in fields.items():
        yield find_strange(each, of, f"{place}.{name}".lstrip("."))


def _is_a(value: Any, kind: type | None) -> bool:
    """True for a value of this type; a boolean is no number, and neither is infinity."""
    if kind is None:
        return value is None
    finite = not isinstance(value, float) or math.isfinite(value)
    return finite and isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
