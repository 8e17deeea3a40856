"""When keys of the model card, and of pushing it, have no effect."""

from collections.abc import Callable, Mapping

from lmtune.cli.effects.text_rules import by
from lmtune.config import ModelInit, PushConfig, TrainConfig
from lmtune.config.card import OF_PUSH
from lmtune.config.checks import is_there
from lmtune.config.conditions import LEAVE_ONE, Idle, if_published
from lmtune.upstream import Typed


def _if_base_is_on_hub(config: TrainConfig, typed: Typed) -> Idle | None:
    path = config.model.path
    if config.model.init is ModelInit.pretrained and path is not None and not is_there(path):
        return None
    return Idle("the model card names a base model only where that is on the Hub", "Leave it out; see card.*.", "model")


def _if_asked(config: PushConfig, typed: Typed) -> Idle | None:
    return Idle("dry_run=true asks nobody", LEAVE_ONE, "dry_run") if config.dry_run else None


CARD_RULES: Mapping[str, Callable[[TrainConfig, Typed], Idle | None]] = {
    **dict.fromkeys((f"card.{name}" for name in OF_PUSH), by(if_published)),
    **dict.fromkeys(("model.license", "model.citation"), _if_base_is_on_hub),
}
"""Rules of a training."""

PUSH_RULES: Mapping[str, Callable[[PushConfig, Typed], Idle | None]] = dict.fromkeys(
    ("branch", "public", "card.overwrite"), _if_asked
)
"""Rules of `lmtune push`."""
