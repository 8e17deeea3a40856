"""Signals that stop a process: together they ask for one stop, and at its end there is nothing left to stop."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import accelerate
import pytest
import torch

from lmtune import stopping
from lmtune.errors import Stopped
from lmtune.training.signals import StopOnSignal

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def complaints(monkeypatch):
    """What Python says of signals whose handler has gone."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: found.append(unraisable.exc_value))
    return found


@pytest.fixture
def listening():
    before = {number: signal.getsignal(number) for number in (*stopping.STOPPING, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as a command finds it
    stopping.listen()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    stopping.forget()


def send_at_once(numbers=BOTH):
    """This thread gets all of them before Python looks at the first; sent to the process, another thread might take one at once."""
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    for number in numbers:
        signal.pthread_kill(threading.get_ident(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def test_signals_of_one_instant_stop_a_command_once(listening, complaints):
    raised = []
    for _ in range(3):  # once more for each that was left over
        try:
            if not raised:
                send_at_once()
        except (Stopped, KeyboardInterrupt) as error:
            raised.append(error)
    assert len(raised) == 1
    assert complaints == []
    with pytest.raises(KeyboardInterrupt):
        stopping.check()


@pytest.mark.parametrize("numbers", [BOTH, (signal.SIGHUP, signal.SIGTERM)])
def test_signals_of_one_instant_let_a_training_finish_its_step(complaints, numbers):
    stop = StopOnSignal(lambda value: value)
    stop.on_train_begin(SimpleNamespace(world_size=1), None, None)
    stop.waits = True  # a step was taken
    try:
        send_at_once(numbers)
        handlers = [signal.getsignal(number) for number in numbers]
    finally:
        stop.restore()
    assert complaints == []
    assert stop.received in numbers
    assert set(handlers) <= {signal.SIG_DFL, signal.SIG_IGN}, "another one ends the process at once"


class Patient(torch.utils.data.Dataset):
    """Rows that tell which process has read them, once that has got the signals that stop a training."""

    def __len__(self):
        return 4

    def __getitem__(self, row):
        for number in StopOnSignal.SIGNALS:
            os.kill(os.getpid(), number)
        return os.getpid()


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_the_workers_of_a_training_leave_signals_to_it(start):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} here")
    loader = accelerate.Accelerator(cpu=True).prepare(
        torch.utils.data.DataLoader(Patient(), num_workers=1, multiprocessing_context=start, worker_init_fn=print)
    )
    stop = StopOnSignal(lambda value: value)
    stop.on_train_begin(SimpleNamespace(world_size=1), None, None, train_dataloader=loader)
    try:
        began = [int(row) for row in accelerate.skip_first_batches(loader, 1)]
    finally:
        stop.restore()
    assert len(began) == 3
    assert os.getpid() not in began
    assert stop.received == 0


def test_a_worker_that_has_just_been_forked_leaves_a_signal_to_the_training():
    stop = StopOnSignal(lambda value: value)
    stop.on_train_begin(SimpleNamespace(world_size=1), None, None)
    stop.process += 1  # as a child sees it
    try:
        send_at_once()
        assert signal.getsignal(signal.SIGINT) == stop._note
    finally:
        stop.restore()
    assert stop.received == 0


def test_a_signal_after_the_end_of_a_command_ends_the_process_without_a_word():
    code = (
        "import atexit, os, signal; from lmtune import stopping; from lmtune.cli import main\n"
        "atexit.register(os.kill, os.getpid(), signal.SIGTERM)\n"
        "stopping.listen()\n"
        "main.leave(0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
