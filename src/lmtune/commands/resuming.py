"""Which run folder a training goes into, and the rules by which a stopped run is taken up again."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from lmtune.config import TrainConfig
from lmtune.errors import CheckpointError, ConfigError
from lmtune.exporting.hub import KEYS as HUB_KEYS
from lmtune.records import checksum_of, load_json, slug, write_json
from lmtune.runs import MANIFEST, STATE, Run, claim_folder, find_fault, find_newest, step_of

OUTPUTS = Path("outputs")
WITHOUT_EFFECT = [
    "resume",
    "resume_force",
    "stop_on_failed_save",
    "format",
    "name",
    "output",
    "objective",
    "tracker",
    "samples",
    "prompts",
    "generation",
    "model.save_dtype",
    "chosen",
    "training.logging_steps",
    "training.save_total_limit",
    "training.dataloader_num_workers",
    "training.disable_tqdm",
    "data.prompts",
    *(f"training.{key}" for key in HUB_KEYS),
]
"""Settings that leave the weights as they are: a run may be resumed with others."""


def fingerprint_of(plain: dict[str, Any]) -> str:
    """Equal for configurations that lead to the same weights."""
    return checksum_of(repr(sorted(without_neutral(plain).items())))


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def without_neutral(plain: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the weights."""
    return {
        key: value
        for key, value in flatten(plain).items()
        if not any(key == name or key.startswith(name + ".") for name in WITHOUT_EFFECT)
    }


def find_run(config: TrainConfig, fingerprint: str) -> Run | None:
    """The run that resume= names or finds, None where a new one is to be started."""
    if config.resume not in ("off", "auto", "False"):  # YAML reads a bare off as False
        return _find_resumed(Path(config.resume).expanduser())
    if config.resume != "auto":
        return None
    output = Path(config.output).expanduser() if config.output is not None else None
    if output is not None and (output / "config.yaml").exists():
        return Run(output)
    below = OUTPUTS if output else OUTPUTS / name_run(config)  # jobs of a sweep lie beside each other, by date
    return find_newest(below, fingerprint)


def choose_folder(config: TrainConfig, fingerprint: str) -> Run:
    """The run folder that resume= names or finds, else a new one at output= or below outputs/."""
    found = find_run(config, fingerprint)
    if found is not None:
        return found
    if config.output is None:
        return Run(claim_folder(OUTPUTS, name_run(config), datetime.now()))
    output = Path(config.output).expanduser()
    if (output / "config.yaml").exists():
        raise CheckpointError(f"{output} already holds a run. Give another output=, or go on with it: resume={output}.")
    return _make_folder(output)


def make_output(output: str | None, name: str) -> Path:
    """The folder that output= names, else a new one below outputs/<name>/; for commands that are no runs."""
    if output is None:
        return claim_folder(OUTPUTS, name, datetime.now())
    return _make_folder(Path(output).expanduser()).folder


def _make_folder(folder: Path) -> Run:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"output={folder}: expected a folder that can be made, found: {error.strerror}."
        ) from error
    return Run(folder)


def name_run(config: TrainConfig) -> str:
    """`name=`, else <data>-<model>."""
    return slug(config.name or f"{slug(config.data.name)}-{_model_slug(config)}")


def _model_slug(config: TrainConfig) -> str:
    return slug(config.model.path) if config.model.name == "hub" and config.model.path else slug(config.model.name)


def _find_resumed(folder: Path) -> Run:
    if not (folder / "config.yaml").exists():
        raise CheckpointError(
            f"resume={folder}: expected a run folder, found {'no config.yaml in it' if folder.is_dir() else 'nothing there'}."
        )
    return Run(folder)


def check_settings(config: TrainConfig, run: Run, plain: dict[str, Any]) -> None:
    """Raise ConfigError where settings that decide the weights are not those the run was started with."""
    before, now = without_neutral(run.load_config()), without_neutral(plain)
    changed = [
        f"{key}: {before.get(key)} then, {now.get(key)} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed and not config.resume_force:
        raise ConfigError(
            f"{run.folder} was started with other settings ({'; '.join(changed)}), so its result would be neither. "
            "Leave them as they were, or say resume_force=true."
        )


def take_up(run: Run, manifest: dict[str, Any], force: bool, say: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint of a run that stopped, None where none was written; records are cut back to it.

    manifest: what this process would write into a checkpoint. Raises CheckpointError where the text or the vocabulary is
    another by now.
    """
    run.sweep()
    checkpoint, complaints = run.find_checkpoint()
    if checkpoint is not None:
        _check_same_world(run, load_json(checkpoint / MANIFEST), manifest, force, say)
    if checkpoint is not None:
        complaints += _find_broken_best(run, checkpoint)
    for complaint in complaints:
        say(f"set aside {complaint}")
        broken = run.folder / complaint.split(":")[0]
        broken.rename(run.folder / f"broken-{broken.name}-{os.getpid()}")
    run.cut_back(step_of(checkpoint) if checkpoint else -1)
    results = {name: value for name, value in run.load_results().items() if name != "reason"}
    write_json(run.results_file, {**results, "status": "running"})
    return checkpoint


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


def _check_same_world(
    run: Run, before: dict[str, Any], now: dict[str, Any], force: bool, say: Callable[[str], None]
) -> None:
    changed = [
        word
        for key, word in (("corpus", "text"), ("tokenizer", "vocabulary"), ("mix", "text mixed in"))
        if before["facts"].get(key) != now["facts"].get(key)
    ]
    if changed and not force:
        raise CheckpointError(
            f"{run.folder}: the {' and the '.join(changed)} changed since its checkpoint was written, so its result "
            "would be neither. Put it back as it was, or say resume_force=true."
        )
    differences = [
        f"{name} {before['machine'].get(name)} then, {now['machine'][name]} now"
        for name in now["machine"]
        if name != "threads" and before["machine"].get(name) != now["machine"][name]
    ]
    if differences:
        say(f"{'; '.join(differences)}: the result need not be bit-equal to that of a run never stopped")
    if before["machine"]["threads"] != now["machine"]["threads"]:
        say(f"going on with {before['machine']['threads']} threads as before, not {now['machine']['threads']}")


def restore_threads(checkpoint: Path) -> None:
    """Compute with as many threads as the run has had: the order of a sum depends on it."""
    import torch

    torch.set_num_threads(load_json(checkpoint / MANIFEST)["machine"]["threads"])
