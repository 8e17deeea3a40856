"""Embeddings carried over to another vocabulary.

Rows of tokens that are in both vocabularies, as exact byte-level strings, are copied. The others start as

    mean    the mean of the old rows, as in GPorTuguese-2 (Guillou 2020)
    fvt     the mean of the old rows of the pieces into which the old vocabulary splits the token: Fast Vocabulary Transfer
            (Gee, Zugarini, Rigutini, Torroni 2022, arXiv:2402.09977)
    omp     a weighted sum of copied rows, with the weights by which orthogonal matching pursuit rebuilds the token's row in a
            donor, a model that has the new vocabulary, from its rows of the same tokens (Goddard, Fernandes Neto 2025,
            arXiv:2506.06607)

All other weights stay as they are. An untied head is carried over in the same way, from its own rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lmtune.config import Transplant
from lmtune.errors import ModelError
from lmtune.modeling.layers import embedding_weight, is_tied
from lmtune.modeling.pursuit import pursue
from lmtune.patience import saying

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


ATOMS = 64
"""Rows in a sum, at most, as in the paper on OMP."""
WIDTHS = 8
"""Least ratio of a row's width to the number of rows in a sum: a sum of as many rows as the width rebuilds the donor's
row exactly, and means nothing for another model."""


class Sums(NamedTuple):
    """New rows that start as weighted sums of old ones."""

    rows: torch.Tensor
    """[rows] int64: new rows."""
    terms: torch.Tensor
    """[rows, terms] int64: old rows."""
    weights: torch.Tensor
    """[rows, terms] float64."""


@dataclass(frozen=True, slots=True)
class EmbeddingTransfer:
    """Where each row of the new embedding comes from."""

    method: Transplant
    sources: np.ndarray
    """[new rows] int64: the old row that is copied, -1 if there is none."""
    pieces: dict[int, list[int]]
    """For `fvt`: the old rows whose mean a new row starts as."""
    old_entries: int
    """Entries of the old vocabulary; rows of the old embedding beyond them belong to no token."""
    same_id: int
    """Tokens that keep their id."""
    sums: Sums | None = None
    """For `omp`: the sums of the embedding."""
    head_sums: Sums | None = None
    """For `omp`: the sums of an untied head."""

    def find_places(self) -> dict[int, int]:
        """Old id to new id, of each token that both vocabularies have."""
        return {int(old): new for new, old in reversed([*enumerate(self.sources)]) if old >= 0}

    def report(self) -> dict[str, Any]:
        """Counts of rows: copied, newly initialised, and left behind; the content of transplant.json."""
        shared = self.sources >= 0
        return {
            "method": self.method.value,
            "old_entries": self.old_entries,
            "new_entries": len(self.sources),
            "shared": int(shared.sum()),
            "same_id": self.same_id,
            "initialised": int((~shared).sum()),
            "lost": self.old_entries - len(np.unique(self.sources[shared])),
        }

    def render(self) -> str:
        """The report in a sentence."""
        counts = self.report()
        return (
            f"vocabulary moved ({counts['method']}): of {counts['new_entries']:,} rows {counts['shared']:,} are copied and "
            f"{counts['initialised']:,} begin anew; {counts['lost']:,} of {counts['old_entries']:,} old ones are left behind"
        )


def plan_transfer(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase, method: Transplant) -> EmbeddingTransfer:
    """Where the rows for the vocabulary of `new` come from, given those for the vocabulary of `old`.

    Raises ModelError unless both are byte-level: in other vocabularies, equal strings need not stand for the same bytes.
    """
    for tokenizer in (old, new):
        _check_byte_level(tokenizer)
    theirs, ours = old.get_vocab(), new.get_vocab()
    sources = np.full(max(ours.values()) + 1, -1, np.int64)
    for token, index in ours.items():
        sources[index] = theirs.get(token, -1)
    if sources[new.eos_token_id] < 0:
        sources[new.eos_token_id] = old.eos_token_id  # it ends a text in both, whatever its name
    pieces = _split_tokens(old, ours, sources) if method is Transplant.fvt else {}
    same_id = sum(theirs.get(token) == index for token, index in ours.items())
    return EmbeddingTransfer(method, sources, pieces, max(theirs.values()) + 1, same_id)


def sum_as(donor: PreTrainedModel, transfer: EmbeddingTransfer) -> EmbeddingTransfer:
    """The transfer for `omp`: new rows start as the sums that rebuild them in a model with the new vocabulary.

    Raises ModelError if the donor has fewer rows than the new vocabulary has ids.
    """
    rows, head = embedding_weight(donor).detach(), donor.get_output_embeddings()
    if len(rows) < len(transfer.sources):
        raise ModelError(
            f"model.transplant=omp: the model of model.tokenizer= has {len(rows):,} rows, expected one for each of the "
            f"{len(transfer.sources):,} ids of its vocabulary. Name another, or give model.transplant=fvt."
        )
    with saying("rebuilding the rows of new tokens from shared ones"):
        sums = find_sums(rows, transfer.sources)
        return replace(
            transfer, sums=sums, head_sums=sums if is_tied(donor) else find_sums(head.weight.detach(), transfer.sources)
        )


def find_sums(donor: torch.Tensor, sources: np.ndarray) -> Sums:
    """The sums that rebuild rows without a source from those with one. donor: [at least new rows, width]; sources: [new rows]."""
    import torch

    old = torch.from_numpy(sources)
    new, shared = (old < 0).nonzero()[:, 0], (old >= 0).nonzero()[:, 0]
    count = min(ATOMS, max(1, donor.shape[1] // WIDTHS), len(shared))
    places, weights = pursue(donor[new], donor[shared], count)
    return Sums(new, old[shared[places]], weights)


def transplant(model: PreTrainedModel, transfer: EmbeddingTransfer) -> None:
    """Replace the embedding and the head of `model`, in place; tied weights stay tied, untied ones untied."""
    import torch

    head = model.get_output_embeddings()
    tied = is_tied(model)
    rows = build_rows(embedding_weight(model).detach(), transfer, transfer.sums)
    head_rows = None if tied else build_rows(head.weight.detach(), transfer, transfer.head_sums)
    bias = getattr(head, "bias", None)
    biases = None if bias is None else build_rows(bias.detach()[:, None], transfer, transfer.head_sums)[:, 0]
    model.resize_token_embeddings(len(transfer.sources), mean_resizing=False)
    with torch.no_grad():
        embedding_weight(model).copy_(rows)
        if head_rows is not None:
            model.get_output_embeddings().weight.copy_(head_rows)
        if biases is not None:
            model.get_output_embeddings().bias.copy_(biases)


def build_rows(old: torch.Tensor, transfer: EmbeddingTransfer, sums: Sums | None = None) -> torch.Tensor:
    """The new rows, [new rows, width], from the old ones, [old rows, width]; sums in float64."""
    import torch

    known = old[: transfer.old_entries].double()
    rows = known.mean(dim=0).repeat(len(transfer.sources), 1)
    if transfer.pieces:
        lengths = torch.tensor([0, *(len(ids) for ids in transfer.pieces.values())])
        ids = torch.tensor([index for ids in transfer.pieces.values() for index in ids])
        bags = torch.nn.functional.embedding_bag(ids, known, lengths.cumsum(0)[:-1], mode="mean")
        rows[torch.tensor(list(transfer.pieces))] = bags
    if sums is not None:
        rows[sums.rows] = 0
        for term, weight in zip(sums.terms.T, sums.weights.T, strict=True):
            rows[sums.rows] += weight[:, None] * known[term]
    sources = torch.from_numpy(transfer.sources)
    shared = sources >= 0
    rows = rows.to(old.dtype)
    rows[shared] = old[sources[shared]]
    return rows


def _split_tokens(old: PreTrainedTokenizerBase, ours: dict[str, int], sources: np.ndarray) -> dict[int, list[int]]:
    """New row to the old ids of its token's pieces, if the old vocabulary has pieces for it."""
    model = old.backend_tokenizer.model
    new = [(token, index) for token, index in ours.items() if sources[index] < 0]
    cut = {index: [piece.id for piece in model.tokenize(token)] for token, index in new}
    return {index: ids for index, ids in cut.items() if ids}


def _check_byte_level(tokenizer: PreTrainedTokenizerBase) -> None:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or "ByteLevel" not in str(backend.decoder):
        raise ModelError(
            f"model.transplant moves between byte-level vocabularies, such as those of GPT-2 and Llama 3; "
            f"{tokenizer.name_or_path or type(tokenizer).__name__} is none. Choose another model or model.tokenizer=."
        )
