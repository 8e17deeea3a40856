"""Requests to POST /v1/completions: OpenAI's parameters, and also every parameter of generate by its own name.

Source: the reference of OpenAI's completions API. Differences are listed in docs/serving.md; other parameters are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmtune.config.ranges import Range
from lmtune.serving.answer import Prompt, TextRequest
from lmtune.serving.faults import bad_request
from lmtune.serving.parameters import (
    GENERATION,
    ID,
    STOPS,
    SWITCH,
    Parameter,
    Schema,
    check_parameters,
    number_schema,
)

NEW_TOKENS = 16
"""OpenAI's default of max_tokens."""
MOST_PROMPTS = 256
MOST_TOP = 20
"""Likeliest tokens at each position, at most; OpenAI gives five."""
LARGEST_SEED = 2**62


def _whole(least: int, most: int) -> Parameter:
    allowed = Range(least=least, most=most, whole=True)

    def check(value: object) -> str | None:
        return None if type(value) is int and least <= value <= most else f"a whole number from {least} to {most}"

    return Parameter(check, number_schema(allowed))


def _number(least: float, most: float) -> Parameter:
    allowed = Range(least=least, most=most)
    return Parameter(allowed.find_fault, number_schema(allowed))


def _text(value: object) -> str | None:
    return None if isinstance(value, str) else "a text"


def _check_prompt(value: object) -> str | None:
    texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    fits = isinstance(value, str) or (
        isinstance(value, list)
        and len(value) > 0
        and (_are_ids(value) or (len(value) <= MOST_PROMPTS and (texts or all(map(_are_ids, value)))))
    )
    return None if fits else f"a text, a list of ids, or a list of 1 to {MOST_PROMPTS} of either"


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(ID.check(each) is None for each in value)


def _check_bias(value: object) -> str | None:
    fits = (
        isinstance(value, dict)
        and len(value) <= 300
        and all(str(name).isdecimal() and len(name) < 10 and _BIAS.check(bias) is None for name, bias in value.items())
    )
    return None if fits else "ids with biases from -100 to 100, at most 300"


def _check_stream_options(value: object) -> str | None:
    names = {"include_usage", "include_obfuscation"}
    fits = isinstance(value, dict) and value.keys() <= names and all(isinstance(each, bool) for each in value.values())
    return None if fits else "an object with include_usage, true or false"


_BIAS = _number(-100, 100)
_IDS: Schema = {"type": "array", "items": ID.schema, "minItems": 1}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_PROMPTS}
_PROMPT: Schema = {
    "anyOf": [
        {"type": "string"},
        _TEXTS,
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MOST_PROMPTS},
    ]
}

OWN: dict[str, Parameter] = {
    "model": Parameter(_text, {"type": "string"}),
    "prompt": Parameter(_check_prompt, _PROMPT),
    "max_tokens": _whole(0, 2**31 - 1),
    "temperature": _number(0, 100),
    "n": _whole(1, 1024),
    "best_of": _whole(1, 1024),
    "stream": SWITCH,
    "stream_options": Parameter(
        _check_stream_options,
        {"type": "object", "properties": {"include_usage": SWITCH.schema}, "additionalProperties": False},
    ),
    "logprobs": _whole(0, MOST_TOP),
    "echo": SWITCH,
    "stop": STOPS,
    "seed": _whole(-LARGEST_SEED, LARGEST_SEED),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "logit_bias": Parameter(
        _check_bias,
        {"type": "object", "additionalProperties": _BIAS.schema, "propertyNames": {"pattern": "^[0-9]{1,9}$"}},
    ),
    "suffix": Parameter(_text, {"type": "string"}),
    "user": Parameter(_text, {"type": "string"}),
}
"""OpenAI's parameters by name. The temperature may be 0, for the likeliest token each time."""

PARAMETERS = {**GENERATION, **OWN}

TWINS = (
    ("max_tokens", "max_new_tokens"),
    ("max_tokens", "max_length"),
    ("stop", "stop_strings"),
    ("logit_bias", "sequence_bias"),
)
"""Pairs of parameters with the same meaning."""


@dataclass(slots=True, kw_only=True)
class CompletionRequest:
    """A parsed request."""

    text: TextRequest
    model: str | None
    stream: bool
    echo: bool
    with_usage: bool
    """A stream ends with the numbers of tokens."""


def parse_request(body: dict[str, Any]) -> CompletionRequest:
    """A request from the object of its body. Raises a fault with status 400 for the first mistake in it."""
    check_parameters(body, PARAMETERS)
    given = {name: value for name, value in body.items() if value is not None}
    _check_together(given)
    settings = _take_settings(given)
    prompt = given.get("prompt", "")
    stops = given.get("stop", given.get("stop_strings", []))
    top = given.get("logprobs")
    echo = given.get("echo", False)
    text = TextRequest(
        prompts=list_prompts(prompt),
        settings=settings,
        new_tokens=given.get("max_tokens", given.get("max_new_tokens", None if "max_length" in given else NEW_TOKENS)),
        max_length=given.get("max_length"),
        max_time=given.get("max_time"),
        copies=given.get("n", 1),
        seed=given.get("seed"),
        stops=[stops] if isinstance(stops, str) else stops,
        penalties=(given.get("presence_penalty", 0.0), given.get("frequency_penalty", 0.0)),
        top=top,
        scores_prompt=echo and top is not None,
    )
    options = given.get("stream_options", {})
    return CompletionRequest(
        text=text,
        model=given.get("model"),
        stream=given.get("stream", False),
        echo=echo,
        with_usage=options.get("include_usage", False),
    )


def list_prompts(prompt: Any) -> list[Prompt]:
    """One prompt or several, texts or ids, as a list."""
    return list(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else [prompt]


def _check_together(given: dict[str, Any]) -> None:
    for one, other in TWINS:
        if one in given and other in given:
            raise bad_request(f"{one} and {other} mean the same. Leave one of them out.", one)
    if given.get("suffix"):
        raise bad_request("suffix is not taken: this model writes from left to right. Leave it out.", "suffix")
    if given.get("best_of", 1) not in (1, given.get("n", 1)):
        raise bad_request("best_of is not taken: all texts come back. Ask for n texts.", "best_of")
    if given.get("max_tokens") == 0 and not given.get("echo"):
        raise bad_request("max_tokens=0: expected 1 or more, or echo=true.", "max_tokens")
    if "stream_options" in given and not given.get("stream"):
        raise bad_request("stream_options: expected stream=true beside it.", "stream_options")


def _take_settings(given: dict[str, Any]) -> dict[str, Any]:
    """The parameters of generate. By default the text is sampled from all tokens, as OpenAI's is."""
    own = {"max_new_tokens", "max_length", "max_time", "stop_strings"}
    settings = {name: value for name, value in given.items() if name in GENERATION and name not in own}
    greedy = settings.get("temperature") == 0
    if greedy:
        del settings["temperature"]
        if settings.get("do_sample"):
            raise bad_request(
                "temperature=0 and do_sample=true contradict each other. Leave one of them out.", "temperature"
            )
    settings.setdefault("do_sample", not (greedy or settings.get("num_beams", 1) > 1))
    if settings["do_sample"]:
        settings.setdefault("top_k", 0)
    if given.get("logit_bias"):
        settings["sequence_bias"] = [[[int(name)], float(bias)] for name, bias in given["logit_bias"].items()]
    return settings
