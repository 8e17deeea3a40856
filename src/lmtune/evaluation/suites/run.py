"""`lmtune eval suite=`: GPT-2's zero-shot table, or tasks of EleutherAI's harness.

lmtune eval ckpt=gpt2 suite=gpt2-zeroshot suite.tasks=[lambada,wikitext-2]
lmtune eval ckpt=RUN suite=portuguese
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmtune.config import EvalCommandConfig, SuiteConfig
from lmtune.evaluation.protocol import hash_model
from lmtune.storage import render_number
from lmtune.vocabulary import hash_tokenizer


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint ready to be scored."""

    model: Any
    tokenizer: Any
    context: int


def run_suite(
    config: EvalCommandConfig, suite: SuiteConfig, loads: Mapping[str, Callable[[], Loaded]]
) -> dict[str, dict[str, Any]]:
    """By checkpoint: what the suite makes of it, one after the other."""
    measure = measure_harness if suite.harness else measure_zeroshot
    if suite.harness:
        from lmtune.evaluation.suites import harness

        harness.check_installed()
    return {ckpt: {"suite": suite.name, "tasks": measure(config, suite, load())} for ckpt, load in loads.items()}


def render_suite(suite: SuiteConfig, models: dict[str, dict[str, Any]]) -> list[str]:
    """The table of each checkpoint, one below the other."""
    render = render_harness if suite.harness else render_zeroshot
    return [line for ckpt, results in models.items() for line in render(ckpt, suite, results)]


def measure_zeroshot(config: EvalCommandConfig, suite: SuiteConfig, loaded: Loaded) -> dict[str, Any]:
    """Each task's values, or the reason why there are none."""
    from lmtune.evaluation.suites import zeroshot

    settings = config.eval
    subject = zeroshot.Subject(
        loaded.model, loaded.tokenizer, loaded.context, settings.batch_size, settings.dtype.value
    )
    hashes = {"tokenizer": hash_tokenizer(loaded.tokenizer), "model": hash_model(loaded.model)}
    results = {}
    for name in suite.tasks or zeroshot.TASKS:
        found = zeroshot.run_task(
            zeroshot.TASKS[name], suite.profile.value, subject, suite.files.get(name), suite.limit
        )
        if "protocol" in found:
            found["protocol"] |= hashes
        results[name] = found
    return results


def measure_harness(config: EvalCommandConfig, suite: SuiteConfig, loaded: Loaded) -> dict[str, Any]:
    """What the harness itself makes of its tasks."""
    from lmtune.evaluation.suites import harness

    settings = config.eval
    return harness.run_tasks(
        loaded.model,
        loaded.tokenizer,
        suite.tasks,
        context=loaded.context,
        batch_size=settings.batch_size,
        dtype=settings.dtype.value,
        include=suite.include,
        limit=suite.limit,
    )


def render_zeroshot(ckpt: str, suite: SuiteConfig, results: dict[str, Any]) -> list[str]:
    """The ten columns as rows: measured, and published for each size."""
    from lmtune.evaluation.suites.zeroshot import COLUMNS, PUBLISHED

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


def render_harness(ckpt: str, suite: SuiteConfig, results: dict[str, Any]) -> list[str]:
    """A line for each measure of each task."""
    lines = [f"{ckpt}  suite {suite.name}"]
    for task, found in results["tasks"].items():
        for name, value in found.items():
            if isinstance(value, (int, float)):
                lines.append(f"{task:<32}{name:<28}{render_number(value) + mark_limit(found):>12}")
    return [*lines, *explain_limits(results["tasks"])]


def mark_limit(found: dict[str, Any]) -> str:
    """What stands beside a number that is of a part of its task."""
    return "*" if found.get("protocol", {}).get("limited") else ""


def explain_limits(tasks: dict[str, dict[str, Any]], beside: str = "") -> list[str]:
    """What the mark means, for each task that has it. beside: what is to be said of the numbers next to it."""
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
