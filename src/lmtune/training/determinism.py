"""training.full_determinism=true lasts as long as its run: the next job of a sweep finds torch as it was."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = (
    *("CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "FLASH_ATTENTION_DETERMINISTIC"),
    *("ASCEND_LAUNCH_BLOCKING", "HCCL_DETERMINISTIC"),
)
"""What transformers' enable_full_determinism sets beside torch's own switches."""

WORKSPACE = ":4096:8"
"""CUBLAS_WORKSPACE_CONFIG of a deterministic run, 32 MiB; the other value that cuBLAS is deterministic with is ":16:8", 128 KiB
(cuBLAS documentation, "Results reproducibility")."""


def enlarge_workspace() -> None:
    """Give cuBLAS the larger of its two deterministic workspaces, where transformers has just asked for the smaller one.

    torch makes the workspace once and, up to 2.11, reads the variable at every product: after a run with ":16:8" it would name
    to cuBLAS a workspace larger than the one it has, and products would write over whatever lies behind it. No workspace that
    torch chooses by itself is larger than this one.
    """
    if os.environ.get("CUBLAS_WORKSPACE_CONFIG") == ":16:8":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = WORKSPACE


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
