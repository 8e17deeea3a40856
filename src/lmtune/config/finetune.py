"""`finetune=`: which parameters are trained, and when."""

from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from lmtune.config.checks import require
from lmtune.config.keys import Plain, count, key, number
from lmtune.config.ranges import check_ranges
from lmtune.config.training_arguments import PHASED
from lmtune.errors import ConfigError


class FinetuneMethod(Enum):
    """Which parameters are trained, and when."""

    full = "full"
    """All of them, from the first step."""
    gradual = "gradual"
    """Layer group by layer group, in phases."""
    lora = "lora"
    """A low-rank adapter."""


@dataclass(kw_only=True, slots=True)
class PhaseConfig:
    """One phase of finetune=gradual."""

    epochs: float = number(1.0, above=0, most=1_000_000)
    """Passes over the text."""
    groups: int = count(1, least=1)
    """Layer groups to train, counted from the top: 1 is embeddings, head and final norm."""
    learning_rate: float = number(1e-3, above=0)
    """Peak learning rate of the top group."""
    lowest_learning_rate: float | None = number(None, above=0)
    """Peak learning rate of the lowest group; those between have equal ratios. By default all groups have the same."""

    def __post_init__(self) -> None:
        check_ranges(self, "finetune.phases.")


@dataclass(kw_only=True, slots=True)
class FinetuneConfig:
    """Which parameters are trained."""

    name: str = "full"
    """Name of the group. Only a label: it selects nothing."""
    method: FinetuneMethod = FinetuneMethod.full
    """Which parameters are trained: all of them (full), layer group by layer group in phases (gradual), or a low-rank adapter
    (lora; needs the extra `lora`)."""
    block_groups: int = count(3, least=1)
    """gradual: number of equal groups of blocks; embeddings, head and final norm form one more group above them."""
    phases: list[PhaseConfig] = key(list)
    """gradual: the phases in order, each with a one-cycle schedule of its own: `finetune.phases=[{epochs: 1, groups: 1,
    learning_rate: 2e-3}, ...]`. `conf/finetune/gradual.yaml` has the four of GPorTuguese-2."""
    pct_start: float = number(0.25, least=0, most=1)
    """gradual: share of a phase in which the learning rate rises."""
    div: float = number(25.0, above=0)
    """gradual: the learning rate starts at its peak divided by this."""
    div_final: float = number(1e5, above=0)
    """gradual: the learning rate ends at its peak divided by this."""
    momentum: list[float] = number(lambda: [0.95, 0.85], least=0, below=1)
    """gradual: Adam's first beta at the lowest and at the peak learning rate."""
    rank: int = count(8, least=1, largest=2**16)
    """lora: rank of the adapter's matrices."""
    alpha: float = number(16.0, above=0)
    """lora: the update is scaled by alpha / rank."""
    dropout: float = number(0.0, least=0, below=1)
    """lora: dropout of the adapter's input."""
    target_modules: list[str] = key(list)
    """lora: names of the layers that get an adapter; by default all linear layers of the blocks."""
    embeddings: bool = False
    """lora: also train the whole embedding and head, tied as before."""
    merge: bool = key(True, always_asks=True)
    """lora: save the model with the adapter merged in, in float32; `false` saves only the adapter."""

    def __post_init__(self) -> None:
        check_ranges(self, "finetune.")
        require(len(self.momentum) == 2, "finetune.momentum", self.momentum, "two numbers, at least 0 and below 1")

    def check(self, training: Plain) -> None:
        """Raise ConfigError if `training` sets what the phases determine, unless to the same values."""
        if self.method is not FinetuneMethod.gradual:
            return
        require(bool(self.phases), "finetune.phases", self.phases, "one phase or more")
        if self._has_settled(training):
            return
        for name in PHASED:
            if training.get(name) is not None:
                raise ConfigError(
                    f"training.{name} is set, but with finetune=gradual the phases own epochs, learning rate and schedule. "
                    "Set finetune.phases=[{epochs: 1, groups: 1, learning_rate: 1e-3}, ...] instead, or use finetune=full."
                )
        if training.get("ddp_find_unused_parameters") is False:
            raise ConfigError(
                "training.ddp_find_unused_parameters=false: with finetune=gradual, groups that do not learn yet get no "
                "gradient, so expected true. Leave it out."
            )

    def leave_out_phased(self, training: Plain) -> Plain:
        """`training` without what the phases determine; unchanged for other methods."""
        phased = PHASED if self.method is FinetuneMethod.gradual else ()
        return {name: value for name, value in training.items() if name not in phased}

    def settle_phases(self, training: Plain) -> None:
        """Set in `training` what the phases determine; does nothing for other methods."""
        if self.method is FinetuneMethod.gradual and not self._has_settled(training):
            for name in PHASED:
                training.pop(name, None)
            training |= self._build_arguments()

    def _has_settled(self, training: Plain) -> bool:
        return self._build_arguments().items() <= training.items()

    def _build_arguments(self) -> Plain:
        """Training arguments that follow from the phases."""
        *_, epochs = accumulate(phase.epochs for phase in self.phases)
        return {
            "num_train_epochs": epochs,
            "learning_rate": max(phase.learning_rate for phase in self.phases),
            "lr_scheduler_type": "constant",  # lmtune sets the rates before each step
            "ddp_find_unused_parameters": True,  # frozen parameters get no gradient
        }
