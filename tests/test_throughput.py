"""Tokens a second, FLOPs and the time left, by arithmetic that can be done by hand."""

import pytest

from lmtune.training.throughput import FlopsMeter, count_flops, find_peak, render_pace
from lmtune.units import render_duration


def test_flops_of_a_model_counted_by_hand(build_tiny):
    layers, width, vocabulary, context = 2, 32, 320, 64
    model = build_tiny()
    weights = layers * 12 * width * width + vocabulary * width
    assert count_flops(model, context) == 6 * weights + 12 * layers * width * context
    for parameter in model.transformer.h.parameters():
        parameter.requires_grad = False
    assert (
        count_flops(model, context)
        == 4 * layers * 12 * width * width + 6 * vocabulary * width + 12 * layers * width * context
    )


@pytest.mark.parametrize(
    ("name", "half", "tf32", "peak"),
    [
        ("NVIDIA H200", True, True, 989e12),
        ("NVIDIA H100 80GB HBM3", False, True, 495e12),
        ("NVIDIA H100 PCIe", True, True, 756e12),
        ("NVIDIA A100-SXM4-80GB", True, False, 312e12),
        ("NVIDIA L4", True, True, 121e12),
        ("NVIDIA L40S", True, True, 362e12),
        ("NVIDIA H100 NVL", True, True, 835e12),
        ("NVIDIA L40", True, False, 181e12),
        ("NVIDIA B200", True, True, 2250e12),
        ("NVIDIA GeForce RTX 4090", False, True, 83e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", False, True, None),
        ("Tesla V100-SXM2-16GB", True, False, 125e12),
        ("Tesla T4", False, True, None),
        ("NVIDIA H200", False, False, None),
        ("Some other chip", True, True, None),
    ],
)
def test_the_peak_is_that_of_the_chip_and_the_precision(name, half, tf32, peak):
    assert find_peak("cuda", name, half, tf32) == peak


def test_a_cpu_has_no_known_peak():
    assert find_peak("cpu", "NVIDIA H200", half=True, tf32=False) is None


def test_utilisation_is_a_share_of_all_chips():
    assert FlopsMeter(1e9, 1e15).utilisation(tokens_per_second=1e6, processes=2) == pytest.approx(0.5)
    assert FlopsMeter(1e9, None).utilisation(1e6, 2) is None


def test_the_pace_in_one_line():
    logs = {"tokens_per_second": 512345.6, "memory_gb": 11.24, "seconds_left": 11100.0}
    assert render_pace(logs) == "512,346 tokens/s  11.2 GB  3 h 05 min left"
    assert render_pace({**logs, "mfu": 0.456}) == "512,346 tokens/s  MFU 46%  11.2 GB  3 h 05 min left"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5370, "1 h 30 min"), (3600, "60 min")]
)
def test_durations(seconds, words):
    assert render_duration(seconds) == words
