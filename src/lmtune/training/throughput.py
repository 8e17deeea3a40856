"""How fast a training goes: real tokens a second, the share of the chip's peak that they use, memory, time left."""

import resource
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtune.storage import Record
from lmtune.training.devices import detect_device
from lmtune.units import render_duration

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments

PEAKS = {
    "GB200": (2500e12, 1250e12),
    "B200": (2250e12, 1125e12),
    "H200": (989e12, 495e12),
    "H100 PCIe": (756e12, 378e12),
    "H100 NVL": (835e12, 418e12),
    "H100": (989e12, 495e12),
    "A100": (312e12, 156e12),
    "A30": (165e12, 82e12),
    "A10": (125e12, 62e12),
    "L40S": (362e12, 183e12),
    "L40": (181e12, 90e12),
    "L4": (121e12, 60e12),
    "RTX 5090": (209e12, 105e12),
    "RTX 4090": (165e12, 83e12),
    "V100 PCIE": (112e12, None),
    "V100": (125e12, None),
    "T4": (65e12, None),
}
"""FLOP/s of dense matrix products in bfloat16 or float16 with float32 sums, and in TF32 where a chip has that, from NVIDIA's
data sheets; the first part of a chip's name that fits counts."""


@dataclass(frozen=True, slots=True)
class FlopsMeter:
    """Measures model FLOPs utilisation (Chowdhery et al. 2022, PaLM, appendix B).

    MFU = tokens/s x flops_per_token / (peak x processes).
    """

    flops_per_token: float
    peak: float | None
    """FLOP/s of one chip, None where it is not known."""

    def utilisation(self, tokens_per_second: float, processes: int) -> float | None:
        """MFU from 0 to 1, None without a known peak."""
        return None if self.peak is None else tokens_per_second * self.flops_per_token / (self.peak * processes)


def build_flops_meter(arguments: "TrainingArguments", model: "PreTrainedModel", block_size: int) -> FlopsMeter:
    """The meter for a training on the device and in the precision of `arguments`."""
    device = detect_device(arguments.use_cpu)
    half = bool(arguments.bf16 or arguments.fp16)
    peak = find_peak(device.kind, device.name, half, bool(arguments.tf32))
    return FlopsMeter(count_flops(model, block_size), peak)


def count_flops(model: "PreTrainedModel", context: int) -> float:
    """FLOPs of a forward and backward pass for one token in a row of `context` tokens.

    6 for each weight of a matrix product that learns, 4 for one that does not; 12 x layers x width x context for the
    attention scores, causal or not. Embedding tables count only where they are the head.
    """
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    weights = {
        id(module.weight): module.weight for module in model.modules() if isinstance(module, (Linear, Conv1D))
    }.values()
    products = sum((6 if weight.requires_grad else 4) * weight.numel() for weight in weights)
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 0  # models without attention have none
    width = heads * (_find_head_width(config) or config.hidden_size // max(1, heads))
    return float(products + 12 * config.num_hidden_layers * width * context)


def _find_head_width(config: "PreTrainedConfig") -> int | None:
    """Features of a head by the config, None where it says nothing or each layer has its own."""
    try:
        return getattr(config, "head_dim", None)
    except Exception:  # transformers refuses to answer for all layers at once, by an error of its own
        return None


def find_peak(kind: str, name: str, half: bool, tf32: bool) -> float | None:
    """FLOP/s of a chip in the precision that is used, None where it is not known (CPUs, float32 without TF32)."""
    if kind != "cuda" or not (half or tf32):
        return None
    words = name.replace("-", " ").split()
    if {"Laptop", "D"} & set(words):  # slower chips of the same name
        return None
    for part, (fast, slow) in PEAKS.items():
        if all(word in words for word in part.split()):
            return fast if half else slow
    return None


def wait_for(device: "torch.device") -> None:
    """Return when a GPU has done what it was given, so that the clock is honest."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def measure_memory(device: "torch.device") -> float:
    """Peak bytes: allocated on a GPU, else resident in this process."""
    if device.type == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)


def render_pace(logs: Record) -> str:
    """The pace as one line: tokens a second, MFU where it is known, memory, time left."""
    parts = [f"{logs['tokens_per_second']:,.0f} tokens/s"]
    if "mfu" in logs:
        parts.append(f"MFU {logs['mfu']:.0%}")
    return "  ".join([*parts, f"{logs['memory_gb']:.1f} GB", f"{render_duration(logs['seconds_left'])} left"])
