"""Records of another shape than lmtune's are left out by name: nothing is shown of them, and nothing breaks on them."""

import copy
import json
from datetime import datetime
from pathlib import Path

import pytest

from lmtune.commands import report
from lmtune.config import ReportCommandConfig
from lmtune.errors import CheckpointError
from lmtune.evaluation.side_by_side import group_scores, label_runs, load_compared
from lmtune.reporting.comparison import build_comparison
from lmtune.reporting.comparison_tables import render_comparison
from lmtune.reporting.page import render_report
from lmtune.reporting.record import load_record
from lmtune.reporting.sweep_page import load_jobs
from lmtune.runs import begin_below
from lmtune.runs.catalog import load_entries, survey
from lmtune.runs.mark import MARK, find_mark
from lmtune.runs.shape import RESULTS, keep_sound
from lmtune.storage import CHECKSUM, load_json, render_json, sign, write_json

GONE = object()
MEASURES = {
    "loss": 3.0, "perplexity": 20.0, "accuracy": 0.5, "bits_per_byte": 1.5, "word_perplexity": 90.0,
    "tokens": 300, "words": 150, "bytes": 1_000,
}  # fmt: skip
PROTOCOL = {
    "text": "t", "documents": 10, "windows": "disjoint", "context": 64, "stride": 64, "dtype": "float32",
    "split_by": "hash", "tokenizer": "v", "versions": {"torch": "2"}, "limit": None,
}  # fmt: skip
WHOLE = {
    "name": "mine", "status": "completed", "fingerprint": "f00",
    "text": {"corpus": "c0", "held_out": {"validation": {"text": "t"}}},
    "train": {"steps": 8, "epochs": 1.0, "tokens": 600, "seconds": 3.0, "tokens_per_second": 200.0, "best_step": 8},
    "starts": [{
        "began": "2026-01-01T00:00:00+00:00", "step": 0, "steps": 8, "sets": ["wiki"], "parameters": 100, "trained": 100,
        "memory": 1_000, "machine": {
            "processes": 1, "threads": 1, "device": "cpu", "attention": "sdpa", "compiled": False,
            "python": "3", "torch": "2", "transformers": "5", "lmtune": "0",
        },
    }],
    "eval": {"wiki": {**MEASURES, "protocol": PROTOCOL}},
    "epochs": [{"epoch": 1.0, "step": 8}],
    "documents": {"documents": 1, "worst": [{"document": 1, "bits_per_byte": 1.5, "bytes": 1_000}], "best": []},
}  # fmt: skip
SETTINGS = {
    "name": None, "seed": 7, "private": False, "groups": {"data": "wiki"}, "prompts": [], "report": {"language": "en"},
    "data": {"name": "wiki", "path": None, "files": None, "documents": "line"},
    "model": {"name": "tiny", "path": None, "init": "scratch"}, "training": {"max_steps": 8}, "generation": {},
}  # fmt: skip
OUTPUTS = Path("outputs")


@pytest.fixture(autouse=True)
def stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def begin(name="mine", results=None, metrics=""):
    run = begin_below(OUTPUTS, name, datetime(2026, 1, 1))
    run.write_config(SETTINGS)
    run.write_results(WHOLE if results is None else results)
    run.metrics_file.write_text(metrics)
    return run


