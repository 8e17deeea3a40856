"""How a tokenizer encodes plain text: found out by trial, since each family has conventions of its own.

encode_plain        ids of texts in which nothing is a special token, however it reads
open_plain_backend  what gives these ids without anything around them
encode_opening      what the tokenizer itself puts before a text
hash_tokenizer      changes with whatever decides the ids
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from lmtune.storage import checksum_of
from lmtune.token_stream import PLAIN_TEXT

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

MODEL = ',"model":{'
"""Where the model starts in a tokenizer.json."""
PROBE = "a"
"""A text that shows what is put around its ids."""
HIDDEN = "\uffff\ufffe\uffff"
"""Put before an entry that no text is to match: no text holds these three noncharacters in a row."""
SHOWN_OWN = ("{0} typed in a text", "In {0},{0} and\n {0}\n", "x{0}y")
"""Contexts of an added word or a special string in a text."""
PROBES = (
    "In 1,234.56 days the U.S. had 7% (Café, cafe\u0301); don't, I'LL, É!",
    "  two  blanks\n\n and\ta tab \n  x_y==1;// {}[]<>  ",
    "日本語の文 Привет, мир العربية ﬁ Å ①",
)
"""Texts in which ways to normalise and to split differ."""
SHOWN_SPECIAL = ("{0}", "a{0}b", "a {0} b", "{0} {0}\n")
"""Contexts of a special string in a text."""


def encode_plain(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, nothing added, whatever reads as a special token taken as plain text.

    transformers' own split_special_tokens does not do for vocabularies whose model finds a special string by itself, as
    Unigram and word-level ones do: those entries are hidden from the text then.
    """
    hidden = _find_hidden(tokenizer, len(tokenizer))
    if hidden is None:
        return list(tokenizer(list(texts), **PLAIN_TEXT)["input_ids"])
    return [encoded.ids for encoded in hidden.encode_batch(list(texts), add_special_tokens=False)]


def open_plain_backend(tokenizer: "PreTrainedTokenizerBase") -> "Tokenizer":
    """The Rust tokenizer, set up to give the ids of encode_plain until the tokenizer is called again, which sets it up anew."""
    hidden = _find_hidden(tokenizer, len(tokenizer))
    if hidden is not None:
        return hidden
    backend: Tokenizer = tokenizer.backend_tokenizer
    backend.encode_special_tokens = True
    backend.no_truncation()
    backend.no_padding()
    return backend


def decode_plain(tokenizer: "PreTrainedTokenizerBase", ids: Iterable[int]) -> str:
    """The text of ids, special tokens included, with its blanks as they are."""
    return str(tokenizer.decode([int(number) for number in ids], clean_up_tokenization_spaces=False))


