"""Parts of a model: the model below an adapter, its embedding, and the blocks of a decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard, cast

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

COMPILES_SOFTMAX = "compiles_softmax"
"""Attribute of a model: True while its fused loss computes the softmax in one compiled kernel."""
RUNS_IN_STEP = "runs_in_step"
"""Attribute of a model: True if its weights are sharded over processes, which gather them in each pass, all together."""


def below_adapter(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model below a peft adapter; the model itself if there is none."""
    return cast("PreTrainedModel", model.get_base_model() if is_adapted(model) else model)


def is_adapted(model: PreTrainedModel | PeftModel) -> TypeGuard[PeftModel]:
    """True for a model that peft has put an adapter on."""
    return hasattr(model, "get_base_model")


def runs_in_step(model: PreTrainedModel | PeftModel) -> bool:
    """True if each process has to run the model equally often, since its weights are sharded over all of them."""
    return bool(getattr(below_adapter(model), RUNS_IN_STEP, False))


def embedding_weight(model: PreTrainedModel) -> torch.Tensor:
    """[entries, width]: a row for each id that the model takes, often more than the tokenizer has."""
    return cast("torch.Tensor", model.get_input_embeddings().weight)


def is_tied(model: PreTrainedModel) -> bool:
    """True where the head has no weight of its own: it is the embedding's, or there is no head."""
    head = model.get_output_embeddings()
    return head is None or getattr(head, "weight", None) is embedding_weight(model)


def tie_again(model: PreTrainedModel) -> None:
    """Make a head that holds a copy of the embedding's weight hold that weight itself; one with other values stays as it is."""
    import torch

    head, weight = model.get_output_embeddings(), embedding_weight(model)
    if head is not None and head.weight is not weight and torch.equal(head.weight, weight):
        head.weight = weight
        model.config.tie_word_embeddings = True


def count_rows(model: PreTrainedModel) -> int:
    """Rows of the input embedding, one for each id."""
    return int(embedding_weight(model).shape[0])


def find_blocks(model: PreTrainedModel) -> tuple[str, int] | None:
    """(prefix, count): where the blocks of a decoder are, such as ("transformer.h.", 12).

    They are the ModuleList with as many modules as config.num_hidden_layers.
    """
    from torch.nn import ModuleList

    depth = getattr(model.config, "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) == depth:
            return f"{name}.", len(module)
    return None
