"""From a request for texts to jobs, and from what the engine gives back to events of asyncio."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmtune.config import LongPrompt, ServeSettings
from lmtune.config.generation import SAMPLING
from lmtune.modeling.generation import build_generation_config, open_prompt
from lmtune.modeling.layers import count_rows
from lmtune.serving.faults import FaultError, bad_request
from lmtune.serving.job import Event, Job, PromptTokens
from lmtune.serving.models import Served
from lmtune.serving.output import Piece
from lmtune.serving.parameters import find_largest_id
from lmtune.vocabulary import encode_plain

if TYPE_CHECKING:
    from starlette.requests import Request
    from transformers import GenerationConfig

Prompt = str | list[int]
Pieces = AsyncGenerator[Piece | PromptTokens, None]

GRACE = 5.0
"""Seconds after which a request that should have ended is given up."""


@dataclass(slots=True, kw_only=True)
class TextRequest:
    """What a request asks for, whatever its wire format."""

    prompts: Sequence[Prompt]
    settings: dict[str, Any]
    """Parameters of generate; without lengths, stop strings and max_time, which have fields of their own."""
    new_tokens: int | None
    """At most; None where max_length says it."""
    max_length: int | None = None
    """Tokens of prompt and text."""
    max_time: float | None = None
    """Seconds."""
    copies: int = 1
    """Texts for each prompt, each with a seed of its own."""
    seed: int | None = None
    stops: Sequence[str] = ()
    penalties: tuple[float, float] = (0.0, 0.0)
    top: int | None = None
    """Likeliest tokens at each place."""
    scores_prompt: bool = False

    @property
    def texts(self) -> int:
        """Texts that come back."""
        return len(self.prompts) * self.copies * int(self.settings.get("num_return_sequences") or 1)

    @property
    def sequences(self) -> int:
        """Texts that are written at the same time, beams included."""
        wide = max(int(self.settings.get(name) or 1) for name in ("num_return_sequences", "num_beams"))
        return len(self.prompts) * self.copies * wide


@dataclass(slots=True)
class Work:
    """The jobs of a request."""

    jobs: list[Job] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    """What the client should know of how the request was read."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts, each counted once however many texts were asked for."""
        return sum(len(ids) for ids in {id(job.ids): job.ids for job in self.jobs}.values())

    @property
    def written(self) -> int:
        """Tokens that were written."""
        return sum(output.count for job in self.jobs for output in job.outputs)


