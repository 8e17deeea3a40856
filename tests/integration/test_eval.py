"""`lmtune eval` on saved models: side by side, by document, in any precision, and what it refuses."""

import csv
import json
import math
import os
import shutil

import pytest

CPU = "device=cpu"


@pytest.fixture
def save_tiny(build_tiny, tokenizer, tmp_path):
    """A function that saves a random tiny model with a tokenizer; returns its folder."""
    from lmtune.modeling.saving import save_model

    def save(name, seed=0, other=None, **settings):
        save_model(build_tiny(seed=seed, **settings), other or tokenizer, tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def text_file(texts, tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("\n\n".join(texts), encoding="utf-8")
    return (f"data.files={file}", "data.documents=blank_line", CPU)


def test_checkpoints_stand_side_by_side_with_an_interval(lmtune, save_tiny, text_file, texts):
    one, other = save_tiny("one"), save_tiny("other", seed=1)
    answer = lmtune("eval", f"ckpt=[{one},{other}]", *text_file, "format=json")
    assert answer.code == 0, answer.err
    models, comparison = answer.json["models"], answer.json["comparison"]
    assert list(models) == [str(one), str(other)]
    found = comparison["differences"][str(other)]["files"]
    bits = [models[str(folder)]["eval"]["files"]["bits_per_byte"] for folder in (one, other)]
    assert found["difference"] == pytest.approx(bits[1] - bits[0], abs=1e-9)
    assert found["low"] < found["difference"] < found["high"]
    assert (found["documents"], found["confidence"]) == (len(texts), 0.95)
    alone = lmtune("eval", f"ckpt={other}", *text_file, "format=json").json["eval"]["files"]
    assert alone["loss"] == models[str(other)]["eval"]["files"]["loss"]
    table = lmtune("eval", f"ckpt=[{one},{other}]", *text_file).out
    assert f"{bits[1]:.4f}" in table
    assert "perplexity" in table.replace("word perplexity", "")
    assert f"(paired bootstrap over {len(texts)} documents)" in table


def test_runs_of_two_sides_are_compared_over_runs_and_documents(lmtune, save_tiny, text_file, texts):
    folders = [save_tiny(name, seed=seed) for seed, name in enumerate(("a1", "a2", "b1", "b2"))]
    sides = (f"ckpt=[{folders[0]},{folders[1]}]", f"against=[{folders[2]},{folders[3]}]")
    answer = lmtune("eval", *sides, *text_file, "format=json")
    assert answer.code == 0, answer.err
    comparison = answer.json["comparison"]
    assert comparison["against"] == [str(folder) for folder in folders[2:]]
    found = comparison["over_runs"]["files"]
    bits = [answer.json["models"][str(folder)]["eval"]["files"]["bits_per_byte"] for folder in folders]
    assert found["difference"] == pytest.approx((bits[0] + bits[1] - bits[2] - bits[3]) / 2, abs=1e-9)
    assert (found["runs"], found["documents"]) == ([2, 2], len(texts))
    table = lmtune("eval", *sides, *text_file).out
    assert f"(2 runs against 2, paired bootstrap over {len(texts)} documents)" in table
    assert "of comparisons of equally good models" in table


def test_one_run_a_side_has_the_interval_over_documents(lmtune, save_tiny, text_file):
    one, other = save_tiny("one"), save_tiny("other", seed=1)
    listed = lmtune("eval", f"ckpt=[{other},{one}]", *text_file, "format=json").json["comparison"]
    assert lmtune("eval", f"ckpt={one}", f"against={other}", *text_file, "format=json").json["comparison"] == listed
    copy = save_tiny("copy")
    answer = lmtune("eval", f"ckpt=[{one},{copy}]", f"against={other}", *text_file, "format=json")
    assert answer.json["comparison"] == listed
    assert f"{copy} holds the same weights as {one}, so it is counted once" in answer.err


def test_many_checkpoints_have_a_row_each(lmtune, save_tiny, text_file):
    folders = [save_tiny(name, seed=seed) for seed, name in enumerate("abcd")]
    lines = lmtune("eval", f"ckpt=[{','.join(map(str, folders))}]", *text_file).out.splitlines()
    assert lines[1].split("  ")[-1] == "accuracy"
    assert [line.split()[0][-1] for line in lines[2:6]] == list("abcd")
    assert all(len(line.split()) == 6 for line in lines[2:6])


def test_the_same_weights_elsewhere_are_said_to_be_the_same(lmtune, save_tiny, text_file):
    one, copy = save_tiny("one"), save_tiny("copy")
    answer = lmtune("eval", f"ckpt={one}", f"against={copy}", *text_file)
    assert answer.code == 0
    assert (
        f"{one} holds the same weights as {copy}" in answer.err
        or f"{copy} holds the same weights as {one}" in answer.err
    )


def test_perplexities_of_different_vocabularies_are_not_compared(lmtune, save_tiny, text_file, texts):
    from lmtune.modeling.tokenizer import learn_tokenizer

    other = learn_tokenizer(texts, vocab_size=300, max_length=64)
    one, two = save_tiny("one"), save_tiny("two", other=other)
    answer = lmtune("eval", f"ckpt=[{one},{two}]", *text_file)
    assert answer.code == 0, answer.err
    assert "\nperplexity" not in answer.out
    assert "\nloss" not in answer.out
    assert "The checkpoints have different vocabularies" in answer.out
    assert "\nbits per byte" in answer.out
    comparison = lmtune("eval", f"ckpt=[{one},{two}]", *text_file, "format=json").json["comparison"]
    assert comparison["same_vocabulary"] is False


def test_documents_are_listed_the_worst_first(lmtune, save_tiny, text_file, texts, tmp_path):
    folder = save_tiny("one")
    whole = lmtune("eval", f"ckpt={folder}", *text_file, "eval.per_document=true", "format=json").json["eval"]["files"]
    listed = whole["documents"]
    assert sorted(each["document"] for each in listed) == list(range(1, len(texts) + 1))
    bits = [each["bits_per_byte"] for each in listed]
    assert bits == sorted(bits, reverse=True)
    total = sum(each["bits_per_byte"] * each["bytes"] for each in listed)
    assert total / whole["bytes"] == pytest.approx(whole["bits_per_byte"], rel=1e-9)
    for each in listed:
        assert each["bytes"] == len(texts[each["document"] - 1].encode())
        assert " ".join(texts[each["document"] - 1].split()).startswith(each["beginning"][:20])
    answer = lmtune("eval", f"ckpt={folder}", *text_file, "eval.per_document=true", "output=tables")
    with (tmp_path / "tables" / "documents-one-files.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["bits_per_byte"]) for row in rows] == pytest.approx(bits, rel=1e-6)
    assert f"{bits[0]:.4f}" in answer.out


def test_a_table_of_documents_overwrites_nothing_and_is_its_owners_alone(lmtune, save_tiny, text_file, tmp_path):
    folder = save_tiny("one")
    (tmp_path / "documents-one-files.csv").write_text("mine")
    (tmp_path / "documents-one-files-2.csv").symlink_to("somewhere-else")
    before = os.umask(0)
    try:
        answer = lmtune("eval", f"ckpt={folder}", *text_file, "eval.per_document=true", "output=.")
    finally:
        os.umask(before)
    assert answer.code == 0, answer.err
    assert "documents-one-files-3.csv" in answer.err
    assert (tmp_path / "documents-one-files.csv").read_text() == "mine"
    assert not (tmp_path / "somewhere-else").exists()
    written = tmp_path / "documents-one-files-3.csv"
    assert written.stat().st_mode & 0o777 == 0o600
    assert written.read_text(encoding="utf-8").startswith("document,bits_per_byte,")


def test_no_list_of_documents_is_written_without_being_asked_for(lmtune, save_tiny, text_file, tmp_path):
    folder = save_tiny("one")
    before = set(tmp_path.iterdir())
    answer = lmtune("eval", f"ckpt={folder}", *text_file, "eval.per_document=true")
    assert answer.code == 0, answer.err
    assert set(tmp_path.iterdir()) == before
    assert "the worst documents, bits per byte (86 more; output=FOLDER writes all of them)" in answer.out


def test_stride_and_precision_are_in_the_numbers_and_the_protocol(lmtune, save_tiny, text_file):
    folder = save_tiny("one")
    plain = lmtune("eval", f"ckpt={folder}", *text_file, "format=json").json["eval"]["files"]
    other = lmtune("eval", f"ckpt={folder}", *text_file, "eval.stride=7", "eval.dtype=float64", "format=json").json[
        "eval"
    ]["files"]
    assert (plain["protocol"]["windows"], plain["protocol"]["dtype"]) == ("disjoint", "float32")
    assert (other["protocol"]["windows"], other["protocol"]["stride"]) == ("strided", 7)
    assert plain["tokens"] == other["tokens"]
    assert plain["loss"] != other["loss"]
    assert plain["protocol"]["model"] == other["protocol"]["model"]
    assert set(plain["protocol"]) == {
        "windows", "context", "stride", "separator", "detokenizer", "documents", "dtype", "versions", "split", "split_by", "first",
        "tokenizer", "model", "text", "limit",
    }  # fmt: skip


def test_a_vocabulary_without_an_end_of_text_token_is_scored_without_it(lmtune, build_tiny, text_file, texts, tmp_path):
    import copy

    import torch

    from lmtune.modeling.saving import save_model
    from lmtune.modeling.tokenizer import learn_tokenizer

    bare = learn_tokenizer(texts, vocab_size=320, max_length=64)
    plain = copy.deepcopy(bare)
    for name in ("eos_token", "bos_token", "unk_token", "pad_token"):
        setattr(plain, name, None)
    model = build_tiny()
    save_model(model, plain, tmp_path / "bare")
    answer = lmtune("eval", f"ckpt={tmp_path / 'bare'}", *text_file, "format=json")
    assert answer.code == 0, answer.err
    measures = answer.json["eval"]["files"]
    ids = [token for text in texts for token in bare(text)["input_ids"]]
    first = len(bare.decode(ids[:1]).encode())
    assert measures["tokens"] == len(ids) - 1
    assert measures["bytes"] == sum(len(text.encode()) for text in texts) - first
    assert measures["separator_loss"] is None
    windows = [ids[start : start + 65] for start in range(0, len(ids) - 1, 64)]
    with torch.no_grad():
        nll = math.fsum(
            torch.nn.functional.cross_entropy(
                model(torch.tensor([window[:-1]])).logits[0], torch.tensor(window[1:]), reduction="sum"
            ).item()
            for window in windows
        )
    assert measures["loss"] == pytest.approx(nll / (len(ids) - 1), rel=1e-6)


def test_what_cannot_be_scored_costs_one_paragraph(lmtune, save_tiny, text_file, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    good, damaged, small = save_tiny("good"), save_tiny("damaged"), save_tiny("small", seed=2)
    weights = load_file(damaged / "model.safetensors")
    weights["transformer.wpe.weight"][5] = torch.nan
    save_file(weights, damaged / "model.safetensors", {"format": "pt"})
    weights = load_file(small / "model.safetensors")
    weights["transformer.wte.weight"] = weights["transformer.wte.weight"][:100].clone()
    save_file(weights, small / "model.safetensors", {"format": "pt"})
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    (tmp_path / "empty.txt").write_text("")
    cases = {
        (f"ckpt={damaged}", *text_file): "The loss of held-out tokens 0 to 511 (documents 1 to",
        (f"ckpt={small}", *text_file): "the embedding of the model has 100 rows",
        (f"ckpt={good}", "data.files=empty.txt", CPU): "empty.txt: expected text, found an empty file.",
        (f"ckpt={good}", *text_file, "eval.stride=100"): "eval.stride=100: windows have 64 tokens",
        (f"ckpt={good}", *text_file, "eval.stride=0"): "eval.stride=0: expected 1 or more tokens",
        (f"ckpt=[{good},{good}]", *text_file): "expected each checkpoint once",
        (f"ckpt=[{good},nowhere/at-all]", *text_file): "nowhere/at-all",
        (f"ckpt={good}", f"against={good}", *text_file): "expected each checkpoint once, on one side",
        (f"ckpt=[{good},{good}/]", *text_file): f"/: expected each model once, found the one of {good}. Leave one out.",
        (f"ckpt={good}", f"against={good}/../{good.name}", *text_file): f"each model once, found the one of {good}.",
        (f"ckpt={good.parent}/{good.name[:-1]}", *text_file): f"found nothing. Did you mean {good}?",
        (f"ckpt={good}*", *text_file): f"found nothing. Did you mean {good}?",
        (f"ckpt={good}", "against=./nowhere", *text_file): "against=./nowhere: expected a run folder",
        (f"ckpt={good}", "against=[]", *text_file): "expected checkpoints to compare with, found none",
        (f"ckpt={good}", f"against={small}", "suite=gpt2-zeroshot", CPU): "against= compares numbers of a text",
        (f"ckpt={good}", CPU): "comes from no run, so it has no held-out text of its own",
    }
    for arguments, expected in cases.items():
        answer = lmtune("eval", *arguments)
        assert answer.code == 2, (arguments, answer.out)
        assert expected in answer.err
        assert answer.err.count("error:") == 1
        assert answer.out == ""


def test_runs_on_the_same_selection_of_text_compare_without_a_warning(lmtune):
    short = ("training.max_steps=1", "training.use_cpu=true", "samples.enabled=false", "training.eval_strategy=no")
    for name, settings in (
        ("one", ()),
        ("other", ("data.block_size=64",)),
        ("third", ("data.seed=1",)),
        ("fourth", ("seed=1",)),
    ):
        assert lmtune("train", *short, *settings, f"output={name}").code == 0
    shutil.rmtree("one/model")
    two = lmtune("eval", "ckpt=[one,one/checkpoint-1]", CPU)
    assert "one has no finished model, so its newest whole checkpoint is taken: checkpoint-1" in two.err
    assert "expected each model once, found the one of one" in two.err
    shutil.copytree("one/checkpoint-1", "one/checkpoint-2")
    sides = lmtune("eval", "ckpt=[one/checkpoint-1,one/checkpoint-2]", "against=other", CPU)
    assert sides.code == 2
    assert (
        "ckpt=one/checkpoint-2: expected one checkpoint of each run, found one/checkpoint-1 of the same one"
        in sides.err
    )
    same, differ = lmtune("eval", "ckpt=[one,other,fourth]", CPU), lmtune("eval", "ckpt=[one,third]", CPU)
    assert (same.code, differ.code) == (0, 0), differ.err
    assert "another selection of text" not in same.err
    assert "third was trained on another selection of text than one" in differ.err


@pytest.mark.parametrize(("documents", "splits"), [("blank_line", ["train", "all"]), ("file", ["train"])])
def test_what_a_run_has_learned_is_said_of_the_text_that_it_is_scored_on(
    lmtune, save_tiny, tmp_path, documents, splits
):
    save_tiny("base")
    for name, count in (("old", 30), ("new", 60), ("other", 10)):
        texts = (" ".join(f"{name} {number} palavra {word}.\n" for word in range(8)) for number in range(count))
        (tmp_path / f"{name}.txt").write_text("\n\n".join(texts), encoding="utf-8")
    (tmp_path / "conf" / "data").mkdir(parents=True)
    old = f"files: old.txt\ndocuments: {documents}\nvalidation_fraction: 0.3\nblock_size: 32\n"
    (tmp_path / "conf" / "data" / "old.yaml").write_text(old, encoding="utf-8")
    replayed = ("forgetting.on=old", "forgetting.replay=old", "forgetting.budget=1%")
    new = ("data.files=new.txt", "data.documents=blank_line", "data.block_size=32", "model.path=base")
    quiet = ("training.max_steps=2", "training.use_cpu=true", "samples.enabled=false", "report.enabled=false")
    answer = lmtune("train", *new, *replayed, *quiet, "output=run")
    assert answer.code == 0, answer.err
    for settings in (["data=old"], ["data.files=other.txt", "data.documents=blank_line"], []):
        answer = lmtune("eval", "ckpt=run", *settings, CPU, "format=json")
        (measures,) = answer.json["eval"].values()
        assert "has learned" not in answer.err
        assert "learned" not in measures["protocol"]
    found = {}
    for split in splits:
        answer = lmtune("eval", "ckpt=run", "data=old", f"eval.split={split}", CPU, "format=json")
        (measures,) = answer.json["eval"].values()
        learned = found[split] = measures["protocol"]["learned"]
        assert learned["share"] == pytest.approx(learned["documents"] / learned["of"], abs=0.05)
        assert f"run has learned {learned['documents']} of the {learned['of']} documents of this text" in answer.err
    assert found["train"]["documents"] == found["train"]["of"]
    if "all" in found:
        assert found["all"]["documents"] == found["train"]["documents"] < found["all"]["of"] == 30
    (tmp_path / "run" / "past.npz").write_bytes(b"damaged")
    answer = lmtune("eval", "ckpt=run", "data=old", "eval.split=train", CPU)
    assert (answer.code, "run has not written down what it has learned" in answer.err) == (0, True)
    assert "not written down" not in lmtune("eval", "ckpt=run", CPU).err
