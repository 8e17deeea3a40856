"""Ids of a model's config and generation config, brought in line with its tokenizer, and with a vocabulary that it has moved to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmtune.foreign import CONFIG, GENERATION
from lmtune.modeling.padding import settle_padding

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SINGLE = ("forced_bos_token_id", "decoder_start_token_id")
"""Parameters of generate that hold an id."""
ALONE = ("eos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens")
"""Those that hold one id, or several that each have a meaning of their own."""


def mend_special_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Set BOS, EOS and padding of config and generation config to the tokenizer's; return remarks on what disagreed.

    If several ids end a text and the tokenizer's is among them, they stay as they are.
    """
    remarks = []
    for name in ("bos_token_id", "eos_token_id"):
        wanted = getattr(tokenizer, name)
        for holder, file in ((model.config, CONFIG), (model.generation_config, GENERATION)):
            found = getattr(holder, name, None)
            if isinstance(found, list) and wanted in found:
                continue
            if found is not None and found != wanted and (file == CONFIG or isinstance(found, list)):
                remarks.append(
                    f"{name} of the model's {_say(file)} is {found}, of its tokenizer {wanted}; the tokenizer's is used and saved"
                )
            setattr(holder, name, wanted)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return remarks + settle_padding(model, tokenizer)


def move_ids(model: PreTrainedModel, places: Mapping[int, int]) -> list[str]:
    """Let config and generation config name the tokens that they named before the vocabulary moved; say what they named and lose.

    places: old id to new id, of the tokens that both vocabularies have. BOS, padding and a single EOS are those of the new
    tokenizer, which mend_special_ids sets.
    """
    remarks = []
    for holder, file in ((model.config, CONFIG), (model.generation_config, GENERATION)):
        for name in (*SINGLE, *ALONE, "bad_words_ids", "sequence_bias"):
            named = getattr(holder, name, None)
            if named is None or (name == "eos_token_id" and not isinstance(named, list)):
                continue
            moved, lost = _move(name, named, places)
            setattr(holder, name, moved)
            if lost:
                remarks.append(
                    f"{name} of the model's {_say(file)} names {lost} that the new vocabulary does not have, left out"
                )
    return remarks


def _move(name: str, named: Any, places: Mapping[int, int]) -> tuple[Any, int]:
    """(value, lost): what a parameter holds after the move, None for nothing, and how many of its entries are no more."""
    if not isinstance(named, (list, dict)):
        return places.get(named), int(named not in places)
    if name in ALONE:
        kept: list[Any] = [places[each] for each in named if each in places]
    elif name == "bad_words_ids":
        kept = [moved for ids in named if (moved := _move_sequence(ids, places)) is not None]
    else:
        pairs = named.items() if isinstance(named, dict) else named
        kept = [[moved, bias] for ids, bias in pairs if (moved := _move_sequence(ids, places)) is not None]
    return kept or None, len(named) - len(kept)


def _move_sequence(ids: Any, places: Mapping[int, int]) -> list[int] | None:
    return [places[each] for each in ids] if all(each in places for each in ids) else None


def _say(file: str) -> str:
    return file.removesuffix(".json").replace("_", " ")
