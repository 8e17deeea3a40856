"""What the processes of a training agree on. All of them have to call these at the same point.

Rank 0 decides: its disk, clock, device and choices are those of the run, and it broadcasts them. Files that only its disk
holds reach other hosts through mirror.py.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from lmtune import launcher
from lmtune.console import compiled_code_aside
from lmtune.errors import DataError, LmtuneError, LostProcessError, TrainingError, describe_error, first_line
from lmtune.evaluation.protocol import hash_model
from lmtune.modeling.layers import runs_in_step

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from lmtune.runs import Run

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

USUAL_TIMEOUT = 1800
"""Seconds of training.ddp_timeout, as TrainingArguments has it."""

LOST = re.compile(
    r"gloo.*(closed by peer|reset by peer|broken pipe|timed out)|NCCL.*(remote process exited|timed? ?out)",
    re.IGNORECASE | re.DOTALL,
)
"""Messages of gloo and NCCL about another process that is gone."""


def are_several() -> bool:
    """True under a launcher that has started more than one process."""
    return launcher.count_processes() > 1


def is_joined() -> bool:
    """True once the process group is initialised. torch is imported only if there are several processes."""
    if not are_several():
        return False
    import torch

    return torch.distributed.is_available() and torch.distributed.is_initialized()


def join(training: dict[str, Any]) -> None:
    """Initialise the process group with the settings of `training.*`; does nothing for a single process.

    TrainingArguments would do so only after each process has made choices of its own, and passes no timeout where
    training.use_cpu=true.
    """
    if not are_several() or is_joined():
        return
    from accelerate import PartialState

    seconds = int(training.get("ddp_timeout") or USUAL_TIMEOUT)
    backend = training.get("ddp_backend")
    with compiled_code_aside():
        PartialState(
            cpu=bool(training.get("use_cpu")),
            timeout=timedelta(seconds=seconds),
            **({} if backend is None else {"backend": backend}),
        )
    # A host that has come back counts from 0 again, and may be the one of rank 0, which decides whether a run goes on.
    os.environ[launcher.RESTARTS] = str(max(gather(launcher.count_restarts())))
    logger.info(
        "%s processes: one that is silent for %s s ends the run (training.ddp_timeout)",
        os.environ["WORLD_SIZE"],
        f"{seconds:,}",
    )


def is_first() -> bool:
    """True on rank 0."""
    return int(os.environ.get("RANK") or 0) == 0 or not are_several()


def agree(find: Callable[[], Value]) -> Value:
    """The result of `find` on rank 0, broadcast to all ranks; its error is raised on all."""
    if not is_joined():
        return find()
    import torch

    found: list[Any] = [None, None]
    if is_first():
        try:
            found[0] = find()
        except Exception as error:
            found[1] = _make_sendable(error)
    torch.distributed.broadcast_object_list(found, src=0)
    value, raised = found
    if raised is not None:
        raise raised
    return value


def do_first(work: Callable[[], Value]) -> Value | None:
    """Do `work` on rank 0 alone: its result there, None elsewhere; its error is raised on all."""
    done: list[Value] = []
    agree(lambda: done.append(work()))
    return done[0] if done else None


def gather(value: Value) -> list[Value]:
    """The values of all ranks, on each of them, by rank."""
    if not is_joined():
        return [value]
    import torch

    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, value)
    return found


def check_everywhere(check: Callable[[], None]) -> None:
    """Have each process check what is its own; what one of them raises is raised on all."""
    raised: LmtuneError | None = None
    try:
        check()
    except LmtuneError as error:
        raised = error
    for found in gather(None if raised is None else _make_sendable(raised)):
        if found is not None:
            raise found from raised


def gather_first(value: Value) -> list[Value]:
    """The values of all ranks by rank, on rank 0; [] on the others. Sent one at a time, since they may be large."""
    if not is_joined():
        return [value]
    import torch

    if not is_first():
        torch.distributed.send_object_list([value], dst=0)
        return []
    found = [value]
    for rank in range(1, torch.distributed.get_world_size()):
        sent: list[Any] = [None]
        torch.distributed.recv_object_list(sent, src=rank)
        found += sent
    return found


def wait_for_all() -> None:
    """A barrier for all ranks. accelerate's own uses a GPU, even for ranks that train on CPUs."""
    gather(None)


def check_same_text(facts: Mapping[str, object]) -> None:
    """Raise DataError, on all ranks, where hosts have files that differ. facts: of the prepared text."""
    other = _find_other({name: facts.get(name) for name in ("corpus", "tokenizer", "mix", "replay", "watched")})
    if other is not None:
        raise DataError(
            f"Expected the same text on all processes, found that process {other} has read another than process 0. Copy the files "
            "anew to each host, or put them where all hosts see them."
        )


def check_same_weights(model: PreTrainedModel, run: Run) -> None:
    """Raise TrainingError, on all ranks, where their weights differ: a score of all would be that of no model.

    Weights that are spread over them are there once.
    """
    other = _find_other(hash_model(model)) if is_joined() and not runs_in_step(model) else None
    if other is not None:
        raise TrainingError(
            f"Expected the same weights on all processes, found that process {other} holds others than process 0, so that no "
            f"score would be of one model. Nothing is scored; go on from the last checkpoint with resume={run.folder}."
        )


def _find_other(value: object) -> int | None:
    """The first rank whose value is not that of rank 0."""
    found = gather(value)
    return next((rank for rank, each in enumerate(found) if each != found[0]), None)


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Turn the errors of communication libraries about a lost process into LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        if not are_several() or LOST.search(str(error)) is None:
            raise
        raise LostProcessError(
            f"Another process of this run has ended or does not answer ({first_line(error)[:200]}). What was saved is whole: start "
            "all processes again with resume=auto."
        ) from error


def _make_sendable(error: Exception) -> Exception:
    """The error itself if it can be pickled, else a RuntimeError with its message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(describe_error(error))
    return error


def reduce_max(value: int, device: torch.device) -> int:
    """The largest value over all processes. device: that of the communication backend."""
    if not is_joined():
        return value
    import torch

    shared = torch.tensor(value, device=device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return int(shared.item())


def reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of a tensor on the device of the communication backend."""
    if not is_joined():
        return value
    import torch

    shared = value.clone()
    torch.distributed.all_reduce(shared)
    return shared


def sum_over_ranks(sums: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The sum over all processes of a tensor on the CPU, the same on each. device: that of the communication backend."""
    return reduce_sum(sums.to(device)).cpu() if is_joined() else sums
