"""A run that goes on beyond the end it was begun with: possible where no step before depended on where that end was."""

from collections.abc import Iterable

from lmtune.config import FinetuneMethod
from lmtune.runs import STATE, Run
from lmtune.storage import Record, load_json

LENGTHS = frozenset(["training.max_steps", "training.num_train_epochs", "data.epochs"])
"""Settings that say how long a run is."""
ENDLESS = ("constant", "constant_with_warmup", "inverse_sqrt")
"""Schedules whose rate at a step does not depend on how many steps there are."""


def is_lengthening(changed: Iterable[str]) -> bool:
    """True where nothing but the length of a run is said anew. changed: dotted keys."""
    keys = set(changed)
    return bool(keys) and keys <= LENGTHS


def find_obstacle(run: Run, told: Record, now: Record) -> str | None:
    """Why a run cannot be made longer, in words; None where it ends as if it had been begun so.

    told, now: settings, nested, of its start and of today.
    """
    training, method = told["training"], told["finetune"]["method"]
    schedule = training.get("lr_scheduler_type") or "linear"
    warmup = training.get("warmup_steps") or 0
    if (told.get("average") or {}).get("last") is not None:
        return "the average of its weights began where the end was planned (average.last)"
    if (told.get("forgetting") or {}).get("on") is not None:
        return "its old text was measured out at evaluations that the planned end has placed (forgetting.on)"
    if method == FinetuneMethod.gradual.value:
        return "its phases have come to their end"
    if schedule not in ENDLESS:
        return f"its learning rate ({schedule}) has come to its end"
    if schedule != "constant" and 0 < warmup < 1:
        return f"its warm-up was a share of its steps (training.warmup_steps={warmup:g}) and no number of them"
    checkpoint, _ = run.find_checkpoint()
    if checkpoint is None:
        return "it has kept no whole checkpoint to go on from"
    state = load_json(checkpoint / STATE)
    if state["global_step"] < state["max_steps"] and told["early_stopping"]["patience"]:
        return "early_stopping has ended it, and would again"
    return _find_shortening(training, now["training"], state["global_step"])


def _find_shortening(told: Record, now: Record, step: int) -> str | None:
    steps = now.get("max_steps") or -1
    if steps > 0:
        return None if steps > step else f"it has done {step:,} steps already"
    longer = now.get("num_train_epochs", 0) > told.get("num_train_epochs", 0) or (told.get("max_steps") or -1) > 0
    return None if longer else f"it has done {told.get('num_train_epochs'):g} epochs already"
