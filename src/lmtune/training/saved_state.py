"""Trainer's own record of where it is, trainer_state.json of each checkpoint, as far as Trainer does not read it back well."""

from collections.abc import Iterable
from pathlib import Path

from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState

from lmtune.runs import STATE
from lmtune.storage import load_json
from lmtune.training.distributed import agree


def relocate_best(state: TrainerState, checkpoint: Path, run_folder: Path) -> None:
    """Find the best checkpoint in the run folder: its path is stored as it was, and the folder may have moved since."""
    recorded = load_json(checkpoint / STATE)["best_model_checkpoint"]
    if recorded is not None:
        best = run_folder / Path(recorded).name
        state.best_model_checkpoint = str(best)
        if not agree(best.is_dir):
            state.best_model_checkpoint = state.best_metric = state.best_global_step = None


def restore_callbacks(checkpoint: Path, callbacks: Iterable[TrainerCallback]) -> None:
    """Give callbacks their counters back (early stopping has one). Trainer's own way would put them behind the last."""
    saved = load_json(checkpoint / STATE)["stateful_callbacks"]
    for callback in callbacks:
        kept = saved.get(type(callback).__name__)
        if isinstance(callback, ExportableState) and kept is not None:
            for name, value in kept["attributes"].items():
                setattr(callback, name, value)


def had_decided_to_stop(checkpoint: Path) -> bool:
    """True if the run had decided to stop (by early stopping) when it wrote the checkpoint."""
    control = load_json(checkpoint / STATE)["stateful_callbacks"]["TrainerControl"]
    return bool(control["args"]["should_training_stop"])
