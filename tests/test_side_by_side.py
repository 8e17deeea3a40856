"""Runs are ranked on one text and one protocol only; means are over runs that differ by their seed alone."""

import csv
import statistics
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from lmtune.config import ComparisonFormat
from lmtune.evaluation.comparison import DocumentBits
from lmtune.evaluation.document_scores import SetScores, find_scores, save_scores
from lmtune.evaluation.side_by_side import label_runs, load_compared
from lmtune.reporting.comparison import build_comparison
from lmtune.reporting.comparison_tables import RENDERERS, render_measure
from lmtune.runs import begin_below

NLL, SIZES = np.linspace(100.0, 300.0, 40), np.full(40, 200)


pytestmark = pytest.mark.usefixtures("stand")


def begin(name, bits=1.0, *, text="aa" * 16, status="completed", tokenizer="t", rate=1e-3, seed=1, **more):
    run = begin_below(Path("outputs"), name, datetime(2026, 1, 1))
    settings = {
        "name": name,
        "seed": seed,
        "samples": {"seed": more.pop("samples_seed", 0)},
        "model": {"learning_rate": rate, "save_dtype": "float32"},
        "training": {"learning_rate": rate, "max_steps": 10},
        "groups": {"data": more.pop("data", "wiki")},
        "data": {"block_size": more.pop("block_size", 64), "files": more.pop("files", "a.txt")},
        "private": more.pop("private", False),
    }
    run.write_config(settings)
    protocol = {"text": text, "windows": "disjoint", "context": 64, "stride": 64, "dtype": "float32", "documents": 40}
    protocol |= {"detokenizer": None, "tokenizer": tokenizer, "versions": {"torch": "2"}} | more
    measures = {"bits_per_byte": bits, "loss": 3.0, "perplexity": 20.0, "word_perplexity": 90.0, "accuracy": 0.5}
    measures |= {"tokens": 10, "words": 5, "bytes": int(SIZES.sum()), "protocol": protocol}
    ends = {"train": {"steps": 10, "tokens": 99, "seconds": 1.0}, "eval": {"wiki": measures}}
    run.write_results({"status": status, "text": {"corpus": "c0"}, **(ends if status == "completed" else {})})
    return run


def compare(*runs):
    folders = [run.folder for run in runs]
    return build_comparison([load_compared(*pair) for pair in zip(folders, label_runs(folders), strict=True)])


def render(values, form=ComparisonFormat.table):
    return "\n".join(RENDERERS[form](values))


def names(group):
    return [row["run"].split("/")[0] for row in group["rows"]]


def test_the_best_comes_first_and_what_differs_is_told():
    values = compare(begin("a", 1.2), begin("b", 1.1, rate=2e-3, samples_seed=3))
    assert values["differences"] == ["training.learning_rate"], "model.learning_rate is read by nothing but that"
    assert values["idle_differences"] == ["samples.seed"]
    (group,) = values["groups"]
    assert names(group) == ["b", "a"]
    assert group["rows"][1]["behind_best"] == pytest.approx(0.1)
    assert "without effect on the weights: samples.seed" in render(values)


@pytest.mark.parametrize("other", [{"text": "bb" * 16}, {"context": 32}, {"dtype": "bfloat16"}, {"changed_text": True}])
def test_runs_that_were_scored_otherwise_are_not_ranked_together(other):
    values = compare(begin("a", 1.2), begin("b", 1.1), begin("c", 0.5, **other))
    assert sorted(map(names, values["groups"])) == [["b", "a"], ["c"]]
    assert "numbers compare within one table" in render(values)
    rows = list(csv.DictReader(RENDERERS[ComparisonFormat.csv](values)))
    assert [row["group"] for row in rows] == ["1", "1", "2"]


def test_of_several_vocabularies_nothing_per_token_is_shown():
    values = compare(begin("a"), begin("b", tokenizer="u"))
    assert "perplexity" not in values["groups"][0]["rows"][0]
    assert "word_perplexity" in values["groups"][0]["rows"][0]
    assert "different vocabularies" in render(values)


def test_means_are_over_seeds_and_over_nothing_else():
    bits = [1.0, 1.1, 1.3]
    runs = [begin(f"a{seed}", each, seed=seed, samples_seed=seed) for seed, each in enumerate(bits)]
    runs += [begin("again", 1.0, seed=0), begin("b", 0.9, rate=5e-3), begin("c", 2.0, block_size=32)]
    (group,) = compare(*runs)["groups"]
    found = {tuple(family["runs"]): family for family in group["families"]}
    (family,) = (each for each in found.values() if len(each["runs"]) > 1)
    assert (len(family["runs"]), family["repeated"]) == (3, 1), "a seed counts once, however often it was run"
    assert family["mean"]["bits_per_byte"] == pytest.approx(statistics.mean(bits))
    assert family["deviation"]["bits_per_byte"] == pytest.approx(statistics.stdev(bits))
    assert len(found) == 3
    told = render(compare(*runs))
    assert f"{statistics.mean(bits):.4f} ± {statistics.stdev(bits):.4f}" in told
    assert "1 run repeats a seed" in told


def test_a_deviation_has_the_decimals_of_its_mean():
    assert render_measure("word_perplexity", 4_967.7087, 43_795.2) == "4,968"
    assert render_measure("word_perplexity", 4_967.7087) == "4967.7087"


def test_of_a_private_run_no_name_of_a_file_is_shown():
    values = compare(begin("a", 1.2, files="Maria.txt", private=True), begin("b", 1.1, files="Ana.txt", private=True))
    assert values["differences"] == ["data.files"], "they are told apart by what is not shown"
    assert not values["groups"][0]["over_seeds"]
    assert "Maria" not in str(values)
    assert "(private)" in render(values)


