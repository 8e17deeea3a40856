"""A save that fails leaves the earlier checkpoints whole, is said aloud, and is tried again."""

import contextlib
import errno
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime

import killing
import pytest
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file

from lmtune.config import SaveDtype
from lmtune.errors import CheckpointError
from lmtune.runs import Run, begin_below, find_fault
from lmtune.training import results, trainer

SETTINGS = (
    *(text for text in killing.SETTINGS if "max_steps" not in text and "eval_steps" not in text),
    *("training.max_steps=5", "training.eval_steps=1", "training.save_total_limit=9"),
)
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def fail(monkeypatch):
    """A function that lets parts of saves fail: (step, method) to the error."""

    def install(errors):
        def failing(part, whole):
            def wrapped(self, *arguments, **settings):
                if error := errors.get((self.state.global_step, part)):
                    raise error
                whole(self, *arguments, **settings)

            return wrapped

        for part in {part for _, part in errors}:
            monkeypatch.setattr(transformers.Trainer, part, failing(part, getattr(transformers.Trainer, part)))

    return install


@pytest.fixture
def no_temporary_folder(monkeypatch):
    """There is none for whoever does not say where, as where /tmp is full."""

    def make(dir=None):
        if dir is None:
            raise FULL
        return tempfile.TemporaryDirectory(dir=dir)

    monkeypatch.setattr(trainer, "TemporaryDirectory", make)


@pytest.mark.usefixtures("no_temporary_folder")
def test_failed_saves_are_said_and_the_next_one_tried(lmtune, fail):
    """The loss falls at every evaluation: the last would be the best, were its weights not lost."""
    fail(
        {
            (2, "_save_optimizer_and_scheduler"): FULL,
            (3, "_save_rng_state"): RuntimeError("[enforce fail at inline_container.cc:672]\nunexpected pos 64 vs 0"),
            (5, "save_model"): SafetensorError("I/O error: No space left on device (os error 28)"),
        }
    )
    answer = lmtune("train", *SETTINGS)
    assert answer.code == 0, answer.err
    for step, reason, last in (
        (2, "[Errno 28] No space left on device", 1),
        (3, "[enforce fail at inline_container.cc:672] unexpected pos 64 vs 0", 1),
        (5, "I/O error: No space left on device (os error 28)", 4),
    ):
        assert (
            f"checkpoint-{step} COULD NOT BE SAVED: {reason}. The last whole checkpoint is checkpoint-{last}"
            in answer.err
        )
    run = Run(answer.run)
    assert [folder.name for folder in run.checkpoints()] == ["checkpoint-4", "checkpoint-1"]
    assert not run.staging_folder.exists()
    assert run.load_results()["train"]["best_step"] == 4
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run.model_folder, run.checkpoints()[0]))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)


def test_a_failed_save_ends_the_run_that_asks_for_it(lmtune, fail):
    fail({(1, "save_model"): FULL})
    answer = lmtune("train", *SETTINGS, "stop_on_failed_save=true")
    assert answer.code == 2
    assert "checkpoint-1 could not be saved ([Errno 28] No space left on device)" in answer.err
    assert "Traceback" not in answer.err


def test_a_model_that_does_not_fit_tells_what_is_left_of_its_training(tmp_path, monkeypatch):
    def refuse(*_):
        raise FULL

    monkeypatch.setattr(results.saving, "save_model", refuse)
    run = begin_below(tmp_path, "full", datetime.now())
    with pytest.raises(CheckpointError, match="no whole checkpoint to go on from, so it is lost"):
        results.save_model(run, None, None, SaveDtype.float32, "")
    staged = run.staging_folder / "checkpoint-7"
    staged.mkdir(parents=True)
    run.publish(staged, {})
    with pytest.raises(CheckpointError, match=r"checkpoint-7 is whole: make room, then resume=.* goes on from it"):
        results.save_model(run, None, None, SaveDtype.float32, "")


@contextlib.contextmanager
def small_disk(folder, megabytes):
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_run_outlives_a_disk_that_is_full_for_a_while(tmp_path):
    steps = ("training.max_steps=30", "training.eval_steps=5", "training.logging_steps=1")
    (tmp_path / "straight").mkdir()
    _, expected = killing.undisturbed(tmp_path / "straight", steps)
    with small_disk(tmp_path / "disk", 16) as disk:
        training = killing.Training(disk, steps)
        training.start()
        log, ballast = disk / "log", disk / "ballast"
        wait_for(lambda: any(run.checkpoints() for run in training.runs))
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while stream.write(bytes(1 << 16)):
                pass
        wait_for(lambda: "COULD NOT BE" in log.read_text() or not training.processes[0].is_alive())
        (run,) = training.runs
        assert [find_fault(folder) for folder in run.checkpoints()] == [None] * len(run.checkpoints())
        ballast.unlink()
        training.finish()
        assert expected.differences(killing.load_outcome(run)) == []


def wait_for(ready, seconds=240):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.005)
