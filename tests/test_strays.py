"""What stands on a command line without a key is answered with what was meant, once."""

import pytest

from lmtune.cli.options import check_line_ends, take_options
from lmtune.cli.strays import check_strays
from lmtune.errors import ConfigError, texts_of


def refusals(command, *arguments):
    with pytest.raises(ConfigError) as caught:
        check_strays(command, arguments)
    return texts_of(caught.value)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "my texts").mkdir()
    run = tmp_path / "outputs/first/date"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("seed: 1")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "arguments", "meant"),
    [
        ("train", ["training.learning_rate", "=", "3e-5"], "found blanks around the =. Write training.learning_rate=3e-5."),
        ("train", ["seed=1", "training.learning_rate", "=3e-5"], "Write training.learning_rate=3e-5."),
        ("train", ["training.learning_rate=", "3e-5"], "Write training.learning_rate=3e-5."),
        ("train", ["seed=1", "training.max_steps"], "training.max_steps: expected key=value, found no value."),
        ("train", ["training.learning_rate:3e-5"], "found a colon. Write training.learning_rate=3e-5."),
        ("train", ["data.files=my", "texts"], "expected one word, found 2. Quote a value with blanks"),
        ("generate", ["ckpt=last", "prompt=The", "old", "man"], "'prompt=The old man'"),
        ("train", ["notes.txt"], "Write data.files=notes.txt."),
        ("train", ["name=mine", "notes.txt"], "Write data.files=notes.txt."),
        ("data", ["my texts"], "Write data.files='my texts'."),
        ("eval", ["outputs/first"], "Write ckpt=outputs/first."),
        ("train", ["outputs/first/date"], "Write model.path=outputs/first/date."),
        ("serve", ["last"], "Write ckpt=last."),
    ],
)  # fmt: skip
def test_an_argument_without_a_key_is_answered_with_what_was_meant(folder, command, arguments, meant):
    told = refusals(command, *arguments)
    assert len(told) == 1
    assert meant in told[0]


@pytest.mark.parametrize("arguments", [["seed=1", "prompt=a = b"], ["~data.files"], ["max_stps"], ["prompt="]])
def test_the_rest_is_left_to_the_grammar(arguments):
    check_strays("generate", arguments)


def test_two_of_them_are_told_at_once(folder):
    assert len(refusals("train", "notes.txt", "seed:1")) == 2


@pytest.mark.parametrize("arguments", [["train", "\r"], ["train", "seed=1\r", "data=bio"]])
def test_windows_line_ends_are_called_by_their_name(arguments):
    with pytest.raises(ConfigError, match=r"carriage return.*sed -i"):
        check_line_ends(arguments)


@pytest.mark.parametrize(
    ("typed", "meant"), [("--helo", "--help"), ("--multi-run", "--multirun"), ("--verson", "--version")]
)
def test_a_misspelt_option_is_answered_with_the_option(typed, meant):
    with pytest.raises(ConfigError, match=f"Did you mean {meant}[?]"):
        take_options([typed])
