"""Without a network: from the built-in text to a served model, nobody is asked for anything; a Hub id is refused at once."""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
WALK = Path(__file__).parents[1] / "closed_walk.py"
UNSHARE = ("unshare", "--map-root-user", "--net")
CLOSED = """
import os, socket

HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", None)
connect, connect_ex, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

def note(where):
    with open(os.environ["CLOSED_LOG"], "a") as log:
        print(where, file=log)

def closed(call):
    def refuse(self, address):
        if self.family == socket.AF_UNIX or address[0] in HERE:
            return call(self, address)
        note(address)
        raise OSError(101, "closed")
    return refuse

def refuse_name(host, *others, **settings):
    if host in HERE:
        return look_up(host, *others, **settings)
    note(host)
    raise socket.gaierror(-3, "closed")

socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = closed(connect), closed(connect_ex), refuse_name
"""
"""As sitecustomize in every Python process: another machine cannot be reached, and whoever tries is noted."""
TRACKERS = [name for name in ("tensorboard", "mlflow", "trackio", "codecarbon") if importlib.util.find_spec(name)]


def without_hub(**more):
    """The environment of a user who has set nothing of the Hub's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | more


def can_unshare():
    return (
        shutil.which("unshare") is not None and not subprocess.run([*UNSHARE, "true"], capture_output=True).returncode
    )


def check_walk(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["eval"] == ["sample"]
    assert found["generate"].startswith("Era uma vez")
    assert found["report"] > 10_000
    assert found["serve"]


@pytest.mark.parametrize("trackers", [(), TRACKERS], ids=["plain", "tracked"])
def test_no_python_code_asks_another_machine(tmp_path, trackers):
    if trackers == [] and not TRACKERS:
        pytest.skip("no tracker is installed")
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "sitecustomize.py").write_text(CLOSED)
    (tmp_path / "here").mkdir()
    log = tmp_path / "asked.txt"
    path = os.pathsep.join([str(tmp_path / "closed"), os.environ.get("PYTHONPATH", "")])
    more = [f"tracker=[{','.join(trackers)}]"] if trackers else []
    check_walk(
        [sys.executable, WALK, tmp_path / "here", *more],
        without_hub(PYTHONPATH=path, CLOSED_LOG=str(log), LMTUNE_DEBUG="1"),
    )
    assert not log.exists(), log.read_text()
    tried = subprocess.run([sys.executable, "-c", "import socket; socket.create_connection(('example.org', 80), 1)"],
                           env=without_hub(PYTHONPATH=path, CLOSED_LOG=str(log)), capture_output=True, check=False)  # fmt: skip
    assert (tried.returncode, log.read_text()) == (1, "example.org\n"), "it is noted who asks"


@pytest.mark.skipif(not can_unshare(), reason="no network namespace of its own without root")
def test_all_of_it_works_where_there_is_no_network(tmp_path):
    check_walk([*UNSHARE, sys.executable, WALK, tmp_path], without_hub(LMTUNE_DEBUG="1"))


@pytest.mark.skipif(not can_unshare(), reason="no network namespace of its own without root")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "model=gpt2"), "openai-community/gpt2 is no folder here, and as a Hub model it cannot be had"),
        (("train", "data=bio"), "community-datasets/scielo is no folder here, and as a Hub dataset it cannot be had"),
        (("eval", "ckpt=gpt2", "data=sample"), "gpt2 is no folder here, and as a Hub model it cannot be had"),
        (("generate", "ckpt=gpt2", "prompt=a"), "Check the spelling and the network"),
        (("serve", "ckpt=gpt2"), "Check the spelling and the network"),
        (("chat", "ckpt=gpt2"), "Check the spelling and the network"),
        (("export", "ckpt=gpt2", "to=gguf"), "Check the spelling and the network"),
    ],
)
def test_an_id_of_the_hub_is_refused_at_once(tmp_path, arguments, said):
    environment = without_hub(HF_HOME=str(tmp_path))
    began = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([*UNSHARE, sys.executable, "-m", "lmtune", *arguments], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - began
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert seconds < 4, "of computing, whoever else computes; how long an answer is waited for: tests/test_fetch.py"
