"""Small models of every causal architecture that the installed transformers has."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lmtune.versions import use_known_experts

HEADS = 4
POSITIONS = 128
SMALL = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim_model", "emb_dim", "dim", "embedding_size"), 32),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers", "num_blocks",
         "num_decoder_layers", "num_encoder_layers"), 2,
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads", "encoder_attention_heads",
         "num_decoder_attention_heads", "num_encoder_attention_heads", "mamba_n_heads", "mamba_num_heads"), HEADS,
    ),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dff", "dim_ff", "d_inner",
         "moe_intermediate_size", "shared_expert_intermediate_size", "ffn_hidden_size", "mlp_hidden_size",
         "moe_shared_expert_intermediate_size", "intermediate_size_mlp", "mamba_intermediate_size",
         "shared_intermediate_size", "attention_hidden_size"), 64,
    ),
    **dict.fromkeys(
        ("head_dim", "attention_head_dim", "kv_channels", "v_head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "rotary_dim",
         "state_size", "mamba_d_state", "ssm_state_size"), 8,
    ),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "top_k_experts", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "mamba_n_groups"), 1),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length", "context_length",
         "max_target_positions"), POSITIONS,
    ),
    "sliding_window": 32,
}  # fmt: skip
"""Sizes by the names that configs give them."""

PADDED = {"pad_token_id": 1}
LATENT = {"head_dim": 8, "num_key_value_heads": HEADS, "qk_head_dim": 16}
OWN = {
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "longcat_flash", "youtu",
         "bailing_hybrid", "kimi_linear", "minicpm3"), LATENT,
    ),
    **dict.fromkeys(
        ("camembert", "data2vec-text", "roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm",
         "modernbert-decoder", "prophetnet"), PADDED,
    ),
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 32},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma4_text": {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 320, "global_head_dim": 8},
    "gemma3n_text": {
        "num_hidden_layers": 4, "num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"] * 2,
        "vocab_size_per_layer_input": 320, "hidden_size_per_layer_input": 8, "activation_sparsity_pattern": [0.0] * 4,
        "intermediate_size": [64] * 4,
    },
    "dots3_note_text": {"num_key_value_heads": HEADS},
    "lfm2_moe": {"layer_types": ["full_attention", "conv"]},
    "nemotron_h": {"n_groups": 1},
    "reformer": {"axial_pos_shape": [8, 16], "axial_pos_embds_dim": [16, 16], **PADDED},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""What a few need besides."""

NOT_BUILT = {
    **dict.fromkeys(
        ("blt", "dots3_note", "emu3", "fuyu", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "gemma4_assistant",
         "gemma4_unified_assistant", "git", "got_ocr2", "llama4", "mllama", "moshi", "moss_transcribe_diarize", "musicgen",
         "musicgen_melody", "phi4_multimodal", "qwen3_5", "qwen3_5_moe", "qwen4_exp"), "takes more than text",
    ),
    **dict.fromkeys(
        ("cohere_compass_text", "cpmant", "dbrx", "mamba2", "xlm", "xmod", "zamba", "zamba2"), "needs settings of its own"
    ),
}  # fmt: skip
"""Types that are left out, and why."""

KINDS = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - NOT_BUILT.keys())


def build_small(kind, vocabulary, end):
    """A random model of the type, with weights large enough that every part of it shows in the logits."""
    config = type(AutoConfig.for_model(kind))
    known = {name for each in config.__mro__ for name in getattr(each, "__annotations__", {})} | set(
        config.attribute_map
    )
    sizes = {name: value for name, value in SMALL.items() if name in known}
    decoder = {"is_decoder": True} if "is_decoder" in known or kind == "bert" else {}
    ids = {"vocab_size": vocabulary, "bos_token_id": end, "eos_token_id": end, "pad_token_id": None}
    without = {name: 0.0 for name in known if "drop" in name and isinstance(getattr(config(), name, None), float)}
    torch.manual_seed(0)
    settings = AutoConfig.for_model(kind, **{**ids, **sizes, **decoder, **without, **OWN.get(kind, {})})
    model = AutoModelForCausalLM.from_config(settings).eval()
    use_known_experts(model)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() >= 2 and 0 < weight.std() < 0.06:
                weight.mul_(0.06 / weight.std())
    return model
