"""lmtune export: what other programs load is the model, whole, readable, and never half there."""

import json
import os
import re
import resource
import shutil
import stat
import subprocess
import sys

import pytest
import torch
from vocabularies import build_word_piece

from lmtune.modeling.behaviour import run
from lmtune.modeling.saving import save_model
from lmtune.versions import render_install

ROUND = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11}


@pytest.fixture
def saved(build_tiny, tokenizer, tmp_path):
    """A function that saves a tiny model of a type into the folder `mine`."""

    def save(kind="gpt2", **settings):
        model = build_tiny(kind, **settings)
        save_model(model, tokenizer, tmp_path / "mine")
        return model

    return save


def adapt(folder, model):
    """A low-rank adapter with weights of its own on a saved model; returns the model that it makes."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    )
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.2)
    adapted.peft_config["default"].base_model_name_or_path = str(folder)
    adapted.save_pretrained(folder.with_name("adapter"))
    return adapted.merge_and_unload().eval()


def load_apart(folder, ids):
    """Logits that plain transformers gives, in a process that knows nothing of lmtune."""
    code = (
        "import sys, json, torch; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "m = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()\n"
        "AutoTokenizer.from_pretrained(sys.argv[1]); assert 'lmtune' not in sys.modules\n"
        "with torch.no_grad(): print(json.dumps(m(input_ids=torch.tensor([json.loads(sys.argv[2])])).logits.tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), json.dumps(ids)], capture_output=True, text=True, check=True
    )
    return torch.tensor(json.loads(done.stdout))


@pytest.mark.parametrize("dtype", ["float32", "float16", "q8_0"])
def test_a_gguf_file_and_its_modelfile_are_written(lmtune, saved, tmp_path, dtype):
    pytest.importorskip("gguf")
    saved(n_inner=96)
    answer = lmtune("export", "ckpt=mine", "to=gguf", f"dtype={dtype}", "output=out", "format=json")
    assert answer.code == 0, answer.err
    kind = {"float32": "F32", "float16": "F16", "q8_0": "Q8_0"}[dtype]
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert answer.json["files"] == sizes
    assert set(sizes) == {f"mine-{kind}.gguf", "Modelfile"}
    assert (tmp_path / "out" / "Modelfile").read_text().startswith(f"FROM ./mine-{kind}.gguf\n")
    assert (answer.json["proof"]["largest"] == 0) == (dtype == "float32")
    assert answer.json["vocabulary"] == {"tokens": 320, "unused": 0, "missing_bytes": 0, "splitter": "gpt-2"}
    assert answer.json["parameters"] > 10_000


def test_the_table_says_what_was_written(lmtune, saved, tmp_path):
    pytest.importorskip("gguf")
    saved()
    answer = lmtune("export", "ckpt=mine", "to=gguf")
    assert answer.code == 0, answer.err
    lines = dict(line.split(maxsplit=1) for line in answer.out.replace("read back", "read-back").splitlines())
    assert re.fullmatch(r"the same logits on \d{3} tokens, bit for bit", lines["read-back"])
    assert (tmp_path / lines["folder"]).parent == tmp_path / "outputs" / "mine-gguf"
    assert {path.name for path in (tmp_path / lines["folder"]).iterdir()} == {"mine-F32.gguf", "Modelfile"}


@pytest.mark.parametrize("dtype", ROUND)
def test_a_folder_loads_without_lmtune(lmtune, saved, tmp_path, dtype):
    model = saved("llama")
    answer = lmtune("export", "ckpt=mine", "to=safetensors", f"dtype={dtype}", "output=out", "format=json")
    assert answer.code == 0, answer.err
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.to(getattr(torch, dtype)))
    ids = list(range(5, 40))
    assert torch.allclose(load_apart(tmp_path / "out", ids), run(model, torch.tensor([ids])), atol=1e-5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == dtype
    names = {
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == names == set(answer.json["files"])
    assert ("rounded to" in (tmp_path / "out" / "README.md").read_text()) == (dtype != "float32")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_are_as_readable_as_new_ones(lmtune, saved, tmp_path, mask):
    saved()
    before = os.umask(mask)
    try:
        assert lmtune("export", "ckpt=mine", "to=safetensors", "output=out").code == 0
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "out").iterdir()}
    assert modes == {0o666 & ~mask}


@pytest.mark.parametrize("to", ["gguf", "safetensors"])
def test_an_adapter_is_merged(lmtune, saved, tmp_path, to):
    pytest.importorskip("peft")
    merged = adapt(tmp_path / "mine", saved())
    if to == "gguf":
        gguf = pytest.importorskip("gguf")
    answer = lmtune("export", "ckpt=adapter", f"to={to}", "output=out")
    assert answer.code == 0, answer.err
    if to == "safetensors":
        ids = list(range(5, 40))
        assert torch.allclose(load_apart(tmp_path / "out", ids), run(merged, torch.tensor([ids])), atol=1e-5)
        return
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "out" / "adapter-F32.gguf").tensors}
    expected = merged.transformer.h[1].attn.c_attn.weight.detach().T
    assert torch.allclose(torch.tensor(tensors["blk.1.attn_qkv.weight"]), expected, atol=1e-6)


def test_what_a_run_has_learned_is_exported_with_its_settings_and_card(lmtune, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("peft")
    tiny = ("model.config.n_layer=1", "model.config.n_embd=32", "model.config.n_head=2", "training.use_cpu=true")
    trained = lmtune("train", *tiny, "training.max_steps=2", "generation.temperature=0.5", "name=small", "output=run")
    assert trained.code == 0, trained.err
    assert lmtune("export", "ckpt=run", "to=gguf", "output=file").code == 0
    modelfile = (tmp_path / "file" / "Modelfile").read_text().splitlines()
    assert modelfile[0] == "FROM ./small-F32.gguf"
    assert {"PARAMETER temperature 0.5", "PARAMETER top_k 40", 'PARAMETER stop "<|endoftext|>"'} <= set(modelfile)
    assert lmtune("export", "ckpt=run", "to=safetensors", "dtype=bfloat16", "output=folder").code == 0
    card = (tmp_path / "folder" / "README.md").read_text()
    assert all(each in card for each in ("# small", "Held-out text", "rounded to bfloat16"))
    (step,) = (tmp_path / "run").glob("checkpoint-2")
    assert lmtune("export", f"ckpt={step}", "to=safetensors", "output=step").code == 0
    assert "Held-out text" not in (tmp_path / "step" / "README.md").read_text()


def test_a_chat_template_goes_with_the_file(lmtune, build_tiny, texts, tmp_path):
    gguf = pytest.importorskip("gguf")
    from lmtune.modeling.tokenizer import learn_tokenizer

    chat = learn_tokenizer(texts, vocab_size=320, max_length=64)
    chat.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    save_model(build_tiny(), chat, tmp_path / "mine")
    assert lmtune("export", "ckpt=mine", "to=gguf", "output=out").code == 0
    assert "TEMPLATE" not in (tmp_path / "out" / "Modelfile").read_text()
    reader = gguf.GGUFReader(tmp_path / "out" / "mine-F32.gguf")
    assert reader.get_field("tokenizer.chat_template").contents() == chat.chat_template


MISTAKES = {
    ("ckpt=mine",): "lmtune export needs to=, found none. Give to=gguf or to=safetensors.",
    ("to=gguf",): "lmtune export needs ckpt=, found none.",
    ("ckpt=mine", "to=onnx"): "to=onnx: expected one of gguf, safetensors",
    ("ckpt=mine", "to=gguf", "dtype=bfloat16"): "dtype=bfloat16: expected float32, float16, q8_0 for to=gguf.",
    ("ckpt=mine", "to=safetensors", "dtype=q8_0"): "dtype=q8_0: expected float32, bfloat16, float16 for to=safetensors.",
    ("ckpt=mine", "to=gguf", "dtype=q4_k"): "dtype=q4_k: expected one of",
    ("ckpt=./nowhere", "to=gguf"): "ckpt=./nowhere: expected a run folder, a checkpoint or a model folder, found nothing.",
    ("ckpt=mine", "to=gguf", "output=mine"): "output=mine: expected a new folder or an empty one, found",
    ("ckpt=mine", "to=gguf", "output=mine/config.json"): "output=mine/config.json: expected a folder that can be made",
    ("ckpt=other", "to=gguf"): "other is of the model type gpt_neox; expected one whose",
    ("ckpt=bare", "to=gguf"): "ckpt=bare: its tokenizer is empty",
    ("ckpt=bare", "to=safetensors"): "ckpt=bare: its tokenizer is empty",
    ("ckpt=halved", "to=gguf"): "Missing weights would be drawn at random",
    ("ckpt=pieces", "to=gguf"): "found one of the kind WordPiece, for which llama.cpp was not seen to give the same ids",
    ("ckpt=curved", "to=gguf"): "its config.json says activation_function=relu, for which a GGUF file (gpt2) has no word",
}  # fmt: skip


@pytest.fixture
def models(build_tiny, tokenizer, tmp_path):
    """Folders with a model each: sound, of another type, without a tokenizer, without a weight, with word pieces."""
    save_model(build_tiny(), tokenizer, tmp_path / "mine")
    save_model(build_tiny("gpt_neox"), tokenizer, tmp_path / "other")
    save_model(build_tiny(activation_function="relu"), tokenizer, tmp_path / "curved")
    save_model(build_tiny(), build_word_piece(), tmp_path / "pieces")
    shutil.copytree(tmp_path / "mine", tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).unlink()
    shutil.copytree(tmp_path / "mine", tmp_path / "halved")
    config = json.loads((tmp_path / "halved" / "config.json").read_text())
    (tmp_path / "halved" / "config.json").write_text(json.dumps({**config, "n_layer": 3}))


def test_mistakes_are_answered_in_one_paragraph_and_leave_nothing(lmtune, models, tmp_path):
    pytest.importorskip("gguf")
    before = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    for arguments, said in MISTAKES.items():
        answer = lmtune("export", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err, arguments
        assert answer.err.splitlines()[-1].startswith("error: "), arguments
        assert "Traceback" not in answer.err, arguments
        assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == before, arguments


@pytest.mark.parametrize("to", ["gguf", "safetensors"])
def test_a_full_disk_leaves_nothing(lmtune, saved, tmp_path, to):
    """A limit on the size of files stands for it: the write fails in the middle of the weights."""
    pytest.importorskip("gguf")
    saved()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        answer = lmtune("export", "ckpt=mine", f"to={to}", "output=out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer.code == 2, answer.err
    assert f"{tmp_path / 'out'} could not be written: " in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_written_is_refused_first(lmtune, saved, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    saved()
    (tmp_path / "locked").mkdir(mode=0o500)
    answer = lmtune("export", "ckpt=mine", "to=safetensors", "output=locked/out")
    assert (answer.code, answer.out) == (2, "")


def test_a_file_that_is_not_the_model_is_not_left_behind(lmtune, saved, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    from lmtune.exporting import gguf_file

    saved("llama")
    monkeypatch.setattr(gguf_file, "lay_out", lambda architecture, config, name, weight: weight)  # rows not in pairs
    answer = lmtune("export", "ckpt=mine", "to=gguf", "output=out")
    assert answer.code == 2
    assert (
        "mine-F32.gguf was written, read back, and is not the model: model.layers.0.self_attn.q_proj.weight differs"
        in answer.err
    )
    assert not (tmp_path / "out").exists()


def test_weights_beyond_float16_are_refused(lmtune, build_tiny, tokenizer, tmp_path):
    model = build_tiny()
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.weight[0, 0] = 1e6
    save_model(model, tokenizer, tmp_path / "mine")
    answer = lmtune("export", "ckpt=mine", "to=safetensors", "dtype=float16", "output=out")
    assert answer.code == 2
    assert "mine in float16 is another model" in answer.err
    assert not (tmp_path / "out").exists()


def test_without_its_package_gguf_is_refused_with_the_extra(lmtune, saved, monkeypatch):
    from lmtune.exporting import gguf_file

    saved()
    monkeypatch.setattr(gguf_file.importlib.util, "find_spec", lambda name: None)
    answer = lmtune("export", "ckpt=mine", "to=gguf")
    assert answer.err == f"error: to=gguf needs the package gguf, which is not installed. {render_install('gguf')}\n"
