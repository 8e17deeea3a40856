"""Ids that end, begin and fill up a text: those of a model's config and generation config beside those of its tokenizer."""

from typing import Any

from lmtune.foreign import CONFIG, GENERATION


def mend_special_ids(model: Any, tokenizer: Any, moved: bool = False) -> list[str]:
    """Set the special ids of config and generation config to the tokenizer's; say what disagreed.

    Where several ids end a text and the tokenizer's is among them, they stay as they are, unless the vocabulary has moved
    and they mean something else. moved: the ids of the model were those of another vocabulary.
    """
    remarks = []
    for name in ("bos_token_id", "eos_token_id"):
        wanted = getattr(tokenizer, name)
        for holder, file in ((model.config, CONFIG), (model.generation_config, GENERATION)):
            found = getattr(holder, name, None)
            if isinstance(found, list) and wanted in found and not moved:
                continue
            if found is not None and found != wanted and (file == CONFIG or isinstance(found, list)):
                remarks.append(
                    f"{name} of the model's {file.removesuffix('.json').replace('_', ' ')} is {found}, of its tokenizer {wanted}; "
                    "the tokenizer's is used and saved"
                )
            setattr(holder, name, wanted)
    _mend_padding(model, tokenizer)
    return remarks


def _mend_padding(model: Any, tokenizer: Any) -> None:
    """A padding id that is also the separator's stays out of the model's config.

    Models that hand it to nn.Embedding would never learn the separator's row, and forward would warn of padding at every
    document's end. A model that computes with a padding id of its own, as RoBERTa's positions do, keeps that one.
    """
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    model.generation_config.pad_token_id = pad
    if not _computes_with_padding(model):
        model.config.pad_token_id = None if pad == end else pad
    embedding = model.get_input_embeddings()
    if getattr(embedding, "padding_idx", None) == end:
        embedding.padding_idx = None


def _computes_with_padding(model: Any) -> bool:
    """True where a part of the model other than an embedding holds the padding id, so that its config cannot do without."""
    import torch

    if getattr(model.config, "pad_token_id", None) is None:
        return False
    return any(
        isinstance(getattr(part, "padding_idx", None), int)
        for part in model.modules()
        if not isinstance(part, torch.nn.Embedding)
    )
