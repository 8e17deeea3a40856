"""`forgetting.*`: how much of what the model knew a training may cost, and the text that keeps it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtune.config.checks import require
from lmtune.config.data import MANY, DataConfig
from lmtune.config.keys import count
from lmtune.config.model import ModelInit, Transplant
from lmtune.config.ranges import check_ranges
from lmtune.errors import ConfigError, Gathering

if TYPE_CHECKING:
    from lmtune.config.train import TrainConfig

SELF = "self"
"""As `forgetting.replay`: text that the model writes itself."""
LARGEST_SHARE = 0.9
"""Largest share of old text in a step: with it nine old rows come to each new one, and a step takes ten times as long."""


@dataclass(kw_only=True, slots=True)
class ForgettingConfig:
    """A budget for what a training may forget, held by old text that is learned again beside the new."""

    on: str | None = None
    """The text that is not to be forgotten, by the name of its group: `forgetting.on=pt-wiki`. Its held-out part is scored at each
    evaluation, as that of `eval_data`; without it there is no budget."""
    budget: str = "1%"
    """How much its bits per byte may rise over those of the untouched model: `1%` or `0.01`. What share of each step is old
    text follows from it, anew at each evaluation; the best checkpoint is one of those that keep it."""
    replay: str | None = None
    """Where old text comes from: the name of a group, or `self` for text that the untouched model writes before the first
    step. By default the training part of `forgetting.on`."""
    most: str = "50%"
    """The largest share of old text in a step, at most 90%. It comes on top of the new text, of which nothing is left out: a
    half makes a step twice as long. The first share is a quarter, or this if it is less."""
    tokens: int | None = count(None, least=1, largest=MANY, unit="tokens")
    """replay=self: how many are written. By default as many as the run replays at a share of a quarter, at most
    500,000."""

    def __post_init__(self) -> None:
        check_ranges(self, "forgetting.")
        rise, most = self.rise, self.most_share
        require(rise > 0, "forgetting.budget", self.budget, "a share above 0, such as 1% or 0.01")
        require(
            0 < most <= LARGEST_SHARE,
            "forgetting.most",
            self.most,
            f"a share above 0 and at most {LARGEST_SHARE:.0%}, such as 50% or 0.5",
        )

    @property
    def rise(self) -> float:
        """The budget as a part of 1."""
        return read_share("forgetting.budget", self.budget)

    @property
    def most_share(self) -> float:
        """The largest share of old text as a part of 1."""
        return read_share("forgetting.most", self.most)

    @property
    def writes(self) -> bool:
        """True where the model writes the old text."""
        return self.on is not None and self.replay == SELF

    @property
    def source(self) -> str | None:
        """The group of the old text; None where there is none."""
        return None if self.writes else self.replay or self.on

    def check(self, config: "TrainConfig") -> None:
        """Raise ConfigError for what the budget cannot be held beside."""
        if self.on is None:
            return
        found = Gathering()
        for complaint in self._list_complaints(config):
            with found.noting():
                raise ConfigError(complaint)
        found.raise_all()

    def check_sets(self, config: "TrainConfig") -> None:
        """Raise ConfigError where what is named is the text that is learned, under another name."""
        sets = config.eval_sets | config.replay_sets
        for name, value in (("on", self.on), ("replay", self.replay)):
            if value in sets and sets[value].origin == config.data.origin:
                raise ConfigError(_ask_for_older(name, value))

    def _list_complaints(self, config: "TrainConfig") -> Iterator[str]:
        data, training = config.data, config.training
        yield from self._list_complaints_of_text(data)
        if config.model.init is ModelInit.scratch:
            yield "forgetting.on needs a model that knows something, found model.init=scratch. Leave one of the two out."
        if config.model.transplant is not Transplant.off:
            yield (
                "forgetting.on compares with the untouched model, found model.transplant=, after which there is none. Move the "
                "vocabulary in a run of its own, and set the budget in the next."
            )
        for name in ("fsdp", "deepspeed"):
            if training.get(name):
                yield f"forgetting.on has not been tried with training.{name}, expected whole weights. Leave one of the two out."
        if training.get("eval_strategy") == "no":
            yield "forgetting.on needs evaluations, which tell what is forgotten, found training.eval_strategy=no. Leave it out."
        if not data.holds_out:
            yield (
                "forgetting.on needs held-out text of data= too, which tells what is learned, found none. Give "
                "data.validation_fraction=0.05."
            )
        if self.writes and data.isolate_documents:
            yield (
                "forgetting.replay=self and data.isolate_documents=true do not go together, found both: what is written runs over "
                "the ends of documents. Name a text in forgetting.replay=, or leave the other out."
            )

    def _list_complaints_of_text(self, data: DataConfig) -> Iterator[str]:
        """Text that cannot be the old one, since the run learns it anyway."""
        for name, value in (("on", self.on), ("replay", self.replay)):
            if value == data.name:
                yield _ask_for_older(name, value)
        if self.source in data.mix and self.source != data.name:
            yield (
                f"forgetting.{'on' if self.replay is None else 'replay'}={self.source}: expected text that is learned again as the "
                f"budget asks, found that data.mix learns it anyway. Leave {self.source} out of data.mix, or watch it alone: "
                f"eval_data=[{self.source}]."
            )


def _ask_for_older(name: str, value: str | None) -> str:
    return f"forgetting.{name}={value}: expected older text than what is learned, found that of data=. Name another."


def read_share(key: str, text: str) -> float:
    """`1%` or `0.01` as a part of 1. Raises ConfigError for anything else."""
    digits, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(digits) / (100 if percent else 1)
    except ValueError:
        share = float("nan")
    require(0 <= share < float("inf"), key, text, "a share, such as 1% or 0.01")
    return share
