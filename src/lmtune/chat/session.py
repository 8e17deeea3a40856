"""The state of a chat: loaded models, settings in effect, and the last texts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lmtune import upstream
from lmtune.config import ChatConfig
from lmtune.config.ranges import render_value
from lmtune.errors import ConfigError
from lmtune.modeling import generation, loading
from lmtune.modeling.checkpoint import resolve_checkpoint
from lmtune.modeling.device import place_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OWN = ("seed", "top")
"""Settings of a chat that are not parameters of generate."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A checkpoint that answers."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_subjects(config: ChatConfig) -> dict[str, Subject]:
    """The checkpoints by their names in `ckpt`, each on its device. Raises as `lmtune generate` does."""
    subjects = {}
    for ckpt in config.checkpoints:
        checkpoint = resolve_checkpoint(ckpt, config.check_weights)
        tokenizer, model = loading.load_writer(checkpoint.path, config.check_weights)
        generation.build_generation_config(model, config.generation)
        subjects[ckpt] = Subject(place_model(model, config.device), tokenizer)
    return subjects


@dataclass(slots=True)
class Session:
    """A chat: all its checkpoints answer each prompt with its settings."""

    subjects: dict[str, Subject]
    config: ChatConfig
    asked: dict[str, str] = field(default_factory=dict)
    """The last prompt of each."""
    written: dict[str, str] = field(default_factory=dict)
    """The last text of each, its prompt included."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """All answers, as format=json prints them."""
    _ids: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """What checkpoints wrote last, and were asked before that, as it was written."""
    _beginning: ChatConfig = field(init=False)

    def __post_init__(self) -> None:
        self._beginning = self.config

    def change(self, name: str, value: object) -> None:
        """Change a setting; for an invalid value, raise ConfigError and change nothing."""
        self._take(_change(self.config, name, value))

    def reset(self, name: str) -> None:
        """Reset a setting to its value at the start of the chat."""
        plain = _find_setting(name)
        given: dict[str, Any] = {each: getattr(self._beginning, each) for each in OWN} | self._beginning.generation
        if plain in given:
            self.change(plain, given[plain])
        else:
            rest = {each: kept for each, kept in self.config.generation.items() if each != plain}
            self._take(replace(self.config, generation=rest))

    def ask_again(self) -> dict[str, str]:
        """The last prompts, with the next seed."""
        if not self.asked:
            raise ConfigError("/again: expected a prompt before it, found none. Type one.")
        self.change("seed", self.config.seed + 1)
        return self.asked

    def ask_more(self) -> dict[str, str]:
        """The last texts, as prompts."""
        if not self.written:
            raise ConfigError("/more: expected a text before it, found none. Type a prompt.")
        return self.written

    def rank(self, prompts: dict[str, str]) -> dict[str, list[tuple[str, float]]]:
        """The likeliest next tokens of each checkpoint with their probabilities."""
        self.asked = dict(prompts)
        found = {}
        for ckpt, subject in self.subjects.items():
            prompt, read = prompts[ckpt], self._read(ckpt, prompts[ckpt])
            found[ckpt] = generation.rank_next(subject.model, subject.tokenizer, read, self.config.top)
            generation.tell_cut(subject.tokenizer, read, generation.count_positions(subject.model))
            self.answers.append({"ckpt": ckpt, "prompt": prompt, "next": found[ckpt]})
        return found

    def write(self, prompts: dict[str, str], tell: Callable[[str], None] | None = None) -> dict[str, list[str]]:
        """The texts of each checkpoint, prompts included; `tell` gets pieces of a continuation as they are generated."""
        self.asked = dict(prompts)
        found = {}
        for ckpt, subject in self.subjects.items():
            prompt, read = prompts[ckpt], self._read(ckpt, prompts[ckpt])
            settings = generation.build_generation_config(subject.model, self.config.generation)
            generation.tell_cut(subject.tokenizer, read, generation.resolve_prompt_length(subject.model, settings))
            rows = generation.write_rows(subject.model, subject.tokenizer, read, settings, self.config.seed, tell=tell)
            found[ckpt] = generation.render_rows(subject.tokenizer, rows)
            kept = {(ckpt, found[ckpt][0]): generation.take_own(subject.tokenizer, settings, rows[0])}
            self._ids = {key: ids for key, ids in self._ids.items() if key == (ckpt, prompt) or key[0] != ckpt} | kept
            self.answers.append({"ckpt": ckpt, "prompt": prompt, "seed": self.config.seed, "texts": found[ckpt]})
        self.written = {ckpt: texts[0] for ckpt, texts in found.items()}
        return found

    def render_subjects(self) -> list[str]:
        """The checkpoints that answer, a line each."""
        return [
            f"{ckpt}: {each.model.num_parameters():,} parameters on {each.model.device}"
            for ckpt, each in self.subjects.items()
        ]

    def writes_alone(self) -> bool:
        """True if a text can be streamed: one checkpoint, one text, no beams."""
        given = self.config.generation
        several = [given.get(name) or 1 for name in ("num_beams", "num_return_sequences")]
        return len(self.subjects) == 1 and max(several) == 1

    def render_settings(self) -> list[str]:
        """The settings in effect, a line each."""
        given = {name: getattr(self.config, name) for name in OWN} | self.config.generation
        return [f"  /{name}={render_value(value)}" for name, value in given.items()]

    def _read(self, ckpt: str, prompt: str) -> str | list[int]:
        """A prompt as it is read: what the checkpoint wrote itself by the very ids that it wrote.

        Encoded anew, a character that is not whole yet would be lost, and the ids of the rest might be others.
        """
        return self._ids.get((ckpt, prompt), prompt)

    def _take(self, config: ChatConfig) -> None:
        config.check_settings()
        for subject in self.subjects.values():
            settings = generation.build_generation_config(subject.model, config.generation)
            generation.resolve_prompt_length(subject.model, settings)
        self.config = config


def _find_setting(name: str) -> str:
    """The name of a setting without its section; raise ConfigError for an unknown one."""
    plain = name.removeprefix("generation.")
    try:
        upstream.check_names([plain], {*OWN, *upstream.load_generation_fields()}, "/")
    except ConfigError as error:
        raise ConfigError(f"{error} /help tells what can be set.") from error
    return plain


def _change(config: ChatConfig, name: str, value: object) -> ChatConfig:
    plain = _find_setting(name)
    if plain in OWN:
        changed: dict[str, Any] = {plain: value}
        return replace(config, **changed)
    changed_config = replace(config, generation={**config.generation, plain: value})
    changed_config.resolve(frozenset() if plain == "max_length" else frozenset(["generation.max_new_tokens"]))
    return changed_config
