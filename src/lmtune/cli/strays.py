"""Arguments that are not key=value: a value that the shell split at blanks, a path without its key, a colon instead of `=`.

lmtune train training.learning_rate = 3e-5
lmtune train data.files=my texts
lmtune train notes.txt
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmtune.cli.overrides import is_path
from lmtune.cli.schemas import facts_for, known_keys
from lmtune.errors import ConfigError, Gathering

MODEL_FILES = ("config.yaml", "config.json", "adapter_config.json")
"""Files by which a folder, or one inside it, is recognised as a value of `ckpt=`: a run, a saved model, an adapter."""


def check_strays(command: str, arguments: Sequence[str]) -> None:
    """Raise ConfigError for arguments without a key, saying what was probably meant."""
    found = Gathering()
    for pieces in _gather_pieces(arguments, known_keys(command)):
        for text in _explain_pieces(command, pieces):
            with found.noting():
                raise ConfigError(text)
    found.raise_all()


def _gather_pieces(arguments: Sequence[str], known: set[str]) -> list[list[str]]:
    """Each argument together with the following ones that have no key of their own."""
    pieces: list[list[str]] = []
    for argument in arguments:
        stray = argument.startswith("=") or ("=" not in argument and argument not in known and argument[:1] != "~")
        if stray and pieces:
            pieces[-1].append(argument)
        else:
            pieces.append([argument])
    return pieces


def _explain_pieces(command: str, pieces: list[str]) -> Iterator[str]:
    head, *rest = pieces
    key, equals, value = head.partition("=")
    if rest and (rest[0].startswith("=") if not equals else not value) and key in known_keys(command):
        meant = f"{key}={' '.join(rest).lstrip('= ')}"
        yield f"{' '.join(pieces)}: expected key=value in one word, found blanks around the =. Write {shlex.quote(meant)}."
        return
    whole = " ".join(pieces)
    own = [word for word in rest if is_path(word)]
    if rest and value and facts_for(key).literal and (is_path(whole.partition("=")[2]) or not own):
        yield f"{whole}: expected one word, found {len(pieces)}. Quote a value with blanks for the shell: {shlex.quote(whole)}."
        return
    for word in rest if equals or head[:1] == "~" else pieces:
        text = _explain_word(command, word)
        if text:
            yield text


def _explain_word(command: str, word: str) -> str:
    """The text for an argument without a key; '' if Hydra's grammar says enough."""
    known = known_keys(command)
    key, colon, value = word.partition(":")
    if word in known:
        return f"{word}: expected key=value, found no value. Write {word}=VALUE."
    if colon and key in known:
        return f"{word}: expected key=value, found a colon. Write {key}={value}."
    if word.endswith((".yaml", ".yml")):
        name = Path(word).stem
        return (
            f"{word}: expected key=value, found a file of settings. Write them as conf/experiment/{name}.yaml here, first line "
            f"# @package _global_, and take them by experiment={name}."
        )
    home = _find_home(word, known)
    if home:
        return f"{word}: expected key=value, found no key. Write {home}={shlex.quote(word)}."
    return ""


def _find_home(word: str, known: set[str]) -> str:
    """The key that takes an existing path, or `last`; '' if there is none."""
    if word == "last" and "ckpt" in known:
        return "ckpt"
    if not is_path(word):
        return ""
    is_model = any(next(Path(word).glob(f"{depth}{name}"), None) for name in MODEL_FILES for depth in ("", "*/"))
    homes = ("ckpt", "model.path", "data.files") if is_model else ("data.files", "ckpt")
    return next((key for key in homes if key in known), "")
