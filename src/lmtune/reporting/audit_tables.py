"""An audit on the terminal."""

from pathlib import Path

from lmtune.paths import shorten
from lmtune.reporting.audit_page import SIDES, WHO, render_share
from lmtune.reporting.language import EN
from lmtune.storage import Record


def render_audit(values: Record, page: Path) -> list[str]:
    """Results of `lmtune audit`, and the page last."""
    renderers = {"canaries": _render_canaries, "passages": _render_sides, "identifiers": _render_identifiers}
    lines = []
    for name, render in renderers.items():
        found = values[name]
        lines.append(f"{name}:")
        told = [EN.say(f"audit_why_{found['reason']}")] if "reason" in found else render(found)
        lines += [*(f"  {line}" for line in told), ""]
    return [*lines, f"page: {shorten(page)}"]


def _render_canaries(found: Record) -> list[str]:
    lines = [f"{'planted':<12}{'exposure':>10}  found"]
    lines += [
        f"{EN.say('audit_times', n=group['repeats']):<12}{group['exposure']:>10.1f}  {render_share(group['found'], EN)}"
        for group in found["groups"]
    ]
    return [*lines, f"{'never':<12}{'':>10}  {render_share(found['false_alarms'], EN)}"]


def _render_sides(found: Record) -> list[str]:
    """Shares reproduced on both sides, greedily or by likelihood."""
    rows = [
        (EN.say(f"audit_side_{side}"), EN.say(f"audit_who_{who}"), found["sides"][side][who]["either"])
        for side in SIDES
        for who in WHO
        if who in found["sides"][side]
    ]
    rows += [(EN.say(f"audit_side_{side}"), EN.say("audit_added"), found["sides"][side]["added"]) for side in SIDES]
    return [f"{side:<16}{who:<22}{render_share(share, EN)}" for side, who, share in rows]


def _render_identifiers(found: Record) -> list[str]:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found["kinds"].items())
    lines = [f"in the training text: {kinds or 'none'}; {found['given_away']:,} given away by what is before them"]
    lines += _render_sides(found) if found["different"] else []
    return [*lines, EN.say("audit_limit_detector")]
