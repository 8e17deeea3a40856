"""What a number rests on: the text it is of, how much of it, and that the model has not learned it."""

import json
import shutil

import pytest
from helpers import TINY_MODEL

QUIET = ("samples.enabled=false", "training.use_cpu=true")
SMALL = (*TINY_MODEL, "data.block_size=32", *QUIET)
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


def test_text_that_was_added_where_nothing_is_held_out_changes_nothing(lmtune, notes, texts):
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


def test_a_limit_is_kept_and_said_in_eval(lmtune, notes):
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


def test_checkpoints_of_two_vocabularies_are_scored_on_the_same_part(lmtune, notes):
    text = notes()
    train(lmtune, *text, "training.max_steps=1", "data.validation_fraction=0.3")
    train(lmtune, *text, "training.max_steps=1", "model.vocab_size=300", output="other")
    answer = lmtune("eval", "ckpt=[run,other]", CPU, "eval.max_tokens=200", "format=json")
    assert answer.code == 0, answer.err
    one, other = (each["eval"]["files"] for each in answer.json["models"].values())
    assert one["protocol"]["tokenizer"] != other["protocol"]["tokenizer"]
    assert one["protocol"]["text"] == other["protocol"]["text"]
    assert one["bytes"] == other["bytes"]


def read_table(out):
    """Rows of numbers by name, from the table on stdout."""
    return {line[:24].strip(): line[24:].split() for line in out.splitlines() if len(line) > 24}


def test_before_and_after_are_of_one_text_and_say_which(lmtune, notes, tmp_path):
    held = (*notes(), "data.validation_fraction=0.3", "training.max_steps=8", "training.learning_rate=1e-2")
    answer = train(lmtune, *held, "eval.max_tokens=200")
    measures = results(tmp_path / "run")["eval"]["files"]
    part, whole = measures["while_training"], measures["protocol"]
    assert part["text"] != whole["text"]
    assert part["tokens"] <= 200 < measures["tokens"] == part["limit"]["of_tokens"]
    bits = [f"{number:.4f}" for number in (part["before"]["bits_per_byte"], part["after"]["bits_per_byte"])]
    table = read_table(answer.out)
    assert table["files (held out)"] == ["before", "after", "final"]
    assert table["bits per byte"] == [*bits, f"{measures['bits_per_byte']:.4f}"]
    said = f"before and after: {part['tokens']:,} of {measures['tokens']:,} held-out tokens; final: all {measures['tokens']:,} held-out tokens"
    assert said in answer.out
    assert (
        f"{part['tokens']:,} of {measures['tokens']:,} tokens while training (eval.max_tokens=200) are scored"
        in answer.err
    )
    for page in ("report.html", "model/README.md"):
        assert said in (tmp_path / "run" / page).read_text(), page
        assert f"{part['tokens']:,} of {measures['tokens']:,} held-out tokens" in (tmp_path / "run" / page).read_text()
    limited = lmtune("eval", "ckpt=run/model", "eval.max_tokens=200", CPU, "format=json").json["eval"]["files"]
    assert limited["protocol"]["text"] == part["text"]
    assert {name: limited[name] for name in part["after"]} == part["after"]


def test_a_small_text_has_two_columns_of_all_of_it(lmtune, notes, tmp_path):
    answer = train(lmtune, *notes(), "training.max_steps=4")
    measures = results(tmp_path / "run")["eval"]["files"]
    assert read_table(answer.out)["files (held out)"] == ["before", "after"]
    assert f"before and after: all {measures['tokens']:,} held-out tokens" in answer.out
    assert measures["while_training"]["text"] == measures["protocol"]["text"]
    assert measures["while_training"]["after"]["loss"] == measures["loss"]


def test_the_final_evaluation_can_be_limited(lmtune, notes, tmp_path):
    held = (*notes(), "data.validation_fraction=0.3", "training.max_steps=2")
    answer = train(lmtune, *held, "eval.max_tokens=300", "eval.final_max_tokens=300")
    measures = results(tmp_path / "run")["eval"]["files"]
    assert measures["tokens"] <= 300
    assert measures["protocol"]["limit"]["max_tokens"] == 300
    assert read_table(answer.out)["files (held out)"] == ["before", "after"]
    of = measures["protocol"]["limit"]["of_tokens"]
    assert f"before and after: {measures['tokens']:,} of {of:,} held-out tokens" in answer.out
    assert f"a part of {of:,} tokens" in (tmp_path / "run/model/README.md").read_text()
    train(lmtune, *held, "eval.max_tokens=0", "eval.final_max_tokens=300", output="other")
    measures = results(tmp_path / "other")["eval"]["files"]
    assert measures["while_training"]["limit"] is None
    assert measures["while_training"]["tokens"] == of > measures["tokens"]


