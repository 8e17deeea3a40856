"""A damaged file in the newest checkpoint, each in turn: the one before is taken, and the broken one set aside and named."""

import contextlib
import io
import json
import shutil

import pytest
import torch
from helpers import TINY_MODEL

from lmtune.cli import main
from lmtune.runs import Run, find_fault, seal
from lmtune.training import resume

SETTINGS = (
    *("training.use_cpu=true", "training.max_steps=2", "training.eval_steps=1", "samples.enabled=false"),
    *(*TINY_MODEL, "eval.max_tokens=200"),
)
DAMAGES = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flipped": lambda file: file.write_bytes(flip(file.read_bytes())),
    "emptied": lambda file: file.write_bytes(b""),
    "missing": lambda file: file.unlink(),
}


def flip(content):
    """One bit, in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with two checkpoints that has not completed, made once."""
    folder = tmp_path_factory.mktemp("made")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        assert main.run(["train", *SETTINGS]) == 0
    (run,) = (Run(file.parent) for file in folder.glob("outputs/*/*/config.yaml"))
    run.write_results({**run.load_results(), "status": "stopped"})
    return run


@pytest.fixture
def run(made, tmp_path):
    """A copy of it."""
    return Run(shutil.copytree(made.folder, tmp_path / "outputs" / "copy"))


@pytest.fixture
def said(caplog):
    """What was said since it was cleared."""
    caplog.set_level("INFO", logger="lmtune")
    return caplog


def test_each_damage_to_each_file_is_noticed_named_and_set_aside(run, tmp_path, said):
    newest, older = run.checkpoints()
    manifest = json.loads((newest / "manifest.json").read_text())
    names = sorted(path.name for path in newest.iterdir())
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "manifest.json"} <= set(names)
    for name in names:
        for damage, change in DAMAGES.items():
            copy = Run(tmp_path / f"{damage}-{name}")
            shutil.copytree(run.folder, copy.folder)
            change(copy.folder / newest.name / name)
            said.clear()
            taken = resume.take_up(copy, manifest, force=False)
            assert taken == copy.folder / older.name, (damage, name)
            assert said.messages[0].startswith(f"set aside {newest.name}: "), (damage, name)
            assert name in said.messages[0]
            assert not (copy.folder / newest.name).exists()
            assert len(list(copy.folder.glob(f"broken-{newest.name}-*"))) == 1
            shutil.rmtree(copy.folder)


def test_a_flipped_bit_anywhere_in_the_manifest_is_noticed(run):
    newest = run.checkpoints()[0]
    content = (newest / "manifest.json").read_bytes()
    for place in range(0, len(content), 7):
        (newest / "manifest.json").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        # Some white space, and an escape written otherwise, mean the same.
        assert find_fault(newest) or json.loads((newest / "manifest.json").read_text()) == json.loads(content), place


def test_a_run_ends_without_its_damaged_newest_checkpoint(lmtune, run):
    newest, older = run.checkpoints()
    file = newest / "model.safetensors"
    file.write_bytes(flip(file.read_bytes()))
    answer = lmtune("train", f"resume={run.folder}", "format=json")
    assert answer.code == 0, answer.err
    assert f"set aside {newest.name}: model.safetensors does not have the checksum" in answer.err
    assert f"resuming from {older.name}" in answer.err
    assert answer.json["train"]["best_step"] == 2


def test_a_damaged_best_checkpoint_is_noticed_before_the_run_goes_on(lmtune, run):
    """It is read only at the end, when it would be too late."""
    newest, older = run.checkpoints()
    manifest = json.loads((newest / "manifest.json").read_text())
    state = json.loads((newest / "trainer_state.json").read_text())
    state |= {"best_global_step": 1, "best_model_checkpoint": str(older)}
    (newest / "trainer_state.json").write_text(json.dumps(state))
    seal(newest, {name: value for name, value in manifest.items() if name not in ("files", "xxh3_128")})
    file = older / "model.safetensors"
    file.write_bytes(flip(file.read_bytes()))
    answer = lmtune("train", f"resume={run.folder}", "format=json")
    assert answer.code == 0, answer.err
    assert f"set aside {older.name}: model.safetensors does not have the checksum" in answer.err
    assert "It was the best so far" in answer.err
    assert f"resuming from {newest.name}" in answer.err
    assert answer.json["train"]["best_step"] is None


def test_another_number_of_threads_is_undone_and_another_library_is_told(run, said):
    newest = run.checkpoints()[0]
    now = json.loads((newest / "manifest.json").read_text())
    threads = now["machine"]["threads"]
    now["machine"] |= {"threads": threads + 1, "torch": "9.9", "processes": 4}
    torch.set_num_threads(threads + 1)
    resume.restore_threads(resume.take_up(run, now, force=False))
    assert torch.get_num_threads() == threads
    assert said.messages == [
        f"processes 1 then, 4 now; torch {torch.__version__} then, 9.9 now: the result need not be bit-equal to that of a run "
        "never stopped",
        f"going on with {threads} threads as before, not {threads + 1}",
    ]
