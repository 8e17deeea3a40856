"""How many tokens a model takes at once: by its config, then by trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtune.config import ModelConfig
from lmtune.errors import ConfigError
from lmtune.modeling.behaviour import choose_ids, trying
from lmtune.modeling.layers import find_blocks
from lmtune.modeling.model_config import plan_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

MAX_CONTEXT = 1024
"""Longest default window and block; longer ones have to be set by their keys."""
NAMES = ("max_position_embeddings", "max_seq_len", "max_target_positions")
"""Names of the number of positions in configs; -1 and 0 mean no limit."""
BEHIND_PADDING = frozenset(
    ["camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"]
)
"""Model types whose positions start after the padding id: of the 514 positions of RoBERTa, 512 can be used."""


class _Enough(Exception):  # noqa: N818  no error: the rest of the model would say the same
    """The first block has been passed."""


def positions_of(model_config: PreTrainedConfig) -> int | None:
    """Positions that a model has by its config; None for one without a limit."""
    for name in NAMES:
        value = getattr(model_config, name, None)
        if isinstance(value, int) and value > 0:
            padding = getattr(model_config, "pad_token_id", None)
            return value - (padding + 1 if model_config.model_type in BEHIND_PADDING and padding is not None else 0)
    return None


def context_of(model_config: PreTrainedConfig) -> int:
    """Positions of the model, at most MAX_CONTEXT."""
    return min(MAX_CONTEXT, positions_of(model_config) or MAX_CONTEXT)


def check_length(key: str, value: int | None, model_config: PreTrainedConfig) -> None:
    """Raise ConfigError if the model has fewer positions than `value` by its config."""
    positions = positions_of(model_config)
    if value is not None and positions and value > positions:
        raise _refuse(key, value, positions)


def resolve_length(key: str, value: int | None, model: PreTrainedModel, training: bool = False) -> int:
    """`value`, or the default context as far as the model takes it; raise ConfigError if it does not take `value`.

    training: rows are for training, for which some models (Reformer) take only one length.
    """
    check_length(key, value, model.config)
    wanted = value or context_of(model.config)
    if takes(model, wanted, training):
        return wanted
    if training and takes(model, wanted):
        raise ConfigError(
            f"{key}={wanted}: {type(model).__name__} takes rows of so many tokens, and does not learn from them. Give the length "
            "that its config asks for in training, or take another model."
        )
    most = _measure_longest(model, wanted)
    if value is not None or most < 2:
        raise _refuse(key, wanted, most)
    return most


def takes(model: PreTrainedModel, tokens: int, training: bool = False) -> bool:
    """True if a row of `tokens` tokens passes the embedding and the first block. training: in training mode."""
    import torch

    found = find_blocks(model)
    first = None if found is None else model.get_submodule(f"{found[0]}0")
    hook = None if first is None else first.register_forward_hook(_stop)
    ids = choose_ids(model, 1).expand(1, tokens)
    try:
        with trying(model):
            model.train(training)
            getattr(model, "base_model", model)(input_ids=ids, use_cache=False)
    except _Enough:
        return True
    except (IndexError, RuntimeError, ValueError, AssertionError) as fault:
        if isinstance(fault, torch.OutOfMemoryError) or "can't allocate memory" in str(fault):
            raise
        return False
    finally:
        if hook is not None:
            hook.remove()
    return True


def _stop(*_: object) -> None:
    raise _Enough


def _measure_longest(model: PreTrainedModel, too_many: int) -> int:
    """Length of the longest row that the model takes, below `too_many`; 0 for none."""
    least = 0
    while too_many - least > 1:
        middle = (least + too_many) // 2
        least, too_many = (middle, too_many) if takes(model, middle) else (least, middle)
    return least


def _refuse(key: str, value: int, positions: int) -> ConfigError:
    return ConfigError(f"{key}={value}: the model has {positions} positions. Give at most {positions}.")


def resolve_context(config: ModelConfig) -> int:
    """Positions that the model would have by its config, at most MAX_CONTEXT, without loading its weights."""
    return context_of(plan_config(config))
