"""lmtune from Python, as in a notebook: names, results and errors of the command line, and silence on stdout."""

import json
import re
import signal
import threading
from pathlib import Path

import pytest
from helpers import TINY_MODEL

import lmtune
from lmtune.errors import ConfigError, LmtuneError

NAMES = ["__version__", "evaluate", "generate", "load_config", "show", "train"]
SHORT = [
    "training.max_steps=2", "training.use_cpu=true", *TINY_MODEL,
    "samples.enabled=false",
]  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_public_names():
    assert sorted(lmtune.__all__) == NAMES
    assert dir(lmtune) == lmtune.__all__
    assert all(hasattr(lmtune, name) for name in NAMES)
    with pytest.raises(AttributeError, match="has no attribute 'tarin'"):
        _ = lmtune.tarin
    assert (Path(lmtune.__file__).parent / "py.typed").exists(), "type checkers of its users read its types"


def use_all(folder):
    """(results of a run, of its evaluation, of a text)"""
    results = lmtune.train(lmtune.load_config("train", [*SHORT, f"output={folder}"]))
    ckpt = [f"ckpt={results['folder']}", "device=cpu"]
    scores = lmtune.evaluate(lmtune.load_config("eval", ckpt))
    text = lmtune.generate(
        lmtune.load_config("generate", [*ckpt, "prompt=Era uma vez, na", "generation.max_new_tokens=3"])
    )
    return results, scores, text


def test_a_notebook_gets_what_the_command_line_prints(here, capfd, lmtune):
    results, scores, text = use_all("run")
    assert capfd.readouterr().out == "", "stdout is the notebook's"
    assert results["eval"]["sample"]["bits_per_byte"] == scores["eval"]["sample"]["bits_per_byte"]
    assert text["prompt"] == "Era uma vez, na"
    assert len(text["texts"]) == 1
    stored = json.loads((here / "run" / "results.json").read_text())
    assert {**stored, "folder": str(here / "run")} == json.loads(json.dumps(results))
    printed = lmtune("train", "resume=run", "format=json").json
    assert printed == json.loads(json.dumps(results))
    again = lmtune("eval", "ckpt=run", "device=cpu", "format=json").json["eval"]["sample"]
    assert again["loss"] == scores["eval"]["sample"]["loss"]


def test_it_works_from_a_thread_and_leaves_signals_alone(here, capfd):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    answers = []
    thread = threading.Thread(target=lambda: answers.append(use_all("run")))
    thread.start()
    thread.join()
    assert len(answers) == 1
    assert answers[0][0]["status"] == "completed"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("command", "overrides", "message"),
    [
        ("tarin", [], "tarin is not a command; expected one of"),
        ("explain", [], "explain is not a command; expected one of train, check"),
        ("train", ["training.lerning_rate=1"], "Did you mean training.learning_rate"),
        ("train", ["data.epochs=-1"], "data.epochs=-1.0: expected more than 0"),
        ("train", "data=bio", "'data=bio': expected a list of overrides"),
        ("train", {"seed": 1}, "{'seed': 1}: expected a list of overrides"),
        ("train", ["-m"], "-m: expected key=value, such as data=bio."),
        ("train", ["seed=1,2"], "several values, which -m tries one after the other"),
        ("eval", [], "lmtune eval needs ckpt=, found none"),
    ],
)
def test_a_mistake_is_raised_in_the_words_of_the_command_line(here, command, overrides, message):
    with pytest.raises(LmtuneError, match=re.escape(message)):
        lmtune.load_config(command, overrides)


def test_an_override_is_taken_as_it_is_typed(here):
    config = lmtune.load_config("train", ["prompts=Em 2020, o", "model.config.n_layer=1"])
    assert config.prompts == ["Em 2020, o"]
    assert config.model.config["n_layer"] == 1
    with pytest.raises(ConfigError):
        lmtune.load_config("train", ["model.config"])


def test_a_configuration_is_composed_in_several_threads_at_once(here):
    found = {}

    def load(number):
        found[number] = lmtune.load_config("train", [f"seed={number}"]).seed

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: number for number in range(4)}


@pytest.mark.parametrize(
    ("call", "wrong"),
    [(lmtune.train, "eval"), (lmtune.train, "lr-find"), (lmtune.evaluate, "train"), (lmtune.generate, "train")],
)
def test_the_configuration_of_another_command_is_refused(here, call, wrong):
    config = lmtune.load_config(wrong, ["ckpt=nowhere"] if wrong == "eval" else [])
    with pytest.raises(ConfigError, match=rf"^Expected what lmtune\.load_config\(.* found {type(config).__name__}\.$"):
        call(config)
    with pytest.raises(ConfigError, match=r"found str\."):
        call("data=bio")
