"""Checkpoints that appear in a run folder whole and sealed, or not at all."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError

from lmtune.data.streaming import POSITION
from lmtune.errors import CheckpointError, TrainingError
from lmtune.modeling import stored
from lmtune.runs import MANIFEST, Run
from lmtune.storage import Record, load_json
from lmtune.training.distributed import agree, reduce_max
from lmtune.training.trained_tokens import TrainedTokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

SAVE_ERRORS = (OSError, RuntimeError, SafetensorError, CheckpointError)
"""What a full or failing disk raises (Python's own, torch.save's, that of safetensors), and a folder with damaged records."""


@dataclass(slots=True)
class LossSums:
    """Trainer's sums of the training loss: it does not save them, and starts from 0 when a run is resumed."""

    logged: float = 0.0
    """Sum over all steps up to the last log."""
    logged_step: int = 0
    """The step of that log."""
    pending: list[float] = field(default_factory=list)
    """[ranks] sums over the steps since."""

    def pending_of(self, rank: int, ranks: int) -> float:
        """The pending sum of one rank; their mean where the checkpoint was written by another number of ranks."""
        return self.pending[rank] if len(self.pending) == ranks else sum(self.pending) / len(self.pending)


@dataclass(slots=True)
class Progress:
    """How far a run is, as far as Trainer's own state does not tell."""

    step: int = 0
    effort: TrainedTokens = field(default_factory=TrainedTokens)
    loss: LossSums = field(default_factory=LossSums)


def load_progress(checkpoint: Path) -> Progress:
    """The progress that a sealed checkpoint was saved with."""
    manifest = load_json(checkpoint / MANIFEST)
    return Progress(manifest["step"], TrainedTokens(**manifest["effort"]), LossSums(**manifest["loss"]))


class Checkpointer:
    """Saves, seals and deletes the checkpoints of one run. Every rank has one, and all call it at the same points.

    manifest: what each checkpoint's manifest holds besides its progress. writes: this rank writes what all ranks share.
    A save that fails on any rank leaves the earlier checkpoints as they were, and the run goes on unless
    stop_on_failed_save.
    """

    def __init__(
        self, run: Run, manifest: Record, device: torch.device, *, writes: bool, stop_on_failed_save: bool
    ) -> None:
        self.run = run
        self.manifest = manifest
        self._staging_folder = agree(lambda: run.staging_folder)
        self._device = device
        self._writes = writes
        self._stop_on_failed_save = stop_on_failed_save
        self.additions: list[Callable[[Path], None]] = []
        """Each puts something more into a staged checkpoint."""
        self._failure: BaseException | None = None
        self._has_read_back = False
        self._not_deletable: set[Path] = set()
        """Checkpoints that are not deleted, since something of the user's is in them."""

    def stage(self, name: str) -> Path:
        """Start a save: where to write it, until it is whole."""
        self._failure = None
        return self._staging_folder / name

    @contextmanager
    def noting_failure(self) -> Iterator[None]:
        """Keep the first error of a save until all ranks can hear of it: one that raised alone would leave the others waiting."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except SAVE_ERRORS as error:
            self._failure = self._failure or error

    def write_random_states(self, staged: Path, states: list[dict[str, bytes]]) -> None:
        """Put the files of the random states of all ranks into a staged checkpoint."""
        if self._writes:
            with self.noting_failure():
                for name, content in (item for state in states for item in state.items()):
                    (staged / name).write_bytes(content)

    def failed_anywhere(self) -> bool:
        """True where a part of the current save has failed on any rank."""
        return reduce_max(int(self._failure is not None), self._device) > 0

    def check_reads_back(self, model: "PreTrainedModel", staged: Path) -> None:
        """Raise TrainingError where the first checkpoint of this process does not give back every weight, bit by bit."""
        if self._has_read_back:
            return
        difference = stored.find_difference(model, staged)
        if difference is not None:
            raise TrainingError(
                f"{staged.name} was written and read back, and is not what is in memory: {difference}. Nothing could go on from "
                f"it. Expected a model that transformers saves and loads unchanged; {type(model).__name__} does not with this "
                "version, or the disk is at fault."
            )
        self._has_read_back = True

    def publish(self, staged: Path, progress: Progress) -> None:
        """Seal a staged checkpoint and move it into the run folder."""
        (staged / "training_args.bin").unlink(missing_ok=True)  # a pickle that nothing reads
        for add in self.additions:
            add(staged)
        samples = len(self.run.load_samples())
        self.run.publish(
            staged, {**asdict(progress), "samples": samples, **self.manifest}, private=frozenset([POSITION])
        )

    def rotate(self, limit: int | None, spared: set[Path | None]) -> None:
        """Delete this run's checkpoints but for the newest `limit` and those to spare."""
        own = [folder for folder in self.run.checkpoints() if folder.name in self.run.mark.made]
        for folder in own[limit:] if limit else []:
            if folder not in spared | self._not_deletable and not self.run.discard(folder):
                self._not_deletable.add(folder)
                logger.info("%s holds something that this run has not made, so it stays", folder)

    def give_up(self, name: str) -> None:
        """Log why a save failed and free its space for the next one; raise TrainingError if asked to stop."""
        reason = " ".join(str(self._failure or "another process could not write").split())
        last = next((folder.name for folder in self.run.checkpoints()), None)
        if self._writes:
            self.run.sweep()
            logger.info(
                "%s COULD NOT BE SAVED: %s. %s. The next save tries again.",
                name,
                reason,
                f"The last whole checkpoint is {last}" if last else "There is no checkpoint yet",
            )
        if self._stop_on_failed_save:
            raise TrainingError(
                f"{name} could not be saved ({reason}), and stop_on_failed_save=true. Make room in {self.run.folder} or mend "
                f"the disk, then go on with resume={self.run.folder}."
            )
