"""From sums over scored tokens to loss, perplexity, accuracy, bits per byte and per character, and word perplexity.

`loss`, `perplexity` and `accuracy` cover every scored token, separators included. `bits_per_byte`, `bits_per_character`
and `word_perplexity` take the loss of the text's own tokens over the UTF-8 bytes, Unicode characters and white-space words
of exactly that text, so they compare across vocabularies; `separator_loss` stands apart. Pure arithmetic.
"""

import math
from dataclasses import astuple, dataclass

from lmtune.measures import MEASURES


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over scored tokens, in float64. They add up over batches and processes."""

    nll: float = 0.0
    """Negative log-likelihood of the text's own tokens, in nats."""
    tokens: float = 0.0
    """Tokens of the text, without separators."""
    separator_nll: float = 0.0
    separators: float = 0.0
    correct: float = 0.0
    """Tokens, separators included, that the model ranks first."""
    bytes: float = 0.0
    """UTF-8 bytes of the scored text."""
    characters: float = 0.0
    """Unicode characters (code points) of the scored text."""
    words: float = 0.0
    """White-space words of the scored text."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def loss(sums: Sums) -> float:
    """Mean negative log-likelihood of all scored tokens, in nats."""
    return (sums.nll + sums.separator_nll) / (sums.tokens + sums.separators)


def perplexity(sums: Sums) -> float:
    """exp(loss); inf where that is beyond float64."""
    return exp(loss(sums))


def accuracy(sums: Sums) -> float:
    """Share of scored tokens that the model ranks first."""
    return sums.correct / (sums.tokens + sums.separators)


def bits_per_byte(sums: Sums) -> float:
    """Bits that the model needs for one UTF-8 byte of the text."""
    return sums.nll / math.log(2) / sums.bytes if sums.bytes else math.nan


def bits_per_character(sums: Sums) -> float:
    """Bits that the model needs for one Unicode character of the text."""
    return sums.nll / math.log(2) / sums.characters if sums.characters else math.nan


def word_perplexity(sums: Sums) -> float:
    """Perplexity of the text per white-space word; inf where that is beyond float64."""
    return exp(sums.nll / sums.words) if sums.words else math.nan


def separator_loss(sums: Sums) -> float:
    """Mean negative log-likelihood of the separators, in nats; nan where none was scored."""
    return sums.separator_nll / sums.separators if sums.separators else math.nan


FORMULAS = {
    formula.__name__: formula
    for formula in (
        loss,
        perplexity,
        accuracy,
        bits_per_byte,
        bits_per_character,
        word_perplexity,
        separator_loss,
    )
}
"""Measures by name."""


def measures_of(sums: Sums) -> dict[str, float]:
    """Every measure, in the order of lmtune.measures, and the counts they rest on."""
    counts = {name: int(getattr(sums, name)) for name in ("words", "bytes", "characters")}
    measures = {name: FORMULAS[name](sums) for name in MEASURES}
    return {**measures, "tokens": int(sums.tokens + sums.separators), **counts}


def exp(exponent: float) -> float:
    """math.exp, inf where that is beyond float64."""
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf
