"""Layer groups of a decoder: its blocks in equal parts from the input upwards, then all other parameters."""

from typing import TYPE_CHECKING

from lmtune.errors import ConfigError
from lmtune.modeling.layers import find_blocks

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

Group = list[tuple[str, "Parameter"]]
"""Names and parameters."""


def build_groups(model: "PreTrainedModel", block_groups: int) -> list[Group]:
    """Named parameters in groups, the lowest blocks first; embeddings, head, final norm and the like are the top group.

    Tied weights count once. Raises ConfigError for a model without a list of blocks, and for more groups than blocks.
    """
    found = find_blocks(model)
    if found is None:
        raise ConfigError(
            "finetune=gradual needs a decoder made of a list of blocks as long as its config says it is deep; found none in "
            f"{type(model).__name__}. Use finetune=full."
        )
    prefix, count = found
    if block_groups > count:
        raise ConfigError(f"finetune.block_groups={block_groups}: the model has {count} blocks. Give at most {count}.")
    groups: list[Group] = [[] for _ in range(block_groups + 1)]
    for name, parameter in model.named_parameters():
        inside = name.startswith(prefix)
        number = int(name.removeprefix(prefix).split(".")[0]) * block_groups // count if inside else block_groups
        groups[number].append((name, parameter))
    return groups


def set_trainable(optimizer: "Optimizer", lowest_group: int) -> None:
    """Let parameters of the groups from `lowest_group` upwards learn, and no others.

    Frozen ones have no gradient, so the optimizer passes them over: no step, no weight decay, their state as it was.
    """
    for group in optimizer.param_groups:
        learns = group["layer_group"] >= lowest_group
        for parameter in group["params"]:
            parameter.requires_grad_(learns)
            if not learns:
                parameter.grad = None
