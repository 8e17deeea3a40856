"""Where the text of a run went: the ledger as a table that adds up to the byte, its sources, and the lengths of documents."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmtune.reporting.language import LESS, Language
from lmtune.storage import Record

SIDES = ("train", "validation", "test")
SHOWN_SOURCES = 20


class Row(NamedTuple):
    """A line of the table."""

    label: str
    bytes: str
    documents: str
    tokens: str
    kind: str
    """sum, part, or the name of a split, which has a colour."""


class Part(NamedTuple):
    """A piece of the bar above the table."""

    kind: str
    share: float
    """Share of all bytes read, in percent."""


class Source(NamedTuple):
    """A file or a split of a data set."""

    name: str
    size: str
    modified: str
    checksum: str


def list_rows(ledger: Record, language: Language) -> list[Row]:
    """Rows that add up: bytes read, less those left out, are those kept; these are split into training, held-out and test text."""
    rows = [_build_sum("flow_read", ledger["bytes_read"], ledger["documents_read"], language)]
    for kind, count in ledger["left_out"].items():
        label = language.say(f"left_{kind}" if f"left_{kind}" in language.texts else "left_other")
        sign = LESS if count > 0 else "+"
        rows.append(Row(label, f"{sign}{language.number(abs(count))}", "", "", "part"))
    rows.append(_build_sum("flow_kept", ledger["bytes_kept"], ledger["documents_kept"], language))
    if planted := ledger.get("documents_planted"):
        size = f"+{language.number(ledger['bytes_planted'])}"
        rows.append(Row(language.say("flow_planted"), size, language.number(planted), "", "part"))
    for side in SIDES:
        counts = ledger["sides"][side]
        if counts["documents"] or side == "train":
            size, documents, tokens = (language.number(counts[name]) for name in ("bytes", "documents", "tokens"))
            rows.append(Row(language.say(f"flow_{side}"), size, documents, tokens, side))
    return rows


def list_parts(ledger: Record) -> list[Part]:
    """The bar: splits, then what was left out. Added bytes are not shown."""
    sizes = {side: ledger["sides"][side]["bytes"] for side in SIDES}
    sizes["left"] = max(0, ledger["bytes_read"] - ledger["bytes_kept"])
    whole = sum(sizes.values()) or 1
    return [Part(kind, 100 * size / whole) for kind, size in sizes.items() if size]


def describe_lengths(ledger: Record, language: Language) -> str | None:
    """How long the training documents are; None if that was not counted."""
    counts = ledger["sides"]["train"].get("lengths")
    if not counts:
        return None
    reached = np.cumsum(counts) / sum(counts)
    half, most, end = (2 ** (int(np.searchsorted(reached, share)) + 1) for share in (0.5, 0.9, 1.0))
    numbers = {"half": half, "most": most, "end": end, "n": sum(counts)}
    return language.say(
        "lengths_alike" if half == most else "lengths",
        **{name: language.number(value) for name, value in numbers.items()},
    )


def list_sources(ledger: Record, language: Language, *, private: bool) -> tuple[list[Source], int]:
    """(the first sources, how many more there are). private: named by number, since names of files may identify people."""
    found = []
    sources = ledger.get("sources", [])
    names = _shorten([str(source["name"]) for source in sources])
    for number, (name, source) in enumerate(zip(names, sources, strict=True), start=1):
        if number > SHOWN_SOURCES:
            break
        size, modified = source.get("bytes", source.get("content_bytes")), source.get("modified")
        shown = language.say("source_number", number=number) if private else name
        found.append(
            Source(
                shown,
                "" if size is None else language.number(size),
                language.date(modified) if modified else "",
                str(source.get("xxh3_128") or source.get("revision") or source.get("fingerprint") or ""),
            )
        )
    return found, len(sources) - len(found)


def _build_sum(key: str, size: int, documents: int, language: Language) -> Row:
    return Row(language.say(key), language.number(size), language.number(documents), "", "sum")


def _shorten(names: list[str]) -> list[str]:
    """Paths without the folders that all of them share."""
    paths = [Path(name) for name in names]
    if not all(path.is_absolute() for path in paths) or not paths:
        return names
    if len(paths) == 1:
        return [paths[0].name]
    shared = 0
    while len({path.parts[: shared + 1] for path in paths}) == 1 and all(
        len(path.parts) > shared + 1 for path in paths
    ):
        shared += 1
    return [str(Path(*path.parts[shared:])) for path in paths]
