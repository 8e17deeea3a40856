"""Tokenised benchmark text back to running text, so that the way back is known.

GPT-2 was trained on running text; WikiText, PTB, 1BW and CBT stand with spaces around their punctuation. A de-tokenizer
that loses something (Megatron's turns PTB's "N" into "1") scores another text than the published one. These are rules with
their inverse, and a line for which the inverse does not give back the original stays as it stands, and is counted.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

Rules = tuple[tuple[str, str], ...]


class Detokenized(NamedTuple):
    """Lines of running text."""

    lines: list[str]
    kept: int
    """Lines that stay as they stood, since the rules would have lost something."""


@dataclass(frozen=True, slots=True)
class Detokenizer:
    """Rules (pattern, replacement) that take spaces away, and those that put them back, each applied until nothing changes."""

    name: str
    join: Rules
    split: Rules

    def detokenize(self, line: str) -> str:
        return _apply(self.join, line)

    def tokenize(self, line: str) -> str:
        return _apply(self.split, line)

    def convert(self, lines: Iterable[str]) -> Detokenized:
        """Each line as running text where that can be undone, else as it is."""
        converted, kept = [], 0
        for line in lines:
            text = self.detokenize(line)
            certain = self.tokenize(text) == line
            converted.append(text if certain else line)
            kept += not certain
        return Detokenized(converted, kept)


def _apply(rules: Rules, line: str) -> str:
    for pattern, replacement in rules:
        previous = None
        while previous != line:
            previous, line = line, re.sub(pattern, replacement, line)
    return line


CONTRACTIONS = r"'(?:s|t|re|ve|ll|d|m|S|T|RE|VE|LL|D|M)\b"
# The full stop of an abbreviation is part of its token; one that ends a sentence after such a token keeps its space.
_ABBREVIATIONS = (r"\w", "No", "St", "Mr", "Mrs", "Dr", "vs", "Jr", "Sr", "Lt", "Gen", "Maj", "Col")
_SENTENCE = "".join(rf"(?<!\b{name})" for name in _ABBREVIATIONS)


def _marks(closing: str) -> tuple[Rules, Rules]:
    """Rules for marks that stand at the end of a word, and their inverse."""
    join = ((rf" ({closing})(?=[,.;:!?)\] \"]|$)", r"\1"), (rf"{_SENTENCE} \.(?=[ \"]|$)", "."))
    split = (
        (rf"{_SENTENCE}(?<=[^ .])\.(?=[ \"]|$)", " ."),
        (rf"(?<=[^ .])({closing})(?=[ \"]|$)", r" \1"),
    )
    return join, split


_STOPS_JOIN, _STOPS_SPLIT = _marks(r"[,;:!?]")
_MARKS_JOIN, _MARKS_SPLIT = _marks(r"[,;:!?)\]]")
_PUNCTUATION_JOIN: Rules = (*_MARKS_JOIN, (r"(?<![^ \"(\[])([(\[]) (?=[^ ])", r"\1"))
_PUNCTUATION_SPLIT: Rules = ((r"(?<![^ \"(\[])([(\[])(?=[^ ])", r"\1 "), *_MARKS_SPLIT)
_QUOTES_JOIN: Rules = ((r'(?<![^ (])" ([^" ](?:[^"]*[^" ])?) "(?![^ ,.;:!?)])', r'"\1"'),)
_QUOTES_SPLIT: Rules = ((r'(?<![^ (])"([^" ](?:[^"]*[^" ])?)"(?![^ ,.;:!?)])', r'" \1 "'),)

WIKITEXT = Detokenizer(
    "wikitext",
    join=(
        (r"^ (.*) $", r"\1"),
        (r"(?<=\w) @-@ (?=\w)", "-"),
        (r"(?<=\d) @([,.])@ (?=\d)", r"\1"),
        *_QUOTES_JOIN,
        (rf"(?<=[\w>]) ({CONTRACTIONS})", r"\1"),
        *_PUNCTUATION_JOIN,
    ),
    split=(
        *_PUNCTUATION_SPLIT,
        (rf"(?<=[\w>])({CONTRACTIONS})", r" \1"),
        *_QUOTES_SPLIT,
        (r"(?<=\d)([,.])(?=\d)", r" @\1@ "),
        (r"(?<=\w)-(?=\w)", " @-@ "),
        (r"^([^ ].*[^ ]|[^ ])$", r" \1 "),
    ),
)
"""WikiText-2 and WikiText-103, raw or with <unk>: lines of ` words and @-@ marks . ` (Merity et al. 2016)."""

PTB = Detokenizer(
    "ptb",
    join=(
        (r"^ (.*) $", r"\1"),
        (r"(?<=[a-z>.]) (n't|'(?:s|re|ve|ll|d|m))(?= |$)", r"\1"),
        (r"(?<![^ ])([$#]) N\b", r"\1N"),
    ),
    split=(
        (r"(?<![^ ])([$#])N\b", r"\1 N"),
        (r"(?<=[a-z>.])(n't|'(?:s|re|ve|ll|d|m))(?= |$)", r" \1"),
        (r"^([^ ].*[^ ]|[^ ])$", r" \1 "),
    ),
)
"""Penn Treebank as Mikolov prepared it: lower case, no punctuation, N for numbers, <unk>. N and <unk> stay."""

LM1B = Detokenizer(
    "lm1b",
    join=(*_QUOTES_JOIN, (rf"(?<=\w) (n't\b|{CONTRACTIONS})", r"\1"), *_PUNCTUATION_JOIN),
    split=(*_PUNCTUATION_SPLIT, (rf"(?<=\w)(n't\b|(?<!n){CONTRACTIONS})", r" \1"), *_QUOTES_SPLIT),
)
"""One Billion Words (Chelba et al. 2013)."""

CBT = Detokenizer(
    "cbt",
    join=(
        (r"(?<![^ ])-LRB- ", "("),
        (r" -RRB-(?= |$)", ")"),
        (rf"(?<=\w) (n't\b|{CONTRACTIONS})", r"\1"),
        *_STOPS_JOIN,
        (r"(?<![^ (])`` (?=[^ ])", '"'),
        (r"(?<=[^ ]) ''(?= |$)", '"'),
    ),
    split=(
        (r'(?<=[^ (])"(?= |$)', " ''"),
        (r'(?<![^ (])"(?=[^ ])', "`` "),
        *_STOPS_SPLIT,
        (rf"(?<=\w)(n't\b|(?<!n){CONTRACTIONS})", r" \1"),
        (r"(?<=[^ ])\)(?= |$)", " -RRB-"),
        (r"(?<![^ ])\((?=[^ ])", "-LRB- "),
    ),
)
"""The Children's Book Test (Hill et al. 2016): Penn Treebank tokens, `` and '' for quotation marks."""
