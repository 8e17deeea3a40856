"""Lines of metrics.jsonl and samples.jsonl, as far as a run wrote them.

A damaged line may still be an object, with a wrong key in it; it ends the file just as an invalid line does.
"""

import math
from itertools import takewhile
from pathlib import Path
from typing import Any

from lmtune.storage import load_jsonl


def load_metrics(file: Path) -> list[dict[str, Any]]:
    """Lines up to the first that is not of a step and its numbers; [] if there is no file."""
    return list(takewhile(_holds_numbers, load_jsonl(file))) if file.exists() else []


def load_samples(file: Path) -> list[dict[str, Any]]:
    """Lines up to the first that is not a step with its prompts and texts; [] if there is no file."""
    return list(takewhile(_holds_samples, load_jsonl(file))) if file.exists() else []


def _is_of_a_step(line: dict[str, Any]) -> bool:
    return isinstance(line.get("step"), int)


def _holds_numbers(line: dict[str, Any]) -> bool:
    """True for a step whose evaluation, if there is one, has a time and numbers, or null for those that are not finite."""
    timed = "eval_loss" not in line or _is_number(line.get("train_seconds"))
    numbers = (value for name, value in line.items() if name.startswith("eval_") or name == "epoch")
    return _is_of_a_step(line) and timed and all(value is None or _is_number(value) for value in numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _holds_samples(line: dict[str, Any]) -> bool:
    samples = line.get("samples")
    return _is_of_a_step(line) and isinstance(samples, list) and all(map(_is_sample, samples))


def _is_sample(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("prompt", "text"))
