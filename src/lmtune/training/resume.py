"""Which run folder a training goes into, and the rules by which a stopped run is taken up again."""

import json
import logging
import os
import re
import socket
from dataclasses import MISSING
from datetime import datetime
from pathlib import Path

from lmtune import launcher
from lmtune.config import TrainConfig, render_plain
from lmtune.config.conditions import LIBRARY
from lmtune.config.keys import default_of, walk
from lmtune.config.optimizers import ADAMW, NO_BETAS, SCHEDULE_FREE
from lmtune.config.train import list_keys
from lmtune.errors import CheckpointError, ConfigError, LmtuneError
from lmtune.modeling import base
from lmtune.paths import GivenPath
from lmtune.runs import (
    MANIFEST,
    MARK,
    STATE,
    Run,
    begin_at,
    begin_below,
    find_fault,
    find_newest,
    find_resumed,
    step_of,
)
from lmtune.runs.search import OUTPUTS, check_creatable
from lmtune.runs.settings import leave_out
from lmtune.storage import Record, checksum_of, load_json, render_json, render_json_line, slug, write_text
from lmtune.training.distributed import agree, gather, is_first
from lmtune.training.lengthening import find_obstacle, is_lengthening

logger = logging.getLogger(__name__)

CHOSEN = "chosen"
"""Section of config.yaml with what lmtune chose itself. It is no key, and only a new run settles it anew."""

WITHOUT_EFFECT = [*list_keys(lambda facts: not facts.weights), CHOSEN]
"""Settings that leave the weights as they are: a run may be resumed with others."""

ASKED_ANEW = [*list_keys(lambda facts: facts.anew), CHOSEN]
"""Settings that a run which has completed may be asked about with other values."""

_NONE = object()
DEFAULTS = {name: render_plain(default_of(item)) for name, item in walk(TrainConfig) if default_of(item) is not MISSING}
"""Defaults by dotted key, as config.yaml has them."""

OF_END = ("reason", "train", "eval", "epochs", "documents", "transplant", "average", "forgetting")
"""What results.json tells of the end of a run; while it goes on, there is none."""

STATES = ("optimizer.pt", "scheduler.pt")
"""Files of a checkpoint without which no run goes on as it was."""


def fingerprint_of(plain: Record) -> str:
    """Equal for configurations that lead to the same weights."""
    return checksum_of(repr(sorted(leave_out(plain, WITHOUT_EFFECT).items())))


def is_started_again() -> bool:
    """True where torchrun has started the processes once more, after one of them had failed: they are to go on."""
    return launcher.count_restarts() > 0


def find_run(config: TrainConfig, plain: Record) -> Run | None:
    """The run that resume= names or finds, None where a new one is to be started. `plain`: the configuration, for config.yaml."""
    if config.resume not in ("off", "auto", "False"):  # YAML reads a bare off as False
        return find_resumed(config.resume)
    if config.resume != "auto" and not is_started_again():
        return None
    if config.output is not None:
        given = GivenPath("output", config.output, CheckpointError)
        return Run(given.anchor()) if given.is_file(given.anchor() / MARK) else None
    if config.job_folder is not None:  # a job of the same sweep, or of any other
        return _find_same(Path(config.job_folder).parent, plain) or _find_same(OUTPUTS, plain)
    return _find_same(OUTPUTS / name_run(config), plain)


def _find_same(root: Path, plain: Record) -> Run | None:
    """The newest run below `root` that leads to the same weights.

    The fingerprint says so at a glance, but changes with the keys that lmtune has: a run of a version that knew fewer is found by
    its settings, one by one.
    """
    fingerprint = fingerprint_of(plain)
    same = find_newest(root, lambda run: run.find_results().get("fingerprint") == fingerprint)
    return same or find_newest(root, lambda run: _is_told_the_same(run, plain))


def _is_told_the_same(run: Run, plain: Record) -> bool:
    told = run.find_config()
    return told is not None and not find_changes(told, plain, WITHOUT_EFFECT)


def find_checked(config: TrainConfig, plain: Record) -> Run | None:
    """The run to go on with, if any, which can go on with what is said now; raise where it cannot, or output= is taken."""
    found = find_run(config, plain)
    check_output(config, found)
    if found is not None:
        check_told(config, found, plain)
    return found


