"""torch.compile, block by block: the blocks of a decoder share their code, so what is compiled for one serves all.

Embeddings and head stay as they are; on a GPU the softmax of the fused loss becomes one kernel. Evaluations and samples run
the same blocks uncompiled: their shapes change all the time, and each new shape would be compiled again.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmtune.errors import ConfigError, first_line
from lmtune.modeling.layers import COMPILES_SOFTMAX, below_adapter, find_blocks

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainingArguments


@contextmanager
def compiled_blocks(model: "PreTrainedModel", arguments: "TrainingArguments") -> Iterator[None]:
    """Compile the blocks of `model` in place, until the context ends: names of weights and modules do not change."""
    place = find_blocks(model)
    if not arguments.torch_compile or place is None:
        yield
        return
    blocks = list(model.get_submodule(place[0].removesuffix(".")).children())
    inner = below_adapter(model)
    for block in blocks:
        # Shapes are static: which of two graphs a shape meets would depend on the shapes before it, and so on resuming.
        block.compile(backend=arguments.torch_compile_backend, mode=arguments.torch_compile_mode, dynamic=False)
    setattr(inner, COMPILES_SOFTMAX, arguments.device.type == "cuda")
    try:
        with _without_advice():
            yield
    finally:
        setattr(inner, COMPILES_SOFTMAX, False)
        for block in blocks:
            block._compiled_call_impl = None


@contextmanager
def _without_advice() -> Iterator[None]:
    """Beside half precision TF32 is left off on purpose (devices.py); the compiler would advise to turn it on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
        yield


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run uncompiled code in here."""
    import torch

    with torch.compiler.set_stance("force_eager"):
        yield


def check_compile(arguments: "TrainingArguments") -> None:
    """Raise ConfigError where torch.compile is asked for and does not work as asked."""
    if not arguments.torch_compile:
        return
    backend, mode = arguments.torch_compile_backend, arguments.torch_compile_mode
    failure = find_compile_failure(arguments.device, backend, mode)
    if failure is not None:
        raise ConfigError(
            f"training.torch_compile=true, backend {backend}, mode {mode or 'default'}: expected a product to compile, found: "
            f"{failure} Choose others with training.torch_compile_backend= and training.torch_compile_mode=, or give "
            "training.torch_compile=false alone."
        )


def find_compile_failure(
    device: "torch.device | str", backend: str | None = "inductor", mode: str | None = None
) -> str | None:
    """Why nothing can be compiled for this device (no compiler, no Triton), None if it can: tries it on a product."""
    import torch

    try:
        compiled = torch.compile(
            lambda values: values @ values + 1, backend=backend or "inductor", mode=mode, dynamic=False
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are no failure, whatever the program that asks makes of warnings
            compiled(torch.ones(16, 16, device=device))
    except Exception as error:  # whatever the compilers of this machine raise
        return first_line(error)
    return None
