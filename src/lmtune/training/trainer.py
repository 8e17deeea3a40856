"""transformers' Trainer with a true evaluation, whole checkpoints, and no hidden NaN."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import TorchDynamoPlugin

from lmtune.errors import TrainingError
from lmtune.modeling.layers import find_blocks
from lmtune.runs import step_of
from lmtune.training.arguments import count_devices
from lmtune.training.batches import split_rows
from lmtune.training.callbacks import reduce_max
from lmtune.training.checkpoints import SealedTrainer, was_to_stop
from lmtune.training.compiling import compiled_blocks, uncompiled

Scorer = Callable[[Any], dict[str, dict[str, Any]]]
"""From a model to the measures of each held-out set; the first set is the one that decides."""


class LmTrainer(SealedTrainer):
    """Trainer for causal language models on ready blocks.

    Its evaluation is lmtune's own, its checkpoints appear whole or not at all, and a loss that is not finite stops it.
    """

    control: Any  # a TrainerControl, which every callback hands back

    def __init__(self, *, score: Scorer, **settings: Any) -> None:
        super().__init__(**settings)
        self.score = score
        self._unchecked: list[tuple[int, float, torch.Tensor]] = []
        """Step, learning rate and loss of each batch since the last look; on the device, as looking waits for it."""

    def fit(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint if given; weights are the best ones then, or the last."""
        if checkpoint is not None:
            self.take_up(checkpoint)
        plan = self.set_initial_training_values(self.args, self.get_train_dataloader())
        samples, total_steps = plan[3], plan[-1]
        self._fix_intervals(total_steps)
        if checkpoint is not None and (step_of(checkpoint) >= total_steps or was_to_stop(checkpoint)):
            self.finish_from(checkpoint, samples)
            return
        with compiled_blocks(self.model, self.args):
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        self._settle()

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out sets; the first one's measures are `eval_<measure>`, others `eval_<set>_<measure>`."""
        with self._aside(), uncompiled() if self.args.torch_compile else nullcontext():
            self._check_finite()
            metrics = flatten(self.score(self.model), metric_key_prefix)
            self.log({**metrics, "train_seconds": self.effort.seconds})
            control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            self.control = control
        return metrics

    def _build_accelerator_args(self, **settings: Any) -> dict[str, Any]:
        built = super()._build_accelerator_args(**settings)
        if self.args.torch_compile and find_blocks(self.model) is not None:
            built["dynamo_plugin"] = TorchDynamoPlugin(backend="no")  # fit() compiles, block by block
        return built

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._unchecked.append((self.state.global_step + 1, self._get_learning_rate(), loss.detach()))
        return loss

    def _maybe_log_save_evaluate(self, tr_loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        if self.control.should_log or self.control.should_save:
            self._check_finite()
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)

    def _check_finite(self) -> None:
        """Raise before damaged weights are evaluated or saved. Reads losses only where one is read anyway: no sync per step."""
        steps, self._unchecked = self._unchecked, []
        broken = (~torch.isfinite(torch.stack([loss for *_, loss in steps]))).nonzero() if steps else torch.empty(0)
        if not reduce_max(int(len(broken) > 0), self.args.device):
            return
        if not len(broken):  # one that went on alone would wait for the others forever
            raise TrainingError(
                "Another process met a training loss that is not a finite number; its message says where."
            )
        step, rate, loss = steps[int(broken[0])]
        batches = [number for number, (other, *_) in enumerate(steps) if other == step]
        saved = self.run.checkpoints()
        last = f"The last good checkpoint is {saved[0].name}. " if saved else ""
        raise TrainingError(
            f"The training loss became {float(loss):.3g} at step {step}, batch {batches.index(int(broken[0])) + 1} of "
            f"{len(batches)} (learning rate {rate:.3g}); expected a finite number. {last}Lower training.learning_rate, "
            "lengthen training.warmup_steps, or with training.fp16 use training.bf16."
        )

    def _fix_intervals(self, total_steps: int) -> None:
        """Intervals given as a share of the run become steps, as Trainer does itself, but so that a resumed run agrees."""
        shares = {name: getattr(self.args, name) for name in ("logging_steps", "eval_steps", "save_steps")}
        for name, share in shares.items():
            if share is not None and 0 < share < 1:
                setattr(self.args, name, math.ceil(total_steps * share))
        if self.args.load_best_model_at_end and shares["save_steps"] < 1 and shares["eval_steps"]:
            # Rounded by themselves they could drift apart, and the best evaluation would have no checkpoint.
            self.args.save_steps = self.args.eval_steps * max(1, round(shares["save_steps"] / shares["eval_steps"]))

    def _update_auto_batch_size(self, batch_size: int) -> None:
        """Less memory for training.auto_find_batch_size, while a step keeps its rows where they divide."""
        rows = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        most = max(1, batch_size // max(1, self.args.n_gpu))
        smaller = split_rows(rows, most, count_devices(self.args), self.train_dataset.block_size)
        self.args.per_device_train_batch_size = smaller.per_device
        self.args.gradient_accumulation_steps = smaller.accumulation
        self.train_dataset.set_batch_shape(
            self.args.train_batch_size * self.args.world_size,
            self.args.max_steps * self.args.gradient_accumulation_steps,
        )
        super()._update_auto_batch_size(self.args.train_batch_size)


def flatten(sets: dict[str, dict[str, Any]], prefix: str) -> dict[str, float]:
    """Measures of several sets under the names that Trainer knows."""
    metrics: dict[str, float] = {}
    for number, (name, measures) in enumerate(sets.items()):
        start = prefix if number == 0 else f"{prefix}_{name}"
        metrics |= {f"{start}_{key}": value for key, value in measures.items() if isinstance(value, (int, float))}
    return metrics
