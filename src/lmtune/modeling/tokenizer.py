"""Tokenizers: the model's own, another, or one learned from the training text."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lmtune import foreign
from lmtune.errors import ModelError
from lmtune.gauges import Unit
from lmtune.modeling import adapters
from lmtune.paths import show
from lmtune.patience import Work, saying
from lmtune.vocabulary import count_entries, encode_plain

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

END_OF_TEXT = "<|endoftext|>"
MILLIONS = Unit("million characters", 1e6, 1)
LEARN = "learn"
LEARNING_CHARS = 32_000_000
"""Characters that model.tokenizer=learn reads; frequencies settle long before."""
MEASURED_CHARS = 5_000_000
"""Characters that a vocabulary is measured on."""
LEAST_ENTRIES = 2
"""Entries for text that a loaded vocabulary has at least: without a file, transformers makes one of special tokens, or a blank."""
MOST_RUN = 500
"""Characters of a word that a vocabulary is learned from; those of languages are shorter."""
LONG_RUN = re.compile(
    "|".join(
        rf"{begin}{kind}{{{MOST_RUN + 1},}}"
        for begin, kind in (
            (r"(?<![^\W_])", r"[^\W_]"),
            (r"(?<![^\w\s])(?<!_)", r"(?:[^\w\s]|_)"),
            (r"(?<!\s)", r"\s"),
        )
    )
)
"""Long runs of letters and digits, of other signs, or of blanks: each is one word to a byte-level vocabulary."""
SHOWN_FILES = 5
"""Files of a folder without a tokenizer that a message lists."""
TOKENIZER_CLASS = re.compile(r"\w*(Tokenizer|TokenizerFast|Backend)")
"""How the tokenizers of transformers are called."""
REMEDIES = {
    "ckpt": "Put the files of its tokenizer beside the model, as save_pretrained of a tokenizer writes them.",
    "model.path": "Name another with model.tokenizer=.",
    "model.tokenizer": "Name another folder or Hub id.",
}
"""Remedies by the key that named what holds no usable tokenizer."""
BROKEN = "\ufffd"
"""What bytes that are no whole character decode to."""


def load_tokenizer(
    path: str, revision: str | None = None, separates: bool = True, key: str = "ckpt"
) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the Hub, ready for documents that end in a separator. That of its base for a bare adapter.

    key: what named it, for messages. Raises ModelError if it does not load, or has no end-of-text token though `separates` asks
    for one.
    """
    tokenizer = _load_complete(foreign.Source(key, path, revision))
    if separates and tokenizer.eos_token_id is None:
        raise ModelError(
            f"{key}={show(path)}: its tokenizer has no end-of-text token, which has to stand between documents. "
            f"Set eos_token in its {foreign.TOKENIZER}. {REMEDIES[key]}"
        )
    return complete(tokenizer)


def _load_complete(source: foreign.Source) -> PreTrainedTokenizerBase:
    foreign.check_docstrings()
    settings = foreign.load_settings(source)
    if foreign.ADAPTER in settings and foreign.TOKENIZER not in settings and not _has_vocabulary(source):
        _, base = adapters.open_source(source)
        source, settings = (source, settings) if base is None else (base, adapters.open_base(base))
    foreign.check_settings(source, settings)
    tokenizer = _load(source, settings)
    if count_entries(tokenizer) < LEAST_ENTRIES:
        files = ", ".join(sorted(set(tokenizer.vocab_files_names.values())))
        raise ModelError(
            f"{source}: its tokenizer is empty ({len(tokenizer):,} entries, none for text); expected vocabulary files beside the "
            f"model ({files}). {REMEDIES[source.key]}"
        )
    return tokenizer


def _load(source: foreign.Source, settings: foreign.Settings) -> PreTrainedTokenizerBase:
    foreign.import_transformers()
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    _check_files(source, settings)
    _check_class(source, settings)
    remedy = REMEDIES[source.key]
    with foreign.explained(source, settings, "a tokenizer", remedy):
        tokenizer = AutoTokenizer.from_pretrained(source.path, revision=source.revision, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"{source}: expected a tokenizer, found a {type(tokenizer).__name__}. {remedy}")
    return tokenizer


def _check_class(source: foreign.Source, settings: foreign.Settings) -> None:
    """Raise ModelError where something of transformers is to be loaded as a tokenizer that is none, with all that it would load."""
    import transformers

    for file in (foreign.TOKENIZER, foreign.CONFIG):
        name = settings.get(file, {}).get("tokenizer_class")
        if isinstance(name, str) and not TOKENIZER_CLASS.fullmatch(name) and hasattr(transformers, name):
            raise ModelError(
                f"{source}: its {file} has the tokenizer_class {name}, expected a tokenizer of transformers. {REMEDIES[source.key]}"
            )


