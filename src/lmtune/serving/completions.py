"""Answers of POST /v1/completions, whole or as a stream, in the format of OpenAI's API."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import BaseModel

from lmtune.serving.answer import Work
from lmtune.serving.completion_request import CompletionRequest
from lmtune.serving.faults import ErrorBody, explain_fault
from lmtune.serving.job import PromptTokens
from lmtune.serving.models import Served
from lmtune.serving.output import Piece, Token


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
    """What the client should know about how the request was interpreted; not in OpenAI's API."""


@dataclass(slots=True)
class Composer:
    """Builds answers from pieces."""

    request: CompletionRequest
    served: Served
    work: Work
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _prompts: dict[int, str] = field(default_factory=dict)
    """The prompt of each output, if prompts are to be repeated."""

    def begin(self) -> list[Choice]:
        """The choices before the first piece: the prompts, if they are to be repeated."""
        if self.request.echo:
            for number, job in enumerate(self.work.jobs):
                outputs = range(job.index, job.index + job.sequences)
                self._prompts |= dict.fromkeys(outputs, self._render_prompt(number))
        return [Choice(index=index, text=prompt) for index, prompt in self._prompts.items()]

    def add(self, piece: Piece | PromptTokens) -> Choice:
        """A piece as a part of its text."""
        if isinstance(piece, PromptTokens):
            return Choice(index=piece.index, text="", logprobs=_describe(piece.tokens, 0))
        before = len(self._prompts.get(piece.index, ""))
        logprobs = None if self.request.text.top is None else _describe(piece.tokens, before)
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
        return self.served.decode(job.ids)


def _describe(tokens: tuple[Token, ...], before: int) -> Logprobs:
    """before: characters of the answer before the text of the tokens."""
    return Logprobs(
        tokens=[token.text for token in tokens],
        token_logprobs=[token.logprob for token in tokens],
        top_logprobs=[None if token.logprob is None else dict(token.top) for token in tokens],
        text_offset=[before + token.begin for token in tokens],
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
    """The answer as server-sent events. An error on the way is sent as an event, and then `[DONE]` is not."""
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
