"""The served checkpoints, each with its tokenizer, its engine, and the name by which requests select it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from lmtune.config import ServeConfig
from lmtune.errors import CheckpointError
from lmtune.modeling import loading
from lmtune.modeling.checkpoint import Checkpoint, resolve_checkpoint
from lmtune.modeling.device import place_model
from lmtune.modeling.generation import count_positions
from lmtune.serving.decoder import open_decoder
from lmtune.serving.engine import Engine, Limits
from lmtune.serving.plain import PlainLane
from lmtune.serving.turns import Turns
from lmtune.units import render_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

LONGEST_CONTEXT = 4096
"""Tokens of prompt and text, unless serve.context= is set."""
SHOWN_EXAMPLES = 8


@dataclass(slots=True, kw_only=True)
class Served:
    """A served checkpoint."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    engine: Engine
    context: int
    """Tokens of a prompt and its text together, at most."""
    examples: list[str]
    """Prompts to start with."""
    created: int = field(default_factory=lambda: int(time.time()))
    encoding: threading.Lock = field(default_factory=threading.Lock)
    """Held while the tokenizer encodes, which changes its truncation settings."""

    def decode(self, ids: list[int]) -> str:
        """The text of ids, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class Models:
    """All served checkpoints, by name."""

    def __init__(self, served: Sequence[Served], lane: PlainLane) -> None:
        self._served = {each.name: each for each in served}
        self._lane = lane

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    @property
    def first(self) -> Served:
        """The default if a request names none."""
        return next(iter(self._served.values()))

    def find(self, name: str | None) -> Served | None:
        """The checkpoint of that name; the first for None."""
        return self.first if name is None else self._served.get(name)

    @property
    def running(self) -> int:
        """Texts that are being generated."""
        return sum(each.engine.running for each in self) + self._lane.running

    @property
    def waiting(self) -> int:
        """Texts that have not begun."""
        return sum(each.engine.waiting for each in self) + self._lane.waiting

    def stop_taking(self) -> None:
        """Refuse new requests from now on."""
        for each in self:
            each.engine.stop_taking()

    def close(self) -> None:
        """Wait for accepted texts, and end the threads."""
        for each in self:
            each.engine.close()
        self._lane.close()


def load_models(config: ServeConfig) -> Models:
    """The checkpoints that `ckpt=` names, on their device. Raises the errors of loading them."""
    found = {ckpt: resolve_checkpoint(ckpt, config.check_weights) for ckpt in config.checkpoints}
    names = name_checkpoints(found)
    turns = Turns()
    lane = PlainLane(turns)
    return Models([_load(config, names[ckpt], each, turns, lane) for ckpt, each in found.items()], lane)


def _load(config: ServeConfig, name: str, checkpoint: Checkpoint, turns: Turns, lane: PlainLane) -> Served:
    settings = config.serve
    tokenizer, model = loading.load_writer(checkpoint.path, config.check_weights)
    place_model(model, settings.device, "serve.device")
    decoder = open_decoder(model)  # in float32: in lower precision, its trial could not tell an error from rounding
    cast("torch.nn.Module", model).to(getattr(torch, settings.dtype.value))
    context = resolve_context(settings.context, model)
    if decoder is None:
        logger.info("%s: %s writes one text at a time", name, type(model).__name__)
    else:
        size = settings.slots * context * decoder.values_of_token * model.dtype.itemsize
        logger.info(
            "%s: %s texts of %s tokens take up to %s beside the weights",
            name,
            settings.slots,
            context,
            render_bytes(size),
        )
    return Served(
        name=name,
        model=model,
        tokenizer=tokenizer,
        engine=Engine(model, decoder, Limits(settings.slots, settings.queue), turns, lane),
        context=context,
        examples=find_examples(checkpoint),
    )


def resolve_context(wanted: int | None, model: PreTrainedModel) -> int:
    """serve.context, or the positions of the model up to LONGEST_CONTEXT. Raises CheckpointError for more than it has."""
    positions = count_positions(model)
    if wanted is not None and wanted > positions:
        raise CheckpointError(f"serve.context={wanted}: the model has {positions} positions. Give at most {positions}.")
    return wanted or min(positions, LONGEST_CONTEXT)


def name_checkpoints(found: dict[str, Checkpoint]) -> dict[str, str]:
    """A short name for each checkpoint in `ckpt=`: name and date of its run, its folder, or its Hub id.

    A checkpoint without a unique short name keeps the one that was typed.
    """
    short = {ckpt: _name(each) for ckpt, each in found.items()}
    taken = list(short.values())
    return {ckpt: name if taken.count(name) == 1 else ckpt for ckpt, name in short.items()}


def _name(checkpoint: Checkpoint) -> str:
    path = Path(checkpoint.path)
    if not path.is_dir():
        return checkpoint.path
    folder = path.resolve()
    if checkpoint.run is None:
        return folder.name
    run = checkpoint.run.folder.resolve()
    own = f"{run.parent.name}/{run.name}"
    return own if folder.name == "model" else f"{own}/{folder.name}"


def find_examples(checkpoint: Checkpoint) -> list[str]:
    """Prompts to start with: those of the run, else those of the `widget` of the model card."""
    if checkpoint.run is not None:
        config = checkpoint.run.load_config()
        prompts = config.get("prompts") or config["data"].get("prompts") or []
    else:
        prompts = [each.get("text") for each in _load_widgets(Path(checkpoint.path) / "README.md")]
    return [str(prompt) for prompt in prompts if prompt][:SHOWN_EXAMPLES]


def _load_widgets(card: Path) -> list[dict[str, str]]:
    from huggingface_hub import ModelCard

    if not card.is_file():
        return []
    try:
        widgets = ModelCard.load(card).data.to_dict().get("widget")
    except (ValueError, OSError):  # a broken card of someone else
        return []
    return [each for each in widgets if isinstance(each, dict)] if isinstance(widgets, list) else []
