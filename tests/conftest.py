"""A toy world: a tiny tokenizer and tiny models made on the spot, a cache of their own, no network."""

import builtins
import io
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lmtune.cli import main

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, in the processes of the tests too
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so is Ctrl-C behind the `&` of a script
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"  # a test that would reach out fails; tests marked hub start processes of their own
# On a machine that does other work as well, drawing examples is slow for no fault of the test.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

TEXTS = [
    f"O paciente {name} chegou no hospital às {hour} horas. A médica examinou o {part} e pediu um exame.\nVoltou para casa."
    for name in ("João", "Ana", "Rui", "Lia", "Zé", "Eva")
    for hour in range(1, 9)
    for part in ("braço", "coração")
]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    os.environ["LMTUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tokenizer():
    from lmtune.modeling.tokenizer import learn_tokenizer

    return learn_tokenizer(TEXTS, vocab_size=320, max_length=64)


@pytest.fixture
def build_tiny(tokenizer):
    """A function from a model type to a random tiny model with its vocabulary."""
    import torch

    from lmtune.config import ModelConfig, ModelInit
    from lmtune.modeling.loading import build_model

    shapes = {
        "gpt2": {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64},
        "llama": {
            "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
            "intermediate_size": 48, "max_position_embeddings": 64,
        },
        "qwen2": {
            "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1,
            "intermediate_size": 48, "max_position_embeddings": 64, "tie_word_embeddings": True,
        },
        "gpt_neox": {
            "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48,
            "max_position_embeddings": 64,
        },
    }  # fmt: skip

    def build(kind="gpt2", seed=0, **settings):
        torch.manual_seed(seed)
        config = {"model_type": kind, **shapes[kind], **settings}
        model, _ = build_model(ModelConfig(init=ModelInit.scratch, config=config, tokenizer="learn"), tokenizer)
        return model.eval()

    return build


@pytest.fixture
def texts():
    return list(TEXTS)


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def run(self):
        """The run folder that the last line of the table names."""
        return Path(self.out.splitlines()[-1].removeprefix("run folder: ")).resolve()


@pytest.fixture
def lmtune(capfd, tmp_path, monkeypatch):
    """Runs a command in an empty folder, in this process; returns its exit code and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capfd.readouterr()
        code = main.run(list(map(str, arguments)))
        out, err = capfd.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture
def stand(tmp_path, monkeypatch):
    """Stands in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def unasked(monkeypatch):
    """A terminal whose person says yes to everything; the test fails if anybody asks."""
    asked, typed = [], io.StringIO("y\n" * 1000)
    monkeypatch.setattr(builtins, "input", lambda *prompt: asked.append(prompt) or "y")
    monkeypatch.setattr(sys, "stdin", typed)
    yield
    assert asked == []
    assert typed.tell() == 0


@pytest.fixture
def begin_run():
    """A function that begins a run in a folder."""
    from lmtune.errors import CheckpointError
    from lmtune.paths import GivenPath
    from lmtune.runs import begin_at

    def begin(folder):
        return begin_at(GivenPath("output", str(folder), CheckpointError), folder.parent / "outputs")

    return begin


@pytest.fixture
def real_data():
    """The folder of real text, where there is one."""
    folder = os.environ.get("LMTUNE_TEST_DATA")
    if not folder:
        pytest.skip("LMTUNE_TEST_DATA names no folder of real text")
    return Path(folder)


@pytest.fixture
def real_model():
    """The folder of a pretrained model that is not part of the project."""
    folder = os.environ.get("LMTUNE_TEST_MODEL")
    if not folder:
        pytest.skip("LMTUNE_TEST_MODEL names no folder of a real model")
    return Path(folder)
