"""results.json of a run, its model and its pages, written when it ends."""

import logging
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from lmtune.config import CardConfig, EvalConfig, SaveDtype, render_plain
from lmtune.data.premise import describe_text
from lmtune.data.prepared import Prepared
from lmtune.errors import CheckpointError, describe_error
from lmtune.evaluation.document_scores import SetScores, save_scores
from lmtune.evaluation.protocol import describe_limit
from lmtune.gauges import MEGABYTES
from lmtune.measures import AMOUNTS, MEASURES
from lmtune.modeling import base, saving
from lmtune.modeling.layers import runs_in_step
from lmtune.modeling.read_back import check_reads_back
from lmtune.patience import saying
from lmtune.reporting.card import render_card
from lmtune.reporting.page import render_report
from lmtune.reporting.record import load_record
from lmtune.reporting.samples import load_final
from lmtune.runs import Run, seal
from lmtune.runs.evaluations import Evaluation, Measures, build_epochs, find_evaluation, read_evaluations
from lmtune.storage import Record, load_json, measure_folder, write_text
from lmtune.training.arguments import count_rows_per_step, count_warmup, name_of, name_precision

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lmtune.training.context import RunContext
    from lmtune.training.held_out import HeldOutSet
    from lmtune.training.trainer import LmTrainer

logger = logging.getLogger(__name__)


def build_results(
    context: "RunContext",
    trainer: "LmTrainer",
    identity: str,
    sets: dict[str, Measures],
    prepared: Prepared,
    held_out: "dict[str, HeldOutSet]",
) -> Record:
    """results.json: what was done, and the final numbers with their protocol. identity: the hash of the model's weights."""
    trained = trainer.trained
    for name, measures in sets.items():
        split = {"split": "validation", "split_by": held_out[name].split_by, "tokenizer": prepared.facts["tokenizer"]}
        measures["protocol"] |= {**split, "model": identity}
    first = next(iter(sets.values()), None)
    if first is not None and "unigram_bits_per_byte" in prepared.facts:
        first["unigram_bits_per_byte"] = prepared.facts["unigram_bits_per_byte"]
    return {
        "run": context.run.folder.name,
        "name": context.name,
        "status": "completed",
        "fingerprint": context.fingerprint,
        "text": describe_text(prepared.facts),
        "train": {
            "steps": trainer.state.global_step,
            "epochs": trainer.state.epoch,
            "loss": find_training_loss(trainer.state.log_history),
            "tokens": trained.targets,
            **({"tokens_left_out": trained.left_out} if trained.left_out else {}),
            "seconds": trained.seconds,
            "tokens_per_second": trained.targets / trained.seconds if trained.seconds else 0.0,
            "world_size": context.world_size,
            "distributed": "FSDP" if runs_in_step(trainer.model) else trainer.accelerator.distributed_type.value,
            "best_step": trainer.best_step,
            "settings": describe_settings(trainer, prepared.ledger.block_size),
        },
        "starts": context.run.find_results().get("starts", []) if context.is_main else [],
        "eval": sets,
        "epochs": build_epochs(read_evaluations(context.run.load_metrics(), held_out)) if context.is_main else [],
    }


def describe_settings(trainer: "LmTrainer", block_size: int) -> Record:
    """What the steps were made of and how they were taken, as Trainer was told."""
    arguments = trainer.args
    return {
        "rows_per_step": count_rows_per_step(arguments),
        "block_size": block_size,
        "learning_rate": arguments.learning_rate,
        "lr_scheduler_type": name_of(arguments.lr_scheduler_type),
        "warmup_steps": count_warmup(arguments, trainer.state.max_steps),
        "optim": _name_optimizer(trainer),
        "weight_decay": arguments.weight_decay,
        "max_grad_norm": arguments.max_grad_norm,
        "precision": name_precision(arguments),
        "best_by": (arguments.metric_for_best_model or "loss").removeprefix("eval_").replace("_", " "),
    }


def _name_optimizer(trainer: "LmTrainer") -> str:
    """Such as `adamw_torch_fused`, or `muon, adamw_torch_fused`."""
    groups = trainer.optimizer.param_groups if trainer.optimizer is not None else []
    return ("muon, " if any("muon" in group for group in groups) else "") + name_of(trainer.args.optim)


