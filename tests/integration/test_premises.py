"""What a number rests on: the text it is of, how much of it, and that the model has not learned it."""

import json

import pytest

QUIET = ("samples.enabled=false", "training.use_cpu=true")
SMALL = ("model.config.n_layer=1", "model.config.n_embd=32", "model.config.n_head=2", "data.block_size=32", *QUIET)
CPU = "device=cpu"


@pytest.fixture
def notes(tmp_path, texts):
    """A function that writes documents between blank lines and returns what reads them."""

    def write(documents=texts, name="notes.txt"):
        (tmp_path / name).write_text("\n\n".join(documents) + "\n", encoding="utf-8")
        return (f"data.files={name}", "data.documents=blank_line")

    return write


def train(lmtune, *arguments, output="run"):
    answer = lmtune("train", *SMALL, *arguments, f"output={output}")
    assert answer.code == 0, answer.err
    return answer


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("saved", ["model", "results", "nothing"])
def test_a_text_that_has_changed_is_not_scored_as_held_out(lmtune, notes, tmp_path, texts, saved):
    train(lmtune, *notes(), "training.max_steps=1")
    if saved != "model":
        (tmp_path / "run" / "results.json").unlink()
    if saved == "nothing":
        for file in tmp_path.glob("run/checkpoint-*/manifest.json"):
            file.write_text("{}")
    assert lmtune("eval", "ckpt=run", CPU).code == 0
    notes([text.replace(" ", "  ", 1) for text in texts])
    answer = lmtune("eval", "ckpt=run", CPU)
    if saved == "nothing":
        assert answer.code == 0
        assert "is recorded nowhere" in answer.err
        return
    assert (answer.code, answer.out) == (2, "")
    assert "run: its text has changed since it was trained: validation was" in answer.err
    for ckpt in ("run/model", "run/checkpoint-1"):
        assert lmtune("eval", f"ckpt={ckpt}", CPU).code == 2
    accepted = lmtune("eval", "ckpt=run", CPU, "changed_text=true", "format=json")
    assert accepted.code == 0, accepted.err
    assert "it may have learned some of it" in accepted.err
    assert accepted.json["eval"]["files"]["protocol"]["changed_text"] is True


def test_text_that_was_added_where_nothing_is_held_out_changes_nothing(lmtune, notes, tmp_path, texts):
    train(lmtune, *notes(), "training.max_steps=1")
    before = lmtune("eval", "ckpt=run", CPU, "format=json").json
    assert lmtune("eval", "ckpt=run", CPU, "eval.split=train").code == 0
    for number in range(40):
        notes([*texts, f"Outra nota, de número {number}, que ninguém tinha visto."])
        answer = lmtune("eval", "ckpt=run", CPU, "format=json")
        if answer.code == 0:
            break
    assert answer.json["eval"]["files"]["loss"] == before["eval"]["files"]["loss"]
    assert lmtune("eval", "ckpt=run", CPU, "eval.split=train").code == 2


def test_the_split_has_a_seed_of_its_own(lmtune, notes, tmp_path):
    text = notes()
    for name, seeds in (("a", ()), ("b", ("seed=1",)), ("c", ("data.seed=1",))):
        train(lmtune, *text, *seeds, "training.max_steps=1", output=name)
    held = [results(tmp_path / name)["text"]["held_out"]["validation"]["text"] for name in "abc"]
    assert held[0] == held[1] != held[2]
    models = [results(tmp_path / name)["eval"]["files"]["protocol"]["model"] for name in "ab"]
    assert models[0] != models[1]


def test_a_limit_is_kept_and_said_in_eval(lmtune, notes, tmp_path):
    train(lmtune, *notes(), "training.max_steps=1", "data.validation_fraction=0.3")
    whole = lmtune("eval", "ckpt=run", CPU, "format=json").json["eval"]["files"]
    part = lmtune("eval", "ckpt=run", CPU, "format=json", "eval.max_tokens=200").json["eval"]["files"]
    assert whole["protocol"]["limit"] is None
    assert part["tokens"] <= 200
    assert part["protocol"]["limit"] == {
        "max_tokens": 200, "of_tokens": whole["tokens"], "of_documents": whole["protocol"]["documents"],
    }  # fmt: skip
    assert part["protocol"]["text"] != whole["protocol"]["text"]
    table = lmtune("eval", "ckpt=run", CPU, "eval.max_tokens=200").out
    assert f"of {whole['tokens']:,} tokens" in table


def test_checkpoints_of_two_vocabularies_are_scored_on_the_same_part(lmtune, notes, tmp_path):
    text = notes()
    train(lmtune, *text, "training.max_steps=1", "data.validation_fraction=0.3")
    train(lmtune, *text, "training.max_steps=1", "model.vocab_size=300", output="other")
    answer = lmtune("eval", "ckpt=[run,other]", CPU, "eval.max_tokens=200", "format=json")
    assert answer.code == 0, answer.err
    one, other = (each["eval"]["files"] for each in answer.json["models"].values())
    assert one["protocol"]["tokenizer"] != other["protocol"]["tokenizer"]
    assert one["protocol"]["text"] == other["protocol"]["text"]
    assert one["bytes"] == other["bytes"]
