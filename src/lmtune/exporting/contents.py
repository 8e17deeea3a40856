"""The files of a run that go to the Hub: what a reader needs of model/, and nothing about the machine that it was made on."""

import contextlib
import getpass
import json
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lmtune.errors import PushError
from lmtune.runs import MANIFEST
from lmtune.secrets import find_secret
from lmtune.storage import render_json

CARD, RESULTS = "README.md", "results.json"
WEIGHTS = (
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("adapter_model.safetensors", "adapter_config.json"),
)
VOCABULARIES = (
    *(
        "tokenizer.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "added_tokens.json",
        "tokenizer.model",
        "spiece.model",
    ),
    *(
        "sentencepiece.model",
        "sentencepiece.bpe.model",
        "spm.model",
        "spm_char.model",
        "bpe.codes",
        "dict.txt",
        "emoji.json",
    ),
    *("byte_maps.json", "normalizer.json", "prophetnet.tokenizer"),
)
"""Vocabulary files of the tokenizers in transformers 5.23."""
SETTINGS = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
ALLOWED = (*WEIGHTS, *VOCABULARIES, *SETTINGS)
"""Files taken from model/; the card and the results are written for the Hub."""

OLDER_WEIGHTS = (
    *(
        "pytorch_model*.bin",
        "pytorch_model.bin.index.json",
        "adapter_model.bin",
        "tf_model*.h5",
        "tf_model.h5.index.json",
    ),
    *("flax_model*.msgpack", "flax_model.msgpack.index.json"),
)
REPLACED = (*ALLOWED, *OLDER_WEIGHTS)
"""Files of an earlier model in the same repository that transformers would load."""

RESULT_KEYS = ("name", "status", "train", "eval", "epochs", "transplant")
"""Keys of results.json that are published: the numbers with their protocol."""

SHARED_NAMES = frozenset(["root", "localhost"])
"""Names that every machine has."""

MACHINE_LIKE = re.compile(r"(?=.*[\d.-]).{4,}")
"""A host name that is unlikely to be a word of a text as well."""


@dataclass(frozen=True, slots=True)
class Package:
    """The files and texts to upload, by their name in the repository."""

    files: dict[str, Path]
    texts: dict[str, str]
    left_out: list[str]
    """Names of files in model/ that are not on the list."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.stat().st_size for file in self.files.values()) + sum(
            len(text.encode()) for text in self.texts.values()
        )


@dataclass(frozen=True, slots=True)
class Trace:
    """Something that identifies this machine, and a pattern that finds it in a text."""

    what: str
    pattern: re.Pattern[str]
    is_word: bool
    """True if it may also be a word: it is then not looked for in vocabularies, which are lists of words."""


def pack(folder: Path, card: str, results: dict[str, Any]) -> Package:
    """The package of `folder`, a run's model/, for the Hub. Raises PushError if it holds no model."""
    found = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    taken = [name for name in found if is_any(name, ALLOWED)]
    if not any(name.endswith(".safetensors") for name in taken):
        raise PushError(f"expected the weights of a finished model in {folder}, found none")
    left_out = [
        name for name in found if name not in taken and name not in (CARD, MANIFEST)
    ]  # the manifest seals the local folder
    texts = {CARD: card, RESULTS: render_json(select_results(results), indent=2) + "\n"}
    return Package({name: folder / name for name in taken}, texts, left_out)


def select_results(results: dict[str, Any]) -> dict[str, Any]:
    """results.json without keys that name the run folder and its configuration."""
    return {key: results[key] for key in RESULT_KEYS if key in results}


