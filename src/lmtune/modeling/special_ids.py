"""BOS, EOS and padding ids of a model's config and generation config, brought in line with those of its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtune.foreign import CONFIG, GENERATION
from lmtune.modeling.padding import settle_padding

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def mend_special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, moved: bool = False) -> list[str]:
    """Set the special ids of config and generation config to the tokenizer's; return remarks on what disagreed.

    If several ids end a text and the tokenizer's is among them, they stay as they are, unless the vocabulary has changed
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
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return remarks + settle_padding(model, tokenizer)
