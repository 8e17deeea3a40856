"""What a run may forget and has forgotten, in a line and as a figure."""

from lmtune.storage import Record


def render_forgetting(found: Record) -> str:
    """How far the watched text has moved, whether that is within the budget, and what it took. found: of results.json."""
    share = f"old text was {found['share']:.1%} of what was learned ({found['tokens']:,} tokens)"
    if found["rise"] is None:
        return f"forgetting: {found['on']} was not scored at the start, so nothing is known of the budget; {share}"
    said = f"forgetting: {found['on']} {found['rise']:+.2%}"
    if found["kept"]:
        return f"{said}, within the budget of {found['budget']:+.2%}; {share}"
    remedy = "a larger forgetting.most= or a lower training.learning_rate= would keep it"
    return f"{said}, over the budget of {found['budget']:+.2%}; {share}; {remedy}"
