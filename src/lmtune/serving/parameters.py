"""The parameters that a request may set: each field of GenerationConfig with its type and range, or why it is refused.

The same table checks requests and describes them in /openapi.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lmtune.config.generation import NUMBERS, SWITCHES, TOKEN_IDS
from lmtune.config.ranges import Range
from lmtune.serving.faults import bad_request
from lmtune.upstream import find_nearest

MOST_STOPS = 16
"""Stop strings of a request, at most."""
LONGEST_STOP = 256
"""Characters of a stop string, at most."""
MOST_IDS = 1024
"""Ids in a list of a request, at most: some lists are scanned at each token."""

Schema = dict[str, Any]
Check = Callable[[object], str | None]
"""Returns what was expected of a value, or None if it is valid."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """The check of a parameter, and its JSON schema."""

    check: Check
    schema: Schema


def number_parameter(allowed: Range) -> Parameter:
    def check(value: object) -> str | None:
        if allowed.whole and isinstance(value, float):
            return f"a whole number, {allowed.render()}"
        return allowed.find_fault(value)

    return Parameter(check, number_schema(allowed))


def number_schema(allowed: Range) -> Schema:
    """The JSON schema of a range."""
    most = allowed.largest if allowed.whole and allowed.most is None else allowed.most
    bounds = {
        "minimum": allowed.least,
        "exclusiveMinimum": allowed.above,
        "maximum": most,
        "exclusiveMaximum": allowed.below,
    }
    kind = "integer" if allowed.whole else "number"
    return {"type": kind, **{name: bound for name, bound in bounds.items() if bound is not None}}


def _kind(kind: type, name: str, schema: Schema) -> Parameter:
    return Parameter(lambda value: None if type(value) is kind else name, schema)


SWITCH = _kind(bool, "true or false", {"type": "boolean"})
ID = number_parameter(Range(least=0, whole=True))
BIAS = number_parameter(Range(least=-100, most=100))


def _is_list(value: object, check: Check, least: int = 1, most: int = MOST_IDS) -> bool:
    return isinstance(value, list) and least <= len(value) <= most and all(check(each) is None for each in value)


def _list_schema(items: Schema, least: int = 1, most: int = MOST_IDS) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _check_ids(value: object) -> str | None:
    return None if ID.check(value) is None or _is_list(value, ID.check) else f"an id, or a list of 1 to {MOST_IDS}"


IDS = Parameter(_check_ids, {"anyOf": [ID.schema, _list_schema(ID.schema)]})


def _check_id_lists(value: object) -> str | None:
    def is_sequence(each: object) -> str | None:
        return None if _is_list(each, ID.check) else "ids"

    fits = _is_list(value, is_sequence) and isinstance(value, list) and sum(map(len, value)) <= MOST_IDS
    return None if fits else f"a list of lists of ids, at most {MOST_IDS} in all"


ID_LISTS = Parameter(_check_id_lists, _list_schema(_list_schema(ID.schema)))


def _check_biases(value: object) -> str | None:
    def is_pair(each: object) -> str | None:
        fits = isinstance(each, list) and len(each) == 2 and _is_list(each[0], ID.check) and BIAS.check(each[1]) is None
        return None if fits else "a pair"

    fits = _is_list(value, is_pair) and isinstance(value, list) and sum(len(each[0]) for each in value) <= MOST_IDS
    return None if fits else f"a list of [[ids], bias from -100 to 100], at most {MOST_IDS} ids in all"


BIASES = Parameter(
    _check_biases,
    _list_schema(
        {"type": "array", "prefixItems": [_list_schema(ID.schema), BIAS.schema], "minItems": 2, "maxItems": 2}
    ),
)


def _check_stops(value: object) -> str | None:
    def is_stop(each: object) -> str | None:
        return None if isinstance(each, str) and 0 < len(each) <= LONGEST_STOP else "a text"

    if is_stop(value) is None or _is_list(value, is_stop, 0, MOST_STOPS):
        return None
    return f"a text of 1 to {LONGEST_STOP} characters, or a list of at most {MOST_STOPS}"


_STOP_SCHEMA = {"type": "string", "minLength": 1, "maxLength": LONGEST_STOP}
STOPS = Parameter(_check_stops, {"anyOf": [_STOP_SCHEMA, _list_schema(_STOP_SCHEMA, 0, MOST_STOPS)]})


def _check_decay(value: object) -> str | None:
    fits = (
        isinstance(value, list)
        and len(value) == 2
        and ID.check(value[0]) is None
        and Range(above=0, most=100).find_fault(value[1]) is None
    )
    return None if fits else "[start, factor]: tokens before it begins, and a factor above 0, at most 100"


DECAY = Parameter(
    _check_decay, {"type": "array", "prefixItems": [ID.schema, {"type": "number"}], "minItems": 2, "maxItems": 2}
)


def _check_stopping(value: object) -> str | None:
    return None if isinstance(value, bool) or value == "never" else 'true, false or "never"'


STOPPING = Parameter(_check_stopping, {"anyOf": [{"type": "boolean"}, {"const": "never"}]})

OF_SERVER = "the server decides how keys and values are kept and how prompts are read"
OF_ENCODERS = "it is for models with an encoder"
OF_ASSISTANT = "it is for a second model that helps, and none is loaded"
NO_TEXT = "it asks for something other than text"
FROM_HUB = "transformers would run code from the Hub for it"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        ("use_cache", "cache_implementation", "cache_config", "max_cache_len", "prefill_chunk_size", "disable_compile"),
        OF_SERVER,
    ),
    **dict.fromkeys(("compile_config", "continuous_batching_config", "low_memory"), OF_SERVER),
    "decoder_start_token_id": OF_ENCODERS,
    "assistant_early_exit": "it would change the model for all requests after this one",
    **dict.fromkeys(
        ("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
        OF_ASSISTANT,
    ),
    **dict.fromkeys(
        ("assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "speculation_type", "use_mtp"),
        OF_ASSISTANT,
    ),
    **dict.fromkeys(
        ("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
        NO_TEXT,
    ),
    "watermarking_config": "it marks texts for who runs the server to find, so that it is not for a request to set",
    **dict.fromkeys(
        ("penalty_alpha", "dola_layers", "num_beam_groups", "diversity_penalty", "constraints", "force_words_ids"),
        FROM_HUB,
    ),
    **dict.fromkeys(("custom_generate", "trust_remote_code"), FROM_HUB),
}
"""Parameters of generate that no request may set, and why."""

GENERATION: Mapping[str, Parameter] = {
    **{name: number_parameter(allowed) for name, allowed in NUMBERS.items() if name not in {*TOKEN_IDS, *REFUSED}},
    **{name: SWITCH for name in SWITCHES if name not in REFUSED},
    **dict.fromkeys(("eos_token_id", "suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id"), IDS),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "forced_bos_token_id"), ID),
    "length_penalty": number_parameter(Range(least=-10, most=10)),
    "guidance_scale": number_parameter(Range(least=-100, most=100)),
    "encoder_no_repeat_ngram_size": number_parameter(NUMBERS["no_repeat_ngram_size"]),
    "early_stopping": STOPPING,
    "stop_strings": STOPS,
    "bad_words_ids": ID_LISTS,
    "sequence_bias": BIASES,
    "exponential_decay_length_penalty": DECAY,
}
"""Parameters of generate, by their own names."""


def check_parameters(given: Mapping[str, object], known: Mapping[str, Parameter]) -> None:
    """Raise a fault with status 400 for the first parameter that is unknown, refused, or invalid."""
    for name, value in given.items():
        if name in REFUSED:
            raise bad_request(f"{name} is not taken: {REFUSED[name]}. Leave it out.", name)
        if name not in known:
            near = find_nearest(name, known)
            raise bad_request(
                f"{name} is not a parameter.{f' Did you mean {near}?' if near else ' Leave it out.'}", name
            )
        expected = None if value is None else known[name].check(value)
        if expected is not None:
            raise bad_request(f"{name}: expected {expected}.", name)


def find_largest_id(settings: Mapping[str, object]) -> tuple[str, int]:
    """(parameter, id): the largest id in any of them; ("", -1) if there is none."""
    named = (*TOKEN_IDS, "bad_words_ids")
    found = [(name, each) for name in named for each in _flatten(settings.get(name))]
    biases = settings.get("sequence_bias")
    if isinstance(biases, list):
        found += [("sequence_bias", each) for ids, _ in biases for each in ids]
    return max(found, key=lambda pair: pair[1], default=("", -1))


def _flatten(value: object) -> list[int]:
    if isinstance(value, list):
        return [each for part in value for each in _flatten(part)]
    return [value] if isinstance(value, int) else []
