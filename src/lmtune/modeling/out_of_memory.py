"""Failed allocations, reported with what to change."""

from collections.abc import Iterator
from contextlib import contextmanager

from lmtune.errors import TrainingError, one_line

ALLOCATION_ERRORS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Parts of the messages of allocation errors that have no class of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for an allocation that failed, on an accelerator or on the CPU."""
    import torch

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in ALLOCATION_ERRORS)
    )


@contextmanager
def explain_memory(remedy: str) -> Iterator[None]:
    """Raise TrainingError, with what to change, in place of an allocation that failed."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"Out of memory: {one_line(error)[:200]} Try, in this order: {remedy}.") from error
