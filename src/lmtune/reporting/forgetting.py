"""What a run has forgotten, compared with its budget, in a line and as a figure."""

from itertools import pairwise

from lmtune.config.forgetting import read_share
from lmtune.reporting.language import Language
from lmtune.reporting.learning import Curve, Learning, render_learning
from lmtune.reporting.record import RunRecord
from lmtune.reporting.svg import Point
from lmtune.storage import Record


def render_forgetting(found: Record) -> str:
    """The change on the watched text, whether it is within the budget, and the old text it took. found: from results.json."""
    share = f"old text was {found['share']:.1%} of what was learned ({found['tokens']:,} tokens)"
    if found["rise"] is None:
        return f"forgetting: {found['on']} was not scored at the start, so nothing is known of the budget; {share}"
    said = f"forgetting: {found['on']} {found['rise']:+.2%}"
    if found["kept"]:
        return f"{said}, within the budget of {found['budget']:+.2%}; {share}"
    remedy = "a larger forgetting.most= or a lower training.learning_rate= would keep it"
    return f"{said}, over the budget of {found['budget']:+.2%}; {share}; {remedy}"


def build_forgetting(record: RunRecord, language: Language) -> Record | None:
    """The figure of the watched text, its budget and the share of old text; None for a run without a budget."""
    told: Record = record.config.get("forgetting") or {}
    points = record.list_bits(told["on"]) if told.get("on") in record.sets else []
    if len(points) < 2:
        return None
    before, last = points[0][1], points[-1][1]
    target = before * (1 + read_share("forgetting.budget", told["budget"]))
    shares = record.list_points("replay_share")
    steps = record.starts[-1]["steps"] if record.status == "running" and record.starts else record.steps
    said = {name: language.number(value, 3) for name, value in (("first", before), ("last", last), ("target", target))}
    learned_again = ", ".join(language.share(share, 1) for _, share in shares)
    shown = Learning(
        curves=[Curve(points, f"{told['on']} {said['last']}", "main")],
        steps=steps,
        levels={
            f"{language.say('untouched')} {said['first']}": before,
            f"{language.say('budget')} {said['target']}": target,
        },
        rate=_draw_steps(shares, steps),
        strip=language.say("old_text", share=language.share(max((share for _, share in shares), default=0.0), 1)),
        told=language.say("forgetting_told", name=told["on"], end=points[-1][0], shares=learned_again, **said),
    )
    notes = [language.say("forgetting_note", name=told["on"], budget=told["budget"], most=told["most"])]
    return {"figure": render_learning(shown, language), "notes": notes + _tell_end(record, language)}


def _draw_steps(shares: list[Point], steps: int) -> list[Point]:
    """A step line that holds each share until the next one; the last share extends to the end."""
    ends = [*shares, (float(steps), 0.0)]
    return [
        point for (step, share), (end, _) in pairwise(ends) for point in ((step, share), (end, share)) if end > step
    ]


def _tell_end(record: RunRecord, language: Language) -> list[str]:
    """Whether the budget was kept, and with which old text; nothing while the run is going on."""
    found = record.results.get("forgetting")
    if not found or found["rise"] is None:
        return []
    source = language.say("own_text") if found["replay"] == "self" else found["replay"]
    rise = ("+" if found["rise"] > 0 else "") + language.share(found["rise"], 2)
    amounts = {"share": language.share(found["share"], 1), "tokens": language.say("tokens", n=found["tokens"])}
    return [language.say("budget_kept" if found["kept"] else "budget_spent", rise=rise, source=source, **amounts)]
