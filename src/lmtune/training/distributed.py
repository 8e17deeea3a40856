"""What the processes of a training agree on."""

import torch


def sum_over_ranks(sums: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The sum over all processes of a tensor on the CPU, the same on each. device: the one that processes talk through."""
    if not torch.distributed.is_initialized():
        return sums
    shared = sums.to(device)
    torch.distributed.all_reduce(shared)
    return shared.cpu()


def share_from_first(value: str | None) -> str:
    """The text of rank 0, on every rank; the others' own is not looked at."""
    shared = [value]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast_object_list(shared, src=0)
    assert shared[0] is not None
    return shared[0]
