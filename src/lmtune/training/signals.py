"""Stopping at the end of a step, with a checkpoint, when a signal asks for it."""

import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune import stopping
from lmtune.errors import Stopped

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

logger = logging.getLogger(__name__)


def shield_workers(loader: "DataLoader[Any]") -> None:
    """Have the processes that read rows for a training ignore the signals that stop it.

    Ctrl-C reaches all processes of a terminal, and the end of a job's time all of the job: without its workers the training could
    not finish its step. They end with it, however it ends.
    """
    base = getattr(
        loader, "base_dataloader", loader
    )  # accelerate passes what it is asked on to its own, not what it is told
    base.worker_init_fn = partial(_begin_worker, base.worker_init_fn)


def _begin_worker(before: Callable[[int], object] | None, worker: int) -> None:
    for number in StopOnSignal.SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if before is not None:
        before(worker)


class StopOnSignal(TrainerCallback):
    """SIGTERM, SIGINT, SIGUSR1 or SIGHUP: finish the running step, save a checkpoint at its boundary, then raise Stopped.

    All ranks agree on the step, whichever of them got the signal. Before the first step there is nothing to save, so one
    process alone stops at once. A second signal ends the process at once, but for SIGHUP, which a terminal that closes and
    its shell both send; where it was ignored from the start (nohup) it still is. Has to be the last callback, so that the
    others have done their part of the step.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)

    def __init__(self, all_reduce_max: Callable[[int], int]) -> None:
        self.all_reduce_max = all_reduce_max
        self.received = 0
        """Number of the signal that this process got, 0 for none."""
        self.agreed = 0
        """The one that all ranks know of."""
        self.waits = True
        """True once a signal must wait for a step boundary: a step was taken, or other ranks must agree."""
        self.stopping = False
        self.process = 0
        """The one that trains."""
        self.previous: dict[int, stopping.Handler] = {}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: "DataLoader[Any] | None" = None,
        **_: Any,
    ) -> None:
        stopping.check()
        self.process = os.getpid()
        if train_dataloader is not None and train_dataloader.num_workers:
            shield_workers(train_dataloader)
        self.waits = args.world_size > 1
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        heard = [number for number in self.SIGNALS if not (nohup and number == signal.SIGHUP)]
        if threading.current_thread() is not threading.main_thread():
            heard = []  # Python sets handlers in the main thread alone; the caller is not one that signals end
        self.previous = {number: signal.signal(number, self._note) for number in heard}

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self.waits = True
        # On a GPU, asking the other ranks makes the device wait, so it is done where a log waits for it anyway.
        if (
            args.device.type == "cpu"
            or args.world_size == 1
            or state.global_step % max(1, int(args.logging_steps)) == 0
            or state.global_step >= state.max_steps
        ):
            self.agreed = self.all_reduce_max(self.received)
        # An evaluation at the end of an epoch comes before the save: a run resumed from it goes on with the next epoch.
        ends_epoch = state.epoch is not None and float(state.epoch).is_integer()
        if self.agreed and not (ends_epoch or state.global_step >= state.max_steps):
            self._save(control)
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if self.agreed and not self.stopping:
            self._save(control)
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.stopping:
            self.restore()
            raise Stopped(self.agreed, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.restore()

    def restore(self) -> None:
        """Put back the handlers that were there before."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def _save(self, control: TrainerControl) -> None:
        self.stopping = True
        control.should_save = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:
            return  # a worker that has just been forked: see shield_workers
        self.received = number
        stopping.pass_over_simultaneous(number, self.previous)
        for each in self.previous:
            signal.signal(each, signal.SIG_IGN if each == number == signal.SIGHUP else signal.SIG_DFL)
        if not self.waits:
            raise Stopped(number, 0)
        logger.info(
            "signal %s: finishing this step, then saving a checkpoint; again to stop at once",
            signal.Signals(number).name,
        )
