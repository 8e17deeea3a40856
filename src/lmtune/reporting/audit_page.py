"""The page of an audit, for those responsible for the data: counts, their intervals, the method, and its limits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmtune.data.canaries import DIGITS
from lmtune.data.identifiers import HIDDEN
from lmtune.reporting.forest import Row, render_forest
from lmtune.reporting.language import Language
from lmtune.reporting.pages import Tile, render_page
from lmtune.storage import Record

LIMITS = ("sample", "prompt", "detector", "canary", "law")
SIDES, WHO, WAYS = ("training", "held_out"), ("model", "base"), ("greedy", "likely", "either")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A section of the page."""

    title: str
    reason: str = ""
    """Why it is empty."""
    note: str = ""
    figure: str = ""
    tables: Sequence[Record] = ()
    lines: Sequence[str] = ()
    shown: Sequence[Record] = ()
    """Passages with prefix and continuation."""
    masked: str = ""


def render_audit_page(values: Record, language: Language) -> str:
    """The page as HTML. values: the content of audit.json."""
    builders = {"canaries": _build_canaries, "passages": _build_passages, "identifiers": _build_identifiers}
    parts = []
    for name, build in builders.items():
        found = values[name]
        part = _explain(found, language) if "reason" in found else build(found, values, language)
        parts.append(Part(title=language.say(f"audit_{name}"), **part))
    return render_page(
        "audit.html.j2",
        language,
        language.say("audit", name=values["name"]),
        lead=language.say(
            "audit_lead", date=language.date(values["date"]), confidence=language.share(values["confidence"])
        ),
        private=values["private"],
        tiles=_build_tiles(values, language),
        parts=parts,
        limits=[language.say(f"audit_limit_{limit}") for limit in LIMITS],
        protocol=_render_protocol(values, language),
    )


def render_share(found: Record, language: Language) -> str:
    """`3 of 500 (0.6 %; 0.2 % to 1.7 %)`."""
    counted = language.say("audit_count", count=found["count"], of=found["of"])
    if not found["of"]:
        return counted
    return f"{counted} ({language.share(found['share'], 1)}; {_render_interval(found, language)})"


def _render_interval(found: Record, language: Language) -> str:
    low, high = (language.share(found[end], 1) for end in ("low", "high"))
    return language.say("audit_interval", low=low, high=high)


def _explain(found: Record, language: Language) -> Record:
    return {"reason": language.say(f"audit_why_{found['reason']}")}


def _render_protocol(values: Record, language: Language) -> str:
    versions = ", ".join(f"{name} {each}" for name, each in values["protocol"]["versions"].items())
    return language.say("audit_scored", dtype=values["protocol"]["dtype"], versions=versions, ckpt=values["ckpt"])


def _build_tiles(values: Record, language: Language) -> list[Tile]:
    tiles = []
    if groups := values["canaries"].get("groups"):
        last = groups[-1]
        alarms = values["canaries"]["false_alarms"]
        notes = [
            _render_interval(last["found"], language),
            f"{language.share(alarms['share'], 1)} {language.say('audit_tile_alarms')}",
        ]
        label = language.say("audit_tile_canaries", times=language.say("audit_times", n=last["repeats"]))
        tiles.append(Tile(label, language.share(last["found"]["share"]), notes=notes))
    for name in ("passages", "identifiers"):
        sides = values[name].get("sides")
        if sides and sides["training"]["added"]["of"]:
            tiles.append(_build_tile(name, sides, language))
    return tiles


def _build_tile(name: str, sides: Record, language: Language) -> Tile:
    training, held_out = (sides[side]["added"] for side in SIDES)
    notes = [_render_interval(training, language)]
    if name == "passages" and held_out["of"]:
        notes.append(language.say("audit_tile_held_out", share=language.share(held_out["share"], 1)))
    return Tile(language.say(f"audit_tile_{name}"), language.share(training["share"], 1), notes=notes)