def list_places(value, place=()):
    """Where each value inside a record stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inside:
        yield (*place, name)
        yield from list_places(each, (*place, name))


def put(record, place, value):
    changed = copy.deepcopy(record)
    above = changed
    for name in place[:-1]:
        above = above[name]
    if value is GONE:
        del above[place[-1]]
    else:
        above[place[-1]] = value
    return changed


def test_what_lmtune_writes_is_sound():
    assert keep_sound(WHOLE) == (WHOLE, [])
    assert WHOLE.keys() - {"epochs"} <= {part.rstrip("?") for part in RESULTS}


@pytest.mark.parametrize("value", [GONE, {}, "1.5"], ids=["gone", "object", "text"])
def test_whatever_is_wrong_with_results_there_is_a_page_and_a_comparison(value):
    """Whichever value inside them it is: the run itself is not lost."""
    run, other = begin(), begin("other")
    for place in list_places(WHOLE):
        run.write_results(put(WHOLE, place, value))
        render_report(load_record(run.folder))
        folders = [run.folder, other.folder]
        render_comparison(
            build_comparison([load_compared(*pair) for pair in zip(folders, label_runs(folders), strict=True)])
        )


def test_parts_of_another_shape_are_named_by_each_command(caplog):
    run, other = begin(results=put(WHOLE, ("eval", "wiki", "bits_per_byte"), "1.5")), begin("other")
    said = "results.json is not as lmtune writes it: eval.wiki.bits_per_byte"
    assert [entry.fault for entry in load_entries(OUTPUTS)[0]] == [None, said]
    values = build_comparison([load_compared(each.folder, each.folder.parent.name) for each in (run, other)])
    assert values["not_ranked"] == {"mine": said}
    with caplog.at_level("WARNING"):
        report.run(ReportCommandConfig(run=str(run.folder)))
    assert said in caplog.text


def test_a_score_that_is_not_finite_has_no_mean():
    runs = [begin(name, put(WHOLE, ("eval", "wiki", "loss"), None)) for name in ("one", "two")]
    values = build_comparison([load_compared(run.folder, run.folder.parent.name) for run in runs])
    assert len(group_scores([load_compared(run.folder, "x") for run in runs])) == 1
    assert json.loads(render_json(values))["groups"][0]["families"][0]["mean"]["loss"] is None
    assert render_comparison(values)


LINE = {"step": 4, "epoch": 0.5, "train_seconds": 1.0, **{f"eval_{name}": each for name, each in MEASURES.items()}}


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (json.dumps({**LINE, "eval_bits_per_byte": None}), [None]),
        (json.dumps({**LINE, "eval_bits_per_byte": float("nan")}), []),
        (json.dumps({**LINE, "eval_bits_per_byte": "1.5"}), []),
        (json.dumps({**LINE, "train_seconds": None}), []),
        (json.dumps(LINE)[:40], []),
        ("", []),
    ],
)
def test_lines_of_another_shape_end_the_log(line, kept):
    run = begin(metrics=f"{line}\n")
    assert [each["eval_bits_per_byte"] for each in run.load_metrics()] == kept
    assert render_report(load_record(run.folder))


def test_a_ledger_of_another_shape_is_not_told():
    run = begin()
    run.ledger_file.write_text('{"documents_read": 3, "documents_kept": 3, "sides": {}}')
    assert load_record(run.folder).ledger == {}
    assert load_record(run.folder).faults == ["ledger.json is not as lmtune writes it: bytes_read"]


def test_folders_of_other_programs_are_no_runs():
    begin()
    for name, file, content in (("theirs", MARK, '{"id": 3}'), ("other", "results.json", '{"accuracy": 1}')):
        folder = OUTPUTS / name
        folder.mkdir()
        (folder / file).write_text(content)
        (folder / "config.yaml").write_text("lr: 1\n")
        with pytest.raises(CheckpointError, match="expected the settings of a run"):
            load_record(folder)
    found = survey(OUTPUTS)
    assert [run.parent.name for run in found.runs] == ["mine"]
    assert [folder.name for folder in found.others] == ["other", "theirs"]


def test_a_mark_of_another_version_is_a_mark():
    run = begin()
    content = load_json(run.folder / MARK)
    del content["made_folders"], content[CHECKSUM]
    write_json(run.folder / MARK, sign({**content, "colour": "red"}))
    assert find_mark(run.folder).number == 1
    del content["number"]
    write_json(run.folder / MARK, sign(content))
    assert find_mark(run.folder) is None


def test_a_job_whose_settings_are_lost_is_left_out_of_its_sweep_by_name(caplog):
    kept, lost = begin("kept"), begin("lost")
    lost.config_file.unlink()
    with caplog.at_level("WARNING"):
        assert [job.record.folder for job in load_jobs(Path.cwd() / OUTPUTS)] == [kept.folder]
    assert f"left out: {lost.config_file}: expected the settings of a run" in caplog.text


def test_a_log_that_was_cut_within_its_last_line_is_whole():
    whole = f"{json.dumps(LINE)}\n"
    assert load_record(begin("one", metrics=whole + whole[:30]).folder).faults == []
    assert load_record(begin("two", metrics=f"{whole}[]\n{whole}").folder).faults == [
        "metrics.jsonl is not as lmtune writes it from line 2 of 3 on"
    ]
