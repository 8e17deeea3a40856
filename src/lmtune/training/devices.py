"""The device, and the training settings that are fastest on it.

Evaluation is not touched by any of them: it runs in float32 without autocast or TF32 wherever it runs.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmtune.training.arguments import name_of, name_precision

if TYPE_CHECKING:
    from transformers import TrainingArguments

PRECISIONS = ("bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Device:
    """What a process trains on, and the precisions it is fast in."""

    kind: str
    """cpu, cuda or mps."""
    name: str
    bf16: bool
    """bfloat16 products in hardware: CUDA from compute capability 8.0, CPUs with AVX512-BF16 or AMX."""
    tf32: bool = False
    """float32 products in TF32: CUDA from compute capability 8.0."""
    fp16: bool = False
    """float16 products in hardware and no bfloat16 ones: CUDA from compute capability 7.0 (V100, T4)."""


def detect_device(use_cpu: bool) -> Device:
    """The device that Trainer will choose."""
    import torch

    if torch.cuda.is_available() and not use_cpu:
        local = min(int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count() - 1)  # of this process, not of all
        chip = torch.cuda.get_device_properties(local)
        # Emulated bfloat16, which older chips have, is slow: the capability decides, not torch.cuda.is_bf16_supported.
        other = torch.version.cuda is None  # AMD's, whose capabilities are numbered otherwise
        recent = not other and chip.major >= 8
        return Device("cuda", chip.name, bf16=recent or other, tf32=recent, fp16=not other and chip.major == 7)
    if torch.backends.mps.is_available() and not use_cpu:
        return Device("mps", "Apple GPU", bf16=False)
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # from torch 2.11 on
    multiplies = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return Device("cpu", str(found.get("cpu_name") or found.get("architecture") or "CPU"), bf16=multiplies)


def choose_settings(given: dict[str, Any], device: Device) -> dict[str, Any]:
    """Values for the TrainingArguments that `given` leaves open; what depends on the steps is chosen by plan_steps."""
    chosen: dict[str, Any] = {"optim": "adamw_torch_fused"}
    half = device.bf16 or (device.fp16 and not given.get("fsdp"))
    if half and not any(name in given for name in PRECISIONS):
        chosen["bf16" if device.bf16 else "fp16"] = True
    elif device.tf32 and not any(given.get(name) for name in PRECISIONS):
        chosen["tf32"] = True  # in half precision there is no product of float32 matrices
    return {name: value for name, value in chosen.items() if name not in given}


def keep_settings(chosen: dict[str, Any], device: Device) -> dict[str, Any]:
    """Settings chosen at the start of a run, without those that the present device lacks (TF32, float16)."""
    there = {"tf32": device.tf32, "fp16": device.kind == "cuda"}
    return {name: value for name, value in chosen.items() if there.get(name, True)}


def describe_device(device: Device, arguments: "TrainingArguments", attention: str | None, loss: str) -> str:
    """One line: what will be used on which chip."""
    precision = name_precision(arguments) + (" autocast" if arguments.bf16 or arguments.fp16 else "")
    parts = [
        precision + (" with TF32" if arguments.tf32 else ""),
        name_of(arguments.optim),
        f"{attention or 'its own'} attention",
        f"{loss} loss",
        "torch.compile" if arguments.torch_compile else "no torch.compile",
    ]
    return f"{device.kind} ({device.name}): {', '.join(parts)}"
