"""Vocabularies with conventions of their own, from the command line: BOS, unknown words, special strings, other read-backs."""

import json
import math
import sys
from pathlib import Path

import pytest
from helpers import write_texts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from vocabularies import WORDS, build_byte_level, build_unigram

CPU = ("device=cpu", "format=json")
TRAIN = (
    "data.block_size=16",
    "training.max_steps=2",
    "training.use_cpu=true",
    "samples.enabled=false",
    "data.documents=line",
)


@pytest.fixture
def save_with(build_tiny, tmp_path):
    """A function that saves a random tiny model with rows for a tokenizer; returns its folder and the model."""

    def save(tokenizer, kind="llama", name="model", **settings):
        model = build_tiny(kind, vocab_size=400, initializer_range=0.3, **settings)
        model.config.bos_token_id, model.config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name, model

    return save


def write(file, *lines):
    file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return f"data.files={file}"


def score_by_hand(model, rows):
    """Nats of the last tokens of each row [(ids, scored)], in float64."""
    import torch

    total = 0.0
    for ids, scored in rows:
        with torch.no_grad():
            logits = model.double()(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
        picked = logits[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
        total -= float(picked[len(picked) - scored :].sum())
    return total


@pytest.mark.parametrize("arguments", [("eval",), ("generate",), ("train",)])
def test_a_model_without_its_tokenizer_is_refused(lmtune, build_tiny, tmp_path, arguments):
    build_tiny("gpt2").save_pretrained(tmp_path / "bare")
    text = write(tmp_path / "notes.txt", *WORDS)
    keys = {
        "eval": (f"ckpt={tmp_path}/bare", text, *CPU),
        "generate": (f"ckpt={tmp_path}/bare", "prompt=O paciente"),
        "train": (f"model.path={tmp_path}/bare", text, *TRAIN, f"output={tmp_path}/run"),
    }[arguments[0]]
    answer = lmtune(arguments[0], *keys)
    assert (answer.code, answer.out) == (2, "")
    assert "its tokenizer is empty (1 entries, none for text); expected vocabulary files beside the model" in answer.err
    assert not (tmp_path / "run").exists()


def test_bos_stands_before_each_document_and_is_not_scored(lmtune, save_with, tmp_path):
    tokenizer = build_byte_level(bos=True)
    folder, model = save_with(tokenizer)
    text = write(tmp_path / "notes.txt", *WORDS[:2])
    answer = lmtune("eval", f"ckpt={folder}", text, "data.documents=line", *CPU)
    assert answer.code == 0, answer.err
    found = answer.json["eval"]["files"]
    ids = [tokenizer(line)["input_ids"] + [tokenizer.eos_token_id] for line in WORDS[:2]]
    assert all(row[0] == tokenizer.bos_token_id for row in ids)
    whole = [*ids[0], *ids[1]]
    # The second BOS is read, not scored.
    expected = score_by_hand(model, [(ids[0], len(ids[0]) - 1), (whole, len(ids[1]) - 1)])
    assert found["loss"] * found["tokens"] == pytest.approx(expected, rel=1e-5)
    assert found["tokens"] == len(whole) - 2
    assert found["protocol"]["first"] == [tokenizer.bos_token_id]
    assert (found["unknown_tokens"], found["lost_bytes"]) == (0, 0)


def test_a_vocabulary_without_end_begins_with_its_bos(lmtune, save_with, tmp_path):
    tokenizer = build_byte_level(bos=True)
    folder, model = save_with(tokenizer)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file = folder / name
        if file.exists():
            settings = json.loads(file.read_text())
            settings.pop("eos_token", None)
            file.write_text(json.dumps(settings))
    answer = lmtune("eval", f"ckpt={folder}", write(tmp_path / "notes.txt", WORDS[0]), "data.documents=line", *CPU)
    assert answer.code == 0, answer.err
    found = answer.json["eval"]["files"]
    ids = tokenizer(WORDS[0])["input_ids"]
    assert found["loss"] * found["tokens"] == pytest.approx(score_by_hand(model, [(ids, len(ids) - 1)]), rel=1e-5)
    assert (found["tokens"], found["bytes"]) == (len(ids) - 1, len(WORDS[0].encode()))


def test_a_prompt_begins_as_transformers_begins_it(lmtune, save_with):
    import torch

    tokenizer = build_byte_level(bos=True)
    folder, model = save_with(tokenizer)
    ids = tokenizer("The old house", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.float().generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=tokenizer.pad_token_id)
        likely = model(ids).logits[0, -1].double().softmax(-1).topk(3)
    answer = lmtune(
        "generate", f"ckpt={folder}", "prompt=The old house", "generation.do_sample=false", "generation.max_new_tokens=8",
        *CPU,
    )  # fmt: skip
    assert answer.json["texts"] == [tokenizer.decode(expected[0], skip_special_tokens=True)]
    top = lmtune("generate", f"ckpt={folder}", "prompt=The old house", "top=3", *CPU)
    assert [each[1] for each in top.json["next"]] == pytest.approx(likely.values.tolist(), rel=1e-4)


def test_a_prompt_that_does_not_fit_says_where_it_begins(lmtune, save_with):
    folder, _ = save_with(build_byte_level(bos=True))
    answer = lmtune("generate", f"ckpt={folder}", "prompt=" + "casa e rio " * 30, "generation.max_new_tokens=4", *CPU)
    assert answer.code == 0, answer.err
    assert (
        "tokens and 59 of them fit the positions of the model, so its beginning is left out: the text begins at"
        in answer.err
    )


@pytest.mark.parametrize("more", [(), ("data.packing=false",), ("data.streaming=true",)])
def test_training_learns_texts_behind_their_bos(lmtune, save_with, tmp_path, more):
    tokenizer = build_byte_level(bos=True)
    folder, _ = save_with(tokenizer)
    lines = [f"{line} {number}" for number in range(40) for line in WORDS]
    answer = lmtune(
        "train", f"model.path={folder}", write(tmp_path / "notes.txt", *lines), *TRAIN, *more, f"output={tmp_path}/run", "format=json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    results = next(iter(answer.json["eval"].values()))
    assert results["protocol"]["first"] == [tokenizer.bos_token_id]
    ledger = json.loads((tmp_path / "run/ledger.json").read_text())["sides"]["train"]
    assert ledger["openings"] == ledger["documents"] == ledger["separators"] > 0
    again = lmtune("eval", f"ckpt={tmp_path}/run", *CPU)
    assert next(iter(again.json["eval"].values()))["bits_per_byte"] == pytest.approx(results["bits_per_byte"], rel=1e-6)
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(tmp_path / "run/model")("a")["input_ids"] == tokenizer("a")["input_ids"]


def test_special_strings_of_a_unigram_vocabulary_are_text(lmtune, save_with, tmp_path):
    folder, _ = save_with(build_unigram(byte_fallback=True))
    lines = [
        f"{line} {number}" for number in range(20) for line in [*WORDS, "the tag </s> closes what <s> and <unk> opened"]
    ]
    text = write(tmp_path / "notes.txt", *lines)
    scored = lmtune("eval", f"ckpt={folder}", text, "data.documents=line", *CPU)
    assert scored.code == 0, scored.err
    assert scored.json["eval"]["files"]["lost_bytes"] == 0
    trained = lmtune("train", f"model.path={folder}", text, *TRAIN, f"output={tmp_path}/run")
    assert trained.code == 0, trained.err


def test_a_text_that_the_vocabulary_does_not_know_is_refused(lmtune, save_with, tmp_path):
    folder, _ = save_with(build_unigram())
    text = write(tmp_path / "notes.txt", *["漢字かな混じり文"] * 5, *WORDS)
    refused = lmtune("eval", f"ckpt={folder}", text, "data.documents=line", *CPU)
    assert (refused.code, refused.out) == (2, "")
    assert "5 unknown tokens; 120 of" in refused.err
    allowed = lmtune("eval", f"ckpt={folder}", text, "data.documents=line", "eval.max_lost=1", *CPU)
    assert allowed.code == 0, allowed.err
    found = allowed.json["eval"]["files"]
    assert (found["unknown_tokens"], found["lost_bytes"]) == (5, 120)
    assert "5 unknown tokens; 120 of" in allowed.err
    (tmp_path / "known.txt").write_text("The house rose.\nO rio voltou.\n", encoding="utf-8")
    held = f"data.validation_files={tmp_path}/known.txt"
    trained = lmtune("train", f"model.path={folder}", text, held, *TRAIN, f"output={tmp_path}/run")
    assert trained.code == 0, trained.err
    assert "The vocabulary does not hold all of the training text: 5 unknown tokens" in trained.err


def test_a_vocabulary_moved_onto_qwen2_reads_back_as_it_is(lmtune, save_with, tmp_path):
    from transformers import AutoTokenizer

    from lmtune.modeling.tokenizer import learn_tokenizer
    from lmtune.vocabulary import find_difference, hash_tokenizer

    lines = [f"In {1000 + 37 * n} the U.S. had {n * n * 17:,} men (cafe\u0301 {n})." for n in range(60)]
    folder, _ = save_with(build_byte_level(), "qwen2")
    other = learn_tokenizer(lines, vocab_size=300, max_length=64)
    other.save_pretrained(tmp_path / "other")
    answer = lmtune(
        "train", f"model.path={folder}", f"model.tokenizer={tmp_path}/other", "model.transplant=mean", write(tmp_path / "n.txt", *lines),
        *TRAIN, f"output={tmp_path}/run",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    for saved in ("model", "checkpoint-2"):
        read = AutoTokenizer.from_pretrained(tmp_path / "run" / saved)
        assert find_difference(other, read) is None
        assert hash_tokenizer(read) == hash_tokenizer(other)
    results = json.loads((tmp_path / "run/results.json").read_text())["eval"]
    again = lmtune("eval", f"ckpt={tmp_path}/run", *CPU).json["eval"]
    assert [each["bits_per_byte"] for each in again.values()] == pytest.approx(
        [e["bits_per_byte"] for e in results.values()]
    )


def test_several_ids_that_end_a_text_stay(lmtune, save_with, tmp_path):
    tokenizer = build_byte_level()
    folder, _ = save_with(tokenizer)
    settings = json.loads((folder / "generation_config.json").read_text())
    ends = [tokenizer.eos_token_id, 77, 78]
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": ends}))
    texts = [f"{word}, {number}" for number in range(9) for word in WORDS]
    answer = lmtune(
        "train", f"model.path={folder}", write(tmp_path / "n.txt", *texts), *TRAIN, f"output={tmp_path}/run"
    )
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "run/model/generation_config.json").read_text())["eos_token_id"] == ends


def test_lambada_begins_with_the_bos(lmtune, save_with, tmp_path):
    tokenizer = build_byte_level(bos=True)
    folder, model = save_with(tokenizer)
    passages = ["The old house", "O paciente voltou", "the river rose"]
    write_texts(tmp_path / "lambada.jsonl", passages)
    answer = lmtune(
        "eval", f"ckpt={folder}", "suite=gpt2-zeroshot", "suite.profile=lm_eval", "suite.tasks=[lambada]",
        f"suite.files.lambada={tmp_path}/lambada.jsonl", *CPU,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    rows = []
    for text in passages:
        ids = tokenizer(text)["input_ids"]
        rows.append((ids, len(ids) - len(tokenizer(text.rpartition(" ")[0])["input_ids"])))
    found = answer.json["tasks"]["lambada"]
    assert found["perplexity"] == pytest.approx(math.exp(score_by_hand(model, rows) / 3), rel=1e-5)
    assert found["protocol"]["opening"] == [tokenizer.bos_token_id]
