"""`lmtune eval`: score one checkpoint, or several side by side, on held-out text.

lmtune eval ckpt=outputs/...        on the text that the run held out
lmtune eval ckpt=gpt2 data=wikitext eval.split=test
lmtune eval ckpt=[outputs/...,gpt2] the difference, with a confidence interval
lmtune eval ckpt=[A1,A2] against=[B1,B2] two ways of training, by runs and documents
lmtune eval ckpt=gpt2 suite=gpt2-zeroshot
"""

import logging
import os
from collections.abc import Sequence
from functools import partial

from lmtune.commands.result import Result
from lmtune.config import EvalCommandConfig
from lmtune.data.hub_source import check_data_source
from lmtune.errors import ConfigError
from lmtune.evaluation import documents
from lmtune.evaluation.checkpoints import load_checkpoint, score_checkpoints
from lmtune.evaluation.suites.run import build_results, run_suite
from lmtune.evaluation.text import choose_text
from lmtune.modeling.checkpoint import Checkpoint, resolve_checkpoint
from lmtune.paths import show
from lmtune.reporting.suite_tables import render_suite
from lmtune.reporting.tables import render_evaluation

logger = logging.getLogger(__name__)


def run(config: EvalCommandConfig) -> Result:
    """Score the checkpoints on a text, or on the tasks of a suite."""
    if config.output is not None:
        documents.check_output(config.output)
    checkpoints = {ckpt: resolve_checkpoint(ckpt, config.check_weights, key) for ckpt, key in config.named.items()}
    check_different(config, checkpoints)
    if config.suite is not None:
        loads = {ckpt: partial(load_checkpoint, config, found) for ckpt, found in checkpoints.items()}
        models, suite = run_suite(config, config.suite, loads), config.suite
        return Result(build_results(models), lambda: render_suite(suite, models))
    text = choose_text(config, {ckpt: found.run for ckpt, found in checkpoints.items()})
    check_data_source(text.data)
    scored = score_checkpoints(config, text, checkpoints)
    leave_out_repeated(scored, config.opponents)
    if config.private or any(found.run is not None and found.run.is_private for found in checkpoints.values()):
        documents.hide_texts(scored)
    if config.output is not None:
        for file in documents.write_documents(text.data.name, scored, config.output):
            logger.info("documents, the worst first: %s", file)
    against = [ckpt for ckpt in config.opponents if ckpt in scored]
    results = documents.build_results(text.data.name, scored, against)
    return Result(results, lambda: render_evaluation(results))


def check_different(config: EvalCommandConfig, checkpoints: dict[str, Checkpoint]) -> None:
    """Raise ConfigError for two names of one model, and for two checkpoints of one run on a side of a comparison of runs."""
    models: dict[str, str] = {}
    runs: dict[tuple[str, str], str] = {}
    for ckpt, found in checkpoints.items():
        key = config.named[ckpt]
        earlier = models.setdefault(os.path.realpath(found.path), ckpt)
        if earlier != ckpt:
            raise ConfigError(
                f"{key}={show(ckpt)}: expected each model once, found the one of {show(earlier)}. Leave one out."
            )
        if found.run is None or not config.opponents:
            continue
        earlier = runs.setdefault((key, os.path.realpath(found.run.folder)), ckpt)
        if earlier != ckpt:
            raise ConfigError(
                f"{key}={show(ckpt)}: expected one checkpoint of each run, found {show(earlier)} of the same one, and an interval "
                "over runs would count them as two. Leave one out; without against= each is compared with the first."
            )


def leave_out_repeated(scored: dict[str, documents.ScoredCheckpoint], against: Sequence[str]) -> None:
    """Warn about checkpoints with the weights of another. Runs of one side count once: the later ones are taken out."""
    over_runs = bool(against) and len(scored) > 2
    for ckpt, earlier in documents.find_repeated(scored, against if over_runs else ()).items():
        counted = ", so it is counted once: runs of one seed are one run" if over_runs else ""
        logger.warning("%s holds the same weights as %s%s", ckpt, earlier, counted)
        if over_runs:
            del scored[ckpt]
