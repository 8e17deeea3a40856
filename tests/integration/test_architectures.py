"""Every causal architecture that can be built small: scored, trained, saved, read back, resumed, or refused in words.

pytest -m slow tests/integration/test_architectures.py -s     prints the table of docs/models.md
LMTUNE_TEST_KINDS=gpt2,mixtral pytest ...                     of these alone
"""

import json
import os
import shutil
import sys

import pytest
import torch
from architectures import KINDS, build_small

from lmtune.evaluation.protocol import hash_model
from lmtune.modeling import loading, stored

STEPS = 3
COLUMNS = (
    "type",
    "class",
    "parameters",
    "from float64",
    "names",
    "read back, best step, resumed",
    "lora",
    "gradual",
    "isolated",
)
SIZES = [
    "training.per_device_train_batch_size=2", "training.use_cpu=true", "training.logging_steps=1", "samples.enabled=false",
    "data.block_size=32", "eval.context=32", "data.documents=blank_line",
]  # fmt: skip
TRAINING = [
    f"training.max_steps={STEPS}", "training.learning_rate=0.02", "training.eval_steps=1", "training.save_total_limit=null", *SIZES,
]  # fmt: skip
UNSAVED = ["training.eval_strategy=no", "training.save_strategy=no", "training.load_best_model_at_end=false"]
NOT_CAUSAL = ("xlnet",)
"""Architectures that transformers generates with in a way of their own, and that lmtune does not take."""
PROMPT, NEW_TOKENS = "O paciente", 8
GREEDY = ["generation.do_sample=false", f"generation.max_new_tokens={NEW_TOKENS}"]
EXTRAS = {
    "lora": ["finetune=lora", "training.max_steps=1", *UNSAVED],
    "gradual": [
        "finetune=gradual",
        "finetune.block_groups=1",
        "finetune.phases=[{groups:1,epochs:1,learning_rate:1e-3}]",
        *UNSAVED,
    ],
    "isolated": ["data.isolate_documents=true", "training.max_steps=1", *UNSAVED],
}


@pytest.mark.slow
def test_every_architecture_is_right_or_refused(lmtune, tokenizer, texts, tmp_path, capfd):
    wanted = os.environ.get("LMTUNE_TEST_KINDS")
    (tmp_path / "train.txt").write_text("\n\n".join(texts[:12]), encoding="utf-8")
    (tmp_path / "valid.txt").write_text("\n\n".join(texts[40:42]), encoding="utf-8")
    rows, wrong = [], []
    for kind in wanted.split(",") if wanted else KINDS:
        try:
            rows.append(try_kind(kind, lmtune, tokenizer, tmp_path))
            say(capfd, "| " + " | ".join(rows[-1]) + " |")
        except Exception as fault:  # all of them are to be seen, not the first
            wrong.append(f"{kind}: {type(fault).__name__}: {' '.join(str(fault).split())[:600]}")
            say(capfd, wrong[-1])
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
    say(capfd, "| " + " | ".join(COLUMNS) + " |")
    assert wrong == []
    assert wanted or len(rows) >= 60


@pytest.mark.slow
def test_every_architecture_writes_what_it_writes_in_transformers(lmtune, tokenizer, tmp_path, capfd):
    wanted = os.environ.get("LMTUNE_TEST_KINDS")
    wrong, right = [], 0
    for kind in wanted.split(",") if wanted else KINDS:
        build_small(kind, len(tokenizer), tokenizer.eos_token_id).save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        answer = lmtune("generate", f"ckpt={tmp_path / kind}", f"prompt={PROMPT}", "device=cpu", "format=json", *GREEDY)
        found = answer.json["texts"][0] if answer.code == 0 else shorten(answer.err)
        expected = write_in_transformers(tmp_path / kind, tokenizer)
        right += answer.code == 0 and found == expected
        if answer.code == 2 and (expected is None or kind in NOT_CAUSAL):
            say(capfd, f"{kind}: refused: {found}")
        elif answer.code != 0 or found != expected:
            wrong.append(f"{kind}: {found!r} is not {expected!r}")
            say(capfd, wrong[-1])
        shutil.rmtree(tmp_path / kind)
    say(capfd, f"{right} architectures write what they write in transformers")
    assert wrong == []
    assert wanted or right >= 60


