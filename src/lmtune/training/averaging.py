"""average.last=: the mean of the weights over the end of a training, which may be better than the last of them.

Averaging removes the noise of single batches from the weights, as learning-rate decay does (Izmailov et al.
2018, arXiv:1803.05407; Ajroldi et al. 2025, arXiv:2502.06761). Which weights are taken depends on the number of the step
alone, and checkpoints hold the mean, so a resumed run cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.errors import CheckpointError, ConfigError
from lmtune.measures import BITS_PER_BYTE
from lmtune.runs.evaluations import Measures, find_evaluation, read_evaluations
from lmtune.storage import Record

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lmtune.training.held_out import HeldOut
    from lmtune.training.trainer import LmTrainer

FOLDER, FILE = "average", "weights.safetensors"
"""Place in a checkpoint: a folder, since loaders of the checkpoint read the safetensors files beside its config."""
MOST_POINTS = 100
"""Steps whose weights are averaged, at most: more take time, and the weights of neighbouring steps hardly differ."""


def takes(step: int, steps: int, share: float) -> bool:
    """True for a step whose weights belong to the mean: the last one, and others at equal distances before it."""
    last = max(1, round(share * steps))
    distance = -(-last // MOST_POINTS)
    return 0 <= steps - step < last and (steps - step) % distance == 0


class Outcome(NamedTuple):
    """The result of averaging weights."""

    record: Record
    """As results.json has it."""
    sets: dict[str, Measures] | None
    """Measures of the model with its average, where it is kept."""


class TailAverage(TrainerCallback):
    """The mean of a model's weights over the last `share` of the steps, float32 on the CPU: it takes no memory of a GPU.

    Of a model with an adapter, the adapter's. load() says which checkpoint the run goes on from.
    """

    def __init__(self, model: PreTrainedModel, share: float) -> None:
        self.share = share
        self.weights = {
            name: weight
            for name, weight in model.named_parameters()
            if weight.requires_grad or not hasattr(model, "peft_config")
        }
        self.means: dict[str, torch.Tensor] = {}
        self.points = 0
        """Weights that the means are of."""
        self.first = 0
        """The step of the first of them."""
        self._checkpoint: Path | None = None

    def load(self, checkpoint: Path | None) -> None:
        """Go on from a checkpoint, or begin; raise CheckpointError for one whose mean is of other weights."""
        self._checkpoint = checkpoint
        self.means, self.points, self.first = {}, 0, 0
        file = None if checkpoint is None else checkpoint / FOLDER / FILE
        if file is None or not file.is_file():
            return
        with safe_open(file, framework="pt", device="cpu") as opened:
            told, names = opened.metadata(), set(opened.keys())
            if names != self.weights.keys():
                raise CheckpointError(
                    f"{file}: expected the average of the weights of this model, found that of another."
                )
            self.means = {name: opened.get_tensor(name) for name in self.weights}
        self.points, self.first = int(told["points"]), int(told["first"])

    def save(self, staged: Path) -> None:
        """Put the means into a checkpoint, once there are any."""
        if self.points:
            (staged / FOLDER).mkdir()
            save_file(self.means, staged / FOLDER / FILE, {"points": str(self.points), "first": str(self.first)})

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.load(self._checkpoint)  # Trainer begins again for each smaller batch that it tries

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if takes(state.global_step, state.max_steps, self.share):
            self.add(state.global_step)

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take the weights of a step into the means."""
        self.first = self.first or step
        self.points += 1
        for name, weight in self.weights.items():
            now = weight.detach().to("cpu", torch.float32)
            if self.points == 1:
                self.means[name] = now.clone().contiguous()
            else:
                self.means[name].lerp_(now, 1 / self.points)

    def settle(
        self, trainer: LmTrainer, held_out: HeldOut, allows: Callable[[dict[str, Measures]], bool] | None = None
    ) -> Outcome:
        """Load the averaged weights into the model if they score better on the first held-out set, else leave it as it is.

        Both are scored on the sample that is used during training. All processes take part. allows: whether measures of all sets
        are within the budget for forgetting; if only one of the two is, that one is kept.
        """
        model = trainer.accelerator.unwrap_model(trainer.model)
        current = _find_measured(trainer, held_out) or held_out.score_sample(model)
        first, bits = next(iter(current)), BITS_PER_BYTE.name
        record: Record = {"last": self.share, "points": self.points, "first_step": self.first or None, "set": first}
        record |= {bits: None, "without": current[first][bits], "kept": False}
        if not self.points:
            return Outcome(record, None)
        before = {name: weight.detach().to("cpu", copy=True) for name, weight in self.weights.items()}
        _copy(self.means, self.weights)
        sets = held_out.score_sample(model)
        kept = sets[first][bits] < current[first][bits]
        if allows is not None and allows(sets) != allows(current):
            kept = allows(sets)
        if not kept:
            _copy(before, self.weights)
        return Outcome({**record, bits: sets[first][bits], "kept": kept}, sets if kept else None)


def build_average(trainer: LmTrainer, share: float | None) -> TailAverage | None:
    """The average that average.last= asks for, taken and saved as `trainer` trains; None for no share of the steps.

    Raises ConfigError where no process has whole weights.
    """
    if share is None:
        return None
    if trainer.is_deepspeed_enabled:
        raise ConfigError(
            "average.last needs whole weights in each process, found DeepSpeed, which divides them. Choose one of the two."
        )
    average = TailAverage(trainer.model, share)
    trainer.add_callback(average)
    trainer.checkpoints.additions.append(average.save)
    return average


def _find_measured(trainer: LmTrainer, held_out: HeldOut) -> dict[str, Measures] | None:
    """Measures of the weights that training has ended with, where they were scored while it lasted."""
    step = trainer.state.global_step if trainer.best_step is None else trainer.best_step
    known = find_evaluation(read_evaluations(trainer.state.log_history, held_out.sets), step)
    return None if known is None else known.sets


@torch.no_grad()
def _copy(source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
    for name, weight in target.items():
        weight.copy_(source[name])
