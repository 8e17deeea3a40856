"""`shard=K/N`: a text prepared in parts, each by itself."""

import re
from typing import NamedTuple

from lmtune.config.checks import require
from lmtune.config.data import DataConfig, SplitRule
from lmtune.errors import ConfigError

MOST_PARTS = 1_000_000


class Shard(NamedTuple):
    """One of several parts."""

    number: int
    """Number of the part, from 1."""
    of: int


def read_shard(given: str) -> Shard:
    """The part that `shard=3/8` names. Raises ConfigError for anything else."""
    match = re.fullmatch(r"(\d{1,7})/(\d{1,7})", given)
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    fits = 1 <= shard.number <= shard.of <= MOST_PARTS
    require(fits, "shard", given, "the number of a part and how many there are, such as shard=1/8 up to shard=8/8")
    return shard


def check_divisible(data: DataConfig, key: str) -> None:
    """Raise ConfigError for settings by which a part of the text depends on the others. key: `shard` or `merge`."""
    depend = {
        "data.deduplicate=true": data.deduplicate,
        f"data.max_documents={data.max_documents}": data.max_documents is not None,
        f"data.max_bytes={data.max_bytes}": data.max_bytes is not None,
        "data.split_by=stretches": data.split_by is SplitRule.stretches,
        "data.packing=false": not data.packing,
        "data.mix": bool(data.mix),
    }
    found = [name for name, given in depend.items() if given]
    if found:
        raise ConfigError(
            f"{key}= is for text whose parts do not depend on each other, found {found[0]} (data={data.name}). "
            f"Leave it out, or prepare the text in one process, without {key}=."
        )
