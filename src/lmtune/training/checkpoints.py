"""Checkpoints that are whole or absent, and runs that go on from them as if nothing had happened."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import TrainerState
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import SaveStrategy

from lmtune.data.streaming import POSITION
from lmtune.errors import CheckpointError, TrainingError
from lmtune.modeling import stored
from lmtune.runs import MANIFEST, STATE, Run, step_of
from lmtune.storage import load_json
from lmtune.training.callbacks import reduce_max
from lmtune.training.pace import Effort, PacedTrainer

logger = logging.getLogger(__name__)

SAVE_ERRORS = (OSError, RuntimeError, SafetensorError, CheckpointError)
"""What a full or failing disk raises (Python's own, torch.save's, that of safetensors), and a folder with damaged records."""


@dataclass(slots=True)
class LossSums:
    """Trainer's sums of the training loss, kept with each checkpoint: Trainer begins them anew at every start."""

    logged: float = 0.0
    """Of all steps up to the last log."""
    logged_step: int = 0
    """The step of that log."""
    pending: list[float] = field(default_factory=list)
    """Of the steps since, one for each rank."""


class SealedTrainer(PacedTrainer):
    """Trainer whose checkpoints appear in a run folder sealed, or not at all."""

    run: Run
    manifest: dict[str, Any]
    _staging_folder: Path

    def __init__(
        self,
        *,
        tokenizer: Any,
        run: Run | None = None,
        manifest: dict[str, Any] | None = None,
        stop_on_failed_save: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.tokenizer = tokenizer  # not processing_class: Trainer would write its padding id into the model's config
        if run is not None:
            self.attach(run, manifest or {})
        self.stop_on_failed_save = stop_on_failed_save
        self._carried = LossSums()
        self._staging = False
        self._failure: BaseException | None = None
        self._best_before: tuple[float | None, int | None, str | None] = (None, None, None)
        self._resumed_from: Path | None = None
        self._has_read_back = False
        self._kept: set[Path] = set()
        """Checkpoints that are not deleted, since something of the user's is in them."""

    def attach(self, run: Run, manifest: dict[str, Any]) -> None:
        """Say where to save, and what stands in each checkpoint's manifest. A trainer is tried before there is a run folder."""
        self.run, self.manifest = run, manifest
        self._staging_folder = run.staging_folder
        self.args.output_dir = str(run.folder)

    @property
    def best_step(self) -> int | None:
        """The step whose weights the run ends with, None where those are the last."""
        best = self.state.best_model_checkpoint
        return step_of(Path(best)) if best and self.args.load_best_model_at_end else None

    # Going on

    def take_up(self, checkpoint: Path) -> None:
        """Put back what Trainer itself does not: the place in the data, the effort, the sums of the loss."""
        self._resumed_from = checkpoint
        self.train_dataset.load_position(checkpoint)
        manifest = load_json(checkpoint / MANIFEST)
        self.effort, self._carried = Effort(**manifest["effort"]), LossSums(**manifest["loss"])

    def finish_from(self, checkpoint: Path, samples: int) -> None:
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
            kept = self.state.stateful_callbacks.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and kept is not None:
                for name, value in kept["attributes"].items():
                    setattr(callback, name, value)

    def _anchor_best(self, checkpoint: Path) -> None:
        """The path of the best checkpoint is stored as it was; the run folder may have moved since."""
        recorded = load_json(checkpoint / STATE)["best_model_checkpoint"]
        if recorded is not None:
            best = self.run.folder / Path(recorded).name
            self.state.best_model_checkpoint = str(best)
            if not best.is_dir():
                self.state.best_model_checkpoint = self.state.best_metric = self.state.best_global_step = None

    # Saving

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging_folder) if self._staging else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save aside, seal with a manifest, move into place, and only then delete older ones.

        Where that fails on any rank, the earlier checkpoints stand as they were and the run goes on.
        """
        with self._aside():
            name = f"checkpoint-{self.state.global_step}"
            self._staging, self._failure = True, None
            try:
                with self._noting_failure():
                    super()._save_checkpoint(model, trial)
            finally:
                self._staging = False
            self._anchor_staged_best(name)
            sums = LossSums(self._total_loss_scalar, self._globalstep_last_logged, self._gather_pending())
            if not self._failed_anywhere() and self.args.should_save:  # every rank has written its random state
                with self._noting_failure():
                    self._publish(name, sums)
            if self._failed_anywhere():
                self._give_up_save(name)

    def _publish(self, name: str, sums: LossSums) -> None:
        staged = self._staging_folder / name
        self._check_reads_back(staged)
        self.state.save_to_json(str(staged / STATE))
        self.tokenizer.save_pretrained(staged)
        self.train_dataset.save_position(staged)
        (staged / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        progress = {"step": self.state.global_step, "effort": asdict(self.effort), "loss": asdict(sums)}
        samples = len(self.run.load_samples())
        self.run.publish(staged, {**progress, "samples": samples, **self.manifest}, private=frozenset([POSITION]))
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
            logger.info(
                "%s COULD NOT BE SAVED: %s. %s. The next save tries again.",
                name,
                reason,
                f"The last whole checkpoint is {last}" if last else "There is no checkpoint yet",
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

    # Trainer's own way looks for names as the modules have them, and only warns of what it leaves out.

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            stored.restore(self.model if model is None else model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            stored.restore(self.model, Path(str(self.state.best_model_checkpoint)))

    def _check_reads_back(self, staged: Path) -> None:
        """Raise TrainingError where the first checkpoint of this process does not give back every weight, bit by bit."""
        if self._has_read_back or self.is_deepspeed_enabled:
            return
        difference = stored.find_difference(self.model, staged)
        if difference is not None:
            raise TrainingError(
                f"{staged.name} was written and read back, and is not what is in memory: {difference}. Nothing could go on from "
                f"it. Expected a model that transformers saves and loads unchanged; {type(self.model).__name__} does not with this "
                "version, or the disk is at fault."
            )
        self._has_read_back = True

    def _anchor_staged_best(self, name: str) -> None:
        best = self.state.best_model_checkpoint
        if best is not None and Path(best).parent == self._staging_folder:
            self.state.best_model_checkpoint = str(self.run.folder / name)

    def _gather_pending(self) -> list[float]:
        """The loss summed since the last log, on each rank."""
        return list(map(float, self.accelerator.gather(self._tr_loss.reshape(1)).tolist()))

    def _rotate(self) -> None:
        """Keep the newest save_total_limit checkpoints, and besides them the best one and the one resumed from."""
        limit = self.args.save_total_limit
        best = self.state.best_model_checkpoint
        spared = {self._resumed_from, None if best is None else Path(best)}
        own = [folder for folder in self.run.checkpoints() if folder.name in self.run.mark.made]
        for folder in own[limit:] if limit else []:
            if folder not in spared and folder not in self._kept and not self.run.discard(folder):
                self._kept.add(folder)
                logger.info("%s holds something that this run has not made, so it stays", folder)


def was_to_stop(checkpoint: Path) -> bool:
    """True if the run had decided to stop (patience at an end) when it wrote the checkpoint."""
    control = load_json(checkpoint / STATE)["stateful_callbacks"]["TrainerControl"]
    return bool(control["args"]["should_training_stop"])
