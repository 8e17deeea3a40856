"""A run that is asked to stop leaves a checkpoint that goes on to the same bits, or nothing at all."""

import contextlib
import json
import os
import random
import signal
import time

import killing
import pytest

from lmtune.runs import Run

SHORT = ("training.max_steps=40", "training.per_device_train_batch_size=16", "training.eval_steps=15")  # 20 to an epoch


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    return killing.undisturbed(tmp_path_factory.mktemp("straight"), SHORT)


def wait_for_first_log(training):
    end = time.monotonic() + 240
    while time.monotonic() < end:
        if any(run.metrics_file.exists() and '"loss"' in run.metrics_file.read_text() for run in training.runs):
            return
        time.sleep(0.005)
    raise AssertionError("nothing was logged within 240 s")


def stop(training, number=signal.SIGTERM):
    with contextlib.suppress(ProcessLookupError):  # it may have ended
        os.kill(training.processes[0].pid, number)
    return training.wait(240)


def stop_and_resume(folder, expected, delay, overrides=SHORT, number=signal.SIGTERM, code=143):
    training = killing.Training(folder, overrides)
    training.start("resume=auto")
    wait_for_first_log(training)
    time.sleep(delay)
    codes = stop(training, number)
    if codes == [0]:
        return False  # it had ended
    assert codes == [code], (folder / "log").read_text()[-3000:]
    (run,) = training.runs
    status = json.loads(run.results_file.read_text())["status"]
    if status == "completed":  # the signal came between the results and the end of the process
        assert expected.differences(killing.load_outcome(run)) == []
        return False
    assert status == "stopped"
    checkpoint, complaints = run.find_checkpoint()
    assert checkpoint is not None
    assert complaints == []
    training.start("resume=auto")
    training.finish()
    assert expected.differences(killing.load_outcome(run)) == []
    return True


def test_a_run_stopped_after_its_first_log_ends_with_the_same_bits(tmp_path, straight):
    seconds, expected = straight
    assert stop_and_resume(tmp_path, expected, delay=random.Random(0).uniform(0, 0.3) * seconds)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_a_run_stopped_at_a_random_moment_ends_with_the_same_bits(tmp_path, straight, seed):
    seconds, expected = straight
    draw = random.Random(seed)
    number, code = draw.choice([(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)])
    stop_and_resume(tmp_path, expected, draw.uniform(0, 0.6) * seconds, number=number, code=code)


@pytest.mark.slow
def test_a_run_stopped_at_the_end_of_an_epoch_still_evaluates_it(tmp_path):
    """Of a dozen steps, three end an epoch, and the epoch's end has to wait for its evaluation and its save."""
    overrides = (
        *("training.eval_strategy=epoch", "training.num_train_epochs=3", "training.max_steps=-1"),
        *("training.per_device_train_batch_size=80", "training.logging_steps=1"),
    )
    (tmp_path / "straight").mkdir()
    _, expected = killing.undisturbed(tmp_path / "straight", overrides)
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        stop_and_resume(folder, expected, 0.05 * number, overrides)


@pytest.mark.parametrize("delay", [0.3, 1.5])
def test_a_run_stopped_before_its_first_step_leaves_none_to_resume(tmp_path, straight, delay):
    training = killing.Training(tmp_path, (*SHORT, "eval.max_tokens=0"))
    training.start()
    time.sleep(delay)
    codes = stop(training)
    assert codes == [143], (tmp_path / "log").read_text()[-3000:]
    assert [run for run in training.runs if run.find_checkpoint()[0] is None] == []


def test_a_second_signal_stops_at_once_and_leaves_the_checkpoints_whole(tmp_path, straight):
    training = killing.Training(tmp_path, SHORT)
    training.start()
    wait_for_first_log(training)
    started = time.monotonic()
    os.kill(training.processes[0].pid, signal.SIGINT)
    with contextlib.suppress(ProcessLookupError):  # it can end between the question and the signal
        while training.processes[0].is_alive() and time.monotonic() < started + 20:
            os.kill(training.processes[0].pid, signal.SIGINT)
            time.sleep(0.001)
    assert training.wait(20) == [-signal.SIGINT], "by the signal itself, which a shell shows as 130"
    (run,) = training.runs
    assert [Run(run.folder).find_checkpoint()[1] for _ in run.checkpoints()] == [[] for _ in run.checkpoints()]
