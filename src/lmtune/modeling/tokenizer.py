"""Tokenizers: the model's own, another, or one learned from the training text."""

from collections.abc import Iterable, Iterator
from typing import Any

from lmtune.errors import ModelError

END_OF_TEXT = "<|endoftext|>"
LEARN = "learn"
LEARNING_CHARS = 32_000_000
"""Characters that a vocabulary is learned from; frequencies settle long before."""


def load_tokenizer(path: str, revision: str | None = None, separates: bool = True) -> Any:
    """A tokenizer from a folder or the Hub, ready for documents that end in a separator.

    Raises ModelError if it does not load, or has no end-of-text token though `separates` asks for one.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except Exception as error:  # whatever json, tokenizers and the Hub client raise means: it does not load
        raise ModelError(
            f"{path}: its tokenizer does not load: {_first_line(error)}. Name another with model.tokenizer=."
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


def learn_tokenizer(texts: Iterable[str], vocab_size: int, max_length: int) -> Any:
    """A byte-level BPE as GPT-2's (Radford et al. 2019; Sennrich et al. 2016, arXiv:1508.07909) learned from texts.

    No text is unknown to it: it falls back to bytes. The end-of-text token is id 0.
    """
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(
        _head(texts, LEARNING_CHARS),
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        show_progress=False,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        model_max_length=max_length,
    )
    return complete(tokenizer)


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
            "Leave model.tokenizer out, or train from scratch with model.init=scratch."
        )


def _head(texts: Iterable[str], limit: int) -> Iterator[str]:
    size = 0
    for text in texts:
        yield text
        size += len(text)
        if size >= limit:
            return


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
