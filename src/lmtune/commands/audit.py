"""`lmtune audit`: what a model has memorised of its training text, told from what it knew before and from what any text would give.

lmtune audit ckpt=outputs/...
lmtune audit ckpt=outputs/... audit.passages=2000 audit.prefix=32 report.language=pt
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmtune.commands.result import Result
from lmtune.config import AuditCommandConfig, EvalSplit, ModelConfig, ModelInit, load_data_config, load_model_config
from lmtune.data.build import build_corpus
from lmtune.data.canaries import load_canaries
from lmtune.data.hub_source import check_data_source
from lmtune.data.identifiers import list_absent
from lmtune.data.predecessor import load_earlier
from lmtune.data.premise import resolve_change
from lmtune.errors import CheckpointError, ConfigError, ModelError
from lmtune.modeling import loading
from lmtune.modeling.checkpoint import Checkpoint, resolve_checkpoint
from lmtune.modeling.device import place_model
from lmtune.modeling.source import check_model_source
from lmtune.modeling.tokenizer import load_tokenizer
from lmtune.paths import GivenPath
from lmtune.reporting.audit_page import render_audit_page
from lmtune.reporting.audit_tables import render_audit
from lmtune.reporting.language import EN, LANGUAGES, Language
from lmtune.runs.search import check_creatable, new_folder
from lmtune.storage import Record, load_record, slug, write_json, write_text
from lmtune.versions import render_install

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lmtune.data.corpus import Corpus
    from lmtune.evaluation.audit.findings import Scored, Scores
    from lmtune.evaluation.audit.material import Material
    from lmtune.evaluation.audit.rows import Row
    from lmtune.runs import Run

logger = logging.getLogger(__name__)

JSON, PAGE = "audit.json", "audit.html"
OF_TEXT = ("passages", "identifiers")
PARTS = ("canaries", *OF_TEXT)


def run(config: AuditCommandConfig) -> Result:
    """Ask the model, and the weights that its run began with, for what was in its training text; write what came back."""
    if config.output is not None:
        check_creatable(GivenPath("output", config.output, CheckpointError))
    checkpoint, run = find_checkpoint(config)
    told = run.load_config()
    start = find_start(config, told)
    tokenizer = load_tokenizer(checkpoint.path)
    absent = find_absent(config, run, told)
    block_size = 0 if "passages" in absent else load_block_size(run)
    config = settle_lengths(config, block_size)
    material = gather_material(config, run, told, tokenizer, block_size, absent)
    with new_folder(config.output, f"{name_run(run)}-audit") as folder:
        scored = ask(config, checkpoint, start, material, tokenizer)
        values = describe(config, checkpoint, run, start) | find(config, run, material, scored, tokenizer, absent)
        write_json(folder / JSON, values)
        write_text(folder / PAGE, render_audit_page(values, choose_language(config, told)))
    return Result({**values, "folder": str(folder)}, lambda: render_audit(values, folder / PAGE))


def find_checkpoint(config: AuditCommandConfig) -> tuple[Checkpoint, Run]:
    """The checkpoint and its run. Raises CheckpointError for a model of no run: nobody knows what it has learned."""
    checkpoint = resolve_checkpoint(str(config.ckpt), config.check_weights)
    if checkpoint.run is None:
        raise CheckpointError(
            f"ckpt={config.ckpt}: expected a run or one of its checkpoints, whose training text is recorded, found a model that no "
            "run of lmtune made. Give a run folder."
        )
    return checkpoint, checkpoint.run


def find_start(config: AuditCommandConfig, told: Record) -> ModelConfig | None:
    """The weights that a run began with; None if they were random, with audit.base=false, or if no part of the audit reads text.

    Raises ModelError where they are not there any more.
    """
    model = load_model_config(told["model"])
    if not config.audit.base or not config.audit.reads_text or model.init is ModelInit.scratch:
        return None
    with offering_no_base():
        check_model_source(model, config.check_weights)
    return model


@contextmanager
def offering_no_base() -> Iterator[None]:
    """Add to the error about weights that the run began with, or took embeddings from, how to audit without them."""
    try:
        yield
    except (ModelError, CheckpointError) as error:
        raise type(error)(f"{error} To audit without the weights that the run began with: audit.base=false.") from error


def find_absent(config: AuditCommandConfig, run: Run, told: Record) -> dict[str, str]:
    """Why parts of the audit are left out, which is logged. Raises ConfigError where nothing is left to ask for."""
    absent = list_reasons(config, told)
    if config.audit.candidates and not load_canaries(run):
        absent["canaries"] = "none_planted"
    told_why = [f"{name}: {explain(reason)}" for name, reason in absent.items()]
    if len(absent) == len(PARTS):
        raise ConfigError(f"{run.folder}: expected something to look for, found nothing. {' '.join(told_why)}")
    for line in told_why:
        logger.info(line)
    return absent


def settle_lengths(config: AuditCommandConfig, block_size: int) -> AuditCommandConfig:
    """The same configuration, with passages that a row of the run holds, which is said if they are shorter than by default.

    block_size: tokens of a row; 0 if no passages are asked for. Raises ConfigError for lengths that do not fit.
    """
    from lmtune.evaluation.audit.material import resolve_lengths

    settled = resolve_lengths(config.audit, block_size) if block_size else config.audit
    if settled != config.audit:
        logger.info(
            "rows of the run have %d tokens: passages have %d that the model is given and %d that have to come back, instead of "
            "%d and %d. Others: audit.prefix= and audit.continuation=",
            *(block_size, settled.given, settled.asked, config.audit.given, config.audit.asked),
        )
    return replace(config, audit=settled)


def gather_material(
    config: AuditCommandConfig,
    run: Run,
    told: Record,
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    absent: dict[str, str],
) -> Material:
    """What is asked for. absent: the parts that are left out."""
    from lmtune.evaluation.audit.material import gather

    canaries = [] if "canaries" in absent else load_canaries(run)
    corpus = None if set(OF_TEXT) <= absent.keys() else open_corpus(config, run, told)
    return gather(config.audit, corpus, tokenizer, canaries, block_size, absent)


def load_block_size(run: Run) -> int:
    """Tokens of a row of the run, of its ledger. Raises CheckpointError where that is gone or says another thing."""
    expected = "the ledger of the run, with the tokens of its rows"
    return load_record(
        run.ledger_file, lambda ledger: int(ledger["block_size"]), expected, "audit without: audit.passages=0"
    )


def list_reasons(config: AuditCommandConfig, told: Record) -> dict[str, str]:
    """Why parts of an audit are left out, by part: the end of a text's name in words_audit.py."""
    budgets = config.audit
    asked = dict(zip(PARTS, (budgets.candidates, budgets.passages, budgets.identifiers), strict=True))
    reasons = {name: "not_asked" for name, budget in asked.items() if not budget}
    if told["data"].get("streaming"):
        reasons |= dict.fromkeys(OF_TEXT, "streamed")
    elif budgets.identifiers and list_absent():
        reasons["identifiers"] = "not_installed"
    return reasons


