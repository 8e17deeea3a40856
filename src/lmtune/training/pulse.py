"""What a training shows of itself, as text: two lines for a terminal, one for a log, one for each evaluation."""

from dataclasses import dataclass, field

from lmtune.gauges import FINE, Glyphs, join_fitting, render_bar, render_clock, render_curve
from lmtune.storage import Record
from lmtune.training.outlook import render_long
from lmtune.training.throughput import render_pace

CURVE = 16
"""Characters of the curve of losses."""
KEY = "eval_bits_per_byte"


@dataclass
class Pulse:
    """The state of a training, as it is shown on a terminal."""

    step: int = 0
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    """Training losses as they are logged."""
    logs: Record = field(default_factory=dict)
    """The last of them, with pace and learning rate."""
    lowest: tuple[float, int] | None = None
    """Bits per byte of the best evaluation, and its step."""
    next_evaluation: int | None = None


def render_pulse(
    pulse: Pulse, elapsed: float, left: float | None, until: str | None, width: int, glyphs: Glyphs = FINE
) -> list[str]:
    """Two lines of at most `width` columns: how far, and how fast. left: seconds; until: their end by the time of day."""
    share = pulse.step / pulse.steps if pulse.steps else 1.0
    loss = f"loss {pulse.losses[-1]:.4f} {render_curve(pulse.losses, CURVE, glyphs)}" if pulse.losses else ""
    lowest = "" if pulse.lowest is None else f"bits per byte {pulse.lowest[0]:.4f} at step {pulse.lowest[1]:,}"
    numbers = f"training {pulse.step:,}/{pulse.steps:,}"
    bar = render_bar(share, 20 if width < 100 else 30, glyphs)
    first = join_fitting([f"{numbers} {bar} {share:4.0%}", loss, lowest], width)
    logs = pulse.logs
    rate = [f"{logs['tokens_per_second']:,.0f} tokens/s"] if "tokens_per_second" in logs else []
    rate += [f"lr {logs['learning_rate']:.2e}"] if "learning_rate" in logs else []
    memory = [f"{logs['memory_gb']:.1f} GB"] if "memory_gb" in logs else []
    ahead = [] if left is None else [f"{render_long(left)} left, {until}"]
    scored = [] if pulse.next_evaluation is None else [f"scored at step {pulse.next_evaluation:,}"]
    second = join_fitting([f"  {render_clock(elapsed)}", *ahead, *rate, *scored, *memory], width)
    return [first, second]


def render_log(logs: Record, left: float) -> str:
    """A logged step for a log: loss, learning rate, pace, time left."""
    rate = f"  lr {logs['learning_rate']:.2e}" if "learning_rate" in logs else ""
    return f"loss {logs['loss']:.4f}{rate}  {render_pace({**logs, 'seconds_left': left})}"


def render_evaluation(step: int, metrics: Record, history: list[Record]) -> str:
    """One line for an evaluation, with the change since the one before and the lowest bits per byte. history: before it."""
    bits = metrics[KEY]
    before = [line for line in history if KEY in line and line["step"] < step]
    change = ""
    if before:
        lowest, place = min((line[KEY], line["step"]) for line in before)
        best = "lowest so far" if bits < lowest else f"lowest {lowest:.4f} at {place:,}"
        change = f" ({bits - before[-1][KEY]:+.4f}, {best})"
    return f"step {step:,}: {bits:.4f} bits per byte{change}, loss {metrics['eval_loss']:.4f}"


def find_lowest(history: list[Record]) -> tuple[float, int] | None:
    """The lowest bits per byte of the evaluations in Trainer's history, and its step."""
    return min(((line[KEY], line["step"]) for line in history if KEY in line), default=None)
