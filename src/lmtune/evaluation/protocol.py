"""The protocol of a number: what has to be known of it to compare it with another."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import xxhash

from lmtune import __version__
from lmtune.storage import Record
from lmtune.token_stream import TokenStream

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_protocol(stream: TokenStream, context: int, stride: int, dtype: str) -> Record:
    """The evaluation protocol; the caller adds split, limit, and the hashes of tokenizer and model.

    `text` is equal for equal text, in whatever vocabulary: numbers compare only where it is.
    """
    return {
        "windows": "disjoint" if stride == context else "strided",
        "context": context,
        "stride": stride,
        "separator": stream.separator,
        "first": stream.first,  # what the first token is predicted from: the BOS before each document, or a separator
        "detokenizer": None,  # text is scored unchanged
        "documents": len(stream.documents),
        "text": stream.identify(),
        "dtype": dtype,
        "versions": collect_versions(),
    }


def describe_limit(scored: TokenStream, whole: TokenStream, max_tokens: int) -> dict[str, int] | None:
    """Size of the text that the scored part was drawn from, None where all of it was scored."""
    if scored is whole or len(scored.ids) == len(whole.ids):
        return None
    return {"max_tokens": max_tokens, "of_tokens": len(whole.ids), "of_documents": len(whole.documents)}


def collect_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import torch
    import transformers

    return {
        "lmtune": __version__,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def hash_model(model: PreTrainedModel) -> str:
    """xxh3-128 of all weights by name, in the precision they have; a tied head counts once."""
    import torch

    digest = xxhash.xxh3_128()
    for name, weight in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