def check_not_elsewhere(config: TrainConfig, plain: Record, found: Run | None) -> None:
    """Raise CheckpointError, on all ranks, where rank 0 finds no run to go on with, and another host does.

    Where hosts come and go, rank 0 may move to another one, and without a shared disk it would begin anew there. found: what
    rank 0 has found. All ranks come here.
    """
    if found is not None or not (config.resume == "auto" or is_started_again()):
        return
    here = None if is_first() else _find_here(config, plain)
    places = gather((socket.gethostname(), None if here is None else str(here.folder.absolute())))
    for rank, (host, folder) in enumerate(places):
        if folder is not None:
            raise CheckpointError(
                f"Expected process 0, on {places[0][0]}, to see the run to go on with, found that process {rank} alone does, on "
                f"{host}: {folder}. Process 0 has moved to another host. Copy the folder to {places[0][0]}, or keep runs on a "
                f"disk that all hosts share; to begin a new run, move the folder on {host} away."
            )


def _find_here(config: TrainConfig, plain: Record) -> Run | None:
    try:
        return find_run(config, plain)
    except (OSError, LmtuneError):  # what is wrong with the disk of another host is of no account
        return None


def find_step(run: Run | None) -> int:
    """The step from which a run goes on, 0 for one that begins; of checkpoints that do not verify none counts."""
    checkpoint = None if run is None else run.find_checkpoint()[0]
    return 0 if checkpoint is None else step_of(checkpoint)


def check_output(config: TrainConfig, found: Run | None) -> None:
    """Raise CheckpointError, before anything is loaded, for a folder that a new run could not have for itself."""
    if found is not None and config.output is not None:
        _check_same_folder(config.output, found)
    if found is None and config.output is not None:
        check_creatable(GivenPath("output", config.output, CheckpointError))
    elif found is None and config.job_folder is not None:
        check_creatable(GivenPath("hydra.sweep.dir", config.job_folder, CheckpointError))


def _check_same_folder(output: str, run: Run) -> None:
    if GivenPath("output", output, CheckpointError).anchor() != run.folder.absolute():
        raise ConfigError(
            f"output={output} has no effect beside resume={run.folder}, which goes on in its own folder. Leave it out."
        )


def choose_folder(config: TrainConfig, plain: Record) -> Run:
    """The run folder that resume= names or finds, else a new one at output= or below outputs/."""
    found = find_run(config, plain)
    if found is not None:
        return found
    if config.job_folder is not None:
        return begin_at(GivenPath("hydra.sweep.dir", config.job_folder, CheckpointError), OUTPUTS)
    if config.output is not None:
        return begin_at(GivenPath("output", config.output, CheckpointError), OUTPUTS)
    return begin_below(OUTPUTS, name_run(config), datetime.now())


def name_run(config: TrainConfig) -> str:
    """`name=`, else <data>-<model>."""
    return slug(config.name or f"{slug(config.data.name)}-{_model_slug(config)}")


def _model_slug(config: TrainConfig) -> str:
    if config.model.name != "hub" or not config.model.path:
        return slug(config.model.name)
    return slug(_find_name(Path(config.model.path)) or config.model.path)


def _find_name(model: Path) -> str | None:
    """The name of the run that a model is of, whose own folder is called model or checkpoint-<step>."""
    folder = next((each for each in (model, model.parent) if os.path.isfile(each / MARK)), None)  # noqa: PTH113  never raises
    return None if folder is None else Run(folder).find_results().get("name")


def check_told(config: TrainConfig, run: Run, plain: Record) -> None:
    """Raise ConfigError where a run cannot go on with what is said now. A run that was begun and has recorded nothing can."""
    if run.find_results().get("status") == "completed":
        check_completed(config, run, plain)
    elif run.config_file.exists() or run.checkpoints():
        check_settings(config, run, plain)


def check_settings(config: TrainConfig, run: Run, plain: Record) -> None:
    """Raise ConfigError where settings that decide the weights are not those the run was started with."""
    told = run.load_config()
    changed = find_changes(told, plain, WITHOUT_EFFECT)
    longer = is_lengthening(changed) and find_obstacle(run, told, plain) is None
    if changed and not longer and not config.resume_force:
        raise ConfigError(
            f"{run.folder} was started with other settings ({render_changes(changed)}), so its result would belong to neither. "
            "Leave them as they were, or say resume_force=true; to begin a run with them from its weights: "
            f"model.path={run.folder}."
        )
    if changed:
        _check_same_optimizer(run, told, plain)


def _check_same_optimizer(run: Run, told: Record, plain: Record) -> None:
    """Raise ConfigError where resume_force=true would give an optimizer the state of another."""
    before, now = _name_optimizer(told), _name_optimizer(plain)
    if before != now:
        raise ConfigError(
            f"resume_force=true: expected the optimizer whose state the checkpoints of {run.folder} hold ({before}), found {now}, "
            f"which cannot take it up. Leave it as it was, or begin a run from the weights: model.path={run.folder}."
        )