def is_any(name: str, patterns: tuple[str, ...]) -> bool:
    """True if a name matches one of the patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def check_traces(package: Package, traces: list[Trace]) -> None:
    """Raise PushError for the first text that identifies this machine."""
    texts = dict(package.texts)
    for name, file in package.files.items():
        if not name.endswith(".safetensors"):
            texts[name] = file.read_text(encoding="utf-8", errors="replace")
    for name, text in texts.items():
        if (found := find_trace(name, text, traces)) is not None:
            source = package.files.get(name)
            remedy = f"Take it out of {source}" if source else "It comes from a name, a prompt or what the model wrote"
            unset = ", or unset that variable if it holds no secret" if found.startswith("the value of") else ""
            raise PushError(f"{name} holds {found}, which is nobody else's business. {remedy}{unset}")


def find_trace(name: str, text: str, traces: list[Trace]) -> str | None:
    """What identifies this machine in the text of file `name`, or None."""
    strings, is_vocabulary = list(_strings_of(name, text)), is_any(name, VOCABULARIES)
    if (secret := find_secret("\n".join([text, *strings]))) is not None:
        return secret
    for trace in traces:
        if not (trace.is_word and is_vocabulary) and any(trace.pattern.search(string) for string in strings):
            return trace.what
    if name.endswith(".json") and not is_vocabulary and any(map(_is_path_here, strings)):
        return "a path of this machine"
    return None


def build_traces(run: Path, public: str) -> list[Trace]:
    """Traces that must not be published: folders, the user's name, the machine's.

    run: the run folder. public: text that is published anyway; a name in it reveals nothing.
    """
    folders = [("the run folder", run), *_own_folders()]
    users = [("the user name", _pattern_of_user(name)) for name in _user_names() if _tells(name, public)]
    hosts = [("the host name", _pattern_of_host(name)) for name in _host_names() if _tells(name, public)]
    return [
        *(
            Trace(what, _pattern_of_path(text), _is_short(text))
            for what, folder in folders
            for text in _spellings(folder)
        ),
        *(Trace(what, pattern, is_word=True) for what, pattern in users + hosts),
    ]


def _own_folders() -> Iterator[tuple[str, Path]]:
    with contextlib.suppress(OSError):  # it was deleted
        yield "the working folder", Path.cwd()
    with contextlib.suppress(RuntimeError):  # a user without one
        yield "the home folder", Path.home()


def _spellings(path: Path) -> set[str]:
    """A folder as named and with links resolved, without the root folder."""
    return {text for text in (str(path.absolute()), os.path.realpath(path)) if len(text) > 1}


def _user_names() -> set[str]:
    try:
        return {getpass.getuser()}
    except (OSError, KeyError, ImportError):  # a container's user without a name
        return set()


def _host_names() -> set[str]:
    name = platform.node()
    return {part for part in (name, name.partition(".")[0]) if part}


def _is_short(path: str) -> bool:
    """True for a folder such as /data or /root, which texts may mention as well."""
    return path.count("/") == 1


def _pattern_of_path(path: str) -> re.Pattern[str]:
    """Matches a folder at the start of a path; a short one only alone, or followed by something inside it."""
    text = re.escape(path)
    return re.compile(
        rf"\A{text}\Z|(?<![\w./-]){text}/(?=[\w.])" if _is_short(path) else rf"(?<![\w./-]){text}(?![\w-])"
    )


def _pattern_of_user(name: str) -> re.Pattern[str]:
    """Matches a user's name where it can be nothing else: alone, in a path, before an @."""
    text = re.escape(name)
    return re.compile(rf"\A{text}\Z|(?<![\w:/.])/(?:[^/\s]+/)*{text}(?=[/\s]|\Z)|(?<![\w.-]){text}@\w")


def _pattern_of_host(name: str) -> re.Pattern[str]:
    """Matches a machine's name: alone, after an @ or //; anywhere, if it does not look like a word."""
    text = re.escape(name)
    anywhere = rf"|(?<![\w.-]){text}(?![\w-])" if MACHINE_LIKE.fullmatch(name) else ""
    return re.compile(rf"\A{text}\Z|(?:@|//){text}(?![\w-]){anywhere}")


def _tells(name: str, public: str) -> bool:
    """True for a name that reveals something."""
    said = re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", public) is not None
    return not said and name not in SHARED_NAMES


def _strings_of(name: str, text: str) -> Iterator[str]:
    """Keys and values of a JSON file, which may be written with escapes; the lines of any other file."""
    if name.endswith(".json"):
        with contextlib.suppress(ValueError, RecursionError):
            yield from _leaves(json.loads(text))
            return
    yield from text.splitlines()


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value


def _is_path_here(text: str) -> bool:
    absolute = text.startswith("~/") or (text.startswith("/") and text.count("/") > 1)
    return absolute and os.path.exists(os.path.expanduser(text))  # noqa: PTH110, PTH111 (Path raises for what it may not see)
