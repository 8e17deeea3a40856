"""transformers' Trainer with a true evaluation, whole checkpoints, and no hidden NaN."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerState

from lmtune.errors import TrainingError
from lmtune.runs import MANIFEST, Run, load_json, step_of
from lmtune.training import devices, throughput
from lmtune.training.arguments import count_devices
from lmtune.training.batches import split_rows

Scorer = Callable[[Any], dict[str, dict[str, Any]]]
"""From a model to the measures of each held-out set; the first set is the one that decides."""


@dataclass(slots=True)
class Effort:
    """What has gone into the weights so far, kept with each checkpoint."""

    targets: int = 0
    """Tokens predicted, over all processes; padding is none."""
    seconds: float = 0.0
    """In training steps: evaluations, samples and saves left out."""


STATE = "trainer_state.json"
"""Trainer's record of where it is, in each checkpoint."""


class LmTrainer(Trainer):
    """Trainer for causal language models on ready blocks.

    Its evaluation is lmtune's own, its checkpoints appear whole or not at all, and a loss that is not finite stops it.
    """

    control: Any  # a TrainerControl, which every callback hands back

    def __init__(self, *, run: Run, tokenizer: Any, score: Scorer, manifest: dict[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.remove_callback(PrinterCallback)  # it writes to stdout, which is for results
        self.run = run
        self.tokenizer = tokenizer  # not processing_class: Trainer would write its padding id into the model's config
        self.score = score
        self.manifest = manifest
        self.effort = Effort()
        self.yardstick = self._build_yardstick()
        self._pending: list[torch.Tensor] = []
        self._begun: Effort | None = None
        self._logged = (0, Effort())
        self._resumed_at = time.perf_counter()
        self._staging = False

    # Evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the held-out sets; the first one's measures are `eval_<measure>`, others `eval_<set>_<measure>`."""
        with self._aside():
            self._check_finite()
            metrics = flatten(self.score(self.model), metric_key_prefix)
            self.log({**metrics, "train_seconds": self.effort.seconds})
            control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            self.control = control
        return metrics

    def _maybe_log_save_evaluate(self, tr_loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        if self.control.should_log or self.control.should_save:
            self._check_finite(tr_loss)
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)

    def _check_finite(self, tr_loss: torch.Tensor | None = None) -> None:
        """Raise before damaged weights are evaluated or saved. Reads the loss only where it is read anyway: no sync per step."""
        summed = getattr(self, "_tr_loss", None) if tr_loss is None else tr_loss
        if summed is not None and not bool(torch.isfinite(summed).all()):
            saved = self.run.checkpoints()
            last = f"The last good checkpoint is {saved[0].name}. " if saved else ""
            raise TrainingError(
                f"The training loss became {float(summed):.3g} by step {self.state.global_step} (learning rate "
                f"{self._get_learning_rate():.3g}); expected a finite number. {last}Lower training.learning_rate, "
                "lengthen training.warmup_steps, or with training.fp16 use training.bf16."
            )

    # Effort and pace

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As Trainer does; training losses come with the pace since the last of them."""
        if "loss" in logs:
            logs.update(self._measure_pace())
        super().log(logs, start_time)

    def _measure_pace(self) -> dict[str, float]:
        self._settle()
        (step, before), now = self._logged, self.effort
        self._logged = (self.state.global_step, copy.copy(now))
        seconds = now.seconds - before.seconds
        pace = (now.targets - before.targets) / seconds
        share = self.yardstick.utilisation(pace, self.args.world_size)
        return {
            "tokens_per_second": pace,
            **({} if share is None else {"mfu": share}),
            "memory_gb": throughput.measure_memory(self.args.device) / 1e9,
            "seconds_left": seconds / (self.state.global_step - step) * (self.state.max_steps - self.state.global_step),
        }

    def _build_yardstick(self) -> throughput.Yardstick:
        device = devices.find_device(self.args.use_cpu)
        half = self.args.bf16 or self.args.fp16
        return throughput.Yardstick(
            throughput.count_flops(self.model, self.train_dataset.block_size),
            throughput.find_peak(device.kind, device.name, half, bool(self.args.tf32)),
        )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Trainer's own walks through all parameters at every batch to count them."""
        return int(inputs["input_ids"].numel() * self.yardstick.flops_per_token)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        batches, targets = super().get_batch_samples(epoch_iterator, num_batches, device)
        if torch.is_tensor(targets):
            self._pending.append(targets.detach())  # on the device: counting must not wait for it
        return batches, targets

    def _settle(self) -> None:
        """Add what has been counted since the last time, and the time since then."""
        if self._pending:
            # Waits for the device, so the clock below is honest.
            counted = torch.stack(self._pending).sum()
            if self.args.world_size > 1 and not self.args.average_tokens_across_devices:
                counted = self.accelerator.reduce(counted, reduction="sum")
            self.effort.targets += int(counted.item())
            self._pending = []
        now = time.perf_counter()
        self.effort.seconds += now - self._resumed_at
        self._resumed_at = now

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """Time in here is not training time."""
        self._settle()
        try:
            yield
        finally:
            self._resumed_at = time.perf_counter()

    # Checkpoints

    def fit(self, checkpoint: Path | None) -> None:
        """Train to the end, from a checkpoint if given; weights are the best ones then, or the last."""
        if checkpoint is not None:
            self.effort = Effort(**load_json(checkpoint / MANIFEST)["effort"])
        total_steps = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        self._fix_intervals(total_steps)
        if checkpoint is not None and step_of(checkpoint) >= total_steps:
            self._load_finished(checkpoint)
            return
        self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        self._settle()

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
        self.train_dataset.multiple = self.args.train_batch_size * self.args.world_size
        super()._update_auto_batch_size(self.args.train_batch_size)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        prepared = super()._prepare_for_training(*args, **kwargs)
        if self.args.auto_find_batch_size:
            # A beginning that ran out of memory was no training.
            self._begun = self._begun or copy.copy(self.effort)
            self._pending, self.effort = [], copy.copy(self._begun)
        self._logged = (self.state.global_step, copy.copy(self.effort))
        self._resumed_at = time.perf_counter()  # setting up is not training
        return prepared

    def _load_finished(self, checkpoint: Path) -> None:
        """Take up a run that was interrupted after its last step: Trainer would train one step more."""
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))
        self._anchor_best(checkpoint)
        best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(best or str(checkpoint))

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, epochs: int, checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        position = super()._init_training_state(max_steps, steps_per_epoch, epochs, checkpoint, trial)
        if checkpoint is not None:
            self._anchor_best(Path(checkpoint))
        return position

    def _anchor_best(self, checkpoint: Path) -> None:
        """The path of the best checkpoint is stored as it was; the run folder may have moved since."""
        stored = load_json(checkpoint / STATE)["best_model_checkpoint"]
        if stored is not None:
            best = self.run.folder / Path(stored).name
            self.state.best_model_checkpoint = str(best) if best.is_dir() else None

    @property
    def best_step(self) -> int | None:
        """The step whose weights the run ends with, None where those are the last."""
        best = self.state.best_model_checkpoint
        return step_of(Path(best)) if best and self.args.load_best_model_at_end else None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.run.staging_folder) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save aside, seal with a manifest, move into place, and only then delete older ones."""
        with self._aside():
            name = f"checkpoint-{self.state.global_step}"
            staged = self.run.staging_folder / name
            push, self.args.push_to_hub = self.args.push_to_hub, False  # it would upload from the staging folder
            self._staging = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._staging = False
                self.args.push_to_hub = push
            self._anchor_staged_best(name)
            self.accelerator.wait_for_everyone()  # every rank has written its random state
            if self.args.should_save:
                self.state.save_to_json(str(staged / STATE))
                self.tokenizer.save_pretrained(staged)
                (staged / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
                self.run.publish(
                    staged, {"step": self.state.global_step, "effort": asdict(self.effort), **self.manifest}
                )
                self._rotate()
            self.accelerator.wait_for_everyone()
            if push:
                self._push_from_checkpoint(str(self.run.folder / name))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """As Trainer does, but a tied head is not missing: it is the embedding."""
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        load_result.missing_keys[:] = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result)

    def _anchor_staged_best(self, name: str) -> None:
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == self.run.staging_folder:
            self.state.best_model_checkpoint = str(self.run.folder / name)

    def _rotate(self) -> None:
        """Keep the newest save_total_limit checkpoints, and the best one besides."""
        limit = self.args.save_total_limit
        best = self.state.best_model_checkpoint
        for folder in self.run.checkpoints()[limit:] if limit else []:
            if best is None or folder != Path(best):
                self.run.discard(folder)


def flatten(sets: dict[str, dict[str, Any]], prefix: str) -> dict[str, float]:
    """Measures of several sets under the names that Trainer knows."""
    metrics: dict[str, float] = {}
    for number, (name, measures) in enumerate(sets.items()):
        start = prefix if number == 0 else f"{prefix}_{name}"
        metrics |= {f"{start}_{key}": value for key, value in measures.items() if isinstance(value, (int, float))}
    return metrics
