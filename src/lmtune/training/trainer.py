"""transformers' Trainer with a true evaluation, whole checkpoints, and no hidden NaN."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import TrainerState
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import SaveStrategy

from lmtune.errors import TrainingError
from lmtune.records import load_json
from lmtune.runs import MANIFEST, STATE, Run, step_of
from lmtune.training import devices, throughput
from lmtune.training.arguments import count_devices
from lmtune.training.batches import split_rows
from lmtune.training.callbacks import reduce_max, say_on_stderr
from lmtune.training.rows import RowTrainer

Scorer = Callable[[Any], dict[str, dict[str, Any]]]
"""From a model to the measures of each held-out set; the first set is the one that decides."""


@dataclass(slots=True)
class Effort:
    """What has gone into the weights so far, kept with each checkpoint."""

    targets: int = 0
    """Tokens predicted, over all processes; padding is none."""
    seconds: float = 0.0
    """In training steps: evaluations, samples and saves left out."""


@dataclass(slots=True)
class LossSums:
    """Trainer's sums of the training loss, kept with each checkpoint: Trainer begins them anew at every start."""

    logged: float = 0.0
    """Of all steps up to the last log."""
    logged_step: int = 0
    """The step of that log."""
    pending: list[float] = field(default_factory=list)
    """Of the steps since, one for each rank."""


