"""Columns of text: Arrow arrays of large_string, which are read, filtered and encoded without becoming Python strings.

Text passes through lmtune.data in batches of such columns, so that memory stays flat however much there is.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import xxhash

Texts: TypeAlias = pa.LargeStringArray
"""Texts without nulls."""

BATCH_BYTES = 16_000_000
"""Bytes of text in a batch: enough to keep all cores busy, little enough to keep memory flat."""
MOJIBAKE = re.compile(rb"\xc3[\x82\x83]\xc2[\x80-\xbf]")
"""What a letter of two bytes in UTF-8 becomes, in UTF-8 again, when its bytes are read as Latin-1."""
MOJIBAKE_BYTES, LEAST_MOJIBAKE = 1_000_000, 5
"""Bytes of a source that are looked at, and how often it has to be there: in a quarter of the letters beyond ASCII as well."""
C1_CONTROLS = re.compile(rb"\xc2[\x80-\x84\x86-\x9f]")
"""Control characters that no text has, in UTF-8: what cp1252's quotes and dashes become when read as Latin-1. U+0085 ends lines."""


def build_texts(strings: Iterable[str]) -> Texts:
    """Strings as a column."""
    return pa.array(list(strings), pa.large_string())


def batch_strings(strings: Iterable[str], limit: int = BATCH_BYTES) -> Iterator[Texts]:
    """Strings as columns of about `limit` characters each."""
    batch: list[str] = []
    size = 0
    for text in strings:
        batch.append(text)
        size += len(text)
        if size >= limit:
            yield build_texts(batch)
            batch, size = [], 0
    if batch:
        yield build_texts(batch)


def edges_of(texts: Texts) -> np.ndarray:
    """[texts + 1] int64: where each text starts and ends in the bytes of the column."""
    return np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]


def count_bytes(texts: Texts) -> np.ndarray:
    """[texts] int64: UTF-8 bytes of each."""
    return np.diff(edges_of(texts)) if len(texts) else np.empty(0, np.int64)


def sum_bytes(texts: Texts) -> int:
    """UTF-8 bytes of all of them together."""
    edges = edges_of(texts) if len(texts) else (0, 0)
    return int(edges[-1] - edges[0])


def count_utf8(text: str) -> int:
    """UTF-8 bytes of one text, halves of surrogate pairs included."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def count_chars(texts: Texts) -> np.ndarray:
    """[texts] int64: Unicode code points of each."""
    import pyarrow.compute as pc

    return np.asarray(pc.utf8_length(texts), dtype=np.int64)


def hash_texts(texts: Texts, seed: int) -> np.ndarray:
    """[texts] uint64: xxh3-64 of the UTF-8 bytes of each."""
    if not len(texts):
        return np.empty(0, np.uint64)
    content = memoryview(texts.buffers()[2] or b"")
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter(
        (digest(content[start:end], seed=seed) for start, end in pairwise(edges_of(texts).tolist())),
        np.uint64,
        count=len(texts),
    )


def find_misread(texts: Texts) -> str | None:
    """A remark that texts look like UTF-8, or cp1252, which has been read as Latin-1; None for texts that do not."""
    edges = edges_of(texts) if len(texts) else np.zeros(1, np.int64)
    content = (
        memoryview(texts.buffers()[2] or b"")[edges[0] : min(edges[-1], edges[0] + MOJIBAKE_BYTES)]
        if len(texts)
        else b""
    )
    letters = np.count_nonzero(np.frombuffer(content, np.uint8) >= 0xC0)
    controls = C1_CONTROLS.findall(content) if letters else []
    if len(controls) >= LEAST_MOJIBAKE and (meant := controls[0][1:].decode("cp1252", "ignore")):
        return (
            f"{len(controls):,} times control characters such as {controls[0].decode()!r} stand where {meant!r} may be meant: it "
            "looks like cp1252 that was read as Latin-1. Give data.encoding=cp1252, or mend the text"
        )
    found = MOJIBAKE.findall(content) if letters else []
    if len(found) < LEAST_MOJIBAKE or 4 * len(found) < letters:
        return None
    read, meant = found[0].decode(), found[0].decode().encode("latin-1").decode("utf-8", "replace")
    return (
        f"{len(found):,} times letters such as {read!r} stand where {meant!r} may be meant: it looks like UTF-8 that was read as "
        "Latin-1, perhaps before it came here. Check data.encoding=, or mend the text"
    )


def iterate_strings(batches: Iterable[Texts]) -> Iterator[str]:
    """Each text as a Python string."""
    for batch in batches:
        yield from batch.to_pylist()
