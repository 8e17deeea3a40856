"""The trackers that are installed, with the stores that they keep themselves: what they hold is read back from there."""

import importlib.util
import json
import shutil
import sqlite3

import pytest

from lmtune.runs import Run
from lmtune.training.trackers import TRACKERS

NAMES = [name for name in TRACKERS if importlib.util.find_spec(name) is not None]
PROJECT = ("tracker.project=lmtune",) if {"trackio", "wandb", "mlflow"} & set(NAMES) else ()
"""Where some tracker is told of it; without one the key would have no effect."""
TINY = (
    "training.use_cpu=true",
    "training.max_steps=4",
    "training.eval_steps=2",
    "training.logging_steps=1",
    "model.config.n_layer=1",
    "model.config.n_embd=32",
    "samples.show=0",
    "prompts=O paciente",
)

pytestmark = [
    pytest.mark.skipif(not NAMES, reason="no tracker is installed"),
    pytest.mark.filterwarnings("default"),  # trackers warn of what is theirs
]


@pytest.fixture
def tracked(lmtune, monkeypatch, tmp_path):
    """A function that trains with all trackers that are installed."""
    monkeypatch.setenv("WANDB_MODE", "offline")

    def train(*told):
        answer = lmtune("train", f"tracker=[{','.join(NAMES)}]", *told)
        assert answer.code == 0, answer.err
        assert "is told nothing more" not in answer.err
        return Run(tmp_path / "run")

    return train


def stop_halfway(run):
    for name in ("checkpoint-4", "model"):
        shutil.rmtree(run.folder / name)
    run.report_file.unlink()
    run.write_results({"run": "run", "status": "stopped", "fingerprint": run.load_results()["fingerprint"]})


def weights(run):
    return (run.model_folder / "model.safetensors").read_bytes()


def read_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    text = {
        name: events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0] for name in ("samples", "settings")
    }
    steps = {event.step: event.value for event in events.Scalars("eval/bits_per_byte")}
    return steps, text["samples"].decode(), text["settings"].decode()


def read_mlflow(run):
    with sqlite3.connect(run.folder / "mlflow.db") as store:
        rows = store.execute("select step, value from metrics where key = 'eval_bits_per_byte'").fetchall()
        assert len(store.execute("select * from runs").fetchall()) == 1
    files = {file.name: file.read_text() for file in (run.folder / "mlruns").rglob("*.*")}
    return dict(rows), files["step-00000000.md"], files["settings.yaml"]


def read_trackio(run):
    with sqlite3.connect(run.folder / "trackio" / "lmtune.db") as store:
        logged = [json.loads(row[0]) for row in store.execute("select metrics from metrics")]
        assert len(store.execute("select distinct run_name from metrics").fetchall()) == 1
        settings = store.execute("select config from configs").fetchone()[0]
    key = "eval/bits_per_byte"
    steps = {line["train/global_step"]: line[key] for line in logged if key in line}
    samples = next(line["samples"]["_value"] for line in logged if "samples" in line)
    return steps, samples, settings.decode() if isinstance(settings, bytes) else settings


def scan_records(data):
    """Records of a .wandb file: LevelDB's log, in blocks of 32 KiB behind a header of 7 bytes."""
    place, record = 7, b""
    while place + 7 <= len(data):
        if (room := 32768 - place % 32768) < 7:
            place += room
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield record
            record = b""


def read_wandb(run):
    from wandb.proto import wandb_internal_pb2

    steps, settings, ids = {}, "", set()
    for file in sorted((run.folder / "wandb").glob("offline-run-*/*.wandb")):
        ids.add(file.stem)
        for data in scan_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            if "eval/bits_per_byte" in items:
                steps[int(items["train/global_step"])] = float(items["eval/bits_per_byte"])
            settings += "".join(f"{each.key}{each.value_json}" for each in record.config.update)
    assert len(ids) == 1, "one id over all starts of the run"
    tables = [file.read_text() for file in (run.folder / "wandb").rglob("samples*.table.json")]
    return steps, "".join(tables), settings


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow, "trackio": read_trackio}


def test_trackers_hold_what_the_run_says_of_itself_and_change_nothing_in_it(lmtune, tracked, tmp_path):
    run = tracked(*TINY, "output=run", *PROJECT)
    expected = {line["step"]: line["eval_bits_per_byte"] for line in run.load_metrics() if "eval_loss" in line}
    for name in [name for name in NAMES if name in READERS]:
        steps, samples, settings = READERS[name](run)
        assert steps == pytest.approx(expected, rel=1e-6), name
        assert "O paciente" in samples, name
        assert "n_embd" in settings, name
        assert "max_steps" in settings, name
    if "codecarbon" in NAMES:
        energy = run.load_results()["train"]["energy"]
        assert energy["kilowatt_hours"] == pytest.approx(energy["cpu"] + energy["gpu"] + energy["ram"])
        assert energy["seconds"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    plain = lmtune("train", *TINY, "tracker=none", "output=plain")
    assert plain.code == 0, plain.err
    assert weights(Run(tmp_path / "plain")) == weights(run)


def test_a_resumed_run_goes_on_in_the_same_place_under_the_same_name(tracked):
    run = tracked(*TINY, "output=run")
    known = run.load_tracker_ids()
    stop_halfway(run)
    run = tracked("resume=run")
    for name, before in known.items():
        after = run.load_tracker_ids()[name]
        assert after["seconds"] > before["seconds"] if name == "codecarbon" else after == before, name
    for name in [name for name in NAMES if name in READERS]:
        assert sorted(READERS[name](run)[0]) == [0, 2, 4], name


def test_jobs_of_a_sweep_are_runs_of_their_own(lmtune, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    answer = lmtune("train", "-m", "hydra/launcher=basic", f"tracker=[{','.join(NAMES)}],none", *TINY, "seed=1,2")
    assert answer.code == 0, answer.err
    sweep = next((tmp_path / "outputs" / "sweeps").iterdir())
    runs = [Run(sweep / name) for name in "01"]
    for name in [name for name in NAMES if name in READERS]:
        first, second = (READERS[name](run)[0] for run in runs)
        assert first.keys() == second.keys(), name
        assert first != second, name
    assert runs[0].load_tracker_ids().get("wandb", 0) != runs[1].load_tracker_ids().get("wandb", 1)
