"""Configuration of `lmtune train` and `lmtune lr-find`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from omegaconf import MISSING

from lmtune.config.audit import CanaryConfig
from lmtune.config.card import CardConfig
from lmtune.config.checks import CommandConfig, require
from lmtune.config.commands import OutputFormat
from lmtune.config.conditions import evaluation_strategy_of, setting
from lmtune.config.data import DataConfig
from lmtune.config.evaluation import EvalConfig
from lmtune.config.finetune import FinetuneConfig, FinetuneMethod
from lmtune.config.forgetting import ForgettingConfig
from lmtune.config.generation import check_generation, settle_generation
from lmtune.config.keys import Facts, count, facts_of, key, number, seed, walk
from lmtune.config.lanes import check_lanes
from lmtune.config.model import ModelConfig
from lmtune.config.optimizers import SCHEDULE_FREE
from lmtune.config.pages import ReportConfig
from lmtune.config.ranges import check_ranges
from lmtune.config.sharding import check_sharding
from lmtune.config.training import (
    AverageConfig,
    BatchConfig,
    EarlyStoppingConfig,
    SamplesConfig,
    TrackerConfig,
    check_best,
    check_phased_optimizer,
    check_schedule_free,
    check_training,
    settle_training,
)
from lmtune.config.training_arguments import ARGUMENTS, HOMES, Argument
from lmtune.errors import ConfigError, Gathering
from lmtune.measures import MEASURES
from lmtune.upstream import explain_word, find_nearest

FORECAST_SHARES = (0.03, 0.06, 0.12, 0.24, 0.48)
"""Probe lengths, as shares of the planned steps, that the forecast is calibrated for."""


@dataclass(kw_only=True, slots=True)
class SweepConfig:
    """The jobs of `lmtune train -m`."""

    jobs: int | None = count(None, least=1, most=1024)
    """How many jobs run at once, each in its own process; by default one per GPU, or one on a machine without. Several jobs share
    the CPU threads evenly unless `OMP_NUM_THREADS` is set."""

    def __post_init__(self) -> None:
        check_ranges(self, "sweep.")


class Twin(NamedTuple):
    """A training argument for which lmtune has a key of its own."""

    name: str
    home: str
    """The dotted name of that key."""
    value: Any


@dataclass(kw_only=True, slots=True)
class TrainConfig(CommandConfig):
    """`lmtune train`."""

    name: str | None = key(None, literal=True, weights=False)
    """Name of the folder below outputs/, which gets one folder per run; by default `<data>-<model>`."""
    output: str | None = key(None, literal=True, weights=False, anew=True, one_per_job=True, of_start=True)
    """The run folder itself, instead of `outputs/<name>/<date>`."""
    seed: int = seed(42)
    """Seed of new weights, the order of rows and dropout. The held-out split has a seed of its own, `data.seed`."""
    resume: str = key(
        "off", words=("off", "auto"), literal=True, weights=False, anew=True, of_start=True, names_run="model"
    )
    """Run to resume: `off`, `auto` (the newest run with the same name and configuration, or a new one if there is none) or a run
    folder."""
    resume_force: bool = key(False, weights=False, anew=True, of_start=True)
    """Resume even if settings that change the result differ from those of the run."""
    stop_on_failed_save: bool = key(False, weights=False)
    """End the run if a checkpoint cannot be saved. By default a warning is logged and the next save tries again."""
    check_weights: bool = key(True, weights=False)
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""
    format: OutputFormat = key(OutputFormat.table, weights=False, anew=True)
    """What is written to stdout: a table for people, or one JSON document."""
    objective: str = key("bits_per_byte", weights=False, anew=True)
    """Metric that a sweep minimises: one of the first evaluation set, or `<set>.<metric>`."""
    private: bool = key(False, weights=False)
    """Show no text of the corpus or the model on stdout, on stderr or in pages, and push nothing. Files that the run needs, such as
    samples.md, still contain it."""
    prompts: list[str] = key(list, literal=True, several=True, weights=False, follows="data.prompts")
    """Prompts that the model continues at each evaluation; by default `data.prompts`."""
    eval_data: list[str] = key(list, several=True)
    """Additional data sets to evaluate on, by group name: `eval_data=[pt-wiki,wikitext]`."""
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    finetune: FinetuneConfig = MISSING
    tracker: TrackerConfig = key(MISSING, weights=False)
    training: dict[str, Any] = key(dict, names="training")
    generation: dict[str, Any] = key(dict, names="generation", weights=False)
    batch: BatchConfig = key(BatchConfig)
    eval: EvalConfig = key(EvalConfig)
    early_stopping: EarlyStoppingConfig = key(EarlyStoppingConfig)
    average: AverageConfig = key(AverageConfig)
    forgetting: ForgettingConfig = key(ForgettingConfig)
    audit: CanaryConfig = key(CanaryConfig)
    samples: SamplesConfig = key(SamplesConfig, weights=False)
    card: CardConfig = key(CardConfig, weights=False, anew=True)
    report: ReportConfig = key(ReportConfig, weights=False)
    sweep: SweepConfig = key(SweepConfig, weights=False, anew=True)
    eval_sets: dict[str, DataConfig] = key(dict, internal=True)
    """The data sets named by eval_data and forgetting.on."""
    mixed_sets: dict[str, DataConfig] = key(dict, internal=True)
    """The data sets named by data.mix, except that of `data=` itself."""
    replay_sets: dict[str, DataConfig] = key(dict, internal=True)
    """The data set that old text is replayed from, if it comes from one."""
    groups: dict[str, str] = key(dict, internal=True, weights=False, anew=True)
    """The choice made for each group."""
    job_folder: str | None = key(None, internal=True, weights=False, anew=True)
    """The run folder, if a sweep sets it."""

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before anything is loaded."""
        found = Gathering()
        for check in (
            lambda: check_training(self.finetune.leave_out_phased(self.training)),
            lambda: check_generation(self.generation),
            lambda: check_ranges(self, ""),
            lambda: require(bool(self.resume), "resume", self.resume, "off, auto or a run folder"),
        ):
            with found.noting():
                check()
        found.raise_all()  # contradictions can be looked for only among sound values
        for check in (
            self.data.check_source,
            self.model.check_source,
            self._check_streaming,
            lambda: self.finetune.check(self.training),
            self.tracker.check,
            self.card.check_license,
            self._check_twins,
            lambda: check_best(self),
            lambda: check_schedule_free(self),
            lambda: check_phased_optimizer(self),
            lambda: check_sharding(self),
            lambda: check_lanes(self),
            self._check_measures,
            self._check_patience,
            self._check_average,
            lambda: self.forgetting.check(self),
        ):
            with found.noting():
                check()
        found.raise_all()

    def _check_patience(self) -> None:
        """Raise ConfigError for early stopping without evaluations."""
        if self.early_stopping.patience and (self.training.get("eval_strategy") == "no" or not self.evaluates):
            raise ConfigError(
                "early_stopping.patience needs evaluations, found training.eval_strategy=no or nothing held out. "
                "Choose one of the two."
            )

    def _check_average(self) -> None:
        """Raise ConfigError for averaging without held-out text to judge the result, or with sharded weights."""
        if self.average.last is None:
            return
        if not self.evaluates:
            raise ConfigError(
                "average.last needs held-out text, which tells whether the average is better, found nothing held out. Choose one "
                "of the two."
            )
        for name in ("fsdp", "deepspeed"):
            if self.training.get(name):
                raise ConfigError(
                    f"average.last needs whole weights in each process, found training.{name}, which divides them. Choose one of "
                    "the two."
                )

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Fill in values that follow from others, once all have been checked.

        typed: keys given on the command line.
        """
        self.data.anchor()
        self.model.anchor()
        self.finetune.settle_phases(self.training)
        settle_training(self.training)
        settle_generation(self.generation, typed)
        for twin in self._list_twins():
            section, own = self._home_of(twin)
            setattr(section, own, twin.value)
        for name in HOMES:
            self.training.pop(name, None)

    @property
    def evaluates(self) -> bool:
        """True if there is held-out text to score while training."""
        return self.data.holds_out or bool(self.watched)

    @property
    def watched(self) -> list[str]:
        """Data sets to score besides that of `data=`: those of eval_data and forgetting.on."""
        on = self.forgetting.on
        return self.eval_data if on is None or on in self.eval_data else [*self.eval_data, on]

    @property
    def goldfish(self) -> int | None:
        """One in this many targets is left out of the loss; None if all are learned."""
        return self.training.get("goldfish")

    @property
    def muon(self) -> bool:
        """True if the matrices of the blocks are moved by Muon."""
        return bool(self.training.get("muon"))

    @property
    def averages_itself(self) -> bool:
        """True if the optimizer averages the weights."""
        return setting(self, "optim") in SCHEDULE_FREE

    @property
    def saves_twice(self) -> bool:
        """True if a checkpoint holds the trained weights once more: an average, or what it is taken of."""
        return self.average.last is not None or self.averages_itself

    def _check_measures(self) -> None:
        """Raise ConfigError for an objective, or a metric of the best model, that no evaluation computes."""
        sets = [self.data.name, *self.watched]
        name, _, measure = self.objective.rpartition(".")
        if measure not in MEASURES or ("." in self.objective and name not in sets):
            nearest = find_nearest(
                self.objective, [*MEASURES, *(f"{each}.{word}" for each in sets for word in MEASURES)]
            )
            raise ConfigError(
                f"objective={self.objective}: expected one of {', '.join(MEASURES)}, or <set>.<measure> with a set of "
                f"{', '.join(sets)}." + (f" Did you mean objective={nearest}?" if nearest else "")
            )
        metric = self.training.get("metric_for_best_model")
        if metric is not None and evaluation_strategy_of(self) != "no" and metric.removeprefix("eval_") not in MEASURES:
            raise ConfigError(explain_word("training.metric_for_best_model", metric, MEASURES))

    def _check_streaming(self) -> None:
        if not self.data.streaming:
            return
        if self.finetune.method is FinetuneMethod.gradual:
            raise ConfigError(
                "data.streaming=true and finetune=gradual do not go together, found both: phases last epochs, and nobody knows how "
                "long a stream is. Choose one of the two."
            )
        if self._count_steps() < 1:
            raise ConfigError(
                "data.streaming=true needs training.max_steps=, since nobody knows how long the text is. "
                "Say how many steps to train."
            )
        if self.audit.canaries is not None:
            raise ConfigError(
                "audit.canaries and data.streaming=true do not go together, found both: canaries are spread over a text whose "
                "length is known. Choose one of the two."
            )
        if self.training.get("dataloader_num_workers"):
            raise ConfigError(
                "training.dataloader_num_workers: expected 0 with data.streaming=true, which reads and encodes in the process that "
                "trains, so that its position can be saved. Leave it out."
            )

    def _count_steps(self) -> int:
        """Steps of the run; -1 if epochs decide."""
        return self.training.get("max_steps") or -1

    def _list_twins(self) -> Iterator[Twin]:
        for name, home in HOMES.items():
            value = self.training.get(name)
            if isinstance(value, list):  # report_to takes one or several
                value = value[0] if len(value) == 1 else value
            if value is not None:
                yield Twin(name, home, value)

    def _home_of(self, twin: Twin) -> "tuple[TrainConfig | TrackerConfig, str]":
        """(section, name) of lmtune's own key for the same setting."""
        section, _, own = twin.home.rpartition(".")
        return getattr(self, section) if section else self, own

    def _check_twins(self) -> None:
        """Raise ConfigError for a training argument that contradicts lmtune's own key for the same setting."""
        untouched = TrainConfig(tracker=TrackerConfig())
        for twin in self._list_twins():
            current, usual = (getattr(*config._home_of(twin)) for config in (self, untouched))
            if current not in (usual, twin.value):
                own = twin.home.removesuffix(".name")
                raise ConfigError(
                    f"{own}={current} and training.{twin.name}={twin.value} differ; they mean the same. Keep {own}=."
                )