def test_a_run_without_a_final_score_is_named_and_not_ranked():
    stopped = begin("b", status="stopped")
    stopped.metrics_file.write_text('{"step": 4, "loss": 2.0}\n')
    values = compare(begin("a"), begin("c"), stopped)
    assert [names(group) for group in values["groups"]] == [["a", "c"]]
    assert "stopped after step 4, so it has no final score" in render(values)


def test_a_choice_of_a_group_stands_for_what_is_below_it():
    values = compare(begin("a"), begin("b", data="bio", block_size=32))
    assert values["differences"] == ["data"]


def test_what_differs_between_runs_of_one_choice_too_is_told():
    runs = [begin("a", data="bio", block_size=32), begin("b", block_size=32), begin("c", block_size=64)]
    assert compare(*runs)["differences"] == ["data", "data.block_size"]
    assert compare(*runs[:2])["differences"] == ["data"]


def test_what_was_chosen_for_a_device_is_a_setting_of_the_training():
    typed = begin("a")
    config = typed.load_config()
    typed.write_config({**config, "training": {**config["training"], "optim": "sgd"}})
    settled, other = begin("b"), begin("c")
    settled.write_config({**config, "chosen": {"optim": "sgd"}})
    other.write_config({**config, "chosen": {"optim": "adafactor"}})
    assert compare(typed, settled)["differences"] == []
    values = compare(typed, other)
    assert values["differences"] == ["training.optim"]
    assert [run["settings"]["training.optim"] for run in values["runs"]] == ["sgd", "adafactor"]


def test_forms_for_papers():
    values = compare(begin("a_1", 1.0), begin("b", 1.1, rate=2e-3))
    latex = render(values, ComparisonFormat.latex)
    assert r"a\_1" in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 1
    rows = [line for line in render(values, ComparisonFormat.markdown).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert rows[2].startswith("| a_1/")


def test_differences_have_intervals_where_documents_were_kept():
    whole = DocumentBits(NLL, SIZES)
    bits = float(whole.bits_per_byte(np.arange(40)))
    one, other, third = begin("a", bits), begin("b", bits * 1.01), begin("c", bits * 1.5)
    for run, factor in ((one, 1.0), (other, 1.01), (third, 1.0)):
        save_scores(run.folder / "scores.npz", {"wiki": SetScores("aa" * 16, DocumentBits(NLL * factor, SIZES))})
    best, close, false = compare(one, other, third)["groups"][0]["rows"]
    assert best["interval"][0] < bits < best["interval"][1]
    assert best["difference"] is None
    assert 0 < close["difference"]["low"] < close["difference"]["difference"] < close["difference"]["high"]
    assert false["interval"] is None, "scores that do not add up to the result are of another model"


def begin_scored(name, factors, **more):
    """Runs of one setting, one a seed, that scored each document `factor` times as it was first."""
    runs = []
    for seed, factor in enumerate(factors):
        documents = DocumentBits(NLL * factor, SIZES)
        run = begin(f"{name}{seed}", float(documents.bits_per_byte(np.arange(40))), seed=seed, **more)
        save_scores(run.folder / "scores.npz", {"wiki": SetScores("aa" * 16, documents)})
        runs.append(run)
    return runs


def test_means_over_seeds_have_intervals_where_documents_were_kept():
    runs = begin_scored("a", [1.0, 1.01, 0.99]) + begin_scored("b", [1.2, 1.21], rate=2e-3)
    values = compare(*runs)
    best, other = values["groups"][0]["families"]
    assert best["difference"] is None
    assert 0 < other["difference"]["low"] < other["difference"]["difference"] < other["difference"]["high"]
    told = render(values)
    assert f"{other['difference']['difference']:+.4f} ({other['difference']['low']:+.4f} to" in told
    assert "of seeds would show 0.5% of 1.4427 on so few documents" in told, "what b lacks depends on the document"
    (runs[0].folder / "scores.npz").unlink()
    assert all(family["difference"] is None for family in compare(*runs)["groups"][0]["families"])


def test_seeds_alone_have_an_interval_of_their_mean():
    values = compare(*begin_scored("a", [1.0, 1.01, 0.99]))
    low, high = values["groups"][0]["families"][0]["interval"]
    assert f"bits per byte over seeds: 95% interval {low:.4f} to {high:.4f} (over runs and documents)" in render(values)
    assert "by the spread of seeds alone, about 64 seeds a side would show 0.5% of 1.4427" in render(values)


def test_scores_that_do_not_read_are_none(tmp_path):
    file = tmp_path / "scores.npz"
    measures = {"bits_per_byte": 1.0, "protocol": {"text": "aa" * 16}}
    assert find_scores(file, measures) is None
    file.write_bytes(b"PK\3\4 cut")
    assert find_scores(file, measures) is None


def test_the_command(lmtune, tmp_path):
    begin("a", 1.0)
    begin("b", 1.1)
    (tmp_path / "outputs" / "notes.txt").write_text("mine")
    answer = lmtune("compare", "outputs/a", "outputs/b", "outputs/notes.txt", "format=json")
    assert answer.code == 0, answer.err
    assert len(answer.json["runs"]) == 2
    assert "outputs/notes.txt is a file, and no run" in answer.err
    answer = lmtune("compare", "outputs/a", "a")
    assert answer.code == 2
    assert "expected two runs or more, found 1" in answer.err
    answer = lmtune("compare", "outputs", "output=outputs/notes.txt")
    assert answer.code == 2
    assert "a page of lmtune's to replace" in answer.err
    assert lmtune("compare").code == 2