SAVE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What a full or failing disk raises: Python's own, torch.save's, and that of safetensors."""


class LmTrainer(RowTrainer):
    """Trainer for causal language models on ready blocks.

    Its evaluation is lmtune's own, its checkpoints appear whole or not at all, and a loss that is not finite stops it.
    """

    control: Any  # a TrainerControl, which every callback hands back

    def __init__(
        self,
        *,
        run: Run,
        tokenizer: Any,
        score: Scorer,
        manifest: dict[str, Any],
        say: Callable[[str], None] = say_on_stderr,
        stop_on_failed_save: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.run = run
        self.tokenizer = tokenizer  # not processing_class: Trainer would write its padding id into the model's config
        self.score = score
        self.manifest = manifest
        self.say = say
        self.stop_on_failed_save = stop_on_failed_save
        self.effort = Effort()
        self._carried = LossSums()
        self.yardstick = self._build_yardstick()
        self._pending: list[torch.Tensor] = []
        self._unchecked: list[tuple[int, float, torch.Tensor]] = []
        """Step, learning rate and loss of each batch since the last look; on the device, as looking waits for it."""
        self._begun: Effort | None = None
        self._logged = (0, Effort())
        self._resumed_at = time.perf_counter()
        self._staging = False
        self._failure: BaseException | None = None
        self._best_before: tuple[float | None, int | None, str | None] = (None, None, None)
        self._resumed_from: Path | None = None

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
            self._check_finite()
        super()._maybe_log_save_evaluate(tr_loss, *args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(*args, **kwargs)
        self._unchecked.append((self.state.global_step + 1, self._get_learning_rate(), loss.detach()))
        return loss

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
        self._resumed_from = checkpoint
        if checkpoint is not None:
            self.train_dataset.load_position(checkpoint)
            manifest = load_json(checkpoint / MANIFEST)
            self.effort, self._carried = Effort(**manifest["effort"]), LossSums(**manifest["loss"])
        plan = self.set_initial_training_values(self.args, self.get_train_dataloader())
        samples, total_steps = plan[3], plan[-1]
        self._fix_intervals(total_steps)
        if checkpoint is not None and (step_of(checkpoint) >= total_steps or _was_to_stop(checkpoint)):
            self._finish_from(checkpoint, samples)
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
        self.train_dataset.arrange(
            self.args.train_batch_size * self.args.world_size,
            self.args.max_steps * self.args.gradient_accumulation_steps,
        )
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

    def _finish_from(self, checkpoint: Path, samples: int) -> None:
        """Take up a run that was interrupted after its last step: Trainer would train one step more."""
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))
        self.state.is_world_process_zero = self.is_world_process_zero()  # it was rank 0 that wrote the state
        self.state.is_local_process_zero = self.is_local_process_zero()
        self._anchor_best(checkpoint)
        self._load_from_checkpoint(str(checkpoint))
        self._restore_sums()
        self._finalize_training(None, samples, 0.0)

    def _run_epoch(self, **settings: Any) -> None:
        self._restore_sums()
        super()._run_epoch(**settings)

    def _restore_sums(self) -> None:
        """Go on with the loss sums of the checkpoint, so that the first log and train_loss are those of the whole run."""
        if self._carried.pending:
            pending, rank = self._carried.pending, self.args.process_index
            known = len(pending) == self.args.world_size
            mine = pending[rank] if known else sum(pending) / len(pending)
            self._tr_loss = torch.tensor(mine, device=self.args.device)
            self._total_loss_scalar, self._globalstep_last_logged = self._carried.logged, self._carried.logged_step
            self._carried = LossSums()

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        """As Trainer does, but train_loss, train_runtime and the rates are of all steps, over all starts of the run."""
        self._settle()
        self._initial_global_step = 0
        return super()._finalize_training(trial, num_train_samples, time.time() - self.effort.seconds)

    def _init_training_state(
        self, max_steps: int, steps_per_epoch: int, epochs: int, checkpoint: str | None, trial: Any
    ) -> tuple[int, int]:
        position = super()._init_training_state(max_steps, steps_per_epoch, epochs, checkpoint, trial)
        if checkpoint is not None:
            self._anchor_best(Path(checkpoint))
            self._restore_callbacks()
        return position

    def _restore_callbacks(self) -> None:
        """Give callbacks their counters back (early stopping has one). Trainer's own way would put them behind the last."""
        for callback in self.callback_handler.callbacks:
            stored = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and stored is not None:
                for name, value in stored["attributes"].items():
                    setattr(callback, name, value)

    def _anchor_best(self, checkpoint: Path) -> None:
        """The path of the best checkpoint is stored as it was; the run folder may have moved since."""
        stored = load_json(checkpoint / STATE)["best_model_checkpoint"]
        if stored is not None:
            best = self.run.folder / Path(stored).name
            self.state.best_model_checkpoint = str(best)
            if not best.is_dir():
                self.state.best_model_checkpoint = self.state.best_metric = self.state.best_global_step = None

    @property
    def best_step(self) -> int | None:
        """The step whose weights the run ends with, None where those are the last."""
        best = self.state.best_model_checkpoint
        return step_of(Path(best)) if best and self.args.load_best_model_at_end else None

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.run.staging_folder) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save aside, seal with a manifest, move into place, and only then delete older ones.

        Where that fails on any rank, the earlier checkpoints stand as they were and the run goes on.
        """
        with self._aside():
            name = f"checkpoint-{self.state.global_step}"
            push, self.args.push_to_hub = self.args.push_to_hub, False  # it would upload from the staging folder
            self._staging, self._failure = True, None
            try:
                with self._noting_failure():
                    super()._save_checkpoint(model, trial)
            finally:
                self._staging = False
                self.args.push_to_hub = push
            self._anchor_staged_best(name)
            sums = LossSums(self._total_loss_scalar, self._globalstep_last_logged, self._gather_pending())
            if not self._failed_anywhere() and self.args.should_save:  # every rank has written its random state
                with self._noting_failure():
                    self._publish(name, sums)
            if self._failed_anywhere():
                self._give_up_save(name)
            elif push:
                self._push_from_checkpoint(str(self.run.folder / name))

    def _publish(self, name: str, sums: LossSums) -> None:
        staged = self.run.staging_folder / name
        self.state.save_to_json(str(staged / STATE))
        self.tokenizer.save_pretrained(staged)
        self.train_dataset.save_position(staged)
        (staged / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        progress = {"step": self.state.global_step, "effort": asdict(self.effort), "loss": asdict(sums)}
        self.run.publish(staged, {**progress, **self.manifest})
        self._rotate()

    # An error that left one of these on one rank alone would let the others wait for it for ever.

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        with self._noting_failure():
            super().save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with self._noting_failure():
            super()._save_optimizer_and_scheduler(output_dir)

    def _save_scaler(self, output_dir: str) -> None:
        with self._noting_failure():
            super()._save_scaler(output_dir)

    def _save_rng_state(self, output_dir: str) -> None:
        with self._noting_failure():
            super()._save_rng_state(output_dir)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Keep the first error of a save until all ranks can hear of it."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except SAVE_ERRORS as error:
            self._failure = self._failure or error

    def _failed_anywhere(self) -> bool:
        return reduce_max(int(self._failure is not None), self.args.device) > 0

    def _give_up_save(self, name: str) -> None:
        """Say what failed, make room, and forget that the step was the best: its weights are not there."""
        if self.state.best_global_step == self.state.global_step:
            self.state.best_metric, self.state.best_global_step, self.state.best_model_checkpoint = self._best_before
        reason = " ".join(str(self._failure or "another process could not write").split())
        last = next((folder.name for folder in self.run.checkpoints()), None)
        if self.args.should_save:
            self.run.sweep()
            self.say(
                f"{name} COULD NOT BE SAVED: {reason}. "
                + (f"The last whole checkpoint is {last}. " if last else "There is no checkpoint yet. ")
                + "The next save tries again."
            )
        if self.stop_on_failed_save:
            raise TrainingError(
                f"{name} could not be saved ({reason}), and stop_on_failed_save=true. Make room in {self.run.folder} or mend "
                f"the disk, then go on with resume={self.run.folder}."
            )

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As Trainer does, but only steps whose weights are kept can be the best; a stop signal's checkpoint is not one."""
        state = self.state
        self._best_before = (state.best_metric, state.best_global_step, state.best_model_checkpoint)
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        kept = state.global_step % int(self.args.save_steps) == 0 or state.global_step >= state.max_steps
        return bool((kept or not by_steps) and super()._determine_best_metric(metrics, trial))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """As Trainer does, but a tied head is not missing: it is the embedding."""
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        load_result.missing_keys[:] = [key for key in load_result.missing_keys if key not in tied]
        super()._issue_warnings_after_load(load_result)

    def _anchor_staged_best(self, name: str) -> None:
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == self.run.staging_folder:
            self.state.best_model_checkpoint = str(self.run.folder / name)

    def _gather_pending(self) -> list[float]:
        """The loss summed since the last log, on each rank."""
        return list(map(float, self.accelerator.gather(self._tr_loss.reshape(1)).tolist()))

    def _rotate(self) -> None:
        """Keep the newest save_total_limit checkpoints, and besides them the best one and the one resumed from."""
        limit = self.args.save_total_limit
        best = self.state.best_model_checkpoint
        spared = {self._resumed_from, None if best is None else Path(best)}
        for folder in self.run.checkpoints()[limit:] if limit else []:
            if folder not in spared:
                self.run.discard(folder)


def _was_to_stop(checkpoint: Path) -> bool:
    """True if the run had decided to stop (patience at an end) when it wrote the checkpoint."""
    control = load_json(checkpoint / STATE)["stateful_callbacks"]["TrainerControl"]
    return bool(control["args"]["should_training_stop"])


def flatten(sets: dict[str, dict[str, Any]], prefix: str) -> dict[str, float]:
    """Measures of several sets under the names that Trainer knows."""
    metrics: dict[str, float] = {}
    for number, (name, measures) in enumerate(sets.items()):
        start = prefix if number == 0 else f"{prefix}_{name}"
        metrics |= {f"{start}_{key}": value for key, value in measures.items() if isinstance(value, (int, float))}
    return metrics
