"""`forgetting.*`: a budget for forgetting, and the old text that is replayed to keep it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtune.config.checks import require
from lmtune.config.data import MANY, DataConfig
from lmtune.config.keys import count, key
from lmtune.config.model import ModelInit, Transplant
from lmtune.config.ranges import check_ranges
from lmtune.errors import ConfigError, Gathering

if TYPE_CHECKING:
    from lmtune.config.train import TrainConfig

SELF = "self"
"""Value of `forgetting.replay` for text that the model writes itself."""
LARGEST_SHARE = 0.9
"""Largest share of old text in a step: nine old rows for each new one, so that a step takes ten times as long."""


@dataclass(kw_only=True, slots=True)
class ForgettingConfig:
    """A budget for forgetting, kept by replaying old text beside the new."""

    on: str | None = None
    """Data set that must not be forgotten, by group name: `forgetting.on=pt-wiki`. Its held-out part is scored at each evaluation,
    as those of `eval_data` are. Without it there is no budget."""
    budget: str = "1%"
    """Largest relative rise of its bits per byte over those of the untouched model: `1%` or `0.01`. It determines the share of old
    text in each step, anew at each evaluation; the best checkpoint is one that keeps the budget."""
    replay: str | None = key(None, words=(SELF,))
    """Where old text comes from: a group by name, or `self` for text that the untouched model writes before the first step. By
    default the training part of `forgetting.on`."""
    most: str = "50%"
    """Largest share of old text in a step, at most 90%. Old text is added to the new, of which nothing is left out: with one half,
    a step takes twice as long. The first share is a quarter, or this if it is less."""
    tokens: int | None = count(None, least=1, largest=MANY, unit="tokens")
    """replay=self: number of tokens to write. By default as many as the run could replay, at most 500,000; fewer
    are learned several times, which makes them worth less."""

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
        """The budget as a fraction."""
        return read_share("forgetting.budget", self.budget)

    @property
    def most_share(self) -> float:
        """The largest share of old text as a fraction."""
        return read_share("forgetting.most", self.most)

    @property
    def writes(self) -> bool:
        """True if the model writes the old text."""
        return self.on is not None and self.replay == SELF

    @property
    def source(self) -> str | None:
        """The group of the old text; None if there is none."""
        return None if self.writes else self.replay or self.on

    def check(self, config: "TrainConfig") -> None:
        """Raise ConfigError for settings that cannot be combined with a budget."""
        if self.on is None:
            return
        found = Gathering()
        for complaint in self._list_complaints(config):
            with found.noting():
                raise ConfigError(complaint)
        found.raise_all()

    def check_sets(self, config: "TrainConfig") -> None:
        """Raise ConfigError if a named data set is the training text under another name."""
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
        """Complaints about old text that the run trains on anyway."""
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
    """`1%` or `0.01` as a fraction. Raises ConfigError for anything else."""
    digits, percent = text.removesuffix("%"), text.endswith("%")
    try:
        share = float(digits) / (100 if percent else 1)
    except ValueError:
        share = float("nan")
    require(0 <= share < float("inf"), key, text, "a share, such as 1% or 0.01")
    return share
