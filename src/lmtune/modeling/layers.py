"""Where the blocks of a decoder are."""

from typing import Any


def find_blocks(model: Any) -> tuple[str, int] | None:
    """(prefix, count): where the blocks of a decoder are, such as ("transformer.h.", 12).

    They are the list of modules that is as long as the config says the model is deep.
    """
    from torch.nn import ModuleList

    depth = getattr(model.config, "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, ModuleList) and len(module) == depth:
            return f"{name}.", len(module)
    return None
