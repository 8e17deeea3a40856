"""training.full_determinism=true lasts as long as its run: the next job of a sweep finds torch as it was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = (
    *("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC"),
    *("ASCEND_LAUNCH_BLOCKING", "HCCL_DETERMINISTIC"),
)
"""What transformers' enable_full_determinism sets beside torch's own switches."""


@contextmanager
def restored_determinism() -> Iterator[None]:
    """Leave torch's choice of algorithms as it was before, whatever Trainer has made of it meanwhile.

    Imports torch, so it begins where torch is needed anyway.
    """
    import torch

    variables = {name: os.environ.get(name) for name in VARIABLES}
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn
    chosen = cudnn.deterministic, cudnn.benchmark
    try:
        yield
    finally:
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark = chosen
