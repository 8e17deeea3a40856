"""`lmtune train`, `eval` and `generate` as a user runs them, on the built-in text."""

import contextlib
import io
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import set_status

from lmtune.cli import main
from lmtune.runs import Run

SHORT = ("training.max_steps=6", "training.use_cpu=true")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """outputs/ with one short run on the built-in text, made once; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        assert main.run(["train", *SHORT]) == 0
    return folder / "outputs"


@pytest.fixture
def run(lmtune, finished, tmp_path):
    """A copy of the short run, in the folder where `lmtune` stands."""
    shutil.copytree(finished, tmp_path / "outputs")
    return next((tmp_path / "outputs").glob("*/*"))


def numbers(measures):
    return {name: value for name, value in measures.items() if isinstance(value, (int, float)) and name != "seconds"}


def test_a_run_leaves_everything_it_promises(run):
    names = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert names == {
        "config.yaml", "ledger.json", "metrics.jsonl", "samples.jsonl", "samples.md", "train.log", "checkpoint-6", "checkpoint-5",
        "model", "results.json", "report.html", "run.json", "past.npz", "scores.npz",
    }  # fmt: skip
    assert (run / ".hydra" / "overrides.yaml").exists()
    results = json.loads((run / "results.json").read_text())
    assert results["status"] == "completed"
    assert (results["train"]["steps"], results["train"]["world_size"], results["train"]["distributed"]) == (6, 1, "NO")
    assert 47 * 128 <= results["train"]["tokens"] <= 6 * 8 * 128, "one of the rows may be an empty one"
    assert [row["step"] for row in results["epochs"]] == list(range(7))
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["training"]["max_steps"] == 6
    assert config["data"]["name"] == "sample"
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["step"] for record in samples] == list(range(7))
    assert {sample["prompt"] for sample in samples[0]["samples"]} == set(config["prompts"])


def test_the_model_loads_as_it_is(run):
    from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

    folder = run / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.use_cache is True
    assert str(model.dtype) == "torch.float32"
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, model.config.bos_token_id, model.config.eos_token_id}
    assert (
        ids
        == {0}
        == {model.generation_config.eos_token_id, model.generation_config.pad_token_id, tokenizer.pad_token_id}
    )
    text = pipeline("text-generation", model=str(folder))("O paciente", max_new_tokens=5)[0]["generated_text"]
    assert text.startswith("O paciente")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_a_model_saved_in_bfloat16_is_the_one_that_was_scored(lmtune):
    answer = lmtune("train", *SHORT, "model.save_dtype=bfloat16", "samples.enabled=false", "format=json")
    assert answer.code == 0, answer.err
    (folder,) = Path("outputs").glob("*/*/model")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    again = lmtune("eval", f"ckpt={folder}", "device=cpu", "format=json").json["eval"]["sample"]
    assert again["loss"] == pytest.approx(answer.json["eval"]["sample"]["loss"], rel=1e-6)


def test_the_snippet_of_the_card_works(run, monkeypatch):
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(run / "model")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(snippet)
    assert said.getvalue().startswith("O paciente chegou no hospital")


def test_the_card_says_how_the_model_learned(run):
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    train = json.loads((run / "results.json").read_text())["train"]
    rate = "a highest learning rate of 0.001, reached after a warm-up of 1 step; the schedule was cosine."
    assert (
        f"Each of the 6 steps learned from at most 8 rows of 128 tokens; {train['tokens']:,} tokens were learned in all"
        in card
    )
    assert all(each in card for each in (rate, "| sample | pt | cc0-1.0 |", "| device | cpu", "| learned from | 101 |"))


def test_the_card_and_the_report_tell_the_numbers(run):
    measures = json.loads((run / "results.json").read_text())["eval"]["sample"]
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["language"] == "pt"
    values = {
        metric["type"]: metric["value"]
        for result in metadata["model-index"][0]["results"]
        for metric in result["metrics"]
    }
    assert values["bits_per_byte"] == measures["bits_per_byte"]
    before = measures["while_training"]["before"]["bits_per_byte"]
    assert f"| bits per byte | {before:.4f} | {measures['bits_per_byte']:.4f} |" in card
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"{measures['bits_per_byte']:.4f}" in page
    assert page.count("<svg") == 2
    assert not re.search(r'(src|href)="https?:', page), "the page would fetch something"
    identities = re.findall(r' id="([^"]+)"', page)
    assert len(identities) == len(set(identities))


@pytest.mark.parametrize("which", ["", "model", "checkpoint-6"])
def test_eval_repeats_the_numbers_of_the_run(lmtune, run, which):
    answer = lmtune("eval", f"ckpt={run / which}", "format=json", "device=cpu")
    assert answer.code == 0, answer.err
    ours, theirs = answer.json["eval"]["sample"], json.loads((run / "results.json").read_text())["eval"]["sample"]
    for name, value in numbers(ours).items():
        assert value == pytest.approx(theirs[name], rel=1e-6), name
    assert ours["protocol"] == theirs["protocol"]


def test_eval_on_other_text_scores_all_of_it(lmtune, run, tmp_path):
    (tmp_path / "João e Ana").mkdir()
    file = tmp_path / "João e Ana" / "a(1).txt"
    file.write_text("O paciente chegou ao hospital.\nA médica examinou o braço.", encoding="utf-8")
    answer = lmtune("eval", f"ckpt={run}", f"data.files={file}", "format=json", "device=cpu")
    assert answer.code == 0, answer.err
    measures = answer.json["eval"]["files"]
    assert (measures["bytes"], measures["words"]) == (len(file.read_bytes()), 10)
    assert measures["protocol"]["split"] == "all"
    assert math.isfinite(measures["bits_per_byte"])


def test_eval_of_another_split_and_of_named_data(lmtune, run):
    train = lmtune("eval", f"ckpt={run}", "eval.split=train", "format=json", "device=cpu").json["eval"]["sample"]
    named = lmtune("eval", f"ckpt={run}", "data=sample", "format=json", "device=cpu").json["eval"]["sample"]
    held = json.loads((run / "results.json").read_text())["eval"]["sample"]
    assert train["bytes"] > 10 * held["bytes"]
    assert named["loss"] == pytest.approx(held["loss"], rel=1e-6)


@pytest.mark.parametrize(
    "prompt",
    [
        "O paciente chegou no hospital",
        "Quem era Jim Henson? Jim Henson era um",
        "Em um achado chocante, o cientista descobriu",
        "Barack Hussein Obama II, nascido em 4 de agosto de 1961, é",
        "Corrida por vacina contra Covid-19 já tem",
    ],
)
def test_generate_repeats_itself_for_a_seed(lmtune, run, prompt):
    command = (
        "generate",
        f"ckpt={run}",
        f"prompt={prompt}",
        "generation.do_sample=true",
        "generation.top_k=40",
        "device=cpu",
    )
    one, again, other = lmtune(*command, "seed=1"), lmtune(*command, "seed=1"), lmtune(*command, "seed=2")
    assert one.code == 0, one.err
    assert one.out == again.out != other.out
    assert one.out.startswith(prompt)
    assert lmtune(*command, "seed=1", "format=json").json == {"prompt": prompt, "texts": [one.out.removesuffix("\n")]}


def test_json_is_the_only_thing_on_stdout(lmtune):
    answer = lmtune("train", *SHORT, "format=json")
    assert answer.code == 0, answer.err
    assert answer.json["status"] == "completed"
    assert answer.json["eval"]["sample"]["unigram_bits_per_byte"] > 3


def test_a_finished_run_is_answered_from_its_results(lmtune, run):
    before = (run / "model" / "model.safetensors").stat().st_mtime_ns
    answer = lmtune("train", f"resume={run}", "format=json")
    assert answer.code == 0, answer.err
    assert answer.json == {**json.loads((run / "results.json").read_text()), "folder": str(run)}
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == before
    again = lmtune("train", *SHORT, "resume=auto", "format=json")
    assert again.json == answer.json


def test_a_run_cut_after_a_checkpoint_ends_as_the_straight_one(lmtune, run):
    straight = (run / "model" / "model.safetensors").read_bytes()
    metrics = (run / "metrics.jsonl").read_text()
    shutil.rmtree(run / "checkpoint-6")
    shutil.rmtree(run / "model")
    set_status(run, "running")
    answer = lmtune("train", f"resume={run}")
    assert answer.code == 0, answer.err
    assert "resuming from checkpoint-5" in answer.err
    assert (run / "model" / "model.safetensors").read_bytes() == straight
    steps = [
        [json.loads(line)["step"] for line in text.splitlines()]
        for text in (metrics, (run / "metrics.jsonl").read_text())
    ]
    assert steps[0] == steps[1]


def test_a_resumed_run_keeps_the_precision_it_began_with(lmtune, run):
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert config["chosen"]["optim"] == "adamw_torch_fused"
    other = not config["chosen"].get("bf16", False)
    config["chosen"]["bf16"] = other
    Run(run).write_config(config)
    shutil.rmtree(run / "checkpoint-6")
    Run(run).write_results({**Run(run).load_results(), "status": "stopped"})
    answer = lmtune("train", f"resume={run}")
    assert answer.code == 0, answer.err
    assert ("bf16 autocast" if other else "float32") + ", adamw_torch_fused" in answer.err


def test_a_broken_newest_checkpoint_is_passed_over(lmtune, run):
    (run / "checkpoint-6" / "model.safetensors").write_bytes(b"")
    set_status(run, "failed")
    answer = lmtune("train", f"resume={run}")
    assert answer.code == 0, answer.err
    assert "set aside checkpoint-6: model.safetensors has 0 bytes" in answer.err
    assert "resuming from checkpoint-5" in answer.err


def test_resuming_with_other_settings_is_refused_with_the_differences(lmtune, run):
    set_status(run, "stopped")
    answer = lmtune("train", f"resume={run}", "training.weight_decay=0.5", "samples.show=0")
    assert answer.code == 2
    assert "training.weight_decay: None then, 0.5 now" in answer.err
    assert "resume_force=true" in answer.err


def test_text_that_changed_since_the_checkpoint_is_noticed(lmtune, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("\n\n".join(f"Documento {n} sobre saúde e exames." for n in range(60)), encoding="utf-8")
    first = lmtune(
        "train",
        f"data.files={file}",
        "data.documents=blank_line",
        "data.block_size=32",
        *SHORT,
        "samples.enabled=false",
    )
    assert first.code == 0, first.err
    set_status(first.run, "stopped")
    file.write_text(file.read_text(encoding="utf-8") + "\n\nMais um documento.", encoding="utf-8")
    answer = lmtune("train", f"resume={first.run}")
    assert answer.code == 2
    assert "changed since its checkpoint was written" in answer.err


def test_own_files_are_found_again_from_another_folder(lmtune, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(
        "\n\n".join(f"Documento ${{n}} {n} sobre saúde." for n in range(60)), encoding="utf-8"
    )
    run = lmtune(
        "train", "data.files=a.txt", "data.documents=blank_line", "data.block_size=32", *SHORT, "samples.enabled=false"
    ).run
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    answer = lmtune("eval", f"ckpt={run}", "device=cpu", "format=json")
    assert answer.code == 0, answer.err
    assert answer.json["eval"]["files"]["loss"] == pytest.approx(
        json.loads((run / "results.json").read_text())["eval"]["files"]["loss"]
    )


def test_resume_auto_looks_among_runs_of_the_same_name(lmtune, run, tmp_path):
    command = ("train", *SHORT, "samples.enabled=false", "resume=auto")
    assert lmtune(*command).run == run
    other = lmtune(*command, "name=other")
    assert other.code == 0, other.err
    assert other.run.parent == tmp_path / "outputs" / "other"


def test_resume_auto_takes_up_the_folder_that_output_names(lmtune):
    command = ("train", *SHORT, "samples.enabled=false", "output=here", "resume=auto", "format=json")
    first, again = lmtune(*command), lmtune(*command)
    assert first.code == again.code == 0, again.err
    assert first.json == again.json
    refused = lmtune("train", *SHORT, "output=here")
    assert refused.code == 2
    assert "already holds a run" in refused.err


def test_a_sweep_runs_each_job_in_a_folder_of_its_own(lmtune, tmp_path):
    answer = lmtune(
        "train", "-m", "hydra/launcher=basic", "training.learning_rate=1e-4,1e-3", *SHORT, "samples.enabled=false"
    )
    assert answer.code == 0, answer.err
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    rates = [yaml.safe_load((sweep / job / "config.yaml").read_text())["training"]["learning_rate"] for job in "01"]
    assert rates == [1e-4, 1e-3]
    assert (sweep / "multirun.yaml").exists()


@pytest.mark.slow
def test_a_failing_job_of_a_sweep_is_said_at_once_and_the_others_run(lmtune, tmp_path):
    answer = lmtune("train", "-m", "data.min_chars=100000,1", *SHORT, "samples.enabled=false")
    assert answer.code == 2
    assert answer.err.index("job 0 of the sweep (data.min_chars=100000") < answer.err.index("error: All ")
    assert answer.err.index("error: All ") < answer.err.index("run folder:")
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert json.loads((sweep / "1" / "results.json").read_text())["status"] == "completed"


def test_the_objective_is_held_out_bits_per_byte():
    from lmtune.training.results import find_objective

    results = {"eval": {"bio": {"bits_per_byte": 1.5, "loss": 3.0}, "wiki": {"loss": 4.0}}}
    assert [find_objective(results, name) for name in ("bits_per_byte", "bio.loss", "wiki.loss")] == [1.5, 3.0, 4.0]
    assert math.isnan(find_objective({"eval": {}}, "bits_per_byte"))


def test_a_name_of_the_users_own_joins_the_groups(lmtune, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "mine.txt").write_text(
        "\n\n".join(f"Documento {n} sobre saúde e exames." for n in range(60)), encoding="utf-8"
    )
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(
        "files: mine.txt\ndocuments: blank_line\nblock_size: 32\nprompts: [Documento]\n"
    )
    answer = lmtune("train", "data=mine", *SHORT)
    assert answer.code == 0, answer.err
    assert answer.run.parent.name == "mine-gpt2-tiny"


def test_without_held_out_text_there_is_still_a_model(lmtune):
    answer = lmtune("train", "data.validation_fraction=0", *SHORT)
    assert answer.code == 0, answer.err
    assert (answer.run / "model" / "model.safetensors").exists()
    assert json.loads((answer.run / "results.json").read_text())["eval"] == {}


@pytest.mark.parametrize("files", ["one", "many"])
def test_files_of_real_text_train(lmtune, real_data, files):
    choice = {
        "one": [f"data.files={real_data}/awkward/plain.txt.gz"],
        "many": [f"data.files={real_data}/bio/*.txt.gz", "data.documents=blank_line"],
    }[files]
    answer = lmtune(
        "train",
        *choice,
        "model=gpt2-tiny",
        "data.block_size=64",
        *SHORT,
        "eval.max_tokens=3000",
        "data.validation_fraction=0.01",
    )
    assert answer.code == 0, answer.err
    ledger = json.loads((answer.run / "ledger.json").read_text())
    assert ledger["split_by"] == {"one": "stretches", "many": "hash"}[files]


def test_given_validation_files_are_held_out(lmtune, real_data):
    wikitext = real_data / "wikitext-2"
    answer = lmtune(
        "train", f"data.files={wikitext}/test.txt.gz", f"data.validation_files={wikitext}/validation.txt.gz", "data.documents=wikitext",
        "data.block_size=64", "data.max_documents=5", *SHORT,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert json.loads((answer.run / "ledger.json").read_text())["split_by"] == "given"
