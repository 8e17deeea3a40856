"""Saving a tokenizer and reading it back as transformers will: one that reads back differently is corrected or refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmtune import foreign
from lmtune.errors import ModelError
from lmtune.modeling.tokenizer import complete
from lmtune.patience import saying
from lmtune.storage import naming_disk_errors
from lmtune.vocabulary import find_difference, hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_CODE = {"AutoTokenizer": [None, None]}
"""An auto_map for tokenizer_config.json that names no code, and makes transformers read tokenizer.json unchanged.

For some model types (qwen2) transformers 5 otherwise builds the tokenizer of that type around the saved vocabulary, which splits
and normalises texts in its own way, whatever tokenizer_class says.
"""


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer beside the config of its model, so that it reads back as it is; raise ModelError if it does not.

    Settings needed for that stay in the tokenizer, so that Trainer's saves beside the same model contain it too.
    """
    with saying("saving the tokenizer and reading it back"):
        _save(tokenizer, folder)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the files of a tokenizer. Raises OSError if the disk does not take them."""
    with naming_disk_errors(folder):
        tokenizer.save_pretrained(folder)


def _save(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    if tokenizer.init_kwargs.get("auto_map") == NO_CODE:
        del tokenizer.init_kwargs["auto_map"]  # from a save beside a model of another type; this type may not accept it
    write_tokenizer(tokenizer, folder)
    read = _load_back(tokenizer, folder)
    difference = find_difference(tokenizer, read)
    if difference is None and hash_tokenizer(read) == hash_tokenizer(tokenizer):
        return
    if not _save_without_code(tokenizer, folder) and difference is not None:
        raise ModelError(
            f"The tokenizer ({type(tokenizer).__name__}) would read back from beside this model as another "
            f"({type(read).__name__}): they differ in {difference}. Expected one that transformers reads as it was saved, since "
            "the numbers of the saved model would be of other tokens. Name another with model.tokenizer=, or take another model."
        )


def _save_without_code(tokenizer: PreTrainedTokenizerBase, folder: Path) -> bool:
    """Save with NO_CODE and return True if that reads back as it is; otherwise save as before."""
    before = tokenizer.init_kwargs.copy()
    tokenizer.init_kwargs["auto_map"] = NO_CODE
    write_tokenizer(tokenizer, folder)
    try:
        mended = find_difference(tokenizer, _load_back(tokenizer, folder)) is None
    except (
        Exception
    ):  # with most model types transformers fails on a map that names nothing, each version in its own way
        mended = False
    if not mended:
        tokenizer.init_kwargs = before
        write_tokenizer(tokenizer, folder)
    return mended


def _load_back(tokenizer: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer as lmtune reads it: with a padding token, unless the saved one has none."""
    from transformers import AutoTokenizer

    with foreign.sealed():
        read = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return read if tokenizer.pad_token_id is None else complete(read)
