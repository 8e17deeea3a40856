"""When keys of generated texts (`generation.*`, `grid.*`, `seed=`, `top=`) have no effect."""

from collections.abc import Callable
from typing import Any

from lmtune.config import ChatConfig, GenerateConfig, TrainConfig
from lmtune.config.conditions import LEAVE_ONE, Idle
from lmtune.config.generation import ASSISTED, BEAMS, FOR_ENCODERS, SAMPLING
from lmtune.upstream import Typed

Rule = Callable[[Any, Typed], Idle | None]


def _if_parameter_counts(config: TrainConfig | GenerateConfig | ChatConfig, typed: Typed, name: str) -> Idle | None:
    """Why a parameter of GenerationConfig has no effect beside others."""
    given = config.generation
    if name in SAMPLING and given.get("do_sample") is False:
        return Idle("generation.do_sample=false takes the likeliest token each time", LEAVE_ONE, "generation.do_sample")
    if name in BEAMS and (given.get("num_beams") or 1) < 2:
        return Idle("there is one beam", "Leave it out, or give generation.num_beams=4.", "generation.num_beams")
    if name in ASSISTED and given.get("prompt_lookup_num_tokens") is None:
        return Idle("it is for a second model that helps, which lmtune has not", "Leave it out.")
    if name in FOR_ENCODERS:
        return Idle("it is for models with an encoder", "Leave it out.")
    if name == "max_matching_ngram_size" and given.get("prompt_lookup_num_tokens") is None:
        return Idle(
            "generation.prompt_lookup_num_tokens is off", "Give both, or none.", "generation.prompt_lookup_num_tokens"
        )
    for length in ("max", "min"):
        stronger = f"generation.{length}_new_tokens"
        if name == f"{length}_length" and stronger in typed.keys:
            return Idle(f"{stronger}= is what counts", LEAVE_ONE, stronger)
    return None


def generation_rules(*first: Rule) -> dict[str, Rule]:
    """A rule for each parameter, which asks `first`, the rules of the whole section, first."""

    def build(name: str) -> Rule:
        return first_of(*first, lambda config, typed: _if_parameter_counts(config, typed, name))

    names = (*SAMPLING, *BEAMS, *ASSISTED, *FOR_ENCODERS, "max_matching_ngram_size", "max_length", "min_length")
    return {"generation": first_of(*first), **{f"generation.{name}": build(name) for name in names}}


def by(condition: Callable[[Any], Idle | None]) -> Rule:
    """A rule that depends on the configuration alone."""
    return lambda config, typed: condition(config)


def first_of(*rules: Rule) -> Rule:
    """The first reason that one of several rules gives."""
    return lambda config, typed: next((found for rule in rules if (found := rule(config, typed)) is not None), None)


def if_text_is_written(config: GenerateConfig, typed: Typed) -> Idle | None:
    if not config.top:
        return None
    return Idle(f"top={config.top} prints the next tokens instead of a text", LEAVE_ONE, "top")


def if_drawn(config: GenerateConfig, typed: Typed) -> Idle | None:
    if config.generation.get("do_sample") is False:
        because = "grid.* and seed= need sampling, and generation.do_sample=false takes the likeliest token each time"
        return Idle(because, LEAVE_ONE, "generation.do_sample")
    return if_text_is_written(config, typed)


def unless_in_grid(name: str) -> Rule:
    def rule(config: GenerateConfig, typed: Typed) -> Idle | None:
        if not getattr(config.grid, name):
            return _if_parameter_counts(config, typed, name)
        return Idle(f"grid.{name}= says what is tried", LEAVE_ONE, f"grid.{name}")

    return first_of(if_text_is_written, rule)
