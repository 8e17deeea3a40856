"""Warnings about combinations of settings that work but were hardly meant, each with a remedy.

What cannot work at all is refused elsewhere.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmtune.config import FinetuneMethod, ModelInit
from lmtune.config.conditions import NO_SCHEDULE_KWARGS
from lmtune.training.arguments import count_warmup, name_of

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from lmtune.config import TrainConfig
    from lmtune.data.ledger import Ledger
    from lmtune.training.foresight import Course
    from lmtune.training.held_out import HeldOut
    from lmtune.training.setup import Setup


def list_warnings(setup: "Setup", held_out: "HeldOut", course: "Course") -> list[str]:
    """The warnings of a run, whose intervals have to be settled (foresight.plan_course)."""
    args = setup.arguments
    return [
        *_warn_of_warmup(args, course.steps),
        *_warn_of_intervals(args, course.steps),
        *_warn_of_batch(args, course),
        *_warn_of_windows(held_out),
        *_warn_of_goldfish(setup.config.goldfish, setup.prepared.ledger),
        *_warn_of_muon(setup.config),
        *_warn_of_schedule(setup.config),
    ]


def _warn_of_warmup(args: "TrainingArguments", steps: int) -> Iterator[str]:
    warmup = count_warmup(args, steps)
    if warmup >= steps == 1:
        yield (
            "the only step of the run is one of warm-up, whose rate begins at 0: nothing is learned. Give training.warmup_steps=0, "
            "or more steps."
        )
    if warmup >= steps > 1:
        yield (
            f"training.warmup_steps={args.warmup_steps:g} is a warm-up of {warmup:,} steps, and the run has {steps:,}: the rate "
            "never comes to training.learning_rate=, or only at the end. Give fewer, or a share such as training.warmup_steps=0.03."
        )


def _warn_of_intervals(args: "TrainingArguments", steps: int) -> Iterator[str]:
    """Intervals longer than the run. Evaluation and save at its end take place all the same."""
    pairs = (("eval_steps", args.eval_strategy, "scored"), ("save_steps", args.save_strategy, "saved"))
    for name, strategy, done in pairs:
        every = getattr(args, name)
        if name_of(strategy) == "steps" and every is not None and every > steps:
            yield (
                f"training.{name}={every:g} is more than the {steps:,} steps of the run, which is {done} at its end alone. "
                f"Give fewer, or a share such as training.{name}=0.1."
            )
    if name_of(args.logging_strategy) == "steps" and args.logging_steps > steps:
        yield (
            f"training.logging_steps={args.logging_steps:g} is more than the {steps:,} steps of the run: no loss will be logged. "
            "Give fewer, such as training.logging_steps=1."
        )


def _warn_of_batch(args: "TrainingArguments", course: "Course") -> Iterator[str]:
    """More rows in a step than there are: the rest of it is empty."""
    targets = course.targets_per_epoch
    room = course.tokens_per_step * course.share_learned
    if targets is not None and course.steps_per_epoch == 1 and 2 * targets <= room:
        yield (
            f"a step has room for {course.tokens_per_step:,} tokens, and the text has {targets:,} to learn: each step is an epoch, "
            f"most of it empty. Give training.per_device_train_batch_size= fewer rows than {args.per_device_train_batch_size}."
        )


def _warn_of_windows(held_out: "HeldOut") -> Iterator[str]:
    """Held-out text that does not fill one window: it says little, and of a short context."""
    for name, held in held_out.sets.items():
        tokens = len(held.sample.ids)
        if tokens < held_out.context:
            cut = len(held.stream.ids) >= held_out.context
            remedy = (
                "Raise eval.max_tokens=" if cut else "Hold out more: data.validation_fraction=, data.validation_files="
            )
            yield (
                f"{name}: {tokens:,} held-out tokens are scored, fewer than one window of {held_out.context:,} (eval.context): "
                f"a number of so little text says little. {remedy}."
            )


def _warn_of_goldfish(one_in: int | None, ledger: "Ledger") -> Iterator[str]:
    """Too little text for one token in so many. A stream has not counted them."""
    if one_in is not None and ledger.targets and not ledger.targets_left_out:
        yield (
            f"training.goldfish={one_in}: none of the {ledger.targets:,} tokens is left out of the loss, as they are too few for "
            "one in so many. Give less, such as training.goldfish=4."
        )


def _warn_of_muon(config: "TrainConfig") -> Iterator[str]:
    if config.muon and config.model.init is ModelInit.pretrained and config.finetune.method is FinetuneMethod.full:
        yield (
            "training.muon=true on all weights of a pretrained model: others found that weights which Adam has trained get "
            "worse by it (arXiv:2605.10468). Compare with a run without it on the same held-out text, or give finetune=lora."
        )


def _warn_of_schedule(config: "TrainConfig") -> Iterator[str]:
    schedule = config.training["lr_scheduler_type"]
    if config.averages_itself and schedule not in NO_SCHEDULE_KWARGS:
        yield (
            f"training.lr_scheduler_type={schedule}: training.optim={config.training['optim']} averages the weights in place of a "
            "rate that falls, and is meant for a constant one. Give training=schedule-free, which sets both, or "
            "training.lr_scheduler_type=constant_with_warmup."
        )
