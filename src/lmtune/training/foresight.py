"""What a training will do, computed before its first step from what has been loaded; nothing is run."""

import math
import shutil
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.config import ForesightConfig, RangeConfig
from lmtune.data.blocks import Blocks
from lmtune.runs.settings import flatten
from lmtune.storage import Record
from lmtune.training.arguments import (
    build_schedule,
    count_devices,
    count_rows_per_step,
    name_of,
    name_precision,
    settle_intervals,
)
from lmtune.training.cross_checks import list_warnings
from lmtune.training.disk import check_disk, estimate_run_disk
from lmtune.training.memory import estimate_memory, measure_free_memory
from lmtune.versions import get_argument

if TYPE_CHECKING:
    from lmtune.training.held_out import HeldOut
    from lmtune.training.setup import Setup
    from lmtune.training.trainer import LmTrainer

POINTS = 40
"""Points of the learning-rate curve."""


@dataclass(frozen=True, slots=True)
class Course:
    """How long a training is, and what interrupts it."""

    steps: int
    """Steps of the whole run."""
    first: int
    """The step from which it goes on, 0 at its start."""
    steps_per_epoch: int
    tokens_per_step: int
    """At most: the last batch of an epoch may be shorter."""
    targets_per_epoch: int | None
    """None for text of unknown length."""
    evaluations: int
    """Evaluations that are left, the one before the first step and the last one included."""
    saves: int
    """Checkpoints that are left to write."""
    share_learned: float = 1.0
    """Fraction of the tokens of a step that are learned; training.goldfish leaves out the others."""
    targets_of_rest: int | None = None
    """Tokens that the steps behind the last whole epoch learn, where the order of rows tells; None where it does not."""

    @property
    def left(self) -> int:
        return self.steps - self.first

    @property
    def tokens(self) -> int:
        """Tokens that the whole run learns.

        Of an incomplete epoch, as many as its steps have on average, unless the order of rows tells.
        """
        if self.targets_per_epoch is None:
            return round(self.steps * self.tokens_per_step * self.share_learned)
        epochs, rest = divmod(self.steps, self.steps_per_epoch)
        if self.targets_of_rest is not None:
            return epochs * self.targets_per_epoch + self.targets_of_rest
        return epochs * self.targets_per_epoch + round(rest * self.targets_per_epoch / self.steps_per_epoch)

    def as_dict(self) -> Record:
        """As format=json prints it."""
        return {**asdict(self), "tokens": self.tokens}

    def with_factor(self, factor: float) -> "Course":
        """The same epochs in steps of `factor` times as many rows."""
        steps = max(1, math.ceil(self.steps / factor))
        return replace(
            self,
            steps=steps,
            first=min(steps, round(self.first / factor)),
            steps_per_epoch=max(1, math.ceil(self.steps_per_epoch / factor)),
            tokens_per_step=round(self.tokens_per_step * factor),
            targets_of_rest=None,  # rows come in another order
        )


def plan_course(trainer: "LmTrainer", setup: "Setup", first: int) -> Course:
    """The course of a training that goes on from step `first`. Settles the intervals of the trainer."""
    args, counts = trainer.args, trainer.count_steps()
    steps = counts.total_steps
    settle_intervals(args, steps)
    rows = count_rows_per_step(args)
    per_epoch = counts.steps_per_epoch
    evaluations = _count_events(name_of(args.eval_strategy), args.eval_steps, first, steps, per_epoch) + int(first == 0)
    return Course(
        steps=steps,
        first=first,
        steps_per_epoch=per_epoch,
        tokens_per_step=rows * setup.prepared.ledger.block_size,
        targets_per_epoch=_count_epoch(setup),
        evaluations=evaluations if setup.config.evaluates else 0,
        saves=_count_events(name_of(args.save_strategy), args.save_steps, first, steps, per_epoch),
        share_learned=_find_share_learned(setup),
        targets_of_rest=_count_rest(trainer, setup, *divmod(steps, per_epoch)),
    )


def _count_epoch(setup: "Setup") -> int | None:
    """Tokens that an epoch learns; None for text of unknown length, and for a mixture."""
    targets: int | None = getattr(setup.prepared.blocks, "targets", None)
    return None if targets is None else targets - setup.prepared.ledger.targets_left_out


