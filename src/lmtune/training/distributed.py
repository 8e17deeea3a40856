"""What the processes of one training tell each other. Every process has to call these at the same point."""

import torch


def reduce_max(value: int, device: torch.device) -> int:
    """The largest value over all ranks."""
    if not torch.distributed.is_initialized():
        return value
    shared = torch.tensor(value, device=device)
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
    return int(shared.item())


def reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks, in a tensor of its own where there are several."""
    if not torch.distributed.is_initialized():
        return value
    shared = value.clone()
    torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.SUM)
    return shared
