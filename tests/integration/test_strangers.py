"""Every command, with a terminal that says yes: foreign code does not run. And paths that cannot be looked at cost one paragraph."""

import json
import os
from pathlib import Path

import pytest

CODE = """
from pathlib import Path
Path("it-ran").touch()
from transformers import GPT2LMHeadModel, PretrainedConfig, PreTrainedTokenizerFast
class Config(PretrainedConfig):
    model_type = "strange"
class Model(GPT2LMHeadModel): pass
class Tokenizer(PreTrainedTokenizerFast): pass
"""
AUTO_MAP = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
CPU = "device=cpu"
FAST = ("training.use_cpu=true", "training.max_steps=1", "samples.enabled=false")


@pytest.fixture
def world(build_tiny, tokenizer, tmp_path, unasked):
    """A strange model, a strange data set and a text, at a terminal whose person says yes to everything."""
    for name in ("strange", "known"):
        build_tiny().save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        file = tmp_path / name / "config.json"
        changes = {"auto_map": AUTO_MAP, **({"model_type": "strange"} if name == "strange" else {})}
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        (tmp_path / name / "code.py").write_text(CODE)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.py").write_text(CODE)
    (tmp_path / "a.txt").write_text("".join(f"O paciente {number} voltou para casa.\n" for number in range(60)))
    yield
    assert not (tmp_path / "it-ran").exists()


STRANGERS = {
    ("train", "model.path=strange", *FAST): "model.path=",
    ("train", "model.path=strange", "model.init=scratch", "model.tokenizer=known", *FAST): "model.path=",
    ("lr-find", "model.path=strange", "training.use_cpu=true"): "model.path=",
    ("data", "model.path=strange", "data.files=a.txt"): "model.path=",
    ("tokenizer", "model.path=strange", "data.files=a.txt", "output=out"): "model.path=",
    ("eval", "ckpt=strange", "data.files=a.txt", CPU): "ckpt=",
    ("eval", "ckpt=strange", "suite=gpt2-zeroshot", CPU): "ckpt=",
    ("generate", "ckpt=strange", "prompt=O", CPU): "ckpt=",
    ("train", "data=bio", "data.path=./corpus", *FAST): "data.path=",
    ("data", "data=bio", "data.path=./corpus"): "data.path=",
    ("eval", "ckpt=known", "data=bio", "data.path=./corpus", CPU): "data.path=",
    ("tokenizer", "data=bio", "data.path=./corpus", "output=out"): "data.path=",
}


@pytest.mark.parametrize("command", STRANGERS, ids=" ".join)
def test_no_command_runs_what_strangers_wrote(lmtune, world, tmp_path, command):
    before = {path.name for path in tmp_path.iterdir()}
    answer = lmtune(*command)
    assert (answer.code, answer.out) == (2, "")
    paragraph = answer.err.splitlines()[-1]
    assert paragraph.startswith(f"error: {STRANGERS[command]}")
    assert "needs code of its own (co" in paragraph
    assert "which lmtune never runs" in paragraph
    assert answer.err.count("error: ") == 1
    assert "Traceback" not in answer.err
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_model_that_transformers_knows_works_without_the_code_beside_it(lmtune, world):
    answer = lmtune("generate", "ckpt=known", "prompt=O", "generation.max_new_tokens=2", CPU)
    assert answer.code == 0, answer.err
    answer = lmtune("train", "model.path=known", "data.files=a.txt", "data.block_size=16", "output=run", *FAST)
    assert answer.code == 0, answer.err


@pytest.fixture
def forbidden(monkeypatch):
    """A folder that may not be entered, made up: the tests may run as root, who may enter any."""
    look = os.stat

    def refuse(path, *arguments, **settings):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith("/forbidden/"):
            raise PermissionError(13, os.strerror(13), os.fspath(path))
        return look("/" if str(path) == "/forbidden" else path, *arguments, **settings)

    monkeypatch.setattr(os, "stat", refuse)


