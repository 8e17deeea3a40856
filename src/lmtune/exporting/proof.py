"""Reading a written file back and comparing it with the model: its settings, each weight, its vocabulary, its logits.

No runtime is needed. The model for the comparison is built only from what is in the file.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.config import ExportDtype
from lmtune.errors import ModelError
from lmtune.exporting.gguf_file import HEAD, read_sizes, read_weight
from lmtune.exporting.gguf_names import Architecture, build_config, name_weights
from lmtune.exporting.gguf_vocabulary import Vocabulary, build_tokenizer, load_vocabulary
from lmtune.modeling.activations import fuse_activations
from lmtune.modeling.behaviour import moved, run
from lmtune.modeling.layers import count_rows
from lmtune.modeling.positions import context_of
from lmtune.storage import Record
from lmtune.vocabulary import encode_opening, encode_plain, find_difference

if TYPE_CHECKING:
    import torch
    from gguf import GGUFReader
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXT = (
    "The old bridge over the river was closed in 1907, and for 3 years nobody crossed it.\n"
    "O paciente voltou para casa às 14h30, com a pressão em 12,8 por 7,9 e sem febre; não se queixou de dor.\n\n"
    "def mean(values):\n    return sum(values) / len(values)  # 0.5\n"
    "Zwölf Boxkämpfer, naïve café, δ = 2π, Привет, мир! 日本語の文。 العربية 🙂👩‍⚕️\n"
    "\tIt's what they'll say:  \"I don't know\", he said -- and left...   \n"
)
"""Text on which logits are compared."""
MOST_TOKENS, LONGEST_ROW = 512, 128
"""Tokens of the text, and of a row of it, at most."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a file may deviate from its model."""

    divergence: float
    """Kullback-Leibler divergence of its distributions from the model's, in nats, averaged over all positions."""
    agreement: float
    """Share of positions with the same likeliest token."""
    step: float
    """Error of a weight, relative to the largest of its tensor."""


BOUNDS = {
    ExportDtype.float32: Bounds(0.0, 1.0, 0.0),
    ExportDtype.bfloat16: Bounds(1e-2, 0.9, 2**-8),
    ExportDtype.float16: Bounds(1e-4, 0.98, 2**-11),
    ExportDtype.q8_0: Bounds(3e-2, 0.9, 0.6 / 127),
}
"""Bounds by precision. float32 is exact; others round each weight to the nearest value that they have."""
SMALLEST = 2.0**-18
"""Additional error allowed for any weight: float16 keeps few digits of the smallest numbers, or none."""


@dataclass(frozen=True, slots=True)
class Closeness:
    """How close two models are on the same text."""

    tokens: int
    divergence: float
    agreement: float
    largest: float
    """Largest difference between two logits."""

    def as_dict(self) -> Record:
        """Plain values for results and JSON."""
        return asdict(self)


def compare(before: torch.Tensor, after: torch.Tensor) -> Closeness:
    """How close logits [rows, positions, vocabulary] are to those of `before`."""
    one, other = before.double().log_softmax(-1), after.double().log_softmax(-1)
    return Closeness(
        tokens=before.shape[0] * before.shape[1],
        divergence=float((one.exp() * (one - other)).sum(-1).mean().clamp(min=0)),  # rounding may give < 0; nan stays
        agreement=float((one.argmax(-1) == other.argmax(-1)).double().mean()),
        largest=float((before.double() - after.double()).abs().max()),
    )


def check_bounds(name: str, found: Closeness, dtype: ExportDtype) -> None:
    """Raise ModelError if rounding to `dtype` has changed the model too much. name: what was rounded."""
    bounds = BOUNDS[dtype]
    if found.divergence <= bounds.divergence and found.agreement >= bounds.agreement:  # both are false for nan
        return
    raise ModelError(
        f"{name} in {dtype.value} is another model: on {found.tokens} tokens it is {found.divergence:.2e} nats from that in "
        f"float32, and the likeliest token is the same at {found.agreement:.1%}; expected at most {bounds.divergence:.0e} nats and "
        f"at least {bounds.agreement:.0%}. Nothing was left of it. Give another dtype=."
    )


def encode_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """[rows, positions] int64: TEXT in rows as long as the model takes them."""
    import torch

    ids = [*encode_opening(tokenizer), *encode_plain(tokenizer, [TEXT])[0]][:MOST_TOKENS]
    rows = math.ceil(len(ids) / min(LONGEST_ROW, context_of(model.config)))
    width = len(ids) // rows
    return torch.tensor(ids[: rows * width], device=model.device).view(rows, width)


def prove_gguf(
    file: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    architecture: Architecture,
    vocabulary: Vocabulary,
    dtype: ExportDtype,
) -> Closeness:
    """How close the model in a file is to the one in memory; raise ModelError if it is a different one."""
    from gguf import GGUFReader

    reader = GGUFReader(file)
    _check_vocabulary(file, load_vocabulary(reader), vocabulary, tokenizer)
    ids = encode_text(model, tokenizer)
    copy = build_copy(reader, model, architecture)
    before = run(copy, ids)
    if moved(run(model, ids), before):
        raise refuse(file, "with the same weights, what it says of its sizes gives other logits")
    _load_weights(file, reader, copy, architecture, BOUNDS[dtype].step)
    found = compare(before, run(copy, ids))
    check_bounds(file.name, found, dtype)
    return found


def _check_vocabulary(file: Path, read: Vocabulary, written: Vocabulary, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError for a vocabulary that is not as it was written, or that encodes a text differently from the tokenizer."""
    if read != written:
        raise refuse(file, "its vocabulary is not as it was written")
    rebuilt = build_tokenizer(read)
    difference = find_difference(tokenizer, rebuilt)
    if difference is None and encode_plain(tokenizer, [TEXT]) != encode_plain(rebuilt, [TEXT]):
        difference = "the ids of a text"
    if difference is not None:
        raise refuse(file, f"its vocabulary differs in {difference}")


def build_copy(reader: GGUFReader, model: PreTrainedModel, architecture: Architecture) -> PreTrainedModel:
    """A model of the same class as `model`, configured from a file, with the weights of `model`."""
    import torch

    tied = all(tensor.name != HEAD for tensor in reader.tensors)
    rows = count_rows(model)
    config = build_config(architecture, type(model.config), read_sizes(reader, architecture), rows, tied)
    with torch.random.fork_rng():
        copy = type(model)(config)
    fuse_activations(copy)
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def _load_weights(
    file: Path, reader: GGUFReader, copy: PreTrainedModel, architecture: Architecture, step: float
) -> None:
    """Replace each weight by that of the file; raise ModelError if one differs by more than rounding."""
    import torch

    weights = dict(copy.named_parameters())
    names = name_weights(architecture, copy.config, list(weights))
    missing = {tensor.name for tensor in reader.tensors} ^ set(names.values())
    if missing:
        raise refuse(file, f"{', '.join(sorted(missing)[:3])} is in one of the two alone")
    with torch.no_grad():
        for name, weight in weights.items():
            found = read_weight(reader, architecture, copy.config, name, names[name])
            error = float((found - weight).abs().max())
            allowed = step * float(weight.abs().max()) + SMALLEST * (step > 0)
            if not error <= allowed:
                raise refuse(file, f"{name} differs by {error:.2e}, at most {allowed:.2e} expected")
            weight.copy_(found)


def refuse(file: Path, found: str) -> ModelError:
    """The error for a file that is not its model."""
    return ModelError(
        f"{file.name} was written, read back, and is not the model: {found}. It was removed. Give to=safetensors, and report this "
        "with the architecture."
    )
