"""`generation.*`: the parameters of GenerationConfig, and which of them concern the text."""

from typing import Any

from lmtune.config.keys import Plain
from lmtune.config.ranges import LARGEST, Range, check_number, render_value
from lmtune.errors import ConfigError

SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
)
"""Parameters of sampling, which have no meaning without it (do_sample=false)."""

BEAMS = ("length_penalty", "early_stopping")
"""Parameters of beam search."""

_GREEDY = "For the likeliest token each time give generation.do_sample=false."

NUMBERS = {
    "temperature": Range(above=0, remedy=_GREEDY),
    "top_k": Range(least=0, whole=True, zero="off"),
    "top_p": Range(above=0, most=1),
    "min_p": Range(least=0, most=1),
    "top_h": Range(above=0, most=1),
    "typical_p": Range(above=0, most=1),
    "epsilon_cutoff": Range(least=0, below=1),
    "eta_cutoff": Range(least=0, below=1),
    "repetition_penalty": Range(above=0),
    "encoder_repetition_penalty": Range(above=0),
    "length_penalty": Range(),
    "no_repeat_ngram_size": Range(least=0, whole=True, zero="off"),
    "max_length": Range(least=1, whole=True, unit="tokens"),
    "max_new_tokens": Range(least=1, whole=True, unit="tokens"),
    "min_length": Range(least=0, whole=True, unit="tokens"),
    "min_new_tokens": Range(least=0, whole=True, unit="tokens"),
    "max_time": Range(above=0, unit="seconds"),
    "num_beams": Range(least=1, whole=True, largest=1024),
    "num_return_sequences": Range(least=1, whole=True, largest=10_000),
    "guidance_scale": Range(),
    "prompt_lookup_num_tokens": Range(least=1, whole=True),
    "max_matching_ngram_size": Range(least=1, whole=True),
    "pad_token_id": Range(least=0, whole=True),
    "bos_token_id": Range(least=0, whole=True),
    "eos_token_id": Range(least=0, whole=True),
    "forced_bos_token_id": Range(least=0, whole=True),
    "forced_eos_token_id": Range(least=0, whole=True),
    "suppress_tokens": Range(least=0, whole=True),
    "begin_suppress_tokens": Range(least=0, whole=True),
    "prefill_chunk_size": Range(least=1, whole=True, largest=LARGEST),
}
"""Parameters that are numbers, or lists of them."""

TOKEN_IDS = (
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "suppress_tokens",
    "begin_suppress_tokens",
)
"""Parameters that are ids of tokens, one or several."""

SWITCHES = frozenset(
    ["do_sample", "use_cache", "renormalize_logits", "remove_invalid_values", "token_healing", "disable_compile"]
)
"""Parameters that are true or false."""

NO_TEXT = frozenset(
    [
        "return_dict_in_generate",
        "output_scores",
        "output_logits",
        "output_attentions",
        "output_hidden_states",
        "compile_config",
        "watermarking_config",
        "assistant_early_exit",
        "continuous_batching_config",
    ]
)
"""Parameters of generate that do not concern the text; one of them even changes the model for good."""

FOREIGN = frozenset(
    [
        "penalty_alpha",
        "dola_layers",
        "num_beam_groups",
        "diversity_penalty",
        "constraints",
        "force_words_ids",
        "low_memory",
    ]
)
"""Ways to generate that transformers 5 no longer has: for them it would run code from a repository of the Hub."""

ASSISTED = frozenset(
    [
        "is_assistant",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "target_lookbehind",
        "assistant_ensemble_weight",
        "speculation_type",
    ]
)
"""Parameters that need a second model."""


FOR_ENCODERS = ("encoder_no_repeat_ngram_size", "decoder_start_token_id")
"""Parameters of models with an encoder."""


def check_generation(generation: Plain) -> None:
    """Raise ConfigError for values that cannot work, by their keys."""
    for name, value in generation.items():
        if value is None:
            continue
        key = f"generation.{name}"
        if name in NO_TEXT:
            raise ConfigError(f"{key} makes generate return or need something other than text. Leave it out.")
        if name in FOREIGN and value is not False:
            raise ConfigError(
                f"{key}={render_value(value)}: transformers would run code from the Hub for it, and lmtune runs no code that comes "
                "from there. Leave it out; generation.num_beams= and generation.top_p= are built in."
            )
        if name in SWITCHES and not isinstance(value, bool):
            raise ConfigError(f"{key}={render_value(value)}: expected true or false.")
        if name == "stop_strings" and not all(
            isinstance(each, str) for each in (value if isinstance(value, list) else [value])
        ):
            raise ConfigError(f"{key}={render_value(value)}: expected a text or a list of them, in quotes: \"['3']\".")
        if name in NUMBERS:
            check_number(key, value, NUMBERS[name])


def take_floats(generation: Plain) -> dict[str, Any]:
    """`generation` with floats for parameters that generate does not take as whole numbers: it refuses a temperature of 2."""
    real = [
        name for name, value in generation.items() if name in NUMBERS and not NUMBERS[name].whole and type(value) is int
    ]
    return {**generation, **{name: float(generation[name]) for name in real}}


def settle_generation(generation: Plain, typed: frozenset[str]) -> None:
    """Drop lmtune's own max_new_tokens if max_length was asked for: of the two, generate would obey max_new_tokens."""
    if generation.get("max_length") is not None and "generation.max_new_tokens" not in typed:
        generation.pop("max_new_tokens", None)
