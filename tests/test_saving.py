"""What the end of a training needs is tried at its start: that config, generation config and tokenizer can be saved."""

import json
import os

import pytest

from lmtune.config import ModelConfig
from lmtune.errors import ModelError
from lmtune.modeling import loading, saving


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
