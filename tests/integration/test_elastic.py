"""A host that dies and comes back: torchrun starts the processes of a run again, over two hosts with networks of their own."""

import json
import os
import subprocess
import sys

import pytest
from hosts import RUN, Network, find_obstacle, finish, list_left, wait_for

pytestmark = pytest.mark.slow

TORCHRUN = (sys.executable, *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"))
JOINS_AGAIN = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    if obstacle := find_obstacle():
        pytest.skip(obstacle)
    network = Network(tmp_path_factory.mktemp("network"))
    yield network
    network.close()


@pytest.fixture(scope="module")
def build_launch(network):
    """A function from a folder to one that starts the run on host A or B, with a disk of its own or the shared one."""
    started = []

    def build(folder, meet="hostA", shared=False):
        (folder / "at").mkdir()

        def launch(host, name=None):
            own = folder / ("shared" if shared else f"host{host}")
            own.mkdir(exist_ok=True)
            rendezvous = ("--rdzv_backend", "c10d", "--rdzv_endpoint", f"{meet}:29400", "--rdzv_id", "one")
            command = [*TORCHRUN, "--max-restarts", "3", *rendezvous, "-m", "lmtune", *RUN, "resume=auto"]
            cache = str(folder / "at" / "cache")
            process = subprocess.Popen(
                network.on(host, own, folder / "at", command, name),
                env={**os.environ, "OMP_NUM_THREADS": "1", "LMTUNE_CACHE": cache, **JOINS_AGAIN},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            started.append(process)
            return process

        return launch

    yield build
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def undisturbed(build_launch, tmp_path_factory):
    """The weights of the run that is never stopped."""
    folder = tmp_path_factory.mktemp("undisturbed")
    launch = build_launch(folder)
    end_well([launch("A"), launch("B")])
    return read_weights(folder / "hostA")


def read_weights(disk):
    assert json.loads((disk / "run" / "results.json").read_text())["status"] == "completed"
    return (disk / "run" / "model" / "model.safetensors").read_bytes()


def end_well(pair):
    """What the processes have said on stderr, which end with 0."""
    said = [err for _, err in finish(pair)]
    assert [process.returncode for process in pair] == [0, 0], "\n".join(said)
    return said


def kill_behind(step, disk, goes, stays):
    """Kill a host in the middle of its training: torchrun and what it has started end at once, by SIGKILL."""
    wait_for(disk / "run" / f"checkpoint-{step}" / "manifest.json", [stays, goes])
    goes.kill()
    goes.wait()


@pytest.mark.parametrize(("goes", "stays"), ["BA", "AB"])
def test_a_host_that_was_killed_comes_back_and_the_run_ends_as_if_nothing_had_been(
    build_launch, tmp_path, undisturbed, goes, stays
):
    """Process 0 is on host A, and with it the run; the processes meet on the host that stays."""
    launch = build_launch(tmp_path, meet=f"host{stays}")
    pair = {host: launch(host) for host in "AB"}
    kill_behind(20, tmp_path / "hostA", pair[goes], pair[stays])
    pair[goes] = launch(goes)
    said = dict(zip("AB", end_well([pair["A"], pair["B"]]), strict=True))
    assert "Another process of this run has ended or does not answer" in said[stays]
    assert "resuming from checkpoint-" in said["A"]
    assert "goes to the hosts that do not see the run folder" in said["A"]
    assert read_weights(tmp_path / "hostA") == undisturbed, "bit-equal to the run that was never stopped"
    assert list_left(tmp_path / "hostB") == []


def test_on_a_shared_disk_process_0_may_move_to_another_host(build_launch, tmp_path, undisturbed):
    """torchrun numbers processes by the names of their hosts: one that comes instead of B, and before A, has process 0."""
    launch = build_launch(tmp_path, shared=True)
    stays, goes = launch("A"), launch("B")
    kill_behind(20, tmp_path / "shared", goes, stays)
    _, said = end_well([stays, launch("B", name="host0")])
    assert "resuming from checkpoint-" in said
    assert read_weights(tmp_path / "shared") == undisturbed, "bit-equal to the run that was never stopped"
