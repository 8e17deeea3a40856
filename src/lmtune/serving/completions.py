"""POST /v1/completions as OpenAI's API has it, and every parameter of generate by its own name beside it.

Source: the reference of OpenAI's completions API. What differs is in docs/serving.md: parameters of generate are taken, other
parameters are refused instead of passed over, and an answer may have notices.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from lmtune.config.ranges import Range
from lmtune.serving.answer import Prompt, TextRequest, Work
from lmtune.serving.faults import ErrorBody, bad_request, explain_fault
from lmtune.serving.job import PromptTokens
from lmtune.serving.models import Served
from lmtune.serving.output import Piece, Token
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
"""Likeliest tokens at each place; OpenAI gives five."""
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
"""OpenAI's parameters, by their names. The temperature may be 0, for the likeliest token each time."""

PARAMETERS = {**GENERATION, **OWN}

TWINS = (
    ("max_tokens", "max_new_tokens"),
    ("max_tokens", "max_length"),
    ("stop", "stop_strings"),
    ("logit_bias", "sequence_bias"),
)
"""Parameters that say the same."""


@dataclass(slots=True, kw_only=True)
class CompletionRequest:
    """A request, read."""

    text: TextRequest
    model: str | None
    stream: bool
    echo: bool
    with_usage: bool
    """A stream ends with the numbers of tokens."""


def parse_request(body: dict[str, Any]) -> CompletionRequest:
    """A request from the object of its body. Raises a fault with status 400 for the first thing that is wrong in it."""
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
    """The parameters of generate. Unless told otherwise the text is drawn, from all tokens, as OpenAI's is."""
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


class Logprobs(BaseModel):
    """Tokens of a text with their log-probabilities by the model itself."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class Choice(BaseModel):
    """A text."""

    index: int
    text: str
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class Usage(BaseModel):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """An answer, or a part of one that comes as a stream."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    notices: list[str] | None = None
    """What the client should know of how the request was read; not in OpenAI's API."""


@dataclass(slots=True)
class Composer:
    """Makes answers out of pieces."""

    request: CompletionRequest
    served: Served
    work: Work
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _offsets: dict[int, int] = field(default_factory=dict)

    def begin(self) -> list[Choice]:
        """What stands before the first piece: the prompts, where they are to be repeated."""
        if not self.request.echo:
            return []
        return [
            Choice(index=output, text=self._render_prompt(number))
            for number, job in enumerate(self.work.jobs)
            for output in range(job.index, job.index + job.sequences)
        ]

    def add(self, piece: Piece | PromptTokens) -> Choice:
        """A piece as a part of its text."""
        if isinstance(piece, PromptTokens):
            return Choice(index=piece.index, text="", logprobs=self._describe(piece.index, piece.tokens))
        logprobs = None if self.request.text.top is None else self._describe(piece.index, piece.tokens)
        return Choice(index=piece.index, text=piece.text, logprobs=logprobs, finish_reason=piece.finish)

    def build(self, choices: list[Choice], usage: bool = False, notices: bool = False) -> Completion:
        """An answer, or a part of one."""
        return Completion(
            id=self.id,
            created=self.created,
            model=self.served.name,
            choices=choices,
            usage=self.count() if usage else None,
            notices=(self.work.notices or None) if notices else None,
        )

    def count(self) -> Usage:
        """Tokens so far."""
        read, written = self.work.prompt_tokens, self.work.written
        return Usage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)

    def _render_prompt(self, number: int) -> str:
        """The prompt of a job as it was read."""
        job = self.work.jobs[number]
        prompt = self.request.text.prompts[number // self.request.text.copies]
        if isinstance(prompt, str) and not self.work.notices:
            return prompt
        decoded = self.served.tokenizer.decode(job.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(decoded)

    def _describe(self, index: int, tokens: tuple[Token, ...]) -> Logprobs:
        begin = self._offsets.get(index, 0)
        offsets = []
        for token in tokens:
            offsets.append(begin)
            begin += len(token.text)
        self._offsets[index] = begin
        return Logprobs(
            tokens=[token.text for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[None if token.logprob is None else dict(token.top) for token in tokens],
            text_offset=offsets,
        )


async def collect(composer: Composer, pieces: AsyncIterator[Piece | PromptTokens]) -> Completion:
    """The whole answer."""
    texts = {choice.index: choice for choice in composer.begin()}
    async for piece in pieces:
        part = composer.add(piece)
        whole = texts.setdefault(part.index, Choice(index=part.index, text=""))
        whole.text += part.text
        whole.finish_reason = part.finish_reason
        whole.logprobs = _join(whole.logprobs, part.logprobs)
    return composer.build([texts[index] for index in sorted(texts)], usage=True, notices=True)


def _join(one: Logprobs | None, other: Logprobs | None) -> Logprobs | None:
    if one is None or other is None:
        return one or other
    return Logprobs(
        tokens=one.tokens + other.tokens,
        token_logprobs=one.token_logprobs + other.token_logprobs,
        top_logprobs=one.top_logprobs + other.top_logprobs,
        text_offset=one.text_offset + other.text_offset,
    )


async def render_stream(composer: Composer, pieces: AsyncIterator[Piece | PromptTokens]) -> AsyncIterator[str]:
    """The answer as server-sent events. What goes wrong on the way is an event too, and then `[DONE]` does not come."""
    for choice in composer.begin():
        yield _event(composer.build([choice]))
    notices = True
    try:
        async for piece in pieces:
            yield _event(composer.build([composer.add(piece)], notices=notices))
            notices = False
    except Exception as error:
        yield _event(ErrorBody.model_validate_json(explain_fault(error).render("/v1/")))
        return
    if composer.request.with_usage:
        yield _event(composer.build([], usage=True))
    yield "data: [DONE]\n\n"


def _event(body: BaseModel) -> str:
    return f"data: {body.model_dump_json()}\n\n"