def _name_optimizer(settings: Record) -> str:
    """The optimizer of a run, with what its state cannot do without."""
    training = {**(settings.get(CHOSEN) or {}), **settings["training"]}
    name = training.get("optim") or ADAMW[0]
    if name in SCHEDULE_FREE and name not in NO_BETAS:  # the average follows from the weights by it
        name += f" with training.adam_beta1={training.get('adam_beta1') or LIBRARY['adam_beta1']:g}"
    return ("training.muon=true beside " if training.get("muon") else "") + (ADAMW[0] if name in ADAMW else name)


def check_completed(config: TrainConfig, run: Run, plain: Record) -> None:
    """Raise ConfigError where a run that has completed is named and asked for anything but its results, or more steps."""
    told = run.load_config()
    changed = find_changes(told, plain, ASKED_ANEW)
    if not changed or is_lengthened(config, run, plain):
        return
    if config.resume == "auto":
        logger.info("the run has completed, so these settings change nothing in it: %s", render_changes(changed))
        return
    why, later = "", ""
    if is_lengthening(changed):
        why = f": {find_obstacle(run, told, plain)}"
        later = " A run that is begun with training.lr_scheduler_type=constant or training=schedule-free can be made longer later."
    raise ConfigError(
        f"{run.folder} has completed, and a run that has completed is not trained further{why}. These settings would change "
        f"nothing in it ({render_changes(changed)}). To train longer or otherwise, begin a run from its weights with "
        f"model.path={run.folder}, on the same text or more; to see its results, leave them out.{later}"
    )


def is_lengthened(config: TrainConfig, run: Run, plain: Record) -> bool:
    """True where a run that has completed is named and asked for more steps, which can follow those it has done."""
    told = run.load_config()
    changed = find_changes(told, plain, ASKED_ANEW)
    return config.resume != "auto" and is_lengthening(changed) and find_obstacle(run, told, plain) is None


def find_changes(before: Record, now: Record, without: list[str]) -> dict[str, str]:
    """Key to `old then, new now`, for each setting that differs.

    A version that did not know a key did what its default says, so a record without it is one with the default.
    """
    old, new = leave_out(before, without), leave_out(now, without)
    old = {key: value for key, value in new.items() if value == _find_default(key)} | old
    return {
        key: f"{old.get(key)} then, {new.get(key)} now"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    }


def _find_default(key: str) -> object:
    """The default of a dotted key, as config.yaml has it; below eval_sets.NAME and its like, that of `data`."""
    plain = re.sub(r"^(eval|mixed|replay)_sets\.[^.]+\.", "data.", key)
    return DEFAULTS.get(plain, _NONE)


def render_changes(changed: dict[str, str]) -> str:
    """`key: old then, new now; ...`"""
    return "; ".join(f"{key}: {values}" for key, values in changed.items())


def take_up(run: Run, manifest: Record, force: bool) -> Path | None:
    """The newest whole checkpoint of a run that stopped, None where none was written; records are brought back to it.

    manifest: what this process would write into a checkpoint. Raises CheckpointError where the text, the vocabulary or the
    model below an adapter is another by now.
    """
    run.sweep()
    checkpoint, complaints = run.find_checkpoint()
    if checkpoint is not None:
        _check_resumable(run, checkpoint)
        before = load_json(checkpoint / MANIFEST)
        _check_same_world(run, before, manifest, force)
        check_same_base(run, before.get(base.KEY), manifest.get(base.KEY), force)
        complaints += _find_broken_best(run, checkpoint)
    _set_aside(run, complaints)
    run.cut_back(step_of(checkpoint) if checkpoint else -1)
    if checkpoint is not None:
        restore_metrics(run, checkpoint)
        _tell_lost_samples(run, checkpoint)
    results = {name: value for name, value in run.find_results().items() if name not in OF_END}
    run.write_results({"run": run.folder.name, **results, "status": "running", "fingerprint": manifest["fingerprint"]})
    return checkpoint


