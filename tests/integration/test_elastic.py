"""A host that dies and comes back: torchrun starts the processes of a run again, over two hosts with networks of their own."""

import json
import os
import subprocess
import sys

import pytest
from hosts import RUN, Network, find_obstacle, finish, list_left, wait_for

pytestmark = pytest.mark.slow

TORCHRUN = (
    *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--max-restarts", "3"),
    *("--rdzv_backend", "c10d", "--rdzv_endpoint", "hostA:29400", "--rdzv_id", "one", "-m", "lmtune"),
)
JOINS_AGAIN = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@pytest.fixture
def launch(tmp_path):
    """A function that starts torchrun on host A or B; without shared=True each has a disk of its own."""
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    (tmp_path / "at").mkdir()
    network = Network(tmp_path)
    started = []

    def start(host, *arguments, shared=False):
        own = tmp_path / ("shared" if shared else f"host{host}")
        own.mkdir(exist_ok=True)
        at = tmp_path / "at"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LMTUNE_CACHE": str(at / "cache"), **JOINS_AGAIN}
        process = subprocess.Popen(
            network.on(host, own, at, [*TORCHRUN, *arguments]),
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    network.close()


def end_well(pair):
    """What the processes have said on stderr, which end with 0."""
    said = [err for _, err in finish(pair)]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(said)
    return said


def test_a_host_that_was_killed_comes_back_and_the_run_ends_as_if_nothing_had_been(launch, tmp_path):
    end_well([launch(host, *RUN) for host in "AB"])
    run = tmp_path / "hostA" / "run"
    model = (run / "model" / "model.safetensors").read_bytes()
    run.rename(tmp_path / "undisturbed")

    stays, goes = (launch(host, *RUN, "resume=auto") for host in "AB")
    wait_for(run / "checkpoint-20" / "manifest.json", [stays, goes])
    goes.kill()  # with it all processes of the host: torchrun and what it has started
    goes.wait()
    said, _ = end_well([stays, launch("B", *RUN, "resume=auto")])
    assert "Another process of this run has ended or does not answer" in said
    assert "resuming from checkpoint-" in said
    assert "goes to the hosts that do not see the run folder" in said
    assert (run / "model" / "model.safetensors").read_bytes() == model, "bit-equal to the run that was never stopped"
    assert json.loads((run / "results.json").read_text())["status"] == "completed"
    assert list_left(tmp_path / "hostB") == []
