"""Tables for a terminal: benchmark results of `lmtune eval suite=`."""

from lmtune.config import SuiteConfig
from lmtune.storage import Record, render_number


def render_suite(suite: SuiteConfig, models: dict[str, Record]) -> list[str]:
    """The tables of all checkpoints, one below the other. models: by checkpoint, as run_suite returns them."""
    render = render_harness if suite.harness else render_zeroshot
    return [line for ckpt, found in models.items() for line in render(ckpt, suite, found)]


def render_zeroshot(ckpt: str, suite: SuiteConfig, results: Record) -> list[str]:
    """The ten columns of the paper's table as rows: measured, and published for each size."""
    from lmtune.evaluation.suites.published import COLUMNS, PUBLISHED

    lines = [
        f"{ckpt}  suite {suite.name}, profile {suite.profile.value}; published figures: Radford et al. 2019, table 3"
    ]
    lines.append(f"{'':<26}{'measured':>12}" + "".join(f"{size:>9}" for size in PUBLISHED))
    for place, (column, words) in enumerate(COLUMNS.items()):
        task, _, measure = column.partition("_")
        found = results["tasks"].get(task)
        if found is None:
            continue
        number = "-" if "missing" in found else render_number(found[measure]) + mark_limit(found)
        published = "".join(f"{figures[place]:>9.2f}" for figures in PUBLISHED.values())
        lines.append(f"{words:<26}{number:>12}{published}")
    lines += explain_limits(results["tasks"], "; the published figures are of all")
    missing = {task: found["missing"] for task, found in results["tasks"].items() if "missing" in found}
    return [*lines, *(f"{task} is missing: {reason}" for task, reason in missing.items())]


def render_harness(ckpt: str, suite: SuiteConfig, results: Record) -> list[str]:
    """A line for each measure of each task."""
    lines = [f"{ckpt}  suite {suite.name}"]
    for task, found in results["tasks"].items():
        for name, value in found.items():
            if isinstance(value, (int, float)):
                lines.append(f"{task:<32}{name:<28}{render_number(value) + mark_limit(found):>12}")
    return [*lines, *explain_limits(results["tasks"])]


def mark_limit(found: Record) -> str:
    """The mark after a number that covers a part of its task; empty if it covers all."""
    return "*" if found.get("protocol", {}).get("limited") else ""


def explain_limits(tasks: dict[str, Record], beside: str = "") -> list[str]:
    """What the mark means, for each task that has it. beside: a remark on the numbers next to it."""
    lines = []
    for task, found in tasks.items():
        if mark_limit(found):
            protocol = found["protocol"]
            part = protocol["limited"]
            of = "" if part["of_examples"] is None else f" of {part['of_examples']:,}"
            lines.append(
                f"* {task}: of the first {part['examples']:,}{of} examples alone (suite.limit={protocol['limit']:,}){beside}"
            )
    return lines
