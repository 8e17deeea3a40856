"""Texts cut around each digit, as the pre-tokenizer `Digits` cuts them; the bytes of a column stay where they are."""

from functools import lru_cache

import numpy as np
import pyarrow as pa

from lmtune.data.columns import Texts, edges_of

PLANES = 0x20000
"""Code points among which all digits are: beyond are Chinese characters, tags and private ones."""


def cut_digits(texts: Texts) -> tuple[Texts, np.ndarray]:
    """(parts, counts): each digit, and what stands between digits, and [texts] int64 how many parts each text has."""
    if not len(texts):
        return texts, np.empty(0, np.int64)
    edges, content = edges_of(texts), texts.buffers()[2] or pa.py_buffer(b"")
    starts, ends = _find_digits(np.frombuffer(content, np.uint8)[edges[0] : edges[-1]])
    cuts = np.unique(np.concatenate([edges, starts + edges[0], ends + edges[0]]))
    parts = pa.LargeStringArray.from_buffers(len(cuts) - 1, pa.py_buffer(cuts), content)
    return parts, np.diff(np.searchsorted(cuts, edges))


def _find_digits(content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where digits start and end. content: [bytes] uint8 of UTF-8."""
    ascii_digits = np.flatnonzero((content >= ord("0")) & (content <= ord("9")))
    lead = np.flatnonzero(content >= 0xC0)
    width = 2 + (content[lead] >= 0xE0) + (content[lead] >= 0xF0).astype(np.int64)
    points = content[lead] & (0x7F >> width)
    for place in (1, 2, 3):
        more = width > place
        points[more] = points[more] << 6 | content[lead[more] + place] & 0x3F
    digits = _list_digits()[np.minimum(points, PLANES)]
    return np.append(ascii_digits, lead[digits]), np.append(ascii_digits + 1, (lead + width)[digits])


@lru_cache(maxsize=1)
def _list_digits() -> np.ndarray:
    """[PLANES + 1] bool: which code points `Digits` cuts around, as it says itself; the last one stands for all beyond."""
    from tokenizers.pre_tokenizers import Digits

    letters = (chr(point) for point in range(PLANES) if not 0xD800 <= point < 0xE000)
    parts = Digits(individual_digits=True).pre_tokenize_str("aa".join(letters))
    listed = np.zeros(PLANES + 1, np.bool_)
    listed[[ord(part) for part, _ in parts if len(part) == 1]] = True
    return listed
