"""The first steps of a training as a loss curve, with held-out scores along the way; nothing is kept."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.training.arguments import change_arguments

if TYPE_CHECKING:
    from lmtune.training.held_out import HeldOut
    from lmtune.training.trainer import LmTrainer


@dataclass(slots=True)
class Curve:
    """What was measured of the first steps of a training."""

    losses: list[float] = field(default_factory=list)
    """[steps] nats a token, each of the batch that the step then learned."""
    scores: dict[int, float] = field(default_factory=dict)
    """Bits per byte of the run's held-out text after so many steps."""

    @property
    def is_finite(self) -> bool:
        return all(map(math.isfinite, (*self.losses, *self.scores.values())))


class CurveCallback(TrainerCallback):
    """Records a curve, and ends the training at the last of `marks` or at a loss that is not finite; nothing is saved.

    marks: the steps after which the held-out text is scored.
    """

    def __init__(self, trainer: "LmTrainer", held_out: "HeldOut", marks: Collection[int]) -> None:
        self.trainer, self.held_out, self.marks = trainer, held_out, marks
        self.curve = Curve()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.curve = Curve()  # training.auto_find_batch_size begins again

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self.curve.losses.append(self.trainer.losses.take_step(args.world_size))
        if state.global_step in self.marks:
            measures = self.held_out.score_sample(self.trainer.accelerator.unwrap_model(self.trainer.model))
            self.curve.scores[state.global_step] = next(iter(measures.values()))["bits_per_byte"]
        control.should_evaluate = control.should_save = control.should_log = False
        control.should_training_stop |= state.global_step >= max(self.marks) or not self.curve.is_finite
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        control.should_evaluate = control.should_save = control.should_log = False
        return control


def record_curve(trainer: "LmTrainer", held_out: "HeldOut", marks: Collection[int]) -> Curve:
    """Train up to the last of `marks`, steps counted from 1. The weights of the model have changed then."""
    callback = CurveCallback(trainer, held_out, marks)
    trainer.add_callback(callback)
    with TemporaryDirectory(prefix="lmtune-check-") as unused:
        change_arguments(trainer.args, output_dir=unused)
        trainer.fit()
    trainer.remove_callback(callback)
    return callback.curve
