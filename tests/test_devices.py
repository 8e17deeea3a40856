"""Settings that a device is fastest with, and whose wish counts."""

from types import SimpleNamespace

import pytest
import torch

from lmtune.training.arguments import _take_one_gpu
from lmtune.training.devices import Device, choose_settings, describe_device, detect_device, keep_settings

HOPPER = Device("cuda", "NVIDIA H200", bf16=True, tf32=True)
TURING = Device("cuda", "Tesla T4", bf16=False, fp16=True)
OLD = Device("cpu", "an old CPU", bf16=False)


def test_what_the_user_leaves_open_follows_the_chip():
    assert choose_settings({}, HOPPER) == {"optim": "adamw_torch_fused", "bf16": True}
    assert choose_settings({"bf16": False}, HOPPER) == {"optim": "adamw_torch_fused", "tf32": True}
    assert choose_settings({"fp16": True}, HOPPER) == {"optim": "adamw_torch_fused"}
    assert choose_settings({}, TURING) == {"optim": "adamw_torch_fused", "fp16": True}
    assert choose_settings({"bf16": False}, TURING) == {"optim": "adamw_torch_fused"}
    assert choose_settings({}, OLD) == {"optim": "adamw_torch_fused"}


@pytest.mark.parametrize("wish", [{"bf16": False}, {"fp16": True}, {"bf16": True}])
def test_a_precision_of_the_users_wins(wish):
    assert "bf16" not in choose_settings(wish, HOPPER)


def test_other_wishes_win_too():
    assert choose_settings({"optim": "sgd", "tf32": False, "bf16": False}, HOPPER) == {}


def test_a_resumed_run_keeps_what_was_chosen_but_for_what_the_chip_lacks():
    assert keep_settings({"bf16": True, "tf32": True}, HOPPER) == {"bf16": True, "tf32": True}
    assert keep_settings({"bf16": True, "tf32": True}, OLD) == {"bf16": True}
    assert keep_settings({"fp16": True}, TURING) == keep_settings({"fp16": True}, HOPPER) == {"fp16": True}
    assert keep_settings({"fp16": True}, OLD) == {}


@pytest.mark.parametrize(
    ("major", "cuda", "precisions"),
    [
        (9, "13.0", (True, True, False)),
        (8, "13.0", (True, True, False)),
        (7, "13.0", (False, False, True)),
        (6, "13.0", (False, False, False)),
        (9, None, (True, False, False)),
    ],
)
def test_the_precisions_are_those_of_the_capability(monkeypatch, major, cuda, precisions):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda at: SimpleNamespace(name="a chip", major=major))
    monkeypatch.setattr(torch.version, "cuda", cuda)
    device = detect_device(use_cpu=False)
    assert (device.bf16, device.tf32, device.fp16) == precisions


def test_use_cpu_means_the_cpu():
    device = detect_device(use_cpu=True)
    assert (device.kind, device.tf32) == ("cpu", False)
    assert device.name


def test_the_line_says_what_is_used():
    arguments = SimpleNamespace(
        bf16=True, fp16=False, tf32=True, torch_compile=False, optim=SimpleNamespace(value="adamw_torch_fused")
    )
    assert describe_device(HOPPER, arguments, "sdpa", "fused") == (
        "cuda (NVIDIA H200): bf16 autocast with TF32, adamw_torch_fused, sdpa attention, fused loss, no torch.compile"
    )


def test_a_process_alone_takes_one_gpu_of_several_and_says_so(caplog):
    arguments = SimpleNamespace(n_gpu=2, _n_gpu=2)
    with caplog.at_level("INFO", logger="lmtune"):
        _take_one_gpu(arguments)
    assert arguments._n_gpu == 1
    assert (
        "2 GPUs are visible, and one is used. All of them: torchrun --nproc_per_node 2 -m lmtune train" in caplog.text
    )