def _find_share_learned(setup: "Setup") -> float:
    """The share of targets that have a loss, where they are not counted one by one."""
    one_in = setup.config.goldfish
    return 1.0 if one_in is None else 1 - 1 / one_in


def _count_rest(trainer: "LmTrainer", setup: "Setup", epoch: int, steps: int) -> int | None:
    """Targets of the first steps of an epoch, in the order in which its rows will come; None where nothing tells it."""
    blocks = setup.prepared.blocks
    if not isinstance(blocks, Blocks) or trainer.args.world_size > 1:
        return None
    loader = trainer.get_train_dataloader()
    getattr(loader, "set_epoch", lambda number: None)(epoch)
    batches = islice(loader.batch_sampler or (), steps * trainer.args.gradient_accumulation_steps)
    return sum(blocks.count_targets(batch) for batch in batches)


def plan_range(setup: "Setup", settings: RangeConfig) -> Course:
    """The course of an LR range test: at most its steps, for it ends once the loss has grown."""
    args = setup.arguments
    rows = count_rows_per_step(args)
    blocks = setup.prepared.ledger.blocks
    return Course(
        steps=settings.steps,
        first=0,
        steps_per_epoch=math.ceil(blocks / rows) if blocks else settings.steps,
        tokens_per_step=rows * setup.prepared.ledger.block_size,
        targets_per_epoch=_count_epoch(setup),
        evaluations=0,
        saves=0,
        share_learned=_find_share_learned(setup),
    )


def describe_range(settings: RangeConfig) -> Record:
    """The rates that an LR range test tries, [POINTS] of them, in equal ratios."""
    steps = sorted({round(part * (settings.steps - 1) / (POINTS - 1)) for part in range(POINTS)})
    growth = settings.end / settings.start
    rates = [settings.start * growth ** (step / (settings.steps - 1)) for step in steps]
    return {"name": "range", "steps": steps, "rates": rates, "phases": []}


def _count_events(strategy: str, every: float | None, first: int, steps: int, steps_per_epoch: int) -> int:
    """Evaluations or saves between two steps, the last step always among them unless the strategy is `no`."""
    if strategy == "no":
        return 0
    interval = steps_per_epoch if strategy in ("epoch", "best") else max(1, int(every or 1))
    return steps // interval - first // interval + int(steps % interval > 0)


def describe_text(setup: "Setup", held_out: "HeldOut | None") -> Record:
    """The ledger, and how much is held out to be scored."""
    ledger = setup.prepared.ledger
    return {
        "documents": ledger.documents_kept,
        "documents_are": ledger.documents_are,
        "rows_read": ledger.rows_read,
        "tokens": ledger.sides["train"].tokens,
        "blocks": ledger.blocks,
        "block_size": ledger.block_size,
        "split_by": ledger.split_by,
        "held_out": {
            name: {
                "tokens": len(held.stream.ids),
                "scored": len(held.sample.ids),
                "scored_at_the_end": len(held.final.ids),
            }
            for name, held in (held_out.sets if held_out else {}).items()
        },
    }


def describe_model(setup: "Setup") -> Record:
    """Parameters, those that learn, and the precision."""
    args, parameters = setup.arguments, list(setup.model.parameters())
    learned = sum(weight.numel() for weight in parameters if weight.requires_grad)
    return {
        "parameters": sum(weight.numel() for weight in parameters),
        "trained": learned,
        "device": str(args.device),
        "devices": count_devices(args),
        "precision": name_precision(args),
        "activation_checkpointing": bool(get_argument(args, "activation_checkpointing")),
        "torch_compile": bool(args.torch_compile),
    }


def describe_memory(setup: "Setup") -> Record:
    """Bytes of a step, part by part, beside what is free; the parts are None where a model cannot be measured so."""
    block_size, muon = setup.prepared.ledger.block_size, setup.config.muon
    found = estimate_memory(setup.arguments, setup.model, block_size, muon=muon)
    parts = None if found is None else {**found._asdict(), "total": found.total}
    return {"step": parts, "free": measure_free_memory(setup.arguments.device)}


def describe_disk(setup: "Setup", steps: int, folder: Path, present: int) -> Record:
    """Bytes of the checkpoints to come beside what is free where the run folder lies, or will lie.

    present: bytes of checkpoints that are there already.
    Raises CheckpointError where those to come would find no room.
    """
    need = estimate_run_disk(setup, steps)
    whole = folder.expanduser().absolute()
    there = next(parent for parent in (whole, *whole.parents) if parent.exists())
    check_disk(there, need, present)
    return {**need._asdict(), "total": need.total, "free": shutil.disk_usage(there).free}


