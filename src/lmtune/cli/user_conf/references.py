"""References by `${...}` between keys of the user's files: finds cycles and explosions before OmegaConf follows them."""

import re
from bisect import bisect_left
from collections.abc import Iterator

from lmtune.errors import ConfigError
from lmtune.plain_yaml import shorten

MAX_LENGTH = 10_000
"""Characters of a text that refers to another key."""
MAX_REFERENCES = 10_000
"""References that are followed for one value."""
MAX_CHARACTERS = 1_000_000
"""Characters of one value once its references are followed."""
MAX_STEPS = 20
"""Length of a chain of references; each costs OmegaConf some forty nested calls."""

OURS = {"prompts": "${data.prompts}"}
"""Texts of lmtune's own configs that may refer to a long text of the user's."""

_PLAIN = re.compile(r"(?<!\\)(?:\\\\)*\$\{\s*(\.*[\w.\[\]-]+)\s*\}")
_SELECTED = re.compile(r"(oc\.select|oc\.dict\.keys|oc\.dict\.values|hydra)\s*:\s*'?\"?(\.*[\w.\[\]-]+)")


class References:
    """Texts of the user's files by their full keys, each with its place."""

    def __init__(self) -> None:
        self.texts = dict(OURS)
        self.places: dict[str, str] = {}
        self._keys: list[str] = []
        self._weights: dict[str, tuple[int, int]] = {}

    def add(self, key: str, text: str, place: str) -> None:
        """Add one text of a file. If two files set the same key, the first is kept: Hydra reads the one that wins first."""
        self.texts.setdefault(key, text)
        self.places.setdefault(key, place)

    def check(self) -> None:
        """Raise ConfigError for keys that refer to each other in a cycle, or that grow beyond all use."""
        self._keys = sorted(self.texts)
        self._weights = {}
        for key in self._keys:
            if "${" in self.texts[key]:
                self._weigh(key, ())

    def find_place(self, key: str) -> str | None:
        """'FILE, line N' where the user set a key, or the nearest key above or below it that refers to another; None if nowhere."""
        while key:
            near = [key, *self._below(key)]
            place = next(
                (self.places[name] for name in near if "${" in self.texts.get(name, "") and name in self.places), None
            )
            if place:
                return place
            key = key.rpartition(".")[0]
        return None

    def _weigh(self, key: str, above: tuple[str, ...]) -> tuple[int, int]:
        """The number of characters and references in the resolved value of a key."""
        if key in above:
            circle = [*above[above.index(key) :], key]
            self._refuse(key, f"refers to itself: {shorten(' -> '.join(circle))}. Give one of them a value")
        if key in self._weights:
            return self._weights[key]
        text = self.texts[key]
        characters, references = len(text), 0
        for target in _find_targets(key, text):
            for inner in self._matches(target):
                added = self._weigh(inner, (*above, key))
                characters, references = characters + added[0], references + added[1]
            references += 1
        if ("${" in text and len(text) > MAX_LENGTH) or len(above) > MAX_STEPS:
            self._refuse(key, "expected few references to other keys, found too many. Write the value itself")
        if characters > MAX_CHARACTERS or references > MAX_REFERENCES:
            self._refuse(key, "grows beyond all use once its references are followed. Write the value itself")
        self._weights[key] = (characters, references)
        return self._weights[key]

    def _matches(self, target: str) -> Iterator[str]:
        """Keys that a reference to `target` reads: itself, those below it, and those above it."""
        if target in self.texts:
            yield target
        yield from self._below(target)
        above = target.rpartition(".")[0]
        while above:
            if "${" in self.texts.get(above, ""):
                yield above
            above = above.rpartition(".")[0]

    def _below(self, key: str) -> Iterator[str]:
        at = bisect_left(self._keys, f"{key}.")
        while at < len(self._keys) and self._keys[at].startswith(f"{key}."):
            yield self._keys[at]
            at += 1

    def _refuse(self, key: str, reason: str) -> None:
        place = self.places.get(key) or next(iter(self.places.values()))
        raise ConfigError(f"{place}: {shorten(key)} {reason}.")


def _find_targets(key: str, text: str) -> Iterator[str]:
    """Full keys that a text refers to."""
    for name in _PLAIN.findall(text):
        yield _resolve(key, name)
    for resolver, name in _SELECTED.findall(text):
        yield f"hydra.{name}" if resolver == "hydra" else _resolve(key, name)


def _resolve(key: str, name: str) -> str:
    """The full key of a name in `${...}`: leading dots go up from the key that contains it."""
    path = name.replace("[", ".").replace("]", "")
    up = len(name) - len(name.lstrip("."))
    above = key.split(".")[:-up] if up else []
    return ".".join([*above, path.lstrip(".")])