def list_keys(holds: Callable[[Facts | Argument], bool]) -> list[str]:
    """Dotted keys of a training for which `holds` is true, internal fields included; a section stands for all keys below it."""
    own = [name for name, item in walk(TrainConfig, internal=True) if holds(facts_of(item))]
    return [*own, *(f"training.{name}" for name, argument in ARGUMENTS.items() if holds(argument))]


FOLLOWERS = {
    **{f"training.{name}": argument.follows for name, argument in ARGUMENTS.items() if argument.follows},
    **{name: facts_of(item).follows for name, item in walk(TrainConfig) if facts_of(item).follows},
}
"""Keys that take over the value of another unless they are set, each with that other, which nothing else reads."""


@dataclass(kw_only=True, slots=True)
class RangeConfig:
    """The LR range test (Smith 2017, arXiv:1506.01186)."""

    start: float = number(1e-7, least=1e-30)
    """The first learning rate."""
    end: float = number(1.0, above=0, most=1e30)
    """The last learning rate, above `range.start`."""
    steps: int = count(100, least=10)
    """Steps of the test, in which the rate grows from start to end by equal ratios. It ends early once the loss is four times the
    lowest."""
    phase: int = count(1, least=1)
    """With finetune=gradual: the phase whose layer groups are trained, counted from 1."""

    def __post_init__(self) -> None:
        check_ranges(self, "range.")
        require(self.start < self.end, "range.start", self.start, f"less than range.end={self.end}")


