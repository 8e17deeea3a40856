"""The result of a command."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Values = dict[str, Any] | list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """One answer in three forms: values for programs, lines for people, a number for a sweep."""

    values: Values
    """As format=json prints it; several prompts of `lmtune generate` make a list."""
    render: Callable[[], list[str]]
    """The lines that format=table prints."""
    objective: float | None = None
    """What a sweep minimises; None for commands that no sweep is run over."""
    hints: list[str] = field(default_factory=list)
    """What can be typed next: said on stderr, below the table."""