LONG = "n" * 300
PATHS = {
    "/forbidden/x": "found /forbidden, which this user may not look into.",
    f"{LONG}/x": "found a name of 300 bytes, where file systems take 255.",
    "~nobody-of-that-name/x": "found ~nobody-of-that-name, but there is no user nobody-of-that-name.",
}
KEYS = {
    "data.files": ("data",),
    "data.validation_files": ("data", "data.files=a.txt"),
    "model.path": ("train",),
    "model.tokenizer": ("train",),
    "ckpt": ("generate", "prompt=a"),
    "prompts_file": ("generate", "ckpt=known"),
    "output": ("eval", "ckpt=known", "data.files=a.txt", "eval.per_document=true"),
}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:12])
@pytest.mark.parametrize("key", KEYS)
def test_a_path_that_cannot_be_looked_at_costs_one_paragraph(lmtune, forbidden, tmp_path, key, path):
    (tmp_path / "a.txt").write_text("O paciente\n")
    answer = lmtune(*KEYS[key], f"{key}={path}")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {key}=")
    assert path[:30] in answer.err
    assert PATHS[path] in answer.err
    assert answer.err.count("\n") == 1
    assert {each.name for each in tmp_path.iterdir()} == {"a.txt"}


MISTAKES = {
    ("eval", "ckpt=pipe", "data.files=a.txt"): "ckpt=pipe: expected a run folder, a checkpoint or a model folder, found a pipe.",
    ("eval", "ckpt=a.txt", "data.files=a.txt"): "ckpt=a.txt: expected a run folder, a checkpoint or a model folder, found a file.",
    ("eval", "ckpt=[broken]", "data.files=a.txt"): "ckpt=broken: expected a run folder, a checkpoint or a model folder, found a link to",
    ("generate", "ckpt=circle", "prompt=a"): "found a link that leads round in a circle.",
    ("generate", "ckpt=a.txt/x/y", "prompt=a"): "is neither a folder here nor a Hub id",
    ("eval", "ckpt=mine,theirs"): "Several go into brackets, where a key takes several: [a,b].",
    ("generate", "ckpt=./a.txt/x", "prompt=a"): "found nothing, since a.txt is no folder.",
    ("generate", "ckpt=x", "prompts_file=pipe"): "prompts_file=pipe: expected a text file in UTF-8, found a pipe.",
    ("generate", "ckpt=x", "prompts_file=/dev/zero"): "prompts_file=/dev/zero: expected a text file in UTF-8, found a device.",
    ("generate", "ckpt=x", "prompts_file=."): "prompts_file=.: expected a text file in UTF-8, found a folder.",
    ("data", "data.files=pipe"): "pipe: expected a file or a folder, found a pipe.",
    ("data", "data.files=broken"): "broken is a link to gone, which is not there.",
    ("data", "data.files=circle"): "circle is a link that leads round in a circle.",
    ("data", "data.files="): "data.files=''",
    ("train", "model.path="): "model.path=: expected a path, found nothing.",
    ("train", "model.path=pipe"): "expected a folder with a saved model, found a pipe.",
    ("train", "model.path=./broken"): "expected a folder with a saved model, found a link to gone, which is not there.",
    ("train", "model.tokenizer=a.txt"): "expected a folder with a tokenizer, found a file.",
    ("tokenizer", "output=a.txt"): "output=a.txt: expected a folder that can be made, found that",
    ("tokenizer", "output=a.txt/x"): "is a file. Give another output=.",
    ("eval", "ckpt=x", "data.files=a.txt", "eval.per_document=true", "output=/dev/null/x"): "found that /dev/null is a device.",
}  # fmt: skip


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_something_else_than_expected_at_a_path_costs_one_paragraph(lmtune, tmp_path, command):
    (tmp_path / "a.txt").write_text("O paciente\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("gone")
    (tmp_path / "circle").symlink_to("circle")
    before = sorted(path.name for path in tmp_path.iterdir())
    answer = lmtune(*command)
    assert (answer.code, answer.out) == (2, "")
    assert MISTAKES[command] in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_pseudo_files_of_the_system_end_in_a_paragraph(lmtune):
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    answer = lmtune("data", "data.files=/proc")
    assert answer.code == 2
    assert answer.err.startswith("error: data.files=/proc: expected ")
