"""Continuing prompts: settings checked, ids cut to the positions of the model, texts drawn from a seed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from lmtune.config.generation import SAMPLING, TOKEN_IDS, check_generation, take_floats
from lmtune.errors import ConfigError, ModelError, first_line, one_line
from lmtune.foreign import GENERATION
from lmtune.gauges import TOKENS
from lmtune.modeling.device import fork_random_state
from lmtune.modeling.layers import count_rows
from lmtune.modeling.positions import positions_of
from lmtune.patience import Work, doing
from lmtune.vocabulary import encode_opening, encode_plain

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

logger = logging.getLogger(__name__)

DEFAULT_NEW_TOKENS = 60
UNLIMITED = 10**9
"""Positions of a model that has no limit."""
BEAM_SETTINGS = ("early_stopping", "length_penalty")
OUTPUT_SETTINGS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")
"""transformers refuses to save these without return_dict_in_generate, and BEAM_SETTINGS without beams."""
NOTHING_LEFT = (
    "generation.*: with these settings nothing is left to draw from (nan). Bring temperature, guidance_scale and penalties nearer "
    "to 1."
)


def build_generation_config(model: PreTrainedModel, settings: dict[str, Any]) -> GenerationConfig:
    """GenerationConfig of the model with settings on top; raise ConfigError for values it refuses.

    Defaults of lmtune and of the model give way to contradicting settings: without sampling its settings are dropped,
    and a length of the whole text replaces one of the new tokens.
    """
    import copy

    check_generation(settings)
    _check_ids(model, settings)
    settings = take_floats(settings)
    config = copy.deepcopy(model.generation_config)
    if settings.get("max_length") is not None and settings.get("max_new_tokens") is None:
        config.max_new_tokens = None
    with explaining_settings():
        if settings.get("do_sample") is False:
            settings = {name: value for name, value in settings.items() if name not in SAMPLING}
            for name in SAMPLING:
                setattr(config, name, None)
        config.update(**{"use_cache": True, **settings})
        config.validate(strict=True)
    return config


def mend_generation_config(model: PreTrainedModel) -> list[str]:
    """Make the model's generation config one that can be saved; say what was changed.

    transformers loads files with a temperature or top_p but without do_sample, as Llama 2 and Vicuna ship them, and refuses
    to save them once an id has changed. What this cannot mend, saving.check_saveable refuses.
    """
    config = getattr(model, "generation_config", None)
    if config is None or _find_fault(config) is None:
        return []
    unset = (*OUTPUT_SETTINGS, *(() if (config.num_beams or 1) > 1 else BEAM_SETTINGS))
    if config.pad_token_id is not None and config.pad_token_id < 0:
        unset += ("pad_token_id",)
    changed = []
    for name, value in [("do_sample", True), *((name, None) for name in unset)]:
        before, fault = getattr(config, name), _find_fault(config)
        setattr(config, name, value)
        if fault is None or _find_fault(config) == fault:
            setattr(config, name, before)
        else:
            changed.append(f"{name}={'unset' if value is None else str(value).lower()}")
    if not changed:
        return []
    return [f"{GENERATION} of the model cannot be saved as it stands; {', '.join(changed)} is used and saved"]


def _find_fault(config: GenerationConfig) -> str | None:
    try:
        config.validate(strict=True)
    except (ValueError, TypeError, AttributeError) as fault:
        return one_line(fault)
    return None


def _check_ids(model: PreTrainedModel, settings: dict[str, Any]) -> None:
    rows = count_rows(model)
    for name in TOKEN_IDS:
        given = settings.get(name)
        beyond = [each for each in (given if isinstance(given, list) else [given]) if each is not None and each >= rows]
        if beyond:
            raise ConfigError(
                f"generation.{name}={beyond[0]}: the model's vocabulary has {rows:,} entries. Give at most {rows - 1}."
            )


@contextmanager
def explaining_settings() -> Iterator[None]:
    """Turn errors of GenerationConfig and of generate into lmtune's: each setting checks itself, some only when used."""
    try:
        yield
    except (ValueError, TypeError, ArithmeticError, AssertionError, ImportError) as error:
        raise ConfigError(f"generation.*: {one_line(error) or type(error).__name__}") from error
    except RuntimeError as error:
        if "probability tensor" in str(error):  # torch.multinomial's words
            raise ConfigError(NOTHING_LEFT) from error
        if "memory" in str(error):
            raise
        raise ModelError(
            f"Expected a model that transformers generates with, found that it fails: {first_line(error)} `lmtune eval` may score "
            "it all the same; to write with it, take another model or another version of transformers."
        ) from error


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    config: GenerationConfig,
    seed: int,
) -> list[str]:
    """The prompt with its continuation, once per num_return_sequences; see write_rows."""
    return render_rows(tokenizer, write_rows(model, tokenizer, prompt, config, seed))


