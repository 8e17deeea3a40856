"""One line on the average of the weights over the end of training."""

from lmtune.measures import BITS_PER_BYTE
from lmtune.storage import Record, render_number
from lmtune.units import render_count


def render_average(average: Record) -> str:
    """Its steps, its score against the final weights, and whether it is kept. average: from results.json."""
    if not average["points"]:
        return f"no average: the run ended before the last {average['last']:.0%} of its steps"
    return (
        f"the average of {render_count(average['points'], 'step')} from step {average['first_step']:,} on has "
        f"{render_number(average[BITS_PER_BYTE.name])} bits per byte, the weights without it {render_number(average['without'])}: "
        f"{'it is kept' if average['kept'] else 'it is not kept'}"
    )