def _check_resumable(run: Run, checkpoint: Path) -> None:
    """Raise CheckpointError for a checkpoint of weights alone: the optimizer and the schedule would begin anew, unsaid."""
    if any((checkpoint / name).is_dir() for name in ("global_step", f"global_step{step_of(checkpoint)}")):
        return  # DeepSpeed keeps its state in a folder of its own
    absent = [name for name in STATES if not (checkpoint / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{run.folder}: {checkpoint.name} lacks {' and '.join(absent)}, the state of its optimizer and schedule; expected all "
            "of it, since a run that began them anew would end otherwise than the run that was never stopped "
            "(training.save_only_model=true leaves them out). To begin a new run from its weights: "
            f"model.path={checkpoint}."
        )


def _set_aside(run: Run, complaints: list[str]) -> None:
    """Rename damaged checkpoints; what is not the run's own is named and left as it is."""
    for complaint in complaints:
        folder = run.folder / complaint.split(":")[0]
        if run.is_damaged_own(folder):
            logger.info("set aside %s", complaint)
            run.set_aside(folder)
        else:
            logger.info("passed over %s. It holds something that this run has not made, so it stays", complaint)


def restore_metrics(run: Run, checkpoint: Path) -> None:
    """Write metrics.jsonl anew from the history in a checkpoint, where it does not hold what had been logged by then."""
    history = [_line_of(entry) for entry in load_json(checkpoint / STATE)["log_history"]]
    found = run.load_metrics()
    if found != history:
        write_text(run.metrics_file, "".join(render_json_line(line) for line in history))
        logger.info(
            "%s did not hold what had been logged up to %s; it is written anew from that",
            run.metrics_file.name,
            checkpoint.name,
        )


def _line_of(entry: Record) -> Record:
    """An entry of Trainer's history as it stands in metrics.jsonl, where numbers that are not finite are null."""
    numbers = {name: value for name, value in entry.items() if isinstance(value, (int, float))}
    line: Record = json.loads(render_json(numbers))
    return line


def _tell_lost_samples(run: Run, checkpoint: Path) -> None:
    kept = len(run.load_samples())
    wanted = load_json(checkpoint / MANIFEST).get("samples", kept)
    if kept < wanted:
        logger.info(
            "%s holds %d of the %d samples up to %s; the others are lost",
            run.samples_file.name,
            kept,
            wanted,
            checkpoint.name,
        )


def _find_broken_best(run: Run, checkpoint: Path) -> list[str]:
    """What is wrong with the best checkpoint, read only when the run ends: too late to learn of it."""
    stored = load_json(checkpoint / STATE)["best_model_checkpoint"]
    best = run.folder / Path(stored).name if stored else checkpoint
    fault = find_fault(best) if best not in (checkpoint, run.folder) and best.is_dir() else None
    return (
        [f"{best.name}: {fault}. It was the best so far; the best of the steps to come takes its place"]
        if fault
        else []
    )


def check_same_base(run: Run, before: str | None, now: str | None, force: bool) -> None:
    """Raise CheckpointError if a run with an adapter would go on over another base; what is not recorded is not compared."""
    if before is not None and now is not None and before != now and not force:
        raise CheckpointError(
            f"{run.folder}: expected the model that its adapter was trained on at model.path=, {before[: base.SHOWN]} in its "
            f"checkpoint, found other weights there, {now[: base.SHOWN]}. Put that model back, or say resume_force=true."
        )


def _unrecorded(key: str, now: Record) -> object:
    """What a fact counts as that a run has not recorded: what it is today, if the version that began the run recorded none."""
    return now["facts"].get(key) if key == "watched" else None


def _check_same_world(run: Run, before: Record, now: Record, force: bool) -> None:
    changed = [
        word
        for key, word in (
            ("corpus", "text"),
            ("tokenizer", "vocabulary"),
            ("mix", "text mixed in"),
            ("replay", "old text"),
            ("watched", "text of eval_data= or forgetting.on="),
        )
        if before["facts"].get(key, _unrecorded(key, now)) != now["facts"].get(key)
    ]
    if changed and not force:
        streams = now["told"]["data"].get("streaming")
        told = (
            " Of a stream the names, sizes and dates of its files count, since its text is not read for this."
            if streams
            else ""
        )
        raise CheckpointError(
            f"{run.folder}: the {' and the '.join(changed)} changed since its checkpoint was written, so its result "
            f"would belong to neither.{told} Put it back as it was, or say resume_force=true; to begin a run on the new text from "
            f"its weights: model.path={run.folder}."
        )
    then = {"fsdp": False, **before["machine"]}
    differences = [
        f"{name} {then.get(name)} then, {now['machine'][name]} now"
        for name in now["machine"]
        if name != "threads" and then.get(name) != now["machine"][name]
    ]
    if differences:
        logger.info("%s: the result need not be bit-equal to that of a run never stopped", "; ".join(differences))
    if before["machine"]["threads"] != now["machine"]["threads"]:
        logger.info(
            "going on with %s threads as before, not %s", before["machine"]["threads"], now["machine"]["threads"]
        )


def restore_threads(checkpoint: Path) -> None:
    """Compute with as many threads as the run has had: the order of a sum depends on it."""
    import torch

    torch.set_num_threads(agree(lambda: int(load_json(checkpoint / MANIFEST)["machine"]["threads"])))
