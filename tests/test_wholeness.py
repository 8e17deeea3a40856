"""A model that lacks weights, holds others, or is not as it was sealed, is refused wherever it is read."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lmtune.config import ModelConfig
from lmtune.errors import LmtuneError, ModelError
from lmtune.modeling.checkpoint import resolve_checkpoint
from lmtune.modeling.loading import build_model, load_model
from lmtune.modeling.source import check_model_source
from lmtune.runs import find_damage, seal


@pytest.fixture
def folder(build_tiny, tokenizer, tmp_path):
    model = build_tiny("llama")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def rewrite(folder, change):
    weights = change(load_file(folder / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder, **changes):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **changes}))


LOST = {
    "a layer": lambda weights: {name: each for name, each in weights.items() if ".layers.1." not in name},
    "a bias of all": lambda weights: {name: each for name, each in weights.items() if "o_proj" not in name},
    "the head": lambda weights: {name: each for name, each in weights.items() if "lm_head" not in name},
    "the embedding": lambda weights: {name: each for name, each in weights.items() if "embed_tokens" not in name},
    "something too much": lambda weights: {**weights, "model.layers.0.extra.weight": torch.zeros(2)},
    "another shape": lambda weights: {**weights, "lm_head.weight": torch.zeros(7, 32)},
    "names of a compiled model": lambda weights: {f"_orig_mod.{name}": each for name, each in weights.items()},
    "names of a wrapped model": lambda weights: {f"module.{name}": each for name, each in weights.items()},
    "nothing": lambda weights: {"nothing": torch.zeros(1)},
}
READERS = {
    "eval and generate": lambda folder, tokenizer: load_model(str(folder)),
    "train": lambda folder, tokenizer: build_model(ModelConfig(path=str(folder)), tokenizer),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("lost", LOST)
def test_weights_that_are_not_those_of_the_config_are_refused(folder, tokenizer, lost, reader):
    rewrite(folder, LOST[lost])
    with pytest.raises(ModelError) as error:
        READERS[reader](folder, tokenizer)
    if "names of" in lost:
        assert "carry the prefix" in str(error.value)


@pytest.mark.parametrize("change", [{"num_hidden_layers": 3}, {"num_hidden_layers": 1}, {"hidden_size": 64}])
def test_a_config_that_disagrees_is_refused(folder, change):
    reconfigure(folder, **change)
    with pytest.raises(ModelError):
        load_model(str(folder))


def test_a_head_of_its_own_under_a_config_that_ties_is_refused(folder):
    reconfigure(folder, tie_word_embeddings=True)
    with pytest.raises(ModelError, match="ties the head"):
        load_model(str(folder))


def test_a_shard_that_is_absent_is_refused(build_tiny, tmp_path):
    build_tiny("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[-1].unlink()
    with pytest.raises(ModelError):
        load_model(str(tmp_path))


def test_a_key_takes_what_is_refused(folder):
    rewrite(folder, LOST["a layer"])
    assert load_model(str(folder), whole=False).num_parameters() > 0


def test_one_of_two_speaks_of_weights_without_a_place(folder, caplog):
    """transformers' table calls them harmless: it is shown where the key takes them, and not beside the refusal."""
    rewrite(folder, LOST["something too much"])
    with pytest.raises(ModelError, match="for which the model has no place"):
        load_model(str(folder))
    assert "UNEXPECTED" not in caplog.text
    load_model(str(folder), whole=False)
    assert "UNEXPECTED" in caplog.text


def test_tied_heads_and_old_buffers_are_harmless(build_tiny, tmp_path):
    model = build_tiny("gpt2")
    model.save_pretrained(tmp_path)
    masks = {
        f"transformer.h.{layer}.attn.{name}": torch.zeros(1) for layer in (0, 1) for name in ("bias", "masked_bias")
    }
    rewrite(tmp_path, lambda weights: {**weights, **masks})
    assert torch.equal(load_model(str(tmp_path)).lm_head.weight, model.lm_head.weight)


def test_an_adapter_that_lacks_weights_is_refused(folder, tokenizer, tmp_path):
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(
        load_model(str(folder)),
        peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    adapted.peft_config["default"].base_model_name_or_path = str(folder)
    adapted.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = load_file(file)
    ids = torch.arange(6)[None]
    with torch.no_grad():
        assert torch.allclose(load_model(str(tmp_path / "adapter"))(ids).logits, adapted(ids).logits, atol=1e-5)
    for change in (dict(list(whole.items())[1:]), {**whole, "base_model.model.more.lora_A.weight": torch.zeros(2, 2)}):
        save_file(change, file, metadata={"format": "pt"})
        for reader in READERS.values():
            with pytest.raises(ModelError):
                reader(tmp_path / "adapter", tokenizer)


@settings(max_examples=15, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_what_was_sealed_is_found(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("sealed")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "optimizer.pt", "README.md"):
        (folder / name).write_bytes(name.encode() * 50)
    seal(folder, {"run": "x"})
    assert find_damage(folder) is None
    for name, noticed in (
        ("model.safetensors", True),
        ("manifest.json", True),
        ("optimizer.pt", False),
        ("README.md", False),
    ):
        file = folder / name
        content = bytearray(file.read_bytes())
        changed = bytearray(content)
        changed[int(place * len(changed))] ^= 1 << bit
        file.write_bytes(changed)
        assert (find_damage(folder) is not None) == noticed, name
        file.write_bytes(content)


@pytest.mark.parametrize("cut", [0, 1, 40, 100])
def test_a_manifest_that_was_cut_off_is_not_another_programs(tmp_path, cut):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    seal(tmp_path, {"run": "x"})
    file = tmp_path / "manifest.json"
    file.write_bytes(file.read_bytes()[:cut])
    assert find_damage(tmp_path) is not None
    file.write_text('{"icons": []}')
    assert find_damage(tmp_path) is None


def test_what_was_sealed_is_verified_wherever_it_is_read(folder):
    seal(folder, {"run": "x"})
    check_model_source(ModelConfig(path=str(folder)))
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for read in (resolve_checkpoint, lambda path: check_model_source(ModelConfig(path=path))):
        with pytest.raises(LmtuneError, match="checksum it was saved with"):
            read(str(folder))
    check_model_source(ModelConfig(path=str(folder)), whole=False)
    assert resolve_checkpoint(str(folder), whole=False).path == str(folder)


@pytest.mark.parametrize(("offline", "advice"), [("1", "lmtune fetch model.path=me/x"), ("0", "Check the files in it")])
def test_half_a_model_in_the_cache_is_to_be_fetched(offline, advice, monkeypatch):
    def lack(path, **_):
        raise OSError(f"{path} does not appear to have a file named pytorch_model.bin or model.safetensors.")

    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lack)
    with pytest.raises(ModelError, match=advice):
        load_model("me/x")