def find_training_loss(history: list[Record]) -> float | None:
    """The mean training loss of all steps, in nats per token, as Trainer logs it when it ends; None for a run without steps."""
    return next((line["train_loss"] for line in reversed(history) if "train_loss" in line), None)


def add_evaluations(
    results: Record,
    evaluations: list[Evaluation],
    selected: dict[str, Measures],
    held_out: "dict[str, HeldOutSet]",
    settings: EvalConfig,
) -> None:
    """Say of each set how much of it the numbers are of, and set the first and the last one of the same text side by side.

    selected: measures of the final model on what was scored while training; {} where nothing was.
    """
    first = find_evaluation(evaluations, 0)
    for name, held in held_out.items():
        measures = results["eval"][name]
        measures["protocol"]["limit"] = describe_limit(held.final, held.stream, settings.final_max_tokens)
        if selected and first is not None:
            last = selected[name]
            measures["while_training"] = {
                "text": held.sample.identify(),
                "documents": len(held.sample.documents),
                **{amount: last[amount] for amount in AMOUNTS},
                "limit": describe_limit(held.sample, held.stream, settings.selection),
                "before": {measure: first.sets[name][measure] for measure in MEASURES if measure in first.sets[name]},
                "after": {measure: last[measure] for measure in MEASURES if measure in last},
            }


def save_model(
    run: Run,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    dtype: SaveDtype,
    card: str,
    below: str | None = None,
) -> None:
    """Put the model of a run with its card into model/, sealed or not at all; raise CheckpointError where it does not fit.

    below: for an adapter alone, what identifies the weights that it lies on.

    Raises ModelError where what was written does not read back as the model in memory.
    """
    staged = run.staging_folder / run.model_folder.name
    try:
        with saying("saving the model", unit=MEGABYTES) as work:
            work.measure = partial(measure_folder, staged)
            saving.save_model(model, tokenizer, staged, dtype)
            check_reads_back(model, staged)
        write_text(staged / "README.md", card)
        seal(staged, {"run": run.mark.id, **({} if below is None else {base.KEY: below})})
        run.place(staged)
    except OSError as error:
        raise CheckpointError(
            f"{run.model_folder} could not be written: {error}. Its training is done{_render_way_on(run)}"
        ) from error


def _render_way_on(run: Run) -> str:
    """What is left of a training whose model could not be written, and what to do."""
    last, _ = run.find_checkpoint()
    if last is None:
        return (
            ", and there is no whole checkpoint to go on from, so it is lost. Make room, and train anew; with "
            "stop_on_failed_save=true a run ends at the first save that fails."
        )
    return f", and {last.name} is whole: make room, then resume={run.folder} goes on from it."


def load_card(run: Run, results: Record, repo: str | None = None, card: CardConfig | None = None) -> str:
    """The model card of a run, that of its copy at `repo` on the Hub if one is named.

    card: what it says that no run can know, in place of what was recorded with the run.
    """
    told = run.load_config()
    if card is not None:
        told = {**told, "card": render_plain(card)}
    ledger = load_json(run.ledger_file) if run.ledger_file.exists() else None
    return render_card(results["name"], results, told, load_final(run, results, told), repo, ledger)


def write_report(run: Run, results: Record | None = None) -> None:
    """report.html of the records as they are by now. Whatever is wrong with it, the run goes on.

    results: those that results.json is about to hold.
    """
    try:
        record = load_record(run.folder)
        run.claim(run.report_file.name)
        write_text(run.report_file, render_report(record if results is None else replace(record, results=results)))
    except Exception as error:  # a page is not worth the days that a training may have taken
        logger.warning("%s could not be written: %s", run.report_file.name, describe_error(error))


def write_scores(run: Run, scored: dict[str, SetScores]) -> None:
    """Keep how each document was scored; where the disk does not take it, comparisons have no intervals."""
    run.claim(run.scores_file.name)
    try:
        save_scores(run.scores_file, scored)
    except OSError as error:
        logger.warning("%s could not be written: %s", run.scores_file.name, error)


def find_objective(results: Record, objective: str) -> float:
    """The number that a sweep minimises: a measure of the first set, or `<set>.<measure>`; nan where nothing was held out."""
    sets = results["eval"]
    name, _, measure = objective.rpartition(".")
    measures = sets.get(name) if name else next(iter(sets.values()), None)
    value = measures[measure] if measures else None
    return math.nan if value is None else float(value)  # results.json has null for what is not finite
