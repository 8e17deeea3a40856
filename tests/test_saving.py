"""What the end of a training needs is tried at its start: that config, generation config and tokenizer can be saved."""

import json
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError
from transformers import AutoTokenizer, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config
from vocabularies import build_byte_level

from lmtune import storage
from lmtune.config import ModelConfig
from lmtune.errors import ModelError
from lmtune.modeling import loading, saved_tokenizer, saving
from lmtune.modeling.saved_tokenizer import save_tokenizer, write_tokenizer
from lmtune.vocabulary import find_difference


@pytest.fixture
def save(build_tiny, tokenizer, tmp_path):
    """A function that saves a tiny model with this generation config; returns its folder."""

    def write(content):
        build_tiny().save_pretrained(tmp_path / "model")
        tokenizer.save_pretrained(tmp_path / "model")
        (tmp_path / "model" / "generation_config.json").write_text(json.dumps(content))
        return tmp_path / "model"

    return write


@pytest.mark.parametrize(
    ("content", "changed"),
    [
        ({"temperature": 0.9, "top_p": 0.6}, "do_sample=true"),
        ({"do_sample": False, "top_k": 10, "early_stopping": True}, "do_sample=true, early_stopping=unset"),
        ({"length_penalty": 2.0}, "length_penalty=unset"),
        ({"output_scores": True, "pad_token_id": -1}, "output_scores=unset, pad_token_id=unset"),
        ({"num_beams": 4, "length_penalty": 2.0}, None),
        ({}, None),
    ],
)
def test_a_generation_config_that_could_not_be_saved_is_mended_with_a_remark(
    save, tokenizer, tmp_path, content, changed
):
    folder = save(content)
    model, remarks = loading.build_model(ModelConfig(path=str(folder)), tokenizer)
    said = [remark for remark in remarks if remark.startswith("generation_config.json")]
    assert said == (
        [f"generation_config.json of the model cannot be saved as it stands; {changed} is used and saved"]
        if changed
        else []
    )
    saving.check_saveable(model, tokenizer)
    saving.save_model(model, tokenizer, tmp_path / "saved")
    if changed and "do_sample" in changed:
        assert json.loads((tmp_path / "saved" / "generation_config.json").read_text())["do_sample"] is True


def test_what_cannot_be_saved_is_refused_before_the_training(build_tiny, tokenizer, tmp_path, monkeypatch):
    model = build_tiny()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    saving.check_saveable(model, tokenizer)
    assert list(tmp_path.iterdir()) == []
    model.generation_config.temperature = 0.5
    with pytest.raises(ModelError, match=r"^The GenerationConfig of the model cannot be saved: .*`temperature`"):
        saving.check_saveable(model, tokenizer)
    model.generation_config.temperature = 1.0
    model.config.unknown = object()
    with pytest.raises(ModelError, match=r"^The GPT2Config of the model cannot be saved: "):
        saving.check_saveable(model, tokenizer)


def test_a_disk_without_room_says_nothing_of_the_model(build_tiny, tokenizer, monkeypatch):
    def fill(folder):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(tokenizer, "save_pretrained", fill, raising=False)
    saving.check_saveable(build_tiny(), tokenizer)


BESIDE = {"gpt2": GPT2Config, "llama": LlamaConfig, "mistral": MistralConfig}
"""Model types beside which transformers falls over a map that names no code."""


def save_beside(tokenizer, config, folder):
    """Save a tokenizer beside a config; returns the auto_map of its file, and what transformers reads."""
    config.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    return settings.get("auto_map"), AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("kind", BESIDE)
def test_what_a_tokenizer_takes_beside_qwen2_does_not_follow_it_elsewhere(kind, tmp_path):
    tokenizer = build_byte_level()
    named, read = save_beside(tokenizer, Qwen2Config(), tmp_path / "qwen2")
    assert named == {"AutoTokenizer": [None, None]}
    for own in (tokenizer, read):
        named, again = save_beside(own, BESIDE[kind](), tmp_path / kind)
        assert named is None
        assert "auto_map" not in own.init_kwargs
        assert find_difference(tokenizer, again) is None


def test_a_tokenizer_without_a_padding_token_is_saved_as_it_is(tmp_path):
    tokenizer = build_byte_level()
    tokenizer.pad_token = None
    named, read = save_beside(tokenizer, GPT2Config(), tmp_path / "model")
    assert named is None
    assert read.pad_token is None


@pytest.mark.parametrize("kind", BESIDE)
def test_a_tokenizer_that_reads_back_as_another_is_refused_without_a_trace(kind, tmp_path, monkeypatch):
    tokenizer = build_byte_level()
    monkeypatch.setattr(saved_tokenizer, "complete", lambda _: build_byte_level(bos=True))
    with pytest.raises(ModelError, match=r"would read back .* as another .* what it puts before a text"):
        save_beside(tokenizer, BESIDE[kind](), tmp_path / "model")
    assert "auto_map" not in tokenizer.init_kwargs
    assert "auto_map" not in json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_whichever_library_writes_to_it(tmp_path, tokenizer):
    """tokenizers raises a bare Exception, safetensors an error of its own: neither is an OSError."""
    (tmp_path / "tokenizer.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write_tokenizer(tokenizer, tmp_path)
    with pytest.raises(OSError, match="No space left on device"), storage.naming_disk_errors(tmp_path):
        raise SafetensorError("I/O error: No space left on device (os error 28)")
    with pytest.raises(SafetensorError), storage.naming_disk_errors(tmp_path):
        raise SafetensorError("HeaderTooSmall")
