"""Optimizers of transformers, by what they read and keep: which settings they take, and which would break a promise."""

from collections.abc import Mapping

GALORE = (
    "galore_adamw",
    "galore_adamw_8bit",
    "galore_adafactor",
    "galore_adamw_layerwise",
    "galore_adamw_8bit_layerwise",
    "galore_adafactor_layerwise",
)
APOLLO = ("apollo_adamw", "apollo_adamw_layerwise")
ADEMAMIX = ("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit")
LION = ("lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit")
ADAMW = ("adamw_torch", "adamw_torch_fused")
"""Of torch: one optimizer in two forms, either of which takes up the state of the other."""
SCHEDULE_FREE = ("schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd")
"""Of the package schedulefree: the result is an average that they take of the weights themselves."""
TORCHAO = ("adamw_torch_4bit", "adamw_torch_8bit")
"""Of the package torchao: the rate is in a tensor, and steps are compiled for each value of the betas."""
BNB_RMSPROP = ("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit")

OPTIM_ARGS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
    "adamw_anyprecision": ("use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype"),
    "grokadamw": ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping"),
    "stable_adamw": ("max_lr", "kahan_sum", "decouple_lr"),
    **dict.fromkeys(TORCHAO, ("bf16_stochastic_round",)),
    **dict.fromkeys(ADEMAMIX, ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")),
    **dict.fromkeys(GALORE, ("rank", "update_proj_gap", "scale", "proj_type")),
    **dict.fromkeys(APOLLO, ("rank", "proj", "scale_type", "update_proj_gap", "scale", "proj_type")),
    **dict.fromkeys(SCHEDULE_FREE, ("weight_lr_power", "r")),
}
"""The names in optim_args that transformers' trainer_optimizer.py reads, by optimizer; all others read none.

Left out are those that it hands on as text, which their packages do not take: block_size of torchao's, and all of bitsandbytes'
RMSProp.
"""

NO_BETAS = frozenset(
    [
        "adafactor",
        "sgd",
        "adagrad",
        "rmsprop",
        "lomo",
        "adalomo",
        "grokadamw",
        "schedule_free_sgd",
        *BNB_RMSPROP,
        *GALORE,
    ]
)
"""Optimizers that are given neither Adam's betas nor its epsilon."""

UNSAVED = (
    "its state lies outside of what a checkpoint gives back, so that a resumed run would end otherwise. Choose another optimizer, "
    "such as adafactor."
)
UNREADABLE = (
    "its state holds objects of its package, and of a checkpoint only tensors and plain values are read back, so that no run with "
    "it could be resumed. Choose another optimizer, such as adafactor, or finetune=lora."
)
IN_BACKWARD = (
    "it moves the weights within the backward pass, before the gradients of all passes and processes of a step are added up and "
    "clipped, so that its steps would not be those of the settings. Choose sgd, which is the same rule after the backward pass."
)
UNFIT_OPTIMIZERS: Mapping[str, str] = {
    **dict.fromkeys((*GALORE, *APOLLO), UNREADABLE),
    **dict.fromkeys((name for name in (*GALORE, *APOLLO) if name.endswith("_layerwise")), UNSAVED),
    **dict.fromkeys(("adalomo", "grokadamw"), UNSAVED),
    "lomo": IN_BACKWARD,
    "muon": "it stands beside an optimizer here: training.muon=true moves the matrices of the blocks by it, the other weights by "
    "AdamW.",
}
"""Optimizers that are not to be had by this name, most of them since they would break a promise of lmtune, and why."""
