"""Two hosts, each with a disk of its own: two mount namespaces in which the same path leads to different folders."""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
from hosts import ENTER, RUN, UNSHARE, can_unshare, finish, list_left, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def hosts(tmp_path):
    """A function that starts a command on both hosts."""
    if not can_unshare():
        pytest.skip("mount namespaces are not to be had here")
    started = []
    (tmp_path / "at").mkdir()

    def start(*arguments, **settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        pair = []
        for number in range(2):
            own = tmp_path / f"host{number}"
            own.mkdir(exist_ok=True)
            torchrun = (
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(number)),
                *("--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(port), "-m", "lmtune"),
            )
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "LMTUNE_CACHE": str(tmp_path / "at" / "cache"),
                **settings,
            }
            pair.append(
                subprocess.Popen(
                    [*UNSHARE, "sh", "-c", ENTER, own, tmp_path / "at", *torchrun, *arguments],
                    env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )
            )  # fmt: skip
        started.extend(pair)
        return pair

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_two_hosts_without_a_shared_disk_end_with_one_model(hosts, tmp_path, lmtune):
    pair = hosts(*RUN)
    said = finish(pair)
    assert [process.returncode for process in pair] == [0, 0], "\n".join(err for _, err in said)
    run = tmp_path / "host0" / "run"
    results = json.loads((run / "results.json").read_text())
    assert results["train"]["best_step"] < 50
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {file.name for file in (run / "checkpoint-50").iterdir()}
    assert list_left(tmp_path / "host1") == []
    alone = lmtune("eval", f"ckpt={run}", "device=cpu", "format=json").json["eval"]["sample"]
    assert alone["loss"] == pytest.approx(results["eval"]["sample"]["loss"], rel=1e-6)
    model = (run / "model" / "model.safetensors").read_bytes()

    shutil.move(tmp_path / "host0" / "run", tmp_path / "undisturbed")
    pair = hosts(*RUN)
    wait_for(tmp_path / "host0" / "run" / "checkpoint-20" / "manifest.json", pair)
    pair[1].kill()
    (_, err), _ = finish(pair)
    assert pair[0].returncode == 1
    assert err.count("error: Another process of this run has ended or does not answer") == 1
    assert "resume=auto" in err
    assert json.loads((run / "results.json").read_text())["status"] == "stopped"
    pair = hosts(*RUN, "resume=auto")
    said = finish(pair)
    assert [process.returncode for process in pair] == [0, 0], "\n".join(err for _, err in said)
    assert "goes to the hosts that do not see the run folder" in said[0][1]
    assert (run / "model" / "model.safetensors").read_bytes() == model, "bit-equal to the run that was never stopped"
    assert list_left(tmp_path / "host1") == []


def test_a_mistake_is_said_once_by_all_processes(hosts):
    pair = hosts("train", "training.learning_rate=-1", "training.use_cpu=true")
    said = "".join(err for _, err in finish(pair))
    assert said.count("error: training.learning_rate=-1") == 1


def test_text_that_differs_between_hosts_is_refused(hosts, tmp_path):
    for number in range(2):
        (tmp_path / f"host{number}").mkdir(exist_ok=True)
        (tmp_path / f"host{number}" / "t.txt").write_text(
            "\n\n".join(f"Documento {n} de {number}." for n in range(400))
        )
    pair = hosts(*RUN, "data.files=t.txt", "data.documents=blank_line")
    said = "".join(err for _, err in finish(pair))
    assert said.count("error: Expected the same text on all processes") == 1
    assert [list_left(tmp_path / f"host{number}") for number in range(2)] == [["t.txt"], ["t.txt"]]