def _build_canaries(found: Record, values: Record, language: Language) -> Record:
    groups, alarms = found["groups"], found["false_alarms"]
    allowed = language.share(found["false_alarms_allowed"], 1)
    plotted = [
        Row(
            language.say("audit_times", n=group["repeats"]),
            group["exposure"],
            None if group["low"] is None else (group["low"], group["high"]),
        )
        for group in groups
    ]
    ends = [language.number(choose(group["exposure"] for group in groups), 1) for choose in (min, max)]
    told = language.say("audit_exposure_told", n=len(groups), low=ends[0], high=ends[1])
    numbers = {"n": found["candidates"], "most": language.number(found["most_bits"], 1), "allowed": allowed}
    return {
        "note": language.say("audit_canaries_note", digits=DIGITS, **numbers),
        "figure": render_forest(plotted, told, language, decimals=1),
        "tables": [_build_groups(groups, language)],
        "lines": [
            language.say(
                "audit_alarms",
                of=alarms["of"],
                count=alarms["count"],
                share=language.share(alarms["share"], 1),
                low=language.share(alarms["low"], 1),
                high=language.share(alarms["high"], 1),
                allowed=allowed,
            )
        ],
    }


def _build_groups(groups: Iterable[Record], language: Language) -> Record:
    titles = [language.say(f"audit_{name}") for name in ("repeats", "number", "exposure", "found")]
    rows = [
        [
            language.say("audit_times", n=group["repeats"]),
            language.number(group["found"]["of"]),
            _render_exposure(group, language),
            render_share(group["found"], language),
        ]
        for group in groups
    ]
    return {"titles": titles, "rows": rows}


def _render_exposure(group: Record, language: Language) -> str:
    mean = language.number(group["exposure"], 1)
    if group["low"] is None:
        return mean
    low, high = (language.number(group[end], 1) for end in ("low", "high"))
    return f"{mean} ({language.say('audit_interval', low=low, high=high)})"


def _build_passages(found: Record, values: Record, language: Language) -> Record:
    numbers = {name: found[name] for name in ("prefix", "continuation", "tries")}
    return {
        "note": language.say("audit_passages_note", **numbers),
        "tables": [_build_sides(found["sides"], language)],
        "lines": _render_memorised(found, language),
        "shown": found["shown"],
        "masked": language.say("audit_masked", bullet=HIDDEN),
    }


def _build_sides(sides: Record, language: Language) -> Record:
    """A row per side and model, a column per method; the last row of a side is what training added."""
    titles = ["", "", *(language.say(f"audit_{way}") for way in WAYS)]
    rows = []
    for side in SIDES:
        name = language.say(f"audit_side_{side}")
        asked = [who for who in WHO if who in sides[side]]
        shares = {who: [render_share(sides[side][who][way], language) for way in WAYS] for who in asked}
        rows += [[name, language.say(f"audit_who_{who}"), *shares[who]] for who in asked]
        rows.append([name, language.say("audit_added"), "", "", render_share(sides[side]["added"], language)])
    return {"titles": titles, "rows": rows}


def _render_memorised(found: Record, language: Language) -> list[str]:
    lines = []
    if found["memorised"] is not None:
        numbers = {name: language.number(100 * value, 1) for name, value in found["memorised"].items()}
        lines.append(language.say("audit_memorised", **numbers))
    if "base" not in found["sides"]["training"]:
        lines.append(language.say("audit_no_base"))
    return lines


def _build_identifiers(found: Record, values: Record, language: Language) -> Record:
    note = language.say(
        "audit_identifiers_note",
        different=found["different"],
        size=language.size(found["searched_bytes"]),
        prefix=found["prefix"],
        given_away=found["given_away"],
    )
    if not found["different"]:
        return {"note": note, "lines": [language.say("audit_none_found")]}
    tables = [_build_kinds(found, language), _build_sides(found["sides"], language)]
    if found["drawn_out"]:
        tables.append(_build_drawn_out(found["drawn_out"], language))
    none = [] if found["drawn_out"] else [language.say("audit_none_drawn")]
    lines = [] if "base" in found["sides"]["training"] else [language.say("audit_no_base")]
    return {"note": note, "tables": tables, "lines": [*none, *lines]}


def _build_kinds(found: Record, language: Language) -> Record:
    titles = [language.say(f"audit_{name}") for name in ("kind", "in_text", "drawn")]
    rows = [
        [kind, language.number(count), language.number(found["drawn_out_by_kind"].get(kind, 0))]
        for kind, count in found["kinds"].items()
    ]
    return {"titles": titles, "rows": rows}


def _build_drawn_out(drawn_out: Iterable[Record], language: Language) -> Record:
    names = ("kind", "form", "in_training", "document", "greedy", "likely", "added")
    rows = [
        [
            each["kind"],
            each["masked"],
            language.number(each["times"]),
            each["document"],
            *(language.say("yes" if each[name] else "no") for name in ("greedy", "likely", "added")),
        ]
        for each in drawn_out
    ]
    return {"titles": [language.say(f"audit_{name}") for name in names], "rows": rows}
