"""GGUF's names for the sizes and the weights of an architecture, and the order of their rows.

Only architectures are listed whose logits llama.cpp was shown to reproduce (tests/integration/test_llama_cpp.py), with the sizes
that GGUF has a key for. Other settings of a config are checked against the values with which llama.cpp computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmtune.errors import ModelError
from lmtune.foreign import CONFIG

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

Sizes = dict[str, int | float]
"""Values by key of a GGUF file, the key without the name of its architecture."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture of llama.cpp, and how a model type of transformers maps to it."""

    name: str
    sizes: Mapping[str, str]
    """GGUF's key to the key of the model's config."""
    settings: Mapping[str, tuple[object, ...]]
    """Keys of the config that have no key in GGUF, and the values with which llama.cpp computes."""
    transposed: tuple[str, ...] = ()
    """Suffixes of the names of weights that transformers stores as [inputs, outputs]."""
    rotated: Mapping[str, str] = field(default_factory=dict)
    """Suffixes of weights whose rows llama.cpp stores in pairs that are rotated together, to the config key of their heads."""


GPT2 = Architecture(
    name="gpt2",
    sizes={
        "context_length": "n_positions",
        "embedding_length": "n_embd",
        "block_count": "n_layer",
        "feed_forward_length": "n_inner",
        "attention.head_count": "n_head",
        "attention.layer_norm_epsilon": "layer_norm_epsilon",
    },
    settings={
        "activation_function": ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh"),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    transposed=("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"),
)

ROTARY_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "rope.dimension_count": "head_dim",
    "rope.freq_base": "rope_theta",
}
ROTARY_SETTINGS = {"hidden_act": ("silu", "swish"), "rope_type": ("default",)}
ROTATED = {"self_attn.q_proj.weight": "num_attention_heads", "self_attn.k_proj.weight": "num_key_value_heads"}

ARCHITECTURES = {
    "gpt2": GPT2,
    "llama": Architecture(
        "llama",
        ROTARY_SIZES,
        {**ROTARY_SETTINGS, "attention_bias": (False,), "mlp_bias": (False,)},
        rotated=ROTATED,
    ),
    "mistral": Architecture("llama", ROTARY_SIZES, {**ROTARY_SETTINGS, "sliding_window": (None,)}, rotated=ROTATED),
    "qwen2": Architecture("qwen2", ROTARY_SIZES, {**ROTARY_SETTINGS, "use_sliding_window": (False,)}),
}
"""Architectures by transformers' model type."""


def find_architecture(config: PreTrainedConfig, path: str) -> Architecture:
    """The architecture for a model; raise ModelError for a type or a setting that llama.cpp would compute differently.

    path: the model's, for messages.
    """
    architecture = ARCHITECTURES.get(config.model_type)
    if architecture is None:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(
            f"{path} is of the model type {config.model_type}; expected one whose logits are known to be the same in llama.cpp: "
            f"{known}. Give to=safetensors, or take llama.cpp's own converter."
        )
    for name, allowed in architecture.settings.items():
        value = get_setting(config, name)
        if value not in allowed and not _is_idle(config, name, value):
            raise ModelError(
                f"{path}: its {CONFIG} says {name}={value}, for which a GGUF file ({architecture.name}) has no word; expected "
                f"{' or '.join(map(str, allowed))}. Give to=safetensors."
            )
    return architecture


def _is_idle(config: PreTrainedConfig, name: str, value: Any) -> bool:
    """True for a window as long as all positions, which hides nothing."""
    return name == "sliding_window" and value >= config.max_position_embeddings


def get_setting(config: PreTrainedConfig, name: str) -> Any:
    """A setting by its key, or the value that transformers uses if it is unset."""
    value = getattr(config, name, None)
    if name in ("rope_theta", "rope_type"):
        return config.rope_parameters[name]
    if name == "n_inner" and value is None:
        return 4 * config.n_embd
    if name == "head_dim" and value is None:
        return config.hidden_size // config.num_attention_heads
    if name == "num_key_value_heads" and value is None:
        return config.num_attention_heads
    return value


def collect_sizes(architecture: Architecture, config: PreTrainedConfig) -> Sizes:
    """The sizes of a model for a GGUF file."""
    return {key: get_setting(config, name) for key, name in architecture.sizes.items()}


def build_config(
    architecture: Architecture, kind: Callable[..., PreTrainedConfig], sizes: Sizes, rows: int, tied: bool
) -> PreTrainedConfig:
    """A config of class `kind` made only from what is in a GGUF file. rows: of the embedding."""
    settings: dict[str, Any] = {name: sizes[key] for key, name in architecture.sizes.items()}
    if "rope_theta" in settings:
        settings["rope_parameters"] = {"rope_type": "default", "rope_theta": settings.pop("rope_theta")}
    if "sliding_window" in architecture.settings:
        settings["sliding_window"] = None
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return kind(**settings, **ids, vocab_size=rows, tie_word_embeddings=tied)


def lay_out(architecture: Architecture, config: PreTrainedConfig, name: str, weight: torch.Tensor) -> torch.Tensor:
    """A weight with its rows in llama.cpp's order. name: that of transformers."""
    if name.endswith(architecture.transposed):
        return weight.T
    heads = _count_heads(architecture, config, name)
    return weight if heads is None else weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def take_back(architecture: Architecture, config: PreTrainedConfig, name: str, weight: torch.Tensor) -> torch.Tensor:
    """The inverse of lay_out."""
    if name.endswith(architecture.transposed):
        return weight.T
    heads = _count_heads(architecture, config, name)
    return weight if heads is None else weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def _count_heads(architecture: Architecture, config: PreTrainedConfig, name: str) -> int | None:
    key = next((key for end, key in architecture.rotated.items() if name.endswith(end)), None)
    return None if key is None else int(get_setting(config, key))


def name_weights(architecture: Architecture, config: PreTrainedConfig, names: list[str]) -> dict[str, str]:
    """GGUF's name of each weight, by that of transformers. Raises ModelError for one that llama.cpp has no place for."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    kind = next(each for each in MODEL_ARCH if each.name.lower() == architecture.name)
    blocks = int(collect_sizes(architecture, config)["block_count"])
    table = get_tensor_name_map(kind, blocks)
    found = {name: table.get_name(name, try_suffixes=(".weight", ".bias")) for name in names}
    for name, theirs in found.items():
        if theirs is None:
            raise ModelError(
                f"The weight {name} has no place in a GGUF file of the architecture {architecture.name}. Give to=safetensors."
            )
    return {name: str(theirs) for name, theirs in found.items()}
