"""transformers' Trainer with a true evaluation, whole checkpoints, and no hidden NaN: every hook into it is on this page.

Where weights are spread, those of sharded_trainer.py come on top. tests/test_upstream.py lists what of Trainer is overridden or
called here, and notices where a new version changes it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from accelerate.utils import TorchDynamoPlugin
from torch.utils.data import Dataset, Sampler
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import SaveStrategy, TrainOutput

from lmtune.data.blocks import LEFT_OUT, TrainingRows, collate
from lmtune.gauges import MEGABYTES
from lmtune.modeling import stored
from lmtune.modeling.layers import find_blocks
from lmtune.modeling.saved_tokenizer import write_tokenizer
from lmtune.patience import saying
from lmtune.runs import STATE, Run, step_of
from lmtune.runs.evaluations import flatten_measures
from lmtune.storage import measure_folder
from lmtune.training.arguments import change_arguments, settle_intervals, shrink_batch, writing_into
from lmtune.training.batches import StepCounts
from lmtune.training.beginning import Beginning
from lmtune.training.callbacks import LoopCallback
from lmtune.training.checkpointing import Checkpointer, LossSums, Progress, load_progress
from lmtune.training.compiling import compiled_blocks, uncompiled
from lmtune.training.determinism import enlarge_workspace
from lmtune.training.distributed import agree, gather, gather_first
from lmtune.training.mirror import mirrored
from lmtune.training.saved_state import had_decided_to_stop, relocate_best, restore_callbacks
from lmtune.training.schedule_free import averaged, leave_average, take_average
from lmtune.training.schedules import Timeline
from lmtune.training.step_losses import StepLosses
from lmtune.training.taking_up import keeping_settings
from lmtune.training.throughput import build_flops_meter
from lmtune.training.trained_tokens import TokenCounter, TrainedTokens

Scorer = Callable[[PreTrainedModel], dict[str, dict[str, Any]]]
"""Measures a model on each held-out set; the first set is the one that decides."""


class LmTrainer(Trainer):
    """Trainer for causal language models on ready blocks.

    Its evaluation is lmtune's own, its checkpoints appear whole or not at all, and a loss that is not finite stops it.

    score: measures the held-out sets. timeline: set by finetune=gradual, it decides the learning rates in place of Trainer's
    scheduler.
    """

    checkpoints: Checkpointer
    model: PreTrainedModel
    control: TrainerControl
    state: TrainerState
    timeline: Timeline | None = None

    def __init__(
        self,
        *,
        model: PreTrainedModel,
        args: TrainingArguments,
        rows: TrainingRows,
        tokenizer: PreTrainedTokenizerBase,
        score: Scorer,
    ) -> None:
        self.rows = rows
        self._own_sampler: Sampler[int] | None = None
        super().__init__(
            model=model,
            args=args,
            data_collator=collate,  # type: ignore[arg-type]  # rows come as a whole batch, see __getitems__
            train_dataset=rows,
            eval_dataset=rows,  # Trainer only asks whether there is one; evaluate() has the text
            callbacks=[LoopCallback(self.start_loop, self.start_epoch)],
        )
        enlarge_workspace()
        self.remove_callback(PrinterCallback)  # stdout is for results
        self.tokenizer = tokenizer  # not processing_class: Trainer would write its padding id into the model's config
        self.score = score
        self.flops_meter = build_flops_meter(self.args, model, rows.block_size)
        counts_alone = self.args.world_size > 1 and not self.args.average_tokens_across_devices
        self.tokens = TokenCounter(self.flops_meter, self.args.device, self.args.world_size, counts_alone=counts_alone)
        self.losses = StepLosses()
        self._beginning: Beginning | None = None
        """What each try of training.auto_find_batch_size begins with."""
        self._resumed_from: Path | None = None
        self._resumed_sums = LossSums()
        self._random_state: dict[str, bytes] = {}
        """Files of the random state of this rank, in the save that is under way."""
        self._kept: int | None = None
        """Newest checkpoints that are kept, besides the best; None for all."""
        self._best_before: tuple[float | None, int | None, str | None] = (None, None, None)

    @property
    def trained(self) -> TrainedTokens:
        """What has gone into the weights so far, over all starts of the run."""
        return self.tokens.trained

    @property
    def run(self) -> Run:
        """The run that is saved into, once attach() has said which."""
        return self.checkpoints.run

    @property
    def best_step(self) -> int | None:
        """The step whose weights the run ends with, None where those are the last."""
        best = self.state.best_model_checkpoint
        return step_of(Path(best)) if best and self.args.load_best_model_at_end else None

    def attach(self, run: Run, manifest: dict[str, Any], *, stop_on_failed_save: bool = False) -> None:
        """Set where to save, and what each checkpoint's manifest holds. A trainer is built before there is a run folder."""
        change_arguments(self.args, output_dir=str(run.folder))
        writes, device = self.args.should_save, self.args.device
        self.checkpoints = Checkpointer(run, manifest, device, writes=writes, stop_on_failed_save=stop_on_failed_save)
        self._kept = self.args.save_total_limit
        if self._kept == 1:
            change_arguments(self.args, save_total_limit=None)

    def fit(self, checkpoint: Path | None = None) -> None:
        """Train to the end, from a checkpoint if given; the model then has its best weights, or the last.

        A checkpoint at which the run had already come to its end is loaded and not trained further.
        """
        if checkpoint is not None:
            self._load_progress(checkpoint)
        counts = self.count_steps()
        settle_intervals(self.args, counts.total_steps)
        if checkpoint is not None and (step_of(checkpoint) >= counts.total_steps or had_decided_to_stop(checkpoint)):
            self._finish_from(checkpoint, counts.samples)
            return
        with compiled_blocks(self.model, self.args):
            self.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    def count_steps(self) -> StepCounts:
        """Steps and rows of the training, as Trainer counts them."""
        values = self.set_initial_training_values(self.args, self.get_train_dataloader())
        _epochs, steps_per_epoch, _examples, samples, _batch_rows, _batches_per_epoch, total_steps = values
        return StepCounts(steps_per_epoch, samples, total_steps)

    # Data and steps

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int] | None:
        # A mixture or a stream decides the order of its rows itself. A DataLoader takes any iterable of their numbers.
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        self._own_sampler = cast("Sampler[int] | None", self.rows.build_sampler(seed))
        return super()._get_train_sampler(train_dataset) if self._own_sampler is None else self._own_sampler

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | int | None]:
        # Trainer has just counted the targets of the step, to scale its loss.
        batches, targets = super().get_batch_samples(epoch_iterator, num_batches, device)
        if isinstance(targets, torch.Tensor):
            self.tokens.add(targets)
        return batches, targets

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        # Trainer sums the losses up, and the sum does not tell in which step it became NaN.
        if LEFT_OUT in inputs:
            self.tokens.add_left_out(inputs.pop(LEFT_OUT).sum())
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.losses.add(self.state.global_step + 1, self._get_learning_rate(), loss)
        return loss

    def _get_learning_rate(self) -> float:
        # Trainer's scheduler does not know the phases. The top group learns in all; the step is not counted yet.
        if self.timeline is None:
            return float(super()._get_learning_rate())
        return self.timeline.rates(self.state.global_step)[-1]

    def floating_point_ops(self, inputs: dict[str, torch.Tensor | Any]) -> int:
        # Trainer's own goes through all parameters at every batch to count them.
        return int(inputs["input_ids"].numel() * self.flops_meter.flops_per_token)

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        # fit() compiles block by block; accelerate would compile the whole model.
        built = super()._build_accelerator_args(**kwargs)
        if self.args.torch_compile and find_blocks(self.model) is not None:
            built["dynamo_plugin"] = TorchDynamoPlugin(backend="no")
        return built

    def _update_auto_batch_size(self, batch_size: int) -> None:
        # With training.auto_find_batch_size Trainer makes the step smaller, and begins again with what the try before has learned.
        # This keeps the rows of a step, in more passes, and begins with what the first try began with.
        shrink_batch(self.args, batch_size, self.rows)
        if self._beginning is None:
            self._beginning = Beginning(self.model, self.optimizer)
        else:
            self.optimizer = self._beginning.restore(self.model, self.optimizer)
            self.losses.take()
        super()._update_auto_batch_size(self.args.train_batch_size)

    def start_loop(self) -> None:
        """Called when Trainer is about to start, or to try again with smaller batches."""
        self.tokens.start(self.state.global_step)  # setting up is not training
        if self._resumed_from is not None:
            leave_average(self.optimizer)
            relocate_best(self.state, self._resumed_from, self.run.folder)
            restore_callbacks(self._resumed_from, self.callback_handler.callbacks)
            self._restore_loss_sums()

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch."""
        # accelerate does not find the sampler while batches of a resumed epoch are skipped under several processes.
        if self._own_sampler is not None and hasattr(self._own_sampler, "set_epoch"):
            self._own_sampler.set_epoch(epoch)

    # Logging and evaluating

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # A loss comes with the pace since the last one, and with the rates of all groups where they differ.
        if "loss" in logs:
            self._check_finite()
            logs |= {} if self.timeline is None else self.timeline.describe(max(0, self.state.global_step - 1))
            logs |= self.tokens.measure_pace(self.state.global_step, self.state.max_steps)
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: Dataset[Any] | dict[str, Dataset[Any]] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Score the held-out sets; the first one's measures are `eval_<measure>`, others `eval_<set>_<measure>`."""
        # Trainer's own averages losses over batches, leaves NaN out, and scores the padding of an architecture.
        plain = uncompiled() if self.args.torch_compile else nullcontext()
        with self.tokens.paused(), plain, averaged(self.optimizer):
            self._check_finite()
            metrics = flatten_measures(self.score(self.model), metric_key_prefix)
            self.log({**metrics, "train_seconds": self.trained.seconds})
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # Only a step that is saved can be the best. Steps saved because of a stop signal do not count: without it they were not.
        state = self.state
        self._best_before = (state.best_metric, state.best_global_step, state.best_model_checkpoint)
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        kept = state.global_step % int(self.args.save_steps) == 0 or state.global_step >= state.max_steps
        return bool((kept or not by_steps) and super()._determine_best_metric(metrics, trial))

    def _finalize_training(self, trial: Any, num_train_samples: float, start_time: float) -> TrainOutput:
        # train_loss, train_runtime and the rates are of all steps, over all starts of the run.
        self.tokens.stop()
        take_average(self.optimizer)
        self._initial_global_step = 0
        return super()._finalize_training(trial, num_train_samples, time.time() - self.trained.seconds)

    def _check_finite(self) -> None:
        """Raise before damaged weights are evaluated or saved. Losses are read where one is read anyway: no sync per step."""
        self.losses.check_finite(self.args.device, lambda: self.run.checkpoints())

    # Saving

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        # Trainer writes in place, piece by piece. Here a checkpoint is staged, sealed with a manifest and moved into place,
        # and only then are older ones deleted; where that fails on any rank, they stay and the run goes on.
        said = saying(f"saving checkpoint-{self.state.global_step}", unit=MEGABYTES)
        with self.tokens.paused(), said as work, averaged(self.optimizer):
            self._check_finite()
            staged = self.checkpoints.stage(f"checkpoint-{self.state.global_step}")
            work.measure = partial(measure_folder, staged)
            progress = Progress(self.state.global_step, self.trained, self._gather_loss_sums())
            self._random_state = {}
            with writing_into(staged.parent, self.args), self.checkpoints.noting_failure():
                super()._save_checkpoint(model, trial)
            self.checkpoints.write_random_states(staged, gather(self._random_state))
            self.rows.collect_positions(gather_first)
            if self.state.best_model_checkpoint == str(staged):
                self.state.best_model_checkpoint = str(self.run.folder / staged.name)
            # Trainer asks the disk whether the best is there, and only that of rank 0 can tell.
            self.state.best_model_checkpoint = agree(lambda: self.state.best_model_checkpoint)
            # Until all ranks have said that nothing failed, one may still be writing its random state.
            if not self.checkpoints.failed_anywhere() and self.args.should_save:
                with self.checkpoints.noting_failure():
                    self._publish(staged, progress)
            if self.checkpoints.failed_anywhere():
                self._forget_unsaved_best()
                self.checkpoints.give_up(staged.name)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        # In a save, the other ranks wait behind this: an error that left it on rank 0 alone would let them wait forever.
        with self.checkpoints.noting_failure():
            super().save_model(output_dir, _internal_call)

    def _save_rng_state(self, output_dir: str) -> None:
        # Each rank has a random state of its own, and not each has the disk of the run. One that has writes there: a /tmp that is
        # full or gone would cost every checkpoint.
        with TemporaryDirectory(dir=Path(output_dir).parent if self.args.should_save else None) as own:
            super()._save_rng_state(own)
            self._random_state = {file.name: file.read_bytes() for file in Path(own).iterdir()}

    def _publish(self, staged: Path, progress: Progress) -> None:
        if not self.is_deepspeed_enabled:  # its weights lie in other files
            self.checkpoints.check_reads_back(self.model, staged)
        self.state.save_to_json(str(staged / STATE))
        write_tokenizer(self.tokenizer, staged)
        self.rows.save_position(staged)
        self.checkpoints.publish(staged, progress)
        best = self.state.best_model_checkpoint
        self.checkpoints.rotate(self._kept, {self._resumed_from, Path(best) if best else None})

    def _forget_unsaved_best(self) -> None:
        if self.state.best_global_step == self.state.global_step:
            self.state.best_metric, self.state.best_global_step, self.state.best_model_checkpoint = self._best_before

    def _gather_loss_sums(self) -> LossSums:
        pending = self.accelerator.gather(self._tr_loss.reshape(1)).tolist()
        return LossSums(self._total_loss_scalar, self._globalstep_last_logged, [float(value) for value in pending])

    # Resuming

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        # Trainer's own looks for names as the modules have them, and only warns of what it leaves out.
        if self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            stored.restore(
                self.model if model is None else cast("PreTrainedModel", model), Path(resume_from_checkpoint)
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        # torch would bring back the settings of the start too, whatever resume_force=true says.
        if checkpoint is None or self.optimizer is None or self.is_deepspeed_enabled or self.timeline is not None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        with keeping_settings(self.optimizer, self.lr_scheduler):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_best_model(self) -> None:
        # As for any other checkpoint.
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            with mirrored(Path(str(self.state.best_model_checkpoint)), self.args.device) as best:
                stored.restore(self.model, best)

    def _load_progress(self, checkpoint: Path) -> None:
        """Load what Trainer itself does not: the position in the data, the counts, the sums of the loss."""
        self._resumed_from = checkpoint
        self.rows.load_position(checkpoint)
        progress = load_progress(checkpoint)
        self.tokens.load(progress.effort)
        self._resumed_sums = progress.loss

    def _finish_from(self, checkpoint: Path, samples: float) -> None:
        """Finish a run that was interrupted after its last step: Trainer would train one step more."""
        self.state = TrainerState.load_from_json(str(checkpoint / STATE))
        self.state.is_world_process_zero = self.is_world_process_zero()  # it was rank 0 that wrote the state
        self.state.is_local_process_zero = self.is_local_process_zero()
        relocate_best(self.state, checkpoint, self.run.folder)
        self._load_from_checkpoint(str(checkpoint))
        self._restore_loss_sums()
        self._finalize_training(None, samples, 0.0)

    def _restore_loss_sums(self) -> None:
        """Go on with the sums of the checkpoint, so that the first log and train_loss are those of the whole run."""
        sums = self._resumed_sums
        pending = sums.pending_of(self.args.process_index, self.args.world_size)
        self._tr_loss = torch.tensor(pending, device=self.args.device)
        self._total_loss_scalar, self._globalstep_last_logged = sums.logged, sums.logged_step