@pytest.mark.parametrize("changed", [("model.save_dtype=bfloat16",), ("finetune=lora",)])
def test_the_last_number_on_the_selection_is_of_the_model_that_is_saved(lmtune, notes, tmp_path, changed):
    held = (*notes(), "data.validation_fraction=0.3", "training.max_steps=3", "training.learning_rate=1e-2")
    if "finetune=lora" in changed:
        pytest.importorskip("peft")
    train(lmtune, *held, *changed, "eval.max_tokens=200")
    after = results(tmp_path / "run")["eval"]["files"]["while_training"]["after"]
    again = lmtune("eval", "ckpt=run/model", "eval.max_tokens=200", CPU, "format=json").json["eval"]["files"]
    assert again["loss"] == pytest.approx(after["loss"], rel=1e-6)


def test_every_measure_has_its_place_in_results():
    from lmtune.evaluation.metrics import FORMULAS
    from lmtune.measures import MEASURES

    assert set(MEASURES) == set(FORMULAS)


def test_train_says_how_much_of_the_held_out_text_it_learns(lmtune, notes, tmp_path, monkeypatch):
    answer = train(lmtune, *notes(), "training.max_steps=1")
    measures = results(tmp_path / "run")["eval"]["files"]
    account = lmtune("data", *notes(), "model=gpt2-tiny", "data.block_size=32", "format=json").json
    assert measures["seen_in_training"]["share"] == pytest.approx(account["seen_in_training"]["validation"])
    assert 0 < measures["seen_in_training"]["share"] < 1
    said = f"{100 * measures['seen_in_training']['share']:.3f} %"
    assert f"{said} of the 13-word sequences of the held-out text also stand in the training text" in answer.err
    on_page = f"{100 * measures['seen_in_training']['share']:.3f}\xa0%"
    assert f"{on_page} also stand in the training text" in (tmp_path / "run" / "report.html").read_text()
    monkeypatch.setattr("lmtune.data.overlap.MOST_TOKENS", 10)
    answer = train(lmtune, *notes(), "training.max_steps=1", output="other")
    assert "also stands in the training text was not measured: the training text has" in answer.err
    answer = train(lmtune, *notes(), "training.max_steps=1", "data.streaming=true", output="third")
    assert "was not measured: the text is streamed" in answer.err


