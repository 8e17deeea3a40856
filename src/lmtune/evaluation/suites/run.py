"""`lmtune eval suite=`: GPT-2's zero-shot table, or tasks of EleutherAI's harness.

lmtune eval ckpt=gpt2 suite=gpt2-zeroshot suite.tasks=[lambada,wikitext-2]
lmtune eval ckpt=RUN suite=portuguese
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtune.config import EvalCommandConfig, SuiteConfig
from lmtune.evaluation.protocol import hash_model
from lmtune.storage import Record
from lmtune.vocabulary import hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint ready to be scored."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int


def run_suite(
    config: EvalCommandConfig, suite: SuiteConfig, loads: Mapping[str, Callable[[], Loaded]]
) -> dict[str, Record]:
    """The results of the suite by checkpoint, which are loaded one after the other."""
    measure = measure_harness if suite.harness else measure_zeroshot
    if suite.harness:
        from lmtune.evaluation.suites import harness

        harness.check_installed()
    return {ckpt: {"suite": suite.name, "tasks": measure(config, suite, load())} for ckpt, load in loads.items()}


def build_results(models: dict[str, Record]) -> Record:
    """What format=json prints: the results of one checkpoint, or `models` with those of several."""
    return {"models": models} if len(models) > 1 else next(iter(models.values()))


def measure_zeroshot(config: EvalCommandConfig, suite: SuiteConfig, loaded: Loaded) -> Record:
    """Each task's values, or the reason why there are none."""
    from lmtune.evaluation.suites.subject import Subject
    from lmtune.evaluation.suites.task import run_task
    from lmtune.evaluation.suites.zeroshot import TASKS

    settings = config.eval
    subject = Subject(loaded.model, loaded.tokenizer, loaded.context, settings.batch_size, settings.dtype.value)
    hashes = {"tokenizer": hash_tokenizer(loaded.tokenizer), "model": hash_model(loaded.model)}
    results = {}
    for name in suite.tasks or TASKS:
        found = run_task(TASKS[name], suite.profile.value, subject, suite.files.get(name), suite.limit)
        if "protocol" in found:
            found["protocol"] |= hashes
        results[name] = found
    return results


def measure_harness(config: EvalCommandConfig, suite: SuiteConfig, loaded: Loaded) -> Record:
    """Each task's measures, as the harness itself computes them."""
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
