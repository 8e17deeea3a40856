"""What Ollama is told of a GGUF file: https://docs.ollama.com/modelfile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmtune.modeling.positions import positions_of

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

PARAMETERS = {
    "temperature": ("temperature", 1.0),
    "top_k": ("top_k", 50),
    "top_p": ("top_p", 1.0),
    "min_p": ("min_p", 0.0),
    "repetition_penalty": ("repeat_penalty", 1.0),
}
"""Ollama's name for a field of GenerationConfig, and transformers' default for it. Ollama's own defaults differ."""
PLAIN = "{{ .Prompt }}"
"""The template of a model that continues what it is given."""
TRIPLE = '"""'


def render_modelfile(
    file: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: GenerationConfig
) -> str:
    """The Modelfile beside `file`, with the settings that the model generates with here.

    A chat template stands in the GGUF file, in Jinja, where Ollama finds it; a model without one gets its prompt as it is.
    """
    lines = [f"FROM ./{file}"]
    if not isinstance(tokenizer.chat_template, str):
        lines.append(f"TEMPLATE {quote(PLAIN)}")
    lines += [f"PARAMETER {name} {value}" for name, value in list_parameters(model, settings)]
    lines += [f"PARAMETER stop {quote(text)}" for text in list_stops(tokenizer, settings)]
    return "\n".join(lines) + "\n"


def list_parameters(model: PreTrainedModel, settings: GenerationConfig) -> list[tuple[str, float]]:
    """(name, value) as Ollama has them: how tokens are drawn, how many at most, and how long a text may be."""
    drawn = {name: getattr(settings, name) for name in PARAMETERS}
    if not settings.do_sample:
        drawn = {"temperature": 0, "repetition_penalty": drawn["repetition_penalty"]}
    found = [(PARAMETERS[name][0], PARAMETERS[name][1] if value is None else value) for name, value in drawn.items()]
    limits = [("num_predict", settings.max_new_tokens), ("num_ctx", positions_of(model.config))]
    return found + [(name, value) for name, value in limits if value is not None]


def list_stops(tokenizer: PreTrainedTokenizerBase, settings: GenerationConfig) -> list[str]:
    """What ends a text: the end-of-text tokens of the model, then the stop strings of its settings."""
    ends: Sequence[int] = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
    tokens = [tokenizer.convert_ids_to_tokens(index) for index in ends if index is not None]
    strings = settings.stop_strings or []
    return list(dict.fromkeys([*tokens, *([strings] if isinstance(strings, str) else strings)]))


def quote(text: str) -> str:
    """A text as a Modelfile holds it: there are no escapes, and a line may end inside of quotes."""
    mark = TRIPLE if '"' in text or "\n" in text else '"'
    return f"{mark}{text}{mark}"
