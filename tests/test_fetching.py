"""What a training fetches from the Hub is told by the Hub's own list."""

import json
from io import BytesIO

import pytest

from lmtune import hub
from lmtune.config import DataConfig, FinetuneConfig, ModelConfig, ModelInit, TrackerConfig, TrainConfig
from lmtune.training.fetching import list_fetches

LISTED = [
    {"type": "file", "path": "config.json", "size": 700},
    {"type": "file", "path": "tokenizer.json", "size": 2000},
    {"type": "file", "path": "model.safetensors", "size": 100_000},
    {"type": "file", "path": "pytorch_model.bin", "size": 100_000},
    {"type": "file", "path": "onnx/config.json", "size": 9},
    {"type": "directory", "path": "onnx", "size": 0},
]


def build(**model):
    return TrainConfig(
        data=DataConfig(files="a.txt"), model=ModelConfig(**model), finetune=FinetuneConfig(), tracker=TrackerConfig()
    )


@pytest.fixture
def listing(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    asked = []

    def answer(address):
        asked.append(address)
        return BytesIO(json.dumps(LISTED).encode())

    monkeypatch.setattr(hub, "_open", answer)
    return asked


@pytest.mark.parametrize(
    ("model", "files", "size"),
    [
        ({"path": "me/x"}, 3, 102_700),
        ({"path": "me/x", "init": ModelInit.scratch}, 2, 2700),
    ],
)
def test_the_files_of_a_model_that_are_read_are_counted(listing, model, files, size):
    (told,) = list_fetches(build(**model))
    assert (told["repository"], told["cached"], told["files"], told["bytes"]) == ("me/x", False, files, size)
    assert listing == ["models/me/x/tree/main?recursive=true"]


def test_what_is_in_the_cache_is_not_asked_for(listing, tmp_path):
    (tmp_path / "models--me--x" / "refs").mkdir(parents=True)
    (tmp_path / "models--me--x" / "refs" / "main").write_text("1")
    (told,) = list_fetches(build(path="me/x"))
    assert (told["cached"], told["files"]) == (True, None)
    assert listing == []


def test_a_hub_that_does_not_answer_is_told_as_such(listing, monkeypatch):
    monkeypatch.setattr(hub, "_open", lambda address: BytesIO(b"<html>"))
    (told,) = list_fetches(build(path="me/x", revision="a/b"))
    assert (told["cached"], told["files"], told["bytes"]) == (False, None, None)


def test_a_folder_and_a_learned_vocabulary_are_not_on_the_hub(listing, tmp_path):
    (tmp_path / "me").mkdir()
    assert list_fetches(build(path="me", tokenizer="learn")) == []
