"""The settings in config.yaml as dotted keys."""

from collections.abc import Iterable

from lmtune.storage import Record


def flatten(values: Record, prefix: str = "") -> Record:
    """Nested keys as dotted ones."""
    flat: Record = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def leave_out(plain: Record, names: Iterable[str]) -> Record:
    """Settings by dotted key, without these keys and those below them."""
    without = tuple(names)
    return {key: value for key, value in flatten(plain).items() if not is_below(key, without)}


def is_below(key: str, names: Iterable[str]) -> bool:
    """True for one of these keys, and for a key below one."""
    return any(key == name or key.startswith(name + ".") for name in names)
