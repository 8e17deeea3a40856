"""What several processes agree on: two of them, which talk through gloo on this machine."""

import os
import socket
from pathlib import Path

import pytest
import torch

from lmtune import launcher
from lmtune.config import TrainConfig
from lmtune.errors import CheckpointError, ConfigError, DataError, LostProcessError, TrainingError
from lmtune.runs import MANIFEST, MARK, Run
from lmtune.training import distributed, resume
from lmtune.training.mirror import mirrored

CPU = torch.device("cpu")


def run_two(*works):
    """Run each `work(rank, *arguments)` in two processes that have joined. works: with their arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(enter, args=(port, works), nprocs=2, start_method="spawn")


def enter(rank, port, works):
    os.environ |= {
        **{"RANK": str(rank), "LOCAL_RANK": "0", "GROUP_RANK": str(rank), "WORLD_SIZE": "2"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        launcher.RESTARTS: str(rank),  # as where the host of rank 0 has come back, and the other one was there before
    }
    torch.set_num_threads(1)
    distributed.join({"use_cpu": True, "ddp_timeout": 60})
    for work, *arguments in works:
        work(rank, *arguments)
    torch.distributed.destroy_process_group()


def test_a_process_of_its_own_agrees_with_itself(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    distributed.join({})
    assert not distributed.is_joined()
    assert distributed.agree(lambda: 3) == 3
    assert distributed.gather("a") == ["a"]
    distributed.check_same_text({"corpus": "x"})


def _decide(rank):
    assert distributed.agree(lambda: f"of {rank}") == "of 0"
    assert distributed.gather(rank) == [0, 1]
    with pytest.raises(ConfigError, match=r"^of 0$"):
        distributed.agree(lambda: raise_(ConfigError(f"of {rank}")))
    with pytest.raises(RuntimeError, match="Odd: a b"):
        distributed.agree(lambda: raise_(Odd("a", "b")))


class Odd(Exception):  # noqa: N818  an error that pickle does not build again
    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def raise_(error):
    raise error


def _go_on(rank, folder):
    """The run lies on the host of rank 1 alone."""
    assert resume.is_started_again()
    (folder / str(rank)).mkdir()
    os.chdir(folder / str(rank))
    if rank == 1:
        Path("run").mkdir()
        Path("run", MARK).write_text("{}")
    config = TrainConfig(output="run")
    resume.check_not_elsewhere(config, {}, Run(folder))
    with pytest.raises(CheckpointError, match=r"^Expected process 0, on .* process 1 alone does, on .*/1/run\. "):
        resume.check_not_elsewhere(config, {}, None)


def _see(rank, folder):
    """Rank 1 looks where nothing lies, as on a host with a disk of its own, then where a leftover does."""
    checkpoint = folder / ("checkpoint-3" if rank == 0 else "elsewhere")
    for leftover in (None, "other"):
        if rank == 1 and leftover:
            checkpoint.mkdir()
            (checkpoint / MANIFEST).write_text(leftover)
        with mirrored(checkpoint, CPU) as found:
            assert (found == checkpoint) is (rank == 0)
            assert (found / "inner" / "weights").read_bytes() == bytes(range(256)) * 300_000
            assert (found / "empty").read_bytes() == b""
        assert found.exists() is (rank == 0), "the copy is gone"


def _see_both(rank, folder):
    with mirrored(folder, CPU) as found:
        assert found == folder


def _differ(rank):
    with pytest.raises(DataError, match="process 1 has read another than process 0"):
        distributed.check_same_text({"corpus": f"of {rank}", "tokenizer": "a"})
    distributed.check_same_text({"corpus": "x", "encoder": f"of {rank}"})
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, 1.0)
    torch.nn.init.constant_(model.bias, 0.0)
    distributed.check_same_weights(model, Run("run"))
    torch.nn.init.constant_(model.bias, float(rank))
    with pytest.raises(TrainingError, match=r"process 1 holds others than process 0.*resume=run"):
        distributed.check_same_weights(model, Run("run"))


def test_the_first_process_decides_and_lends_what_it_has(tmp_path, monkeypatch):
    """Starting two processes takes seconds, so they do all that two can do together."""
    checkpoint = tmp_path / "checkpoint-3"
    (checkpoint / "inner").mkdir(parents=True)
    (checkpoint / MANIFEST).write_text("sealed")
    (checkpoint / "inner" / "weights").write_bytes(bytes(range(256)) * 300_000)  # more than one piece
    (checkpoint / "empty").touch()
    (tmp_path / "hosts").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    run_two((_decide,), (_go_on, tmp_path / "hosts"), (_see, tmp_path), (_see_both, checkpoint), (_differ,))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-3", "elsewhere", "hosts"}


def _leave(rank):
    if rank == 1:
        os._exit(0)
    with pytest.raises(LostProcessError, match="Another process of this run has ended"), distributed.noticing_loss():
        distributed.reduce_max(1, CPU)
    os._exit(0)


def test_a_process_that_has_gone_is_told_in_one_paragraph():
    run_two((_leave,))


def test_other_errors_are_no_loss(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="shape"), distributed.noticing_loss():
        raise RuntimeError("shape mismatch")