def encode_opening(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The special ids that the tokenizer puts before a text by itself, such as a BOS; empty where it puts none."""
    return _encode_opening(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _encode_opening(tokenizer: "PreTrainedTokenizerBase", size: int) -> tuple[int, ...]:
    plain = encode_plain(tokenizer, [PROBE])[0]
    whole = list(tokenizer(PROBE, verbose=False)["input_ids"])
    starts = (start for start in range(len(whole) - len(plain) + 1) if whole[start : start + len(plain)] == plain)
    before = whole[: next(starts, 0)]
    return tuple(before) if set(before) <= set(tokenizer.all_special_ids) else ()


def encode_document_opening(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """The ids before each document of a stream: the opening, unless that is the separator, which is there anyway."""
    opening = encode_opening(tokenizer)
    return () if opening == (tokenizer.eos_token_id,) else opening


def count_ids(tokenizer: "PreTrainedTokenizerBase") -> int:
    """One more than the largest id; ids may have gaps, so the number of entries does not do."""
    return _count_ids(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _count_ids(tokenizer: "PreTrainedTokenizerBase", size: int) -> int:
    return max(size, max(tokenizer.get_vocab().values(), default=-1) + 1)


def find_unknown(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The id of the unknown token; None where there is none, as in byte-level vocabularies."""
    return _find_unknown(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _find_unknown(tokenizer: "PreTrainedTokenizerBase", size: int) -> int | None:
    model = open_backend(tokenizer).model
    if not model:
        return None if tokenizer.unk_token_id is None else int(tokenizer.unk_token_id)
    if "unk_id" in model:
        return None if model["unk_id"] is None else int(model["unk_id"])
    name = getattr(tokenizer.backend_tokenizer.model, "unk_token", None)  # some models write it behind their vocabulary
    return tokenizer.get_vocab().get(name) if name else None


class Backend(NamedTuple):
    """tokenizer.json of a tokenizer in memory, taken apart, since the vocabulary of its model takes long to read."""

    head: dict[str, Any]
    """All but the model; {} for a tokenizer that is written in Python."""
    model: dict[str, Any]
    """What the model says before its vocabulary, such as type and unk_id."""
    text: str
    """The text from the model on."""


def open_backend(tokenizer: "PreTrainedTokenizerBase") -> Backend:
    """The backend of a tokenizer as it is now."""
    return _split_backend(getattr(tokenizer, "backend_tokenizer", None))


def _split_backend(backend: Any) -> Backend:
    if backend is None:
        return Backend({}, {}, "")
    # The model, which holds megabytes of merges, comes last and stays as it is written; quotes inside strings are escaped,
    # so its start is found nowhere else.
    head, start, model = backend.to_str().partition(MODEL)
    return Backend(json.loads(head + "}"), json.loads("{" + model.partition(',"vocab":')[0] + "}"), start + model)


def count_entries(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Number of entries for text: all but special ones, and without single letters all but added ones."""
    added = [token for token in tokenizer.added_tokens_decoder.values() if not token.special]
    words = {token.content for token in added}
    letters = any(len(word) == 1 for word in words)
    return len(tokenizer.get_vocab().keys() - _list_special(tokenizer) - (set() if letters else words))


def hash_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Changes with what decides the ids: vocabulary, merges, normalisation, separator, what opens a text.

    Not with names or truncation.
    """
    described = describe_tokenizer(tokenizer, len(tokenizer))
    opening = encode_document_opening(tokenizer)
    parts = [described.text, described.added, tokenizer.eos_token_id, *([opening] if opening else [])]
    return checksum_of(json.dumps(parts))


class Description(NamedTuple):
    """A tokenizer without what does not touch the ids of plain text."""

    text: str
    """tokenizer.json without added tokens, so that a special token typed in a text is read as text."""
    added: list[str]
    """Words that were added and are no special tokens."""
    plain: str
    """The same tokenizer.json with those words."""


@lru_cache(maxsize=4)
def describe_tokenizer(tokenizer: "PreTrainedTokenizerBase", size: int) -> Description:
    """The description of a tokenizer that has `size` entries now; made once, as it takes a while."""
    backend = _find_hidden(tokenizer, size) or getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
        return Description(vocabulary, [], vocabulary)
    described, _, model = _split_backend(backend)
    added = [token for token in described["added_tokens"] if not token["special"]]
    left_out: dict[str, Any] = {"truncation": None, "padding": None, "post_processor": None}
    text = json.dumps({**described, **left_out, "added_tokens": []})[:-1] + model
    plain = json.dumps({**described, **left_out, "added_tokens": added})[:-1] + model if added else text
    return Description(text, [token["content"] for token in added], plain)


def find_difference(one: "PreTrainedTokenizerBase", other: "PreTrainedTokenizerBase") -> str | None:
    """How two tokenizers differ for a model, in words; None where they are the same."""
    probes = [*PROBES, *render_own(one)]
    if encode_plain(one, probes) != encode_plain(other, probes):
        return "the ids of a text"
    if encode_opening(one) != encode_opening(other):
        return "what it puts before a text"
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
        if getattr(one, name) != getattr(other, name):
            return f"{name}, {getattr(one, name)} against {getattr(other, name)}"
    return None


def render_own(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Texts with what a vocabulary has beside its merges: added words and special strings, alone and among other words."""
    added = describe_tokenizer(tokenizer, len(tokenizer)).added
    own = dict.fromkeys(["<|endoftext|>", *map(str, tokenizer.all_special_tokens), *added])
    return [shown.format(word) for word in own for shown in SHOWN_OWN]


def _list_special(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    added = tokenizer.added_tokens_decoder.values()
    return {token.content for token in added if token.special} | set(map(str, tokenizer.all_special_tokens))


@lru_cache(maxsize=8)
def _find_hidden(tokenizer: "PreTrainedTokenizerBase", size: int) -> "Tokenizer | None":
    """The backend with its special entries hidden from texts, None where none is found in a text anyway."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    special = _list_special(tokenizer)
    if backend is None or not special:
        return None
    probes = [shown.format(name) for name in sorted(special) for shown in SHOWN_SPECIAL]
    rows = tokenizer(probes, **PLAIN_TEXT)["input_ids"]
    vocabulary = tokenizer.get_vocab()
    found = {index for row in rows for index in row}
    reached = {name for name in special if vocabulary.get(name) in found}
    if not reached:
        return None
    from tokenizers import Tokenizer

    described = json.loads(backend.to_str())
    described["model"] = _hide_entries(described["model"], reached)
    for token in described["added_tokens"]:
        if token["content"] in reached:
            token["content"] = HIDDEN + token["content"]
    hidden = Tokenizer.from_str(json.dumps({**described, "truncation": None, "padding": None}))
    hidden.encode_special_tokens = True
    return hidden


def _hide_entries(model: dict[str, Any], names: set[str]) -> dict[str, Any]:
    def rename(entry: Any) -> Any:
        return HIDDEN + entry if entry in names else entry

    vocab = model["vocab"]
    if isinstance(vocab, list):
        return {**model, "vocab": [[rename(entry), score] for entry, score in vocab]}
    hidden = {**model, "vocab": {rename(entry): index for entry, index in vocab.items()}}
    if "unk_token" in model:
        hidden["unk_token"] = rename(model["unk_token"])
    if "merges" in model:
        hidden["merges"] = [merge for merge in model["merges"] if not _touches(merge, names)]
    return hidden


def _touches(merge: Any, names: set[str]) -> bool:
    one, other = merge.split(" ") if isinstance(merge, str) else merge
    return bool({one, other, one + other} & names)
