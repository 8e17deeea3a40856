"""Tokenizers: the model's own, another, or one learned from the training text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from lmtune.errors import ModelError, first_line
from lmtune.streams import PLAIN_TEXT

END_OF_TEXT = "<|endoftext|>"
LEARN = "learn"
LEARNING_CHARS = 32_000_000
"""Characters that model.tokenizer=learn reads; frequencies settle long before."""
MEASURED_CHARS = 5_000_000
"""Characters that a vocabulary is measured on."""
BROKEN = "\ufffd"
"""What bytes that are no whole character decode to."""


def load_tokenizer(path: str, revision: str | None = None, separates: bool = True) -> Any:
    """A tokenizer from a folder or the Hub, ready for documents that end in a separator.

    Raises ModelError if it does not load, or has no end-of-text token though `separates` asks for one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except Exception as error:  # whatever json, tokenizers and the Hub client raise means: it does not load
        raise ModelError(
            f"{path}: its tokenizer does not load: {first_line(error)}. Name another with model.tokenizer=."
        ) from error
    if len(tokenizer) == 0:
        raise ModelError(
            f"{path}: its tokenizer is empty; expected vocabulary files beside the model. Name another with model.tokenizer=."
        )
    if separates and tokenizer.eos_token_id is None:
        raise ModelError(
            f"{path}: its tokenizer has no end-of-text token, which has to stand between documents. "
            "Set eos_token in its tokenizer_config.json, or name another with model.tokenizer=."
        )
    return complete(tokenizer)


def learn_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    max_length: int,
    min_frequency: int = 2,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
    max_chars: int | None = LEARNING_CHARS,
) -> Any:
    """A byte-level BPE as GPT-2's (Radford et al. 2019; Sennrich et al. 2016, arXiv:1508.07909) learned from texts.

    No text is unknown to it: it falls back to bytes. Special tokens get the first ids; the first of them ends a text.
    max_chars: read no more of the texts than this; None for all of them.
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(
        texts if max_chars is None else _head(texts, max_chars),
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens),
        show_progress=False,
    )
    end = special_tokens[0]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer,
        bos_token=end,
        eos_token=end,
        unk_token=end,
        model_max_length=max_length,
    )
    return complete(tokenizer)


class Fit(NamedTuple):
    """How a vocabulary fits a text."""

    tokens_per_word: float
    """Tokens for each white-space word."""
    bytes_per_token: float
    """UTF-8 bytes for each token."""
    byte_fallback: float
    """Share of tokens that are parts of a character; nothing is unknown to a byte-level vocabulary."""


def measure_fit(tokenizer: Any, texts: Iterable[str]) -> Fit:
    """Counts over the first MEASURED_CHARS characters of texts, special tokens typed in them read as text."""
    counts: Counter[int] = Counter()
    words = size = 0
    for text in _head(texts, MEASURED_CHARS):
        counts.update(tokenizer(text, **PLAIN_TEXT)["input_ids"])
        words += len(text.split())
        size += len(text.encode())
    total = sum(counts.values())
    decoded = tokenizer.batch_decode([[index] for index in counts])
    parts = sum(count for count, text in zip(counts.values(), decoded, strict=True) if BROKEN in text)
    return Fit(total / max(1, words), size / max(1, total), parts / max(1, total))


def complete(tokenizer: Any) -> Any:
    """Give it a padding token where it has none: batched generation needs one, and no loss ever sees it."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_same_vocabulary(given: Any, own: Any, name: str) -> None:
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


def _head(texts: Iterable[str], limit: int) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size >= limit:
            return