def _check_files(source: foreign.Source, settings: foreign.Settings) -> None:
    """Raise ModelError for a folder whose files do not say what kind of vocabulary they hold."""
    if not source.is_folder or settings or _has_vocabulary(source):
        return
    names = [entry.name for entry in source.given.list_folder(Path(source.path))]
    found = ", ".join(map(show, names[:SHOWN_FILES])) or "an empty folder"
    if {"vocab.json", "merges.txt"} <= set(names):
        raise ModelError(
            f"{source}: expected a {foreign.TOKENIZER} that says what kind of vocabulary vocab.json and merges.txt hold, found "
            'none. For one of GPT-2\'s kind write {"tokenizer_class": "GPT2Tokenizer"} into it.'
        )
    raise ModelError(
        f"{source}: expected a tokenizer (tokenizer.json, or vocabulary files with a {foreign.TOKENIZER}), found {found}. "
        f"{REMEDIES[source.key]}"
    )


def _has_vocabulary(source: foreign.Source) -> bool:
    return foreign.find_file(source, "tokenizer.json") is not None


def learn_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    max_length: int,
    min_frequency: int = 2,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    max_chars: int | None = LEARNING_CHARS,
) -> PreTrainedTokenizerBase:
    """A byte-level BPE as GPT-2's (Radford et al. 2019; Sennrich et al. 2016, arXiv:1508.07909) learned from texts.

    No text is unknown to it: it falls back to bytes. Special tokens get the first ids; the first of them ends a text. Words
    of more than MOST_RUN characters are learned from in pieces, which is said: the time that a word takes grows with the square
    of its length.
    max_chars: read no more of the texts than this; None for all of them.
    """
    from tokenizers import ByteLevelBPETokenizer

    learner = ByteLevelBPETokenizer()
    with saying("learning a vocabulary", unit=MILLIONS) as work:
        learner.train_from_iterator(
            cut_runs(texts if max_chars is None else _head(texts, max_chars), work),
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=list(special_tokens),
            show_progress=False,
        )
    return wrap_learned(learner._tokenizer, max_length, special_tokens[0])


def wrap_learned(learned: Tokenizer, max_length: int, end: str = END_OF_TEXT) -> PreTrainedTokenizerBase:
    """A learned vocabulary as transformers has one; `end` ends a text. max_length: tokens."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learned,
        bos_token=end,
        eos_token=end,
        unk_token=end,
        model_max_length=max_length,
    )
    return complete(tokenizer)


class TokenizerStats(NamedTuple):
    """How a vocabulary fits a text."""

    tokens_per_word: float
    """Tokens for each white-space word."""
    bytes_per_token: float
    """UTF-8 bytes for each token."""
    byte_fallback: float
    """Share of tokens that are parts of a character; nothing is unknown to a byte-level vocabulary."""


def measure_fit(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> TokenizerStats:
    """Counts over the first MEASURED_CHARS characters of texts, special tokens typed in them read as text."""
    counts: Counter[int] = Counter()
    words = size = 0
    with saying("measuring how a vocabulary fits the text"):
        for text in _head(texts, MEASURED_CHARS):
            counts.update(encode_plain(tokenizer, [text])[0])
            words += len(text.split())
            size += len(text.encode())
    total = sum(counts.values())
    decoded = tokenizer.batch_decode([[index] for index in counts])
    parts = sum(count for count, text in zip(counts.values(), decoded, strict=True) if BROKEN in text)
    return TokenizerStats(total / max(1, words), size / max(1, total), parts / max(1, total))


def complete(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give it a padding token where it has none: batched generation needs one, and no loss ever sees it."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_same_vocabulary(given: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError unless each string has the id that the checkpoint's embeddings were learned for."""
    ours, theirs = given.get_vocab(), own.get_vocab()
    same = sum(theirs.get(token) == index for token, index in ours.items())
    if same < len(ours):
        raise ModelError(
            f"model.tokenizer={name} is not the vocabulary that these weights were trained with: of its {len(ours):,} entries "
            f"{len(ours.keys() & theirs.keys()):,} are known to the checkpoint and {same:,} have the same id. "
            "Move the embeddings to it with model.transplant=mean (or fvt), leave model.tokenizer out, or train from scratch "
            "with model.init=scratch."
        )


def cut_runs(texts: Iterable[str], work: Work) -> Iterator[str]:
    """The texts to learn from, in pieces where they have long runs; `work` is told how much has come."""
    cut = 0
    for text in texts:
        work.advance(len(text))
        begin = 0
        for run in LONG_RUN.finditer(text):
            yield text[begin : run.start()]
            yield from (run.group()[place : place + MOST_RUN] for place in range(0, len(run.group()), MOST_RUN))
            begin, cut = run.end(), cut + 1
        yield text[begin:] if begin else text
    work.doing, work.count = "learning a vocabulary: merging pairs", 0
    if cut:
        logger.info(
            "%s words of more than %s characters are learned from in pieces: whole, they would take hours",
            f"{cut:,}",
            f"{MOST_RUN:,}",
        )


def _head(texts: Iterable[str], limit: int) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size >= limit:
            return