class Channel:
    """A queue that any thread puts events into, and the loop takes them from."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def send(self, event: Event | None) -> None:
        """Put an event in, from any thread. None: the client has gone."""
        with suppress(RuntimeError):  # the loop has ended, so that nobody reads any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    async def take(self) -> Event | None:
        """The next event."""
        return await self._queue.get()


class ClientGoneError(Exception):
    """Nobody reads the answer any more."""


def check_limits(request: TextRequest, limits: ServeSettings) -> None:
    """Raise a fault for more than the server gives."""
    most = min(limits.max_sequences, limits.slots + limits.queue)
    if request.sequences > most:
        raise bad_request(
            f"{request.sequences} texts (prompts x n x the larger of num_beams and num_return_sequences): expected at most {most}.",
            "n",
        )
    if request.new_tokens is not None and request.new_tokens > limits.max_new_tokens:
        raise bad_request(
            f"{request.new_tokens} new tokens: expected at most {limits.max_new_tokens}.",
            "max_tokens",
            "too_many_tokens",
        )


def prepare(request: TextRequest, served: Served, limits: ServeSettings, send: Callable[[Event], None]) -> Work:
    """The jobs of a request. Raises a fault or an LmtuneError for what this model cannot do."""
    check_ids(request, count_rows(served.model))
    config = build_generation_config(served.model, request.settings)
    work = Work(notices=note_idle(request, config))
    seconds = min(request.max_time or limits.max_seconds, limits.max_seconds)
    deadline = time.monotonic() + seconds
    base = secrets.randbits(32) if request.seed is None else request.seed
    for prompt in request.prompts:
        ids, new = fit_prompt(prompt, request, served, limits, work.notices)
        own = settle_lengths(config, new)
        for copy in range(request.copies):
            work.jobs.append(
                Job(
                    index=sum(job.sequences for job in work.jobs),
                    ids=ids,
                    config=own,
                    new_tokens=new,
                    seed=base + copy,
                    send=send,
                    tokenizer=served.tokenizer,
                    stops=request.stops,
                    penalties=request.penalties,
                    top=request.top,
                    scores_prompt=request.scores_prompt,
                    deadline=deadline,
                )
            )
    if request.top is not None and any(job.alone for job in work.jobs):
        raise bad_request(
            "logprobs come with texts that are drawn token by token: expected no beams, guidance or several "
            "texts of one draw beside them. Leave one of them out.",
            "logprobs",
        )
    return work


def check_ids(request: TextRequest, rows: int) -> None:
    """Raise a fault for ids beyond the vocabulary."""
    name, largest = find_largest_id(request.settings)
    for prompt in request.prompts:
        if not isinstance(prompt, str) and max(prompt) > largest:
            name, largest = "prompt", max(prompt)
    if largest >= rows:
        raise bad_request(f"{name}: {largest} is no id of this model; expected at most {rows - 1}.", name)


def note_idle(request: TextRequest, config: GenerationConfig) -> list[str]:
    """A notice for parameters of sampling without sampling."""
    idle = [name for name in SAMPLING if request.settings.get(name) is not None]
    if config.do_sample or not idle:
        return []
    return [f"{', '.join(idle)} had no effect: the likeliest token was taken each time. Give do_sample=true to draw."]


def fit_prompt(
    prompt: Prompt, request: TextRequest, served: Served, limits: ServeSettings, notices: list[str]
) -> tuple[list[int], int]:
    """(ids of the prompt, new tokens), which fit the context together. Special tokens in a text are text."""
    new, context = request.new_tokens, served.context
    if new is not None and new >= context:
        raise bad_request(f"{new} new tokens: the context has {context}. Give at most {context - 1}.", "max_tokens")
    room = context - (1 if new is None else new)
    if isinstance(prompt, str):
        with served.encoding:
            own = encode_plain(served.tokenizer, [prompt])[0]
            ids = open_prompt(served.model, served.tokenizer, own, room)
    else:
        own, ids = prompt, prompt[-room:]
    kept = min(len(own), len(ids))
    if kept < len(own):
        said = f"The prompt has {len(own):,} tokens, and {kept:,} of them fit the context of {context:,} with the text"
        if limits.long_prompt is LongPrompt.refuse:
            raise bad_request(f"{said}. Shorten it, or ask for less.", "prompt", "context_length_exceeded")
        notices.append(f"{said}: its beginning was left out.")
    return ids, resolve_new_tokens(request, len(ids), served, limits) if new is None else new


def resolve_new_tokens(request: TextRequest, length: int, served: Served, limits: ServeSettings) -> int:
    """Tokens that max_length leaves for the text."""
    most = min(served.context, length + limits.max_new_tokens)
    longest = request.max_length or most
    if not length < longest <= most:
        raise bad_request(
            f"max_length={longest}: expected more than the {length} tokens of the prompt, and at most {most}.",
            "max_length",
        )
    return longest - length


def settle_lengths(config: GenerationConfig, new: int) -> GenerationConfig:
    """The config with the length as new tokens. What this server does itself, generate must not do too: stop strings, time."""
    import copy

    own = copy.deepcopy(config)
    own.max_new_tokens, own.max_length, own.max_time, own.stop_strings = max(1, new), None, None, None
    if own.min_new_tokens is not None and own.min_length:
        raise bad_request("min_length and min_new_tokens both say it. Leave one of them out.", "min_length")
    if (own.min_new_tokens or 0) > max(1, new):
        raise bad_request(
            f"min_new_tokens={own.min_new_tokens}: expected at most the {new} new tokens.", "min_new_tokens"
        )
    return own


async def follow(channel: Channel, work: Work, request: Request) -> Pieces:
    """What comes of the jobs, until all texts are finished. Raises what the engine raised, or that the client has gone.

    However it ends, the jobs are cancelled: their slots are free at the next step.
    """
    left = sum(job.sequences for job in work.jobs)
    late = work.jobs[0].deadline + GRACE
    watching = asyncio.ensure_future(_watch(request, channel))
    try:
        while left:
            event = await asyncio.wait_for(channel.take(), max(0.0, late - time.monotonic()))
            if event is None:
                raise ClientGoneError
            if isinstance(event, Exception):
                raise event
            left -= isinstance(event, Piece) and event.finish is not None
            yield event
    except TimeoutError as error:
        raise FaultError(503, "The request took too long.", "server_error", code="timeout") from error
    finally:
        watching.cancel()
        for job in work.jobs:
            job.cancelled = True


async def _watch(request: Request, channel: Channel) -> None:
    """Tell the channel when the client goes."""
    while (await request.receive())["type"] != "http.disconnect":
        continue
    channel.send(None)
