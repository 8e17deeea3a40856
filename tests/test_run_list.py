"""Runs are found, listed and named from their small files, whatever state they are in; nothing heavy is imported."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from lmtune.cli.overrides import gather_words
from lmtune.cli.run_names import settle_names
from lmtune.errors import CheckpointError, ConfigError
from lmtune.reporting.run_list import build_list, render_list
from lmtune.runs import begin_below
from lmtune.runs.catalog import load_entries
from lmtune.runs.naming import find_named
from lmtune.runs.search import SWEEP_MARK

OUTPUTS = Path("outputs")


pytestmark = pytest.mark.usefixtures("stand")


def begin(name, day=1, status="completed", bits=1.25, text="ab" * 16):
    run = begin_below(OUTPUTS, name, datetime(2026, 1, day, 9, 30))
    ends = {"train": {"steps": 7}, "eval": {"wiki": {"bits_per_byte": bits, "protocol": {"text": text}}}}
    run.write_results({"name": name, "status": status, **(ends if status == "completed" else {})})
    return run


def listed(**settings):
    entries, survey = load_entries(OUTPUTS)
    return build_list(OUTPUTS, entries, survey, settings.get("limit", 0))


def test_the_run_that_was_begun_last_comes_first():
    for day, name in enumerate(("b", "a", "c"), start=1):
        begin(name, day)
    values = listed(limit=2)
    assert [row["name"] for row in values["runs"]] == ["c", "a"]
    assert values["found"] == 3
    row = values["runs"][0]
    assert (row["status"], row["steps"], row["bits_per_byte"], row["set"], row["scored_at"]) == (
        "completed",
        7,
        1.25,
        "wiki",
        None,
    )
    lines = render_list(values)
    assert lines[1].split()[0] == "c/2026-01-03_09-30-00"
    assert lines[-1] == "1 more: limit=0 lists all 3"


def test_the_number_of_a_run_that_goes_on_is_that_of_its_last_evaluation():
    run = begin("a", status="running")
    run.metrics_file.write_text(
        '{"step": 4, "eval_bits_per_byte": 2.5}\n{"step": 6, "loss": 1.0}\n{"step": 8, "lo', encoding="utf-8"
    )
    (row,) = listed()["runs"]
    assert (row["steps"], row["bits_per_byte"], row["scored_at"]) == (6, 2.5, 4)
    assert "2.5000 at step 4" in render_list(listed())[1]


def test_a_run_whose_process_is_gone_does_not_seem_to_run():
    run = begin("a", status="running")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder = run.folder / ".lock.json"
    holder.write_text(json.dumps({"pid": ended.pid, "host": os.uname().nodename, "started": "now"}))
    assert listed()["runs"][0]["status"] == "broken off"
    holder.write_text(json.dumps({"pid": os.getpid(), "host": os.uname().nodename, "started": "now"}))
    assert listed()["runs"][0]["status"] == "running"
    holder.write_text(json.dumps({"pid": ended.pid, "host": "elsewhere", "started": "now"}))
    assert listed()["runs"][0]["status"] == "running", "of another machine nothing is known"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("run.json", "{", "run.json is not as it was written"),
        ("run.json", '["x"]', "run.json is not as it was written"),
        ("run.json", None, "run.json is not there"),
        ("results.json", "\0\xff", "results.json does not read"),
        ("results.json", '{"status": "completed", "train": 3, "eval": [1]}', "results.json is not as it was written"),
    ],
)
def test_a_damaged_run_is_named(name, content, said):
    run = begin("a")
    run.config_file.write_text("x: 1\n")
    file = run.folder / name
    file.unlink() if content is None else file.write_text(content, encoding="latin-1")
    (row,) = listed()["runs"]
    assert row["fault"] == said
    assert said in render_list(listed())[1]


def test_what_is_no_run_is_counted_and_named():
    begin("a")
    for name in ("bio-tokenizer/2026", "empty"):
        (OUTPUTS / name).mkdir(parents=True)
    (OUTPUTS / "notes.txt").write_text("mine")
    (OUTPUTS / "loop").symlink_to("loop")
    values = listed()
    assert values["found"] == 1
    assert values["others"] == ["outputs/bio-tokenizer", "outputs/empty"]
    assert render_list(values)[-1] == "2 other folders without a run: outputs/bio-tokenizer, outputs/empty"


def test_jobs_of_a_sweep_are_told_by_what_differs():
    sweep = OUTPUTS / "sweeps" / "2026"
    for job, seed in enumerate((1, 2)):
        run = begin(f"sweeps/2026/{job}")
        run.folder.rename(sweep / f"{job}-moved")
        folder = sweep / f"{job}-moved"
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(f"- data=wiki\n- ++seed={seed}\n")
    (sweep / SWEEP_MARK).write_text("{}")
    assert sorted(row["overrides"] for row in listed()["runs"]) == [["seed=1"], ["seed=2"]]


@pytest.mark.parametrize(("private", "shown"), [(True, "prompts=(private)"), (False, "prompts=Maria")])
def test_of_a_private_job_no_prompt_is_listed(private, shown):
    (OUTPUTS / "sweeps").mkdir(parents=True)
    (OUTPUTS / "sweeps" / SWEEP_MARK).touch()
    for name in ("Ana", "Maria"):
        folder = begin("job").folder.rename(OUTPUTS / "sweeps" / name)
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(f"- prompts={name}\n")
        (folder / "config.yaml").write_text(f"private: {private}\ndata: {{}}\nmodel: {{}}\ntraining: {{}}\n".lower())
    assert [shown] in [row["overrides"] for row in listed()["runs"]]


def test_names_of_runs():
    first, second, other = begin("machado", 1), begin("machado", 2), begin("wiki-gpt2", 3)

    def find(text):
        return find_named("ckpt", text, OUTPUTS)

    assert find("last") == OUTPUTS / "wiki-gpt2" / other.folder.name
    assert find("machado/last").name == second.folder.name
    assert find("wiki").name == other.folder.name
    assert find("2026-01-01").name == find("2026-01-01 09:30").name == first.folder.name
    assert find(f"machado/{first.folder.name}").name == first.folder.name
    assert find("nobody") is None
    with pytest.raises(
        CheckpointError, match=r"found 2: outputs/machado/\S+, outputs/machado/\S+\. .*ckpt=machado/last"
    ):
        find("machado")
    with pytest.raises(CheckpointError, match=r"or runs=outputs/machado for all of them\.$"):
        find_named("runs", "machado", OUTPUTS)
    with pytest.raises(CheckpointError, match=r"run=machado/last for the one that was begun last\.$"):
        find_named("run", "machado", OUTPUTS)
    (OUTPUTS / "machado" / SWEEP_MARK).touch()
    with pytest.raises(CheckpointError, match=r"or run=outputs/machado for all of them\.$"):
        find_named("run", "machado", OUTPUTS)
    (OUTPUTS / "machado" / SWEEP_MARK).unlink()
    begin("machado-2", 4)
    with pytest.raises(CheckpointError, match="found 2"):
        find("machado")  # a whole name wins over a piece of another: machado-2 is not among them
    assert find("machado-2").parent.name == "machado-2"


def settle(argument):
    return settle_names("eval" if argument.startswith("ckpt=") else "train", [argument])[0]


def test_a_name_becomes_a_folder_wherever_a_model_is_taken(caplog):
    run = begin("machado")
    folder = f"outputs/machado/{run.folder.name}"
    with caplog.at_level("INFO", "lmtune"):
        assert settle("ckpt=mach") == f"ckpt={folder}"
    assert f"ckpt=mach: the run {folder}" in caplog.text
    for key in ("model.path", "resume"):
        assert settle(f"{key}=last") == f"{key}={folder}"
    assert settle("ckpt=[last,gpt2]") == f"ckpt=['{folder}','gpt2']"
    assert settle("ckpt=choice(last,./x)") == f"ckpt=choice('{folder}','./x')"
    assert settle("ckpt=outputs/machado") == f"ckpt={folder}", "the one run below a folder"
    assert settle("ckpt=outputs/machado/last") == f"ckpt={folder}"


def test_a_folder_of_texts_may_have_the_name_of_a_run(tmp_path):
    run = begin("textos")
    (tmp_path / "textos").mkdir()
    folder = f"outputs/textos/{run.folder.name}"
    assert settle("ckpt=textos") == f"ckpt={folder}"
    assert settle("ckpt=textos/last") == f"ckpt={folder}"
    assert settle("ckpt=./textos") == "ckpt=./textos", "what is typed as a path is one"


@pytest.mark.parametrize(
    "argument",
    [
        "resume=auto",
        "resume=off",
        "ckpt=./machado",
        "ckpt=someone/else",
        "ckpt=gpt2",
        "prompt=last",
        "model.tokenizer=last",
        "ckpt=",
    ],
)
def test_everything_else_keeps_what_it_means(argument):
    begin("machado-gpt2")
    assert settle(argument) == argument


def test_a_path_and_a_model_in_the_cache_win(tmp_path, monkeypatch):
    begin("machado")
    Path("machado").mkdir()
    (Path("machado") / "config.json").write_text("{}")
    assert settle("ckpt=machado") == "ckpt=machado"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub" / "models--mach" / "refs").mkdir(parents=True)
    (tmp_path / "hub" / "models--mach" / "refs" / "main").write_text("1")
    assert settle("ckpt=mach") == "ckpt=mach"


def test_a_folder_with_several_runs_is_no_checkpoint():
    begin("a", 1)
    begin("a", 2)
    with pytest.raises(CheckpointError, match=r"expected one run, found 2 below it\. .*ckpt=outputs/a/last"):
        settle("ckpt=outputs/a")
    assert settle("runs=[outputs/a]") == "runs=[outputs/a]", "runs are compared with all that lie below"
    with pytest.raises(CheckpointError, match="expected a run, found none below outputs of that name"):
        settle("ckpt=nobody/last")


def test_words_without_a_key():
    Path("lr=1").mkdir()
    assert gather_words("compare", ["a b", "format=csv", "lr=1"]) == ["format=csv", "runs=['a b','lr=1']"]
    assert gather_words("runs", ["here"]) == ["folder=here"]
    assert gather_words("train", ["seed=1", "x"]) == ["seed=1", "x"]
    with pytest.raises(ConfigError, match="expected one word, found 2"):
        gather_words("runs", ["a", "b"])
    with pytest.raises(ConfigError, match="one of the two ways"):
        gather_words("runs", ["a", "folder=b"])


def test_the_command_lists_without_torch(lmtune):
    assert lmtune("runs").out.startswith("no runs below outputs")
    begin("a")
    assert lmtune("runs", "format=json").json["runs"][0]["name"] == "a"
    assert lmtune("runs", "nothing").code == 2
    code = (
        "import sys; from lmtune.cli import main; main.run(['runs']); "
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_thousand_runs_are_listed_in_two_seconds_of_this_process():
    sample = begin("a")
    sample.metrics_file.write_text('{"step": 1}\n' * 1000)
    (sample.folder / "checkpoint-1").mkdir()
    records = {name: (sample.folder / name).read_bytes() for name in ("run.json", "results.json")}
    for number in range(1000):
        folder = OUTPUTS / f"name{number % 50}" / f"2026-{number}"
        (folder / "checkpoint-1").mkdir(parents=True)
        for name, content in records.items():
            (folder / name).write_bytes(content)
    before = time.process_time()
    values = listed()
    render_list(values)
    assert values["found"] == 1001
    assert time.process_time() - before < 2
