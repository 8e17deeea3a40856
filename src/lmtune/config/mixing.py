"""The other sources of data.mix, as they are read beside that of `data=`."""

from dataclasses import replace

from lmtune.config.data import DataConfig
from lmtune.errors import ConfigError


def resolve_mixed(lead: DataConfig, other: DataConfig) -> DataConfig:
    """Another source of the mixture of `lead`: a stream if `lead` is one, unless data.prepared names it.

    Raises ConfigError if it cannot be streamed.
    """
    if not lead.streaming:
        return other
    if other.name in lead.prepared:
        return replace(other, streaming=False)
    try:
        return replace(other, streaming=True, packing=True, lanes=lead.lanes, shuffle_blocks=lead.shuffle_blocks)
    except ConfigError as error:
        raise ConfigError(
            f"data.mix cannot stream {other.name}: {error} Or prepare it whole: data.prepared=[{other.name}]."
        ) from error