def describe_schedule(trainer: "LmTrainer", course: Course) -> Record:
    """The learning rate along the run, [POINTS] of it, and the phases of finetune=gradual."""
    steps = sorted({round(part * max(0, course.steps - 1) / (POINTS - 1)) for part in range(POINTS)})
    if trainer.timeline is not None:
        phases = [
            {
                "first": phase.first,
                "steps": phase.steps,
                "groups": len(phase.peaks) - phase.lowest_group,
                "rates": phase.peaks,
            }
            for phase in trainer.timeline.phases
        ]
        return {"steps": steps, "rates": [trainer.timeline.rates(step)[-1] for step in steps], "phases": phases}
    factors = build_schedule(trainer.args, course.steps)
    rates = None if factors is None else [trainer.args.learning_rate * factors(step) for step in steps]
    return {"name": name_of(trainer.args.lr_scheduler_type), "steps": steps, "rates": rates, "phases": []}


def list_remarks(setup: "Setup", trainer: "LmTrainer", held_out: "HeldOut", course: Course) -> list[str]:
    """Remarks on the steps to come, without that on memory, which describe_memory covers."""
    remarks = list_remarks_of_setup(setup)
    if trainer.timeline is not None and len(trainer.timeline.phases) > 1:
        remarks.append("the probe is of the first phase: steps of later ones take longer, as more layer groups learn")
    if course.left <= 0:
        remarks.append("the run has come to its end: lmtune train has nothing left to learn")
    return [*remarks, *list_warnings(setup, held_out, course)]


def list_remarks_of_setup(setup: "Setup") -> list[str]:
    """The remarks of the setup, without that on memory."""
    return [remark for remark in setup.remarks if not remark.startswith("memory of a step: about")]


def list_settings(plain: Record, origins: dict[str, str]) -> list[Record]:
    """Each setting that some config or the command line gives, with the place that does."""
    flat = flatten(plain)
    return [{"key": key, "value": flat[key], "from": place} for key, place in origins.items() if key in flat]


def estimate_costs(found: Record, course: Course, settings: ForesightConfig) -> Record:
    """Time to the end, energy and money, from the record of a check with its probe; on another number of devices too.

    A step is assumed to take as long there as here: what communication costs is not known.
    """
    devices = found["model"]["devices"]
    costs = {"here": _estimate(found, course, devices, settings)}
    if settings.devices is not None:
        factor = settings.devices / devices
        costs["there"] = _estimate(found, course.with_factor(factor), settings.devices, settings)
    return costs


def _estimate(found: Record, course: Course, devices: int, settings: ForesightConfig) -> Record:
    """Steps, seconds (median, low, high), kWh and money for one number of devices."""
    probe, sets = found["probe"], list(found["text"]["held_out"].values())
    pace = (probe["scored_tokens_per_second"] or math.inf) * devices / found["model"]["devices"]
    scoring = course.evaluations * sum(each["scored"] for each in sets) / pace
    scoring += sum(each["scored_at_the_end"] for each in sets) / pace
    saving, sampling = course.saves * (probe["save"] or 0.0), course.evaluations * (probe["samples"] or 0.0)
    warmup = max(0.0, probe["step"]["first"] - probe["step"]["median"])
    budget = found.get("forgetting") or {"longer_steps": 0.0, "written": None}
    writing = budget["tokens"] / probe["written_tokens_per_second"] if budget["written"] is False else 0.0
    pauses = warmup + scoring + sampling + saving + writing
    seconds = {bound: pauses + course.left * probe["step"][bound] for bound in ("median", "low", "high")}
    seconds["high"] += course.left * probe["step"]["high"] * budget["longer_steps"]
    hours = devices * seconds["median"] / 3600
    return {
        "devices": devices,
        "steps": course.steps,
        "seconds": seconds,
        "seconds_of": {
            "steps": course.left * probe["step"]["median"],
            "evaluations": scoring,
            "samples": sampling,
            "saves": saving,
            "writing": writing,
        },
        "kwh": None if settings.watts is None else hours * settings.watts / 1000,
        "price": None if settings.price_per_hour is None else hours * settings.price_per_hour,
    }