def write_in_transformers(folder, tokenizer):
    """The prompt and its greedy continuation; None for a class that transformers does not generate with."""
    from transformers import AutoModelForCausalLM

    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        row = model.generate(ids, do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=tokenizer.pad_token_id)[0]
    except Exception:  # whatever it says instead
        return None
    return tokenizer.decode(row, skip_special_tokens=True)


def say(capfd, line):
    with capfd.disabled():
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def try_kind(kind, lmtune, tokenizer, folder):
    """A row of the table; raise where something is wrong that was not refused."""
    model = build_small(kind, len(tokenizer), tokenizer.eos_token_id)
    work = folder / "work"
    source = work / "model"
    model.save_pretrained(source)
    tokenizer.save_pretrained(source)
    row = [kind, type(model).__name__, f"{model.num_parameters():,}"]
    answer = lmtune("eval", f"ckpt={source}", f"data.files={folder / 'valid.txt'}", "data.documents=file",
                    "eval.dtype=float32", "device=cpu", "format=json")  # fmt: skip
    if answer.code == 2:
        return [*row, "refused: " + shorten(answer.err), *[""] * 5]
    assert answer.code == 0, answer.err[-600:]
    (found,) = answer.json["eval"].values()
    row.append(f"{compare(source, tokenizer, folder / 'valid.txt', found):.0e}")
    renamed = {name for name, _ in stored.read_tensors(source)} - model.state_dict().keys()
    row.append("renamed" if renamed else "as they are")
    data = [
        f"model.path={source}",
        f"data.files={folder / 'train.txt'}",
        f"data.validation_files={folder / 'valid.txt'}",
    ]
    answer = lmtune("train", *data, *TRAINING, f"output={work / 'run'}")
    if answer.code == 2:
        return [*row, "refused: " + shorten(answer.err), *[""] * 3]
    assert answer.code == 0, answer.err[-600:]
    check_run(lmtune, work)
    row.append("bit-equal")
    for name, extra in EXTRAS.items():
        answer = lmtune("train", *data, *extra, *SIZES, f"output={work / name}")
        assert answer.code in (0, 2), f"{name}: {answer.err[-600:]}"
        row.append("yes" if answer.code == 0 else "refused: " + shorten(answer.err))
    return row


def check_run(lmtune, work):
    """The model of a run is its best step's; a run that was stopped after two steps ends with the same bits."""
    results = json.loads((work / "run" / "results.json").read_text())
    (measures,) = results["eval"].values()
    best = work / "run" / f"checkpoint-{results['train']['best_step']}"
    for folder in (best, work / "run" / "model"):
        assert hash_model(loading.load_model(str(folder))) == measures["protocol"]["model"], folder.name
    shutil.copytree(work / "run", work / "again")
    for name in ("model", f"checkpoint-{STEPS}"):
        shutil.rmtree(work / "again" / name)
    (work / "again" / "results.json").unlink()
    answer = lmtune("train", f"resume={work / 'again'}", "format=json")
    assert answer.code == 0, answer.err[-600:]
    (again,) = answer.json["eval"].values()
    assert again["loss"] == measures["loss"]
    assert again["protocol"]["model"] == measures["protocol"]["model"]
    for name in ("model", f"checkpoint-{STEPS}"):
        one, other = (dict(stored.read_tensors(work / each / name)) for each in ("run", "again"))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name


def compare(source, tokenizer, file, found):
    """The relative distance of the loss from that of plain PyTorch in float64, windows of 128 tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float64).eval()
    if getattr(model.config, "_experts_implementation", None):
        model.set_experts_implementation("eager")
    end = tokenizer.eos_token_id
    ids = [end, *tokenizer(file.read_text(encoding="utf-8"))["input_ids"], end]
    context, total = found["protocol"]["context"], 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, context):
            window = torch.tensor([ids[start : start + context + 1]])
            try:
                logits = model(input_ids=window[:, :-1], use_cache=False).logits[0].double()
            except RuntimeError:  # XGLM's mask does not go into float64
                logits = model.float()(input_ids=window[:, :-1], use_cache=False).logits[0].double()
            total += float(torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum"))
    expected = total / (len(ids) - 1)
    distance = abs(found["loss"] - expected) / expected
    assert distance < 1e-5, f"loss {found['loss']}, PyTorch in float64 {expected}"
    return distance


def shorten(text):
    line = text.strip().splitlines()[-1].removeprefix("error: ")
    return " ".join(line.split())[:90].replace("|", "/")
