"""When keys of a budget for forgetting have no effect."""

from collections.abc import Callable, Mapping

from lmtune.config import TrainConfig
from lmtune.config.conditions import Idle
from lmtune.upstream import Typed

ForgettingRule = Callable[[TrainConfig, Typed], Idle | None]


def _if_watched(config: TrainConfig, typed: Typed) -> Idle | None:
    if config.forgetting.on is not None:
        return None
    remedy = "Leave it out, or name the text that is not to be forgotten: forgetting.on=pt-wiki."
    return Idle("there is no budget without forgetting.on=", remedy, "forgetting.on")


def _if_written(config: TrainConfig, typed: Typed) -> Idle | None:
    if config.forgetting.writes or config.forgetting.on is None:
        return _if_watched(config, typed)
    return Idle("nothing is written", "Leave it out, or give forgetting.replay=self.", "forgetting.replay")


FORGETTING_RULES: Mapping[str, ForgettingRule] = {"forgetting": _if_watched, "forgetting.tokens": _if_written}
