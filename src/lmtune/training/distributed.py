"""What the processes of a training agree on. All of them have to call these at the same point."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value", str, int)


def reduce_max(value: int, device: torch.device) -> int:
    """The largest value over all processes. device: the one that they talk through."""
    import torch

    if not torch.distributed.is_initialized():
        return value
    shared = torch.tensor(value, device=device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return int(shared.item())


def reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum over all processes of a tensor on the device that they talk through."""
    import torch

    if not torch.distributed.is_initialized():
        return value
    shared = value.clone()
    torch.distributed.all_reduce(shared)
    return shared


def sum_over_ranks(sums: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The sum over all processes of a tensor on the CPU, the same on each. device: the one that processes talk through."""
    import torch

    return reduce_sum(sums.to(device)).cpu() if torch.distributed.is_initialized() else sums


def share_from_first(value: Value | None) -> Value:
    """The value of rank 0, on every rank; the others' own is not looked at."""
    import torch

    shared = [value]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(shared, src=0)
    assert shared[0] is not None
    return shared[0]
