"""How `lmtune train` ends: results.json, the pages, and what stands on stdout."""

import math
from pathlib import Path
from typing import IO, Any

from lmtune.config import EvalConfig, OutputFormat, SaveDtype
from lmtune.data.ledger import Ledger
from lmtune.data.premise import describe_text
from lmtune.errors import CheckpointError, ConfigError
from lmtune.evaluation.protocol import describe_limit, hash_model
from lmtune.measures import AMOUNTS, BY_EVALUATION, MEASURES
from lmtune.modeling import saving
from lmtune.modeling.read_back import check_reads_back
from lmtune.reporting.card import render_card
from lmtune.reporting.page import render_report
from lmtune.reporting.tables import render_run
from lmtune.runs import Run, seal
from lmtune.storage import render_json, write_text


def build_results(
    opened: Any, trainer: Any, model: Any, sets: dict[str, dict[str, Any]], prepared: Any, held_out: dict[str, Any]
) -> dict[str, Any]:
    """results.json: what was done, and the final numbers with their protocol."""
    effort = trainer.effort
    identity = hash_model(model)
    for name, measures in sets.items():
        split = {"split": "validation", "split_by": held_out[name].split_by, "tokenizer": prepared.facts["tokenizer"]}
        measures["protocol"] |= {**split, "model": identity}
    for measures in list(sets.values())[:1]:
        if "unigram_bits_per_byte" in prepared.facts:
            measures["unigram_bits_per_byte"] = prepared.facts["unigram_bits_per_byte"]
    return {
        "run": opened.run.folder.name,
        "name": opened.name,
        "status": "completed",
        "fingerprint": opened.fingerprint,
        "text": describe_text(prepared.facts),
        "train": {
            "steps": trainer.state.global_step,
            "epochs": trainer.state.epoch,
            "tokens": effort.targets,
            "targets": effort.targets,
            "seconds": effort.seconds,
            "tokens_per_second": effort.targets / effort.seconds if effort.seconds else 0.0,
            "world_size": opened.world_size,
            "distributed": trainer.accelerator.distributed_type.value,
            "best_step": trainer.best_step,
        },
        "eval": sets,
        "epochs": build_epochs(opened.run.load_metrics(), list(sets)[1:]) if opened.is_main else [],
    }


def find_evaluation(history: list[dict[str, Any]], step: int) -> dict[str, float]:
    """What was logged of the evaluation at a step, the last one if there were several; {} where there was none."""
    return next((line for line in reversed(history) if line.get("step") == step and "eval_loss" in line), {})


def split_sets(logged: dict[str, float], names: list[str]) -> dict[str, dict[str, Any]]:
    """The measures of each held-out set, out of the flat names under which Trainer knows them."""
    starts = {name: "eval_" if number == 0 else f"eval_{name}_" for number, name in enumerate(names)}
    return {
        name: {measure: logged[start + measure] for measure in (*MEASURES, *AMOUNTS) if start + measure in logged}
        for name, start in starts.items()
    }


def add_evaluations(
    results: dict[str, Any],
    history: list[dict[str, Any]],
    selected: dict[str, dict[str, Any]],
    held_out: dict[str, Any],
    settings: EvalConfig,
) -> None:
    """Say of each set how much of it the numbers are of, and set the first and the last one of the same text side by side.

    selected: measures of the final model on what was scored while training; {} where nothing was.
    """
    first = split_sets(find_evaluation(history, 0), list(held_out)) if selected else {}
    for name, held in held_out.items():
        measures = results["eval"][name]
        measures["protocol"]["limit"] = describe_limit(held.final, held.stream, settings.final_max_tokens)
        if selected:
            last = selected[name]
            measures["while_training"] = {
                "text": held.sample.identify(),
                "documents": len(held.sample.documents),
                **{amount: last[amount] for amount in AMOUNTS},
                "limit": describe_limit(held.sample, held.stream, settings.selection),
                "before": {measure: first[name][measure] for measure in MEASURES if measure in first[name]},
                "after": {measure: last[measure] for measure in MEASURES if measure in last},
            }