@dataclass(kw_only=True, slots=True)
class LrFindConfig(TrainConfig):
    """`lmtune lr-find`: the configuration of `lmtune train`, and the range to try."""

    range: RangeConfig = key(RangeConfig)

    def check_settings(self) -> None:
        """As lmtune train does; also raise ConfigError for a phase that does not exist."""
        TrainConfig.check_settings(self)
        phases = max(1, len(self.finetune.phases))
        require(self.range.phase <= phases, "range.phase", self.range.phase, f"at most {phases}, the last phase")

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """As lmtune train does; a stream is as long as the test."""
        TrainConfig.resolve(self, typed)
        if self.data.streaming:
            self.training["max_steps"] = self.range.steps

    def _count_steps(self) -> int:
        return self.range.steps


@dataclass(kw_only=True, slots=True)
class ForesightConfig:
    """What `lmtune check` measures and forecasts."""

    forecast: bool = False
    """Forecast the final held-out bits per byte, with a 90 % interval, from the first steps of three runs: at this learning rate,
    at half of it and at twice it. Only for small models like those in docs/benchmarks.md; for others the reason is given
    instead."""
    forecast_share: float = number(FORECAST_SHARES[0], above=0, most=FORECAST_SHARES[-1])
    """Share of the planned steps that each of the three runs takes: 0.03, 0.06, 0.12, 0.24 or 0.48. A larger share narrows the
    interval."""
    probe: bool = True
    """Take a few real steps, score part of the held-out text and save once, to measure time and memory; none of it is kept."""
    steps: int = count(8, least=3)
    """Steps of the probe; fewer if they have taken `check.seconds`."""
    seconds: float = number(60.0, above=0, unit="seconds")
    """Time limit for the steps of the probe; the first two are always taken."""
    devices: int | None = count(None, least=1)
    """Also estimate steps and time for this many devices, each with as many rows as this one."""
    price_per_hour: float | None = number(None, least=0)
    """Price of one device per hour, in any currency, to estimate the cost."""
    watts: float | None = number(None, least=0, unit="watts")
    """Power that one device draws during training, to estimate the energy."""

    def __post_init__(self) -> None:
        check_ranges(self, "check.")
        shares = ", ".join(map(str, FORECAST_SHARES))
        require(self.forecast_share in FORECAST_SHARES, "check.forecast_share", self.forecast_share, f"one of {shares}")


@dataclass(kw_only=True, slots=True)
class CheckConfig(TrainConfig):
    """`lmtune check`: the configuration of `lmtune train`, and what to measure."""

    check: ForesightConfig = key(ForesightConfig)
    origins: dict[str, str] = key(dict, internal=True)
    """Where the value of each key comes from, for keys that do not have their default."""
