"""Ranges of numbers, kept beside the fields that hold them (see keys.py), and the function that checks them all.

nan and infinity are never inside a range.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING

from lmtune.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LARGEST = 2**31 - 1
"""The largest whole number that every library takes: their indices and sizes have 32 bits."""

LARGEST_SEED = 2**32 - 1
"""The largest seed that NumPy takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """The numbers that a setting takes; without bounds, all finite ones."""

    least: float | None = None
    above: float | None = None
    """Exclusive lower bound."""
    most: float | None = None
    below: float | None = None
    """Exclusive upper bound."""
    whole: bool = False
    steps: bool = False
    """Values below 1 are a share of the run; from 1 on, a whole number of steps."""
    largest: int = LARGEST
    """Upper bound of whole numbers that have no other."""
    unit: str = ""
    zero: str = ""
    """What 0 means: off, all."""
    special: Mapping[float, str] = field(default_factory=dict)
    """Values outside the range that have a meaning, with its description: {-1: "-1 for whole epochs"}."""
    remedy: str = ""
    """What to do instead, as a sentence."""

    def find_fault(self, value: object) -> str | None:
        """What was expected, for a value outside the range; None for one inside."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"a number, {self.render()}"
        if value in self.special:
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return ", ".join(dict.fromkeys(["a finite number", self.render().replace("a number", "a finite number")]))
        if self.steps and value > 1 and value != int(value):
            return "a share of the run below 1, or a whole number of steps"
        if self.whole and value != int(value):
            return f"a whole number, {self.render()}"
        if self.whole and value > self.largest and self.most is None:
            return f"at most {self.largest}"
        return None if self._holds(value) else self.render()

    def render(self) -> str:
        """The range in words: `1 or more tokens`, `at least 0 and below 1`."""
        return ", or ".join([" ".join(filter(None, [self._render_bounds(), self.unit])), *self.special.values()])

    def _render_bounds(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.least is not None and self.most is not None:
            return f"{kind} from {self.least} to {self.most}"
        if self.whole and self.least is not None:
            return f"{self.least}{f' ({self.zero})' if self.zero else ''} or more"
        lower = "" if self.least is None else f"at least {self.least}"
        lower = lower if self.above is None else f"more than {self.above}"
        upper = "" if self.most is None else f"at most {self.most}"
        upper = upper if self.below is None else f"below {self.below}"
        return " and ".join(filter(None, [lower, upper])) or kind

    def _holds(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


def check_number(key: str, value: object, allowed: Range) -> None:
    """Raise ConfigError for a number, or one of a list, outside its range."""
    for each in value if isinstance(value, list) else [value]:
        fault = None if each is None else allowed.find_fault(each)
        if fault is not None:
            raise ConfigError(
                " ".join(filter(None, [f"{key}={render_value(value)}: expected {fault}.", allowed.remedy]))
            )


def check_ranges(section: "DataclassInstance", prefix: str) -> None:
    """Raise ConfigError for the first number of a dataclass outside the range of its field."""
    for item in fields(section):
        if "range" in item.metadata:
            check_number(prefix + item.name, getattr(section, item.name), item.metadata["range"])


def render_value(value: object) -> str:
    """A value as it is typed: `true`, `null`, `[0.5,1.0]`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list):
        return f"[{','.join(map(render_value, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{render_value(part)}" for name, part in value.items()) + "}"
    return str(value)