def build_epochs(metrics: list[dict[str, Any]], others: list[str]) -> list[dict[str, Any]]:
    """A row for each evaluation while training, the one before the first step included.

    others: names of the sets besides the first; what was measured on them stands under `sets`.
    """
    rows: list[dict[str, Any]] = []
    for line in metrics:
        if "eval_loss" in line:
            before = rows[-1]["cumulative_seconds"] if rows else 0.0
            total = line["train_seconds"]
            measures = {each.name: line[f"eval_{each.name}"] for each in BY_EVALUATION}
            sets = {other: {each.name: line[f"eval_{other}_{each.name}"] for each in BY_EVALUATION} for other in others}
            rows.append(
                {
                    "epoch": line.get("epoch", 0.0),
                    "step": line["step"],
                    **measures,
                    **({"sets": sets} if sets else {}),
                    "seconds": total - before,
                    "cumulative_seconds": total,
                }
            )
    return rows


def save_model(run: Run, model: Any, tokenizer: Any, dtype: SaveDtype, card: str) -> None:
    """Put the model of a run with its card into model/, sealed or not at all; raise CheckpointError where it does not fit.

    Raises ModelError where what was written does not read back as the model in memory.
    """
    from safetensors import SafetensorError

    staged = run.staging_folder / run.model_folder.name
    try:
        saving.save_model(model, tokenizer, staged, dtype)
        check_reads_back(model, staged)
        write_text(staged / "README.md", card)
        seal(staged, {"run": run.mark.id})
        run.place(staged)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{run.model_folder} could not be written: {error}. Its training is done and its last checkpoint is whole: "
            f"make room, then resume={run.folder}."
        ) from error


def load_card(run: Run, results: dict[str, Any], repo: str | None = None) -> str:
    """The model card of a run, that of its copy at `repo` on the Hub if one is named."""
    return render_card(results["name"], results, run.load_config(), load_last_samples(run), repo)


def load_last_samples(run: Run) -> list[dict[str, str]]:
    """Prompts and texts of the last evaluation."""
    records = run.load_samples()
    return records[-1]["samples"] if records else []


def write_pages(run: Run, results: dict[str, Any], ledger: Ledger) -> None:
    """The report, and results.json, which tells that the run has completed."""
    metrics = run.load_metrics()
    page = render_report(
        f"{run.folder.parent.name} {run.folder.name}",
        results,
        ledger.as_dict(),
        metrics,
        load_last_samples(run),
        run.config_file.read_text(encoding="utf-8"),
    )
    run.claim(run.report_file.name)
    write_text(run.report_file, page)
    run.write_results(results)


def check_objective(objective: str, sets: list[str]) -> None:
    """Raise ConfigError now, and not after the training, for an objective that no evaluation will have."""
    name, _, measure = objective.rpartition(".")
    if measure not in MEASURES or (name and name not in sets):
        raise ConfigError(
            f"objective={objective}: expected one of {', '.join(MEASURES)}, or <set>.<measure> with a set of {', '.join(sets)}."
        )


def find_objective(results: dict[str, Any], objective: str) -> float:
    """The number that a sweep minimises: a measure of the first set, or `<set>.<measure>`; nan where nothing was held out."""
    sets = results["eval"]
    name, _, measure = objective.rpartition(".")
    measures = sets.get(name) if name else next(iter(sets.values()), None)
    value = measures[measure] if measures else None
    return math.nan if value is None else float(value)  # results.json has null for what is not finite


def print_results(results: dict[str, Any], folder: Path, form: OutputFormat, stdout: IO[str]) -> None:
    """The results as one JSON document, or as a table with the run folder last."""
    if form is OutputFormat.json:
        stdout.write(render_json(results) + "\n")
    else:
        stdout.write("\n".join([*render_run(results), f"run folder: {_short(folder)}"]) + "\n")
    stdout.flush()


def _short(folder: Path) -> Path:
    """Relative to where the user stands, if below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