def render_rows(tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor) -> list[str]:
    """The generated texts, without special tokens."""
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]


def take_own(tokenizer: PreTrainedTokenizerBase, config: GenerationConfig, row: torch.Tensor) -> list[int]:
    """The ids of a generated text without opening and end tokens, so that it can be continued. row: [tokens]."""
    own: list[int] = row.tolist()[len(encode_opening(tokenizer)) :]
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    while own and own[-1] in (*ends, config.pad_token_id):
        own.pop()
    return own


def write_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str | Sequence[int],
    config: GenerationConfig,
    seed: int,
    tell: Callable[[str], None] | None = None,
) -> torch.Tensor:
    """[num_return_sequences, tokens]: ids of the prompt with its continuation.

    The same seed gives the same text. The prompt, a text or its ids, keeps only its end if both do not fit the model's positions.
    tell: called with pieces of the continuation while it is written; only for one text without beams.
    """
    import torch
    from transformers import LogitsProcessorList

    ids = encode_prompt(model, tokenizer, prompt, resolve_prompt_length(model, config))
    _check_length(config, ids)
    torch.manual_seed(seed)  # seeds every device; transformers' set_seed would import peft
    work = Work("writing", config.max_new_tokens, TOKENS)

    def count(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        work.advance(1)
        return scores

    shown = doing(work) if tell is None else nullcontext()  # streamed text needs no progress display
    with explaining_settings(), torch.no_grad(), shown:
        return cast("Callable[..., torch.Tensor]", model.generate)(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            tokenizer=tokenizer,  # for stop_strings
            streamer=None if tell is None else _build_streamer(tokenizer, tell),
            logits_processor=LogitsProcessorList([build_check(model, config), count]),
        )


def _build_streamer(tokenizer: PreTrainedTokenizerBase, tell: Callable[[str], None]) -> TextStreamer:
    from transformers import TextStreamer

    class Told(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            tell(text)

    return Told(tokenizer, skip_prompt=True, skip_special_tokens=True)


def rank_next(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[int], top: int
) -> list[tuple[str, float]]:
    """The likeliest next tokens with their probabilities, the likeliest first; no temperature, no filter."""
    import torch

    ids = encode_prompt(model, tokenizer, prompt, count_positions(model))
    with torch.no_grad():
        scores = model(input_ids=ids, use_cache=False).logits[0, -1].double()
    probabilities = check_scores(model, ids, scores).softmax(dim=-1)
    best = probabilities.topk(min(top, len(probabilities)))
    return [
        (str(tokenizer.decode([index])), value)
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def build_check(
    model: PreTrainedModel, config: GenerationConfig
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """`check_scores` as a logits processor of generate, which divides by the temperature after it.

    torch.multinomial must never see invalid scores: on a GPU its error makes CUDA unusable for the rest of the process.
    """
    drawn_at = config.temperature if config.do_sample else None
    return partial(check_scores, model, temperature=1.0 if drawn_at is None else drawn_at)


def check_scores(
    model: PreTrainedModel, ids: torch.Tensor, scores: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """The scores of the next token, [..., vocabulary], unchanged; raise ModelError if they hold NaN or plus infinity.

    ids: [..., tokens] before it. temperature: what they will be divided by. Minus infinity is allowed: settings rule tokens out
    with it. If the model's own scores are finite, the settings are at fault, which is a ConfigError.
    """
    if _are_numbers(scores if temperature == 1.0 else scores / temperature):
        return scores
    if _are_numbers(model(input_ids=ids, use_cache=False).logits[:, -1]):
        raise ConfigError(NOTHING_LEFT)
    raise ModelError(
        f"After {ids.shape[-1]:,} tokens the model gives scores that are no finite numbers, so there is no next token. Its "
        "weights hold NaN or overflow: expected those of a training that went well. Take another checkpoint."
    )


def _are_numbers(scores: torch.Tensor) -> bool:
    return not bool((scores.isnan() | scores.isposinf()).any())


def encode_prompt(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[int], limit: int
) -> torch.Tensor:
    """[1, tokens] int64 on the model's device: the ids of a prompt as open_prompt has them."""
    import torch

    own = _encode_own(tokenizer, prompt)
    return torch.tensor([open_prompt(model, tokenizer, own, limit)], device=model.device)


def open_prompt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, own: list[int], limit: int) -> list[int]:
    """The tokenizer's opening ids, then as much of the end of a prompt's `own` ids as fits.

    limit: tokens in total. If both are empty, the text starts from the BOS, or else from the separator. tell_cut reports what
    was left out. Raises ModelError for ids that the model does not have.
    """
    opening = list(encode_opening(tokenizer))
    kept = own[-max(1, limit - len(opening)) :]
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = [*opening, *kept] or [first]
    rows = count_rows(model)
    if max(ids) >= rows:
        raise ModelError(
            f"The tokenizer gives ids up to {max(ids):,}, the embedding of the model has {rows:,} rows. "
            "Give a checkpoint whose tokenizer belongs to its weights."
        )
    return ids


def _encode_own(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[int]) -> list[int]:
    """The ids of a prompt alone. Raises ConfigError for bytes that Python could not decode in the terminal's encoding."""
    if not isinstance(prompt, str):
        return list(prompt)
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        shown = prompt.encode(errors="backslashreplace").decode()
        raise ConfigError(
            f"The prompt {shown!r}: expected a text in UTF-8, found bytes that are none. Convert it first."
        )
    return encode_plain(tokenizer, [prompt])[0]


def tell_cut(tokenizer: PreTrainedTokenizerBase, prompt: str | Sequence[int], limit: int) -> None:
    """Warn that the beginning of a prompt is left out, if it does not fit the `limit` in tokens."""
    own, most = _encode_own(tokenizer, prompt), max(1, limit - len(encode_opening(tokenizer)))
    if len(own) > most:
        logger.warning(
            "The prompt has %s tokens and %s of them fit the positions of the model, so its beginning is left out: the text begins "
            "at %r",
            f"{len(own):,}",
            f"{most:,}",
            tokenizer.decode(own[-most:][:8]),
        )


def generate_aside(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    settings: dict[str, Any],
    seed: int,
) -> list[str]:
    """Continue prompts in the middle of training without side effects: the trained weights are bit-equal to those without it.

    Random states of Python, NumPy and torch are restored, as is the model's training mode.
    """
    config = build_generation_config(model, settings)
    with undisturbed(model):
        return [generate(model, tokenizer, prompt, config, seed)[0] for prompt in prompts]


@contextmanager
def undisturbed(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode inside the context; random states and the training mode are restored afterwards."""
    import random

    import numpy as np

    was_training, python_state, numpy_state = model.training, random.getstate(), np.random.get_state()
    model.eval()
    try:
        with fork_random_state(model):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        model.train(was_training)


def check_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], config: GenerationConfig
) -> None:
    """Raise ConfigError for the first prompt that leaves no room for a continuation."""
    most = resolve_prompt_length(model, config)
    for prompt in prompts:
        _check_length(config, encode_prompt(model, tokenizer, prompt, most))
        tell_cut(tokenizer, prompt, most)


def _check_length(config: GenerationConfig, ids: torch.Tensor) -> None:
    if config.max_new_tokens is None and config.max_length is not None and ids.shape[1] >= config.max_length:
        raise ConfigError(
            f"generation.max_length={config.max_length}: expected more than the {ids.shape[1]} tokens of the prompt, which it "
            "counts too. Raise it, or give generation.max_new_tokens=."
        )


def count_positions(model: PreTrainedModel) -> int:
    """Tokens that the model has positions for; UNLIMITED for one without a limit."""
    return positions_of(model.config) or UNLIMITED


def resolve_prompt_length(model: PreTrainedModel, config: GenerationConfig) -> int:
    """Tokens that a prompt may have; raises ConfigError if the new ones alone fill the model's positions."""
    positions = positions_of(model.config)
    if not positions:
        return UNLIMITED
    if config.max_new_tokens is None and config.max_length is not None:
        if config.max_length > positions:
            raise ConfigError(
                f"generation.max_length={config.max_length}: the model has {positions} positions. Give at most {positions}."
            )
        return int(positions) - 1
    new = config.max_new_tokens or DEFAULT_NEW_TOKENS
    if new >= positions:
        raise ConfigError(
            f"generation.max_new_tokens={new}: the model has {positions} positions. Give at most {positions - 1}."
        )
    return int(positions) - new
