"""A damaged record never ends a run whose checkpoints are whole: it is rebuilt from them, or the rest is named."""

import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from helpers import TINY_MODEL
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtune.cli import main
from lmtune.errors import CheckpointError
from lmtune.runs import MANIFEST, Run
from lmtune.storage import load_jsonl
from lmtune.training import resume

SETTINGS = (
    *("training.use_cpu=true", "training.max_steps=4", "training.eval_steps=2", "generation.max_new_tokens=3"),
    *("training.logging_steps=1", *TINY_MODEL),
    *("eval.max_tokens=200", "samples.show=0"),
)
RECORDS = (
    *("run.json", "config.yaml", "results.json", "ledger.json", "metrics.jsonl", "samples.jsonl", "samples.md"),
    *("train.log", ".lock.json", ".hydra/overrides.yaml", ".hydra/hydra.yaml"),
)
DAMAGES = {
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "binary": lambda file: file.write_bytes(bytes(range(256)) * 4),
    "gone": lambda file: file.unlink(),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that was never disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        assert main.run(["train", *SETTINGS, "output=run"]) == 0
    return Run(folder / "run")


@pytest.fixture(scope="module")
def halfway(finished, tmp_path_factory):
    """The same run as a kill after its second step would have left it."""
    run = Run(shutil.copytree(finished.folder, tmp_path_factory.mktemp("halfway") / "run"))
    for name in ("checkpoint-4", "model"):
        shutil.rmtree(run.folder / name)
    run.report_file.unlink()
    run.write_results({"run": "run", "status": "running", "fingerprint": run.load_results()["fingerprint"]})
    return run


@pytest.fixture
def run(halfway, tmp_path):
    return Run(shutil.copytree(halfway.folder, tmp_path / "run"))


def outcome(run):
    clocks = ("seconds", "runtime", "per_second", "memory", "mfu")
    lines = [
        {k: v for k, v in line.items() if not any(c in k for c in clocks)} for line in load_jsonl(run.metrics_file)
    ]
    measures = {k: v for k, v in run.load_results()["eval"]["sample"].items() if k != "seconds"}
    return (
        (run.model_folder / "model.safetensors").read_bytes(),
        lines,
        measures,
        json.loads(run.ledger_file.read_text()),
    )


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("record", RECORDS)
def test_a_run_ends_as_ever_whatever_happened_to_a_record(lmtune, run, finished, record, damage):
    DAMAGES[damage](run.folder / record)
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert outcome(run) == outcome(finished)
    if record in ("run.json", "config.yaml", "metrics.jsonl", "samples.jsonl"):
        assert record in answer.err, "it is named"


def test_a_completed_run_with_damaged_results_is_scored_anew(lmtune, finished, tmp_path):
    run = Run(shutil.copytree(finished.folder, tmp_path / "run"))
    text = run.results_file.read_text()
    run.results_file.write_text(text.replace('"bits_per_byte": 3', '"bits_per_byte": 2'))
    assert run.results_file.read_text() != text
    answer = lmtune("train", f"resume={run.folder}", "format=json")
    assert answer.code == 0, answer.err
    assert outcome(run) == outcome(finished)


def test_settings_changed_by_hand_are_set_aside_and_not_lost(lmtune, run, finished):
    text = run.config_file.read_text(encoding="utf-8")
    run.config_file.write_text(text.replace("max_steps: 4", "max_steps: 400"), encoding="utf-8")
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert "config.yaml was not as the run wrote it" in answer.err
    (aside,) = run.folder.glob("broken-config.yaml-*")
    assert "max_steps: 400" in aside.read_text(encoding="utf-8")
    assert outcome(run) == outcome(finished)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(
        st.sampled_from(RECORDS[:7]),
        st.one_of(st.binary(max_size=60), st.floats(0, 1), st.none(), st.just("a folder"), st.integers(0, 2**16)),
        max_size=5,
    )
)
def test_records_come_back_or_are_named_whatever_was_done_to_them(halfway, changes):
    with tempfile.TemporaryDirectory() as root:
        run = Run(shutil.copytree(halfway.folder, Path(root) / "run"))
        told, metrics = run.load_config(), load_jsonl(run.metrics_file)
        for name, change in changes.items():
            apply(run.folder / name, change)
        folders = [name for name, change in changes.items() if change == "a folder"]
        if folders:
            with pytest.raises(CheckpointError, match=r"found a folder\. Move it elsewhere"):
                run.restore_mark()
            return
        run.restore_mark()
        assert run.load_config() == told
        manifest = json.loads((run.folder / "checkpoint-2" / MANIFEST).read_text())
        assert resume.take_up(run, manifest, force=False) == run.folder / "checkpoint-2"
        assert load_jsonl(run.metrics_file) == [line for line in metrics if line["step"] <= 2]
        assert run.load_results()["status"] == "running"


@pytest.mark.parametrize("name", ["step", "samples", "prompt", "text", "loss", "eval_loss"])
def test_a_name_that_was_damaged_in_a_line_ends_its_file(lmtune, run, finished, name):
    """The line is JSON all the same."""
    for file in (run.metrics_file, run.samples_file):
        first, _, rest = file.read_text(encoding="utf-8").partition("\n")
        damaged = rest.replace(f'"{name}"', f'"{name[:-1]}#"', 1)
        file.write_text(f"{first}\n{damaged}", encoding="utf-8")
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert outcome(run) == outcome(finished)


def apply(file, change):
    content = file.read_bytes()
    if change is None or change == "a folder":
        file.unlink()
        if change:
            file.mkdir()
    elif isinstance(change, bytes):
        file.write_bytes(change)
    elif isinstance(change, float):
        file.write_bytes(content[: int(change * len(content))])
    else:
        place = change % max(1, len(content))
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
