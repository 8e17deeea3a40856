"""Keys and values of rows that join, grow by a token at each step, and leave; left-padded to the longest row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

States: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Keys and values."""

ROOM = 64
"""Columns added when there is no room left. Adding one at a time would copy all keys and values at each step."""


class RoomyLayer(DynamicLayer):
    """Keys and values, [rows, heads, columns, width], with free columns allocated after them."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> States:
        """Append columns, as a model does in its forward pass; return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.fill(key_states, value_states)
            return self.states
        begin = self.states[0].shape[-2]
        end = begin + key_states.shape[-2]
        if end > self._keys.shape[-2]:
            self.fill(*self.states, room=end + ROOM)
        self._keys[..., begin:end, :], self._values[..., begin:end, :] = key_states, value_states
        self._show(end)
        return self.states

    @property
    def states(self) -> States:
        """All keys and all values."""
        return cast("States", (self.keys, self.values))

    def fill(self, keys: torch.Tensor, values: torch.Tensor, room: int = 0) -> None:
        """Store these. room: columns to allocate, including those of the keys; by default ROOM more than these."""
        columns = keys.shape[-2]
        shape = (*keys.shape[:2], room or columns + ROOM)
        self._keys, self._values = (each.new_zeros((*shape, each.shape[3])) for each in (keys, values))
        self._keys[..., :columns, :], self._values[..., :columns, :] = keys, values
        self._show(columns)

    def _show(self, columns: int) -> None:
        self.keys, self.values = self._keys[..., :columns, :], self._values[..., :columns, :]


class RowCache(Cache):
    """The cache of several rows. Columns before the first token of a row are padding, which nothing attends to."""

    def __init__(self, depth: int, pads: list[int]) -> None:
        self.roomy = [RoomyLayer() for _ in range(depth)]
        super().__init__(layers=list(self.roomy))
        self.pads = pads
        """Columns of padding of each row."""

    @property
    def columns(self) -> int:
        """Tokens of the longest row."""
        return self.roomy[0].get_seq_length() if self.pads else 0

    @property
    def values_of_token(self) -> int:
        """Numbers stored per token of a row."""
        return sum(states.shape[1] * states.shape[3] for layer in self.roomy for states in layer.states)

    def join(self, other: RowCache) -> None:
        """Append the rows of another cache."""
        width = max(self.columns, other.columns)
        grown = [
            _stack(one.states, another.states, width) for one, another in zip(self.roomy, other.roomy, strict=True)
        ]
        pads = [pad + width - cache.columns for cache in (self, other) for pad in cache.pads]
        for layer, states in zip(self.roomy, grown, strict=True):  # only once all are allocated
            layer.fill(*states)
        self.pads = pads

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows, and columns that none of the rest needs. rows: at least one, in order."""
        first = min(self.pads[row] for row in rows)
        for layer in self.roomy:
            keys, values = layer.states
            layer.fill(keys[rows, :, first:], values[rows, :, first:])
        self.pads = [self.pads[row] - first for row in rows]


def _stack(one: States, another: States, width: int) -> States:
    keys, values = (
        torch.cat([_pad(upper, width), _pad(lower, width)]) for upper, lower in zip(one, another, strict=True)
    )
    return keys, values


def _pad(states: torch.Tensor, width: int) -> torch.Tensor:
    """[rows, heads, width, size]: zeros in front."""
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[-2], 0))


def count_layers(model: PreTrainedModel) -> int | None:
    """Layers whose keys and values can be kept in a RowCache; None for a model with another kind of cache."""
    supports = cast("Callable[[], bool]", model._supports_default_dynamic_cache)
    if not supports():
        return None
    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    return len(layers) if layers and all(type(layer) is DynamicLayer for layer in layers) else None
