"""One text that is being generated: from ids to text that can be shown, cut at the first stop string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"
"""What incomplete characters decode to."""
CONTEXT = 8
"""Ids decoded along with the first new one: some vocabularies decode a space only after another word."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the answer with its log-probabilities by the model itself, before any setting of the request."""

    text: str
    logprob: float | None
    """None for the first token of a prompt, which has no context."""
    top: tuple[tuple[str, float], ...]
    """The likeliest tokens at this position, the likeliest first."""
    begin: int = 0
    """Characters of the text before it. All parts of a character begin where it does; so do tokens that are not shown."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A newly generated part of a text."""

    index: int
    """Which text of its request."""
    text: str = ""
    tokens: tuple[Token, ...] = ()
    """Its tokens, if log-probabilities were requested."""
    finish: str | None = None
    """`stop` or `length`, with the last piece."""


class TextStream:
    """Decodes ids one by one. An incomplete character is held back."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, before: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(before[-CONTEXT:])
        self._known = self._decode()
        if self._known.endswith(BROKEN):  # a prompt of ids that ends inside a character
            self._ids, self._known = [], ""
        self._done = len(self._ids)
        """Number of ids whose text has been emitted."""
        self._hidden: frozenset[int] | None = None

    def find_hidden(self, token: int) -> str:
        """The name of a special token, which is not part of the text; empty for any other token."""
        if self._hidden is None:
            added = self._tokenizer.added_tokens_decoder
            self._hidden = frozenset(index for index, each in added.items() if each.special)
        return str(self._tokenizer.convert_ids_to_tokens(token)) if token in self._hidden else ""

    def push(self, token: int) -> str:
        """The text that one more id completes."""
        self._ids.append(token)
        text = self._decode()
        if text.endswith(BROKEN):
            return ""
        return self._give(text)

    def flush(self) -> str:
        """The text that was held back."""
        return self._give(self._decode())

    def _give(self, text: str) -> str:
        new = text[len(self._known) :]
        self._ids = self._ids[self._done :]
        self._done, self._known = len(self._ids), self._decode()
        return new

    def _decode(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class StopSearch:
    """Text up to the first stop string. What may become one is kept back.

    A stop string may hold special tokens, as in generate; they are found, and not shown.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self._held = ""
        self._visible: list[bool] = []
        """For each character that is held."""
        self.met = False
        """True once a stop string has occurred."""

    def push(self, text: str, visible: bool = True) -> str:
        """The text that may be shown after this much more of it. visible: False for a special token."""
        self._held += text
        self._visible += [visible] * len(text)
        places = [place for stop in self.stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.met = True
            shown = self._release(min(places))
            self._held, self._visible = "", []
            return shown
        kept = max((_overlap(self._held, stop) for stop in self.stops), default=0)
        return self._release(len(self._held) - kept)

    def flush(self) -> str:
        """What was kept back, since nothing more comes."""
        return self._release(len(self._held))

    def _release(self, count: int) -> str:
        """The first `count` characters that are held, of which those that are visible are shown."""
        shown = "".join(each for each, visible in zip(self._held[:count], self._visible, strict=False) if visible)
        self._held, self._visible = self._held[count:], self._visible[count:]
        return shown


def _overlap(text: str, stop: str) -> int:
    """Number of characters at the end of a text that begin the stop string."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)


def place_token(before: int, text: str, own: str) -> int:
    """Where a token begins that makes `text` whole, behind `before` characters. own: the token as text.

    Behind bytes that have come to nothing it begins after what is shown for them; a part of a character, where that does.
    """
    return before + (len(text) - len(own) if text.endswith(own) else 0)


@dataclass(slots=True)
class Output:
    """A text of a request: takes its tokens and emits pieces."""

    index: int
    stream: TextStream
    stops: StopSearch
    ends: frozenset[int]
    """Ids that end a text."""
    most: int
    """Tokens at most."""
    finish: str | None = None
    count: int = 0
    """Tokens generated, including the one that ended the text."""
    _shown: int = 0
    _decoded: int = 0
    _pending: list[tuple[Token, int]] = field(default_factory=list)
    """Tokens whose text is held back, with its start."""

    def take(self, token: int, described: Token | None = None) -> Piece | None:
        """Take one more token; return the piece that it completes. described: the token with log-probabilities, if requested."""
        self.count += 1
        ended = token in self.ends
        text = self.stream.push(token)
        if described is not None and not ended:
            self._pending.append((described, place_token(self._decoded, text, described.text)))
        hidden = self.stream.find_hidden(token) if self.stops.stops and not ended else ""
        return self._give(text, "stop" if ended else "length" if self.count >= self.most else None, hidden)

    def close(self) -> Piece | None:
        """The last piece of a text that is ended early."""
        return None if self.finish else self._give("", "length")

    def _give(self, text: str, finish: str | None, hidden: str = "") -> Piece | None:
        """hidden: a special token behind the text."""
        if finish:
            text += self.stream.flush()
        self._decoded += len(text)
        shown = self.stops.push(text)
        if hidden and not self.stops.met:
            shown += self.stops.push(hidden, visible=False)
        if self.stops.met:
            finish = "stop"
        elif finish:
            shown += self.stops.flush()
        self.finish = finish
        self._shown += len(shown)
        tokens = self._release()
        return Piece(self.index, shown, tokens, finish) if shown or tokens or finish else None

    def _release(self) -> tuple[Token, ...]:
        """The tokens whose text is shown."""
        whole = self.finish is not None and not self.stops.met
        ready = [replace(token, begin=begin) for token, begin in self._pending if whole or begin < self._shown]
        self._pending = self._pending[len(ready) :]
        return tuple(ready)