def explain(reason: str) -> str:
    """Why a part is left out, with what to do where that is to install something."""
    said = EN.say(f"audit_why_{reason}")
    return f"{said} {render_install(*list_absent())}" if reason == "not_installed" else said


def open_corpus(config: AuditCommandConfig, run: Run, told: Record) -> Corpus:
    """The text of the run, checked to be what it was."""
    data = load_data_config(told["data"], told["seed"])
    check_data_source(data)
    corpus = build_corpus(data, past=load_earlier(run))
    resolve_change(run, corpus, EvalSplit.train, None, config.changed_text, elsewhere="")
    return corpus


def ask(
    config: AuditCommandConfig,
    checkpoint: Checkpoint,
    start: ModelConfig | None,
    material: Material,
    tokenizer: PreTrainedTokenizerBase,
) -> Scored:
    """The scores of all rows, of one model after the other, so that one at a time is in memory."""
    from lmtune.evaluation.audit.findings import Scored

    rows = material.build_rows(tokenizer)
    found = score(config, checkpoint.path, rows)
    if start is None:
        return Scored(found, None)
    return Scored(found, score_start(config, start, tokenizer, rows))


def score(config: AuditCommandConfig, path: str, rows: dict[str, list[Row]]) -> Scores:
    """All rows by the model that is audited, its adapter on it if it has one."""
    from lmtune.evaluation.audit.findings import score_all

    model = place_model(loading.load_model(path, whole=config.check_weights), config.device)
    return score_all(model, rows, config.audit.batch_size)


def score_start(
    config: AuditCommandConfig, start: ModelConfig, tokenizer: PreTrainedTokenizerBase, rows: dict[str, list[Row]]
) -> Scores:
    """All rows but canaries, which they cannot know, by the weights that the run began with, in its vocabulary."""
    from lmtune.evaluation.audit.findings import score_all

    with offering_no_base():
        move = loading.find_transfer(start, tokenizer)
        model, _ = loading.build_model(start, tokenizer, move, config.check_weights)
    asked = {name: each for name, each in rows.items() if name != "canaries"}
    return score_all(place_model(model, config.device), asked, config.audit.batch_size)


def find(
    config: AuditCommandConfig,
    run: Run,
    material: Material,
    scored: Scored,
    tokenizer: PreTrainedTokenizerBase,
    absent: dict[str, str],
) -> Record:
    """The findings of the audit."""
    from lmtune.evaluation.audit.findings import build_findings

    private = config.private or run.is_private
    return build_findings(material, scored, tokenizer, config.audit, absent, private=private)


def describe(config: AuditCommandConfig, checkpoint: Checkpoint, run: Run, start: ModelConfig | None) -> Record:
    """What was audited, when, and with which versions."""
    from lmtune.evaluation.audit.shares import CONFIDENCE
    from lmtune.evaluation.protocol import collect_versions

    return {
        "ckpt": checkpoint.path,
        "run": str(run.folder),
        "name": name_run(run),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": None if start is None else start.path,
        "private": config.private or run.is_private,
        "confidence": CONFIDENCE,
        "protocol": {"dtype": "float32", "versions": collect_versions()},
    }


def name_run(run: Run) -> str:
    """The name of a run for folders and titles."""
    return slug(run.find_name())


def choose_language(config: AuditCommandConfig, told: Record) -> Language:
    """The language that was asked for, else that of the run."""
    asked = config.report.language
    return LANGUAGES[(told.get("report") or {}).get("language") or "en" if asked is None else asked.value]
