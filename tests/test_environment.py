"""Threads wait without spinning where others compute; what the user has said stands."""

import os
import subprocess
import sys

import psutil
import pytest
from documents import ROOT

from lmtune import environment
from lmtune.environment import is_shared, set_waiting


@pytest.fixture(autouse=True)
def _before_torch(monkeypatch):
    """As in a process that has not imported torch; the variables are put back."""
    monkeypatch.setattr(
        os, "environ", {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    )
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name != "torch"})


@pytest.mark.parametrize(("shares", "shared"), [([0.0, 3.0], False), ([0.0, 100.0], True), ([60.0, 0.0], True)])
def test_one_processor_that_is_taken_is_enough(monkeypatch, shares, shared):
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: shares)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    assert is_shared() is shared


def test_a_processor_that_is_not_ours_does_not_count(monkeypatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [0.0, 100.0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    assert not is_shared()


@pytest.mark.parametrize("shared", [True, False])
def test_threads_sleep_only_where_others_compute(monkeypatch, shared):
    monkeypatch.setattr(environment, "is_shared", lambda: shared)
    set_waiting()
    assert os.environ.get("OMP_WAIT_POLICY") == ("PASSIVE" if shared else None)


@pytest.mark.parametrize("said", ["OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_was_said_of_threads_stands(monkeypatch, said):
    monkeypatch.setattr(environment, "is_shared", lambda: True)
    os.environ[said] = "1"
    set_waiting()
    assert os.environ.get("OMP_WAIT_POLICY") == ("1" if said == "OMP_WAIT_POLICY" else None)


def test_nothing_is_asked_once_torch_is_there(monkeypatch):
    monkeypatch.setattr(environment, "is_shared", lambda: pytest.fail("too late"))
    sys.modules["torch"] = object()
    set_waiting()


def test_the_variables_are_set_before_torch_is_imported():
    code = "import lmtune.api, lmtune.cli.main, lmtune.commands.train, lmtune.commands.evaluate, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_switched_off_stands_in_the_docs(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    environment.set_environment()
    table = (ROOT / "docs" / "offline.md").read_text(encoding="utf-8")
    for name, value in os.environ.items():
        assert name == "TOKENIZERS_PARALLELISM" or f"`{name}={value}`" in table
    os.environ["WANDB_ERROR_REPORTING"] = "true"
    environment.set_environment()
    assert os.environ["WANDB_ERROR_REPORTING"] == "true", "what the user says stands"
