"""Extending a byte-level BPE vocabulary by entries learned from text; old ids and old merges stay as they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from lmtune.errors import ModelError
from lmtune.modeling.continued_bpe import continue_merges
from lmtune.modeling.tokenizer import MILLIONS, complete, cut_runs
from lmtune.patience import saying
from lmtune.vocabulary import count_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

SETTINGS = (
    "model_max_length",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
)
"""Settings of a tokenizer besides its backend and its special tokens."""


class Extension(NamedTuple):
    """An extended vocabulary."""

    tokenizer: PreTrainedTokenizerBase
    added: int
    """Number of new entries, which have the last ids."""
    unused: dict[int, str]
    """Old entries for text, id to string, that no longer occur in the text once the new ones are used."""


def check_extensible(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError, which names the tokenizer as `name`, unless it is a byte-level BPE."""
    found = _find_obstacle(getattr(tokenizer, "backend_tokenizer", None))
    if found is not None:
        raise ModelError(
            f"{name}: extend= continues a byte-level BPE, such as those of GPT-2, Llama 3 and Qwen, found {found}. Leave extend= "
            "out to learn a vocabulary of its own."
        )


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], entries: int, min_frequency: int = 2
) -> Extension:
    """The vocabulary with up to `entries` new ones, by merges learned from texts and appended to its own.

    Old merges are unchanged and come first, so new tokens only join old ones: no text gets new token boundaries. Fewer entries
    if no pair occurs min_frequency times.
    """
    backend = tokenizer.backend_tokenizer
    names = {index: token for token, index in tokenizer.get_vocab().items()}
    with saying("extending a vocabulary", unit=MILLIONS) as work:
        words = _cut_words(backend, _count_words(backend, cut_runs(texts, work)))
        first = count_ids(tokenizer)
        learned = continue_merges(words, names, first, entries, min_frequency)
    special = set(tokenizer.all_special_ids) | tokenizer.added_tokens_decoder.keys()
    unused = {index: token for index, token in names.items() if index not in learned.counts and index not in special}
    extended = _wrap(tokenizer, _add_merges(backend, learned.merges, names, first))
    return Extension(extended, len(learned.merges), dict(sorted(unused.items())))


def _find_obstacle(backend: Tokenizer | None) -> str | None:
    if backend is None:
        return "a tokenizer that is written in Python"
    kind = type(backend.model).__name__
    if kind != "BPE":
        return f"a {kind} vocabulary"
    if "ByteLevel" not in str(backend.decoder) or backend.pre_tokenizer is None:
        return "a BPE over characters"
    if backend.model.continuing_subword_prefix or backend.model.end_of_word_suffix or backend.model.byte_fallback:
        return "a BPE that marks parts of words, or falls back to bytes"
    return None


def _count_words(backend: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """Counts of words as the pre-tokenizer splits them, with bytes written as their letters."""
    normalize = backend.normalizer.normalize_str if backend.normalizer else str
    return Counter(word for text in texts for word, _ in backend.pre_tokenizer.pre_tokenize_str(normalize(text)))


def _cut_words(backend: Tokenizer, words: Counter[str]) -> Counter[tuple[int, ...]]:
    """The ids of each word to its count."""
    cut: Counter[tuple[int, ...]] = Counter()
    for word, seen in words.items():
        cut[tuple(piece.id for piece in backend.model.tokenize(word))] += seen
    return cut


def _add_merges(backend: Tokenizer, merges: list[tuple[int, int]], names: dict[int, str], first: int) -> Tokenizer:
    """A copy of the backend with merges after its own.

    Added tokens become entries of the model: once the model has more entries, the tokenizers library would give those whose
    ids lie beyond the model's, as in Llama 3, other ids.
    """
    from tokenizers import Tokenizer

    described: dict[str, Any] = json.loads(backend.to_str())
    model, names = described["model"], names.copy()
    for token in described["added_tokens"]:
        model["vocab"].setdefault(token["content"], token["id"])
    for made, (left, right) in enumerate(merges, first):
        names[made] = names[left] + names[right]
        model["vocab"][names[made]] = made
        model["merges"].append([names[left], names[right]])
    return Tokenizer.from_str(json.dumps(described))


def _wrap(old: PreTrainedTokenizerBase, backend: Tokenizer) -> PreTrainedTokenizerBase:
    """The backend as a transformers tokenizer, with special tokens, chat template and settings of the old tokenizer."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=old.chat_template,
        extra_special_tokens=list(old.extra_special_tokens),
        **{name: getattr(old, name) for name in SETTINGS},
        **old.special_tokens_map,
    )
    return complete(tokenizer)