def test_train_says_how_much_of_watched_text_it_learns(lmtune, notes, texts, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    strange = [f"{' '.join(f'w{number}x{word}' for word in range(30))}." for number in range(40)]
    for name, documents in {"known": texts[:40], "strange": strange}.items():
        (tmp_path / f"{name}.txt").write_text("\n\n".join(documents), encoding="utf-8")
        told = f"files: {name}.txt\ndocuments: blank_line\nvalidation_fraction: 0.5\n"
        (tmp_path / "conf" / "data" / f"{name}.yaml").write_text(told)
    answer = train(lmtune, *notes(), "training.max_steps=1", "eval_data=[known,strange]")
    found = results(tmp_path / "run")["eval"]
    assert found["known"]["seen_in_training"]["share"] > 0.3
    assert found["strange"]["seen_in_training"]["share"] == 0
    assert (
        "strange: 0.000 % of the 13-word sequences of the held-out text also stand in the training text" in answer.err
    )


@pytest.mark.parametrize("rows", [("data.stride=5",), ("data.packing=false",), ("data.block_size=7",)])
def test_the_overlap_is_the_same_however_rows_are_cut(lmtune, notes, tmp_path, rows):
    train(lmtune, *notes(), "training.max_steps=1")
    train(lmtune, *notes(), "training.max_steps=1", *rows, output="other")
    one, other = (results(tmp_path / name)["eval"]["files"]["seen_in_training"] for name in ("run", "other"))
    assert one == other


STORY = "".join(
    f"No dia {n} de {month}, a Maria viu {n * 7 % 31} barcos e {n * 5 % 23} gaivotas no porto de {place}, ao longe.\n"
    + ("\n" if n % 3 == 0 else "")
    for month, place in (("maio", "Olhão"), ("junho", "Faro"), ("julho", "Tavira"))
    for n in range(1, 31)
)
MORE = STORY.replace("Maria", "Joana").replace("barcos", "navios").replace("porto", "cais")


def learned_and_held(folder, output):
    """(training text, held-out documents) of a run, from what `lmtune data` makes of its settings."""
    from lmtune.config import load_data_config
    from lmtune.data.build import build_corpus
    from lmtune.data.predecessor import load_earlier
    from lmtune.runs import Run

    run = Run(folder / output)
    recorded = run.load_config()
    corpus = build_corpus(load_data_config(recorded["data"], recorded["seed"]), past=load_earlier(run))
    return "\n".join(corpus.texts("train")), list(corpus.texts("validation"))


RULES = {
    "stretches": ("data.documents=file",),
    "paragraphs": ("data.documents=blank_line",),
    "lines": ("data.documents=line",),
    "other seed": ("data.documents=line", "data.seed=7"),
}


PAIRS = [
    ("stretches", "lines", "run"),
    ("lines", "stretches", "run/checkpoint-1"),
    ("paragraphs", "other seed", "run/model"),
]
WAYS = [
    *PAIRS,
    *(
        pytest.param(first, then, "run", marks=pytest.mark.slow)
        for first in ("stretches", "paragraphs", "lines")
        for then in RULES
    ),
]


@pytest.mark.parametrize(("first", "then", "start"), WAYS)
def test_what_a_run_has_learned_is_not_held_out_by_one_that_starts_from_it(lmtune, tmp_path, first, then, start):
    few = ("training.max_steps=1", "training.eval_strategy=no", "training.save_steps=1", "data.validation_fraction=0.2")
    (tmp_path / "story.txt").write_text(STORY, encoding="utf-8")
    train(lmtune, "data.files=story.txt", *RULES[first], *few)
    known, _ = learned_and_held(tmp_path, "run")
    (tmp_path / "story.txt").write_text(
        MORE + STORY, encoding="utf-8"
    )  # the same file, grown: nothing else tells what was learned
    again = ("model.path=" + start, "data.files=story.txt", *RULES[then], *few, "data.block_size=32", *QUIET)
    answer = lmtune("train", *again, "output=next")
    assert answer.code == 0, answer.err
    assert "has learned is held out" in answer.err
    learned, held = learned_and_held(tmp_path, "next")
    assert held
    for document in held:
        for line in document.splitlines():
            assert not line.strip() or line not in known
            assert not line.strip() or line not in learned
    assert lmtune("eval", "ckpt=next", CPU).code == 0
    before = results(tmp_path / "next")["text"]["held_out"]["validation"]
    third = lmtune(
        "train",
        "model.path=next",
        "data.files=story.txt",
        *RULES["lines"],
        *few,
        "data.block_size=32",
        *QUIET,
        "output=third",
    )
    assert third.code == 0, third.err
    _, held = learned_and_held(tmp_path, "third")
    assert held
    lines = {line for document in held for line in document.splitlines() if line.strip()}
    assert not lines & {*known.splitlines(), *learned.splitlines()}
    assert before["documents"]


def test_a_run_on_the_same_text_holds_out_the_same(lmtune, notes, tmp_path):
    text = notes()
    train(lmtune, *text, "training.max_steps=1")
    again = ("model.path=run", *text, "training.max_steps=1", "data.block_size=32", *QUIET)
    assert lmtune("train", *again, "output=next").code == 0
    one, other = (results(tmp_path / name)["text"]["held_out"] for name in ("run", "next"))
    assert one == other
    assert lmtune("train", *again, "data.seed=1", "output=other").code == 0
    known, held = learned_and_held(tmp_path, "run")
    _, others = learned_and_held(tmp_path, "other")
    assert set(held) <= set(others)
    assert not any(document in known for document in others)


def test_text_that_a_run_knows_wholly_cannot_be_held_out(lmtune, notes, tmp_path, texts):
    train(lmtune, *notes(texts), "training.max_steps=1", "data.validation_fraction=0", "training.eval_strategy=no")
    again = ("model.path=run", "training.max_steps=1", "data.block_size=32", *QUIET)
    answer = lmtune("train", *again, *notes(texts[:40]), "output=next")
    assert (answer.code, answer.out) == (2, "")
    assert "the model has learned what could be held out of them" in answer.err
    (tmp_path / "held.txt").write_text("\n\n".join([*texts[:3], "Um texto que ninguém leu, sobre outra coisa."]))
    answer = lmtune("train", *again, *notes(texts[40:]), "data.validation_files=held.txt", "output=next")
    assert answer.code == 0, answer.err
    ledger = json.loads((tmp_path / "next" / "ledger.json").read_text())
    assert ledger["sides"]["validation"]["documents"] == 1
    assert ledger["documents_learned_before"] == 3


def test_a_resumed_run_keeps_to_what_it_knew_when_it_began(lmtune, notes, tmp_path):
    train(lmtune, *notes(), "training.max_steps=1")
    again = ("model.path=run", *notes(), "data.block_size=32", *QUIET, "training.max_steps=4", "training.save_steps=2")
    assert lmtune("train", *again, "training.eval_steps=2", "output=next").code == 0
    (tmp_path / "run" / "past.npz").unlink()
    for name in ("results.json", "checkpoint-4"):
        path = tmp_path / "next" / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    answer = lmtune("train", "resume=next")
    assert answer.code == 0, answer.err
    assert "has not written down" not in answer.err
    answer = lmtune("train", *again, "training.eval_steps=2", "output=other")
    assert answer.code == 0, answer.err
    assert "has not written down what it has learned" in answer.err


def save_tiny(folder, tokenizer, kind="gpt2", **settings):
    from lmtune.config import ModelConfig, ModelInit
    from lmtune.modeling.loading import build_model
    from lmtune.modeling.saving import save_model

    config = ModelConfig(init=ModelInit.scratch, config={"model_type": kind, **settings}, tokenizer="learn")
    save_model(build_model(config, tokenizer)[0], tokenizer, folder)


def test_a_limited_benchmark_is_marked_beside_the_published_figures(lmtune, tokenizer, tmp_path):
    save_tiny(tmp_path / "tiny", tokenizer, n_layer=1, n_embd=32, n_head=2, n_positions=64)
    rows = [json.dumps({"text": f"O paciente {n} voltou para casa"}) for n in range(5)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    suite = ("eval", "ckpt=tiny", "suite=gpt2-zeroshot", "suite.tasks=[lambada]", "suite.files.lambada=rows.jsonl", CPU)
    answer = lmtune(*suite, "suite.limit=3")
    assert answer.code == 0, answer.err
    marked = [line for line in answer.out.splitlines() if "*" in line]
    assert len(marked) == 3
    assert (
        marked[-1] == "* lambada: of the first 3 of 5 examples alone (suite.limit=3); the published figures are of all"
    )
    found = lmtune(*suite, "suite.limit=3", "format=json").json["tasks"]["lambada"]
    assert found["protocol"]["limited"] == {"examples": 3, "of_examples": 5}
    for whole in ((), ("suite.limit=5",)):
        assert "*" not in lmtune(*suite, *whole).out


def test_a_mixture_of_experts_is_scored_in_float64(lmtune, tokenizer, notes, tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    more = {"num_key_value_heads": 1, "num_local_experts": 4, "max_position_embeddings": 64}
    save_tiny(tmp_path / "experts", tokenizer, "mixtral", **sizes, **more)
    found = {}
    for dtype in ("float32", "float64"):
        answer = lmtune("eval", "ckpt=experts", *notes(), CPU, f"eval.dtype={dtype}", "format=json")
        assert answer.code == 0, answer.err
        found[dtype] = answer.json["eval"]["files"]["loss"]
    assert found["float64"] == pytest.approx(found["float32"], rel=1e-6)
    assert found["float64"] != found["float32"]


def test_few_documents_have_a_difference_without_an_interval(lmtune, tokenizer, texts, notes, tmp_path):
    for name in ("one", "two"):
        save_tiny(tmp_path / name, tokenizer, n_layer=1, n_embd=32, n_head=2, n_positions=64)
    for documents, said in ((texts[:1], "1 document is too few"), (texts[:4], "4 documents are too few")):
        answer = lmtune("eval", "ckpt=[one,two]", *notes(documents), CPU)
        assert answer.code == 0, answer.err
        assert f"bits per byte, without an interval: {said} for one (expected 10)" in answer.out
        assert "nan" not in answer.out
    comparison = lmtune("eval", "ckpt=[one,two]", *notes(texts[:4]), CPU, "format=json").json["comparison"]
    assert comparison["differences"]["two"]["files"]["low"] is None


def test_a_streamed_split_of_the_hub_has_its_own_held_out_text(lmtune, tmp_path, texts):
    for name, part in (("train", texts[:48]), ("other", [text.upper() for text in texts[48:]])):
        rows = "".join(json.dumps({"text": text}) + "\n" for text in part)
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "data" / f"{name}.jsonl").write_text(rows)
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train.jsonl\n"
        "  - split: other\n    path: data/other.jsonl\n---\n"
    )
    held = {}
    for name in ("train", "other"):
        split = ("data.path=set", f"data.train_split={name}", "data.streaming=true", "data.validation_fraction=0.3")
        train(lmtune, *split, "training.max_steps=1", output=name)
        held[name] = results(tmp_path / name)["text"]["held_out"]["validation"]["text"]
    assert held["train"] != held["other"]


def test_a_stream_holds_out_nothing_given_that_the_model_has_learned(lmtune, notes, tmp_path, texts):
    train(lmtune, *notes(texts[:48]), "training.max_steps=1")
    known, _ = learned_and_held(tmp_path, "run")
    notes(texts[40:60], "valid.txt")
    again = (
        "model.path=run",
        *notes(texts[60:], "more.txt"),
        "data.validation_files=valid.txt",
        "data.block_size=32",
        *QUIET,
    )
    for streaming in ("true", "false"):
        answer = lmtune("train", *again, "training.max_steps=1", f"data.streaming={streaming}", f"output={streaming}")
        assert answer.code == 0, answer.err
        _, held = learned_and_held(tmp_path, streaming)
        assert {text.strip() for text in held} == {text for text in texts[40:60] if text not in known}
        ledger = json.loads((tmp_path / streaming / "ledger.json").read_text())
        assert ledger["documents_learned_before"] == 20 - len(held) > 0
    notes([text for text in texts if text in known][:4], "valid.txt")
    answer = lmtune("train", *again, "training.max_steps=1", "data.streaming=true", "output=none")
    assert answer.code == 2
    assert "or in that of the run that the model comes from (4)" in answer.err


def test_a_streamed_folder_that_has_changed_is_another_text(lmtune, tmp_path, texts):
    import datasets

    def write(part):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        datasets.Dataset.from_dict({"text": part}).save_to_disk(tmp_path / "set")

    streamed = ("data.path=set", "data.streaming=true", "data.validation_fraction=0.3", "training.max_steps=1")
    write(texts)
    train(lmtune, *streamed, output="one")
    write([text.swapcase() for text in texts])
    train(lmtune, *streamed, output="two")
    one, two = (results(tmp_path / name)["text"]["held_out"]["validation"]["text"] for name in ("one", "two"))
    assert one != two
    answer = lmtune("eval", "ckpt=one", CPU)
    assert (answer.code, answer.out) == (2, "")
    assert "its text has changed since it was trained" in answer.err


def test_a_stream_from_a_run_is_scored_on_what_it_held_out(lmtune, notes, tmp_path, texts):
    train(lmtune, *notes(texts[:48]), "training.max_steps=1")
    known, _ = learned_and_held(tmp_path, "run")
    again = (
        "model.path=run",
        *notes(texts),
        "data.block_size=32",
        *QUIET,
        "training.max_steps=1",
        "data.streaming=true",
    )
    answer = lmtune("train", *again, "data.seed=5", "data.validation_fraction=0.2", "output=next")
    assert answer.code == 0, answer.err
    _, held = learned_and_held(tmp_path, "next")
    assert held
    assert not any(document in known for document in held)
    assert lmtune("eval", "ckpt=next", CPU).code == 0
    answer = lmtune("train", "model.path=next", *again[1:], "output=third")
    assert answer.code == 0, answer.err
    assert "has not written down what it has learned" in answer.err
