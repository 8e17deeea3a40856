"""Forecasts of the final score from the first steps at three learning rates; the weights are restored afterwards."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmtune.config import FinetuneMethod, ForesightConfig, ModelInit
from lmtune.storage import Record
from lmtune.training.arguments import build_schedule, change_arguments, name_of
from lmtune.training.building import build_trainer
from lmtune.training.curve import record_curve
from lmtune.training.forecast import Law, Planned, find_law, find_outside, foretell, load_calibration, place_marks
from lmtune.training.foresight import Course

if TYPE_CHECKING:
    from lmtune.training.held_out import HeldOut
    from lmtune.training.setup import Setup

BESIDE = (0.5, 1.0, 2.0)
"""The rates that are tried, as multiples of the one that was chosen."""


def run_forecast(setup: "Setup", held_out: "HeldOut", course: Course, settings: ForesightConfig) -> Record:
    """Held-out bits per byte at the end of the run and of two with other rates; {"refused": why} where that is not known."""
    refused = next(_list_obstacles(setup, held_out, course), None)
    if refused is not None:
        return {"refused": refused}
    planned, calibration = plan_run(setup, held_out, course), load_calibration()
    kind = "continued" if setup.config.model.init is ModelInit.pretrained else "scratch"
    marks, bounds = place_marks(course.steps, settings.forecast_share), calibration["ranges"][kind]
    refused = find_outside(bounds, planned, marks)
    if refused is not None:
        return {"refused": refused}
    law = find_law(calibration, kind, settings.forecast_share)
    if isinstance(law, str):
        return {"refused": law}
    tried = [planned.with_factor(factor) for factor in BESIDE]
    inside = [each for each in tried if find_outside(bounds, each, marks) is None]
    rows = _try_rates(setup, held_out, inside, law, marks)
    return {"share": settings.forecast_share, "steps": marks[-1], "kind": kind, "rates": rows}


def plan_run(setup: "Setup", held_out: "HeldOut", course: Course) -> Planned:
    """What is known of the run before its first step."""
    schedule = build_schedule(setup.arguments, course.steps)
    assert schedule is not None, "_list_obstacles lets no such schedule through"
    documents = next(iter(held_out.sets.values())).sample.documents
    return Planned(
        parameters=sum(weight.numel() for weight in setup.model.parameters()),
        tokens_per_step=course.tokens_per_step,
        bytes_per_token=int(documents["bytes"].sum()) / int(documents["tokens"].sum()),
        epochs=course.steps / course.steps_per_epoch,
        learning_rate=setup.arguments.learning_rate,
        factors=tuple(map(schedule, range(course.steps))),
    )


def _try_rates(setup: "Setup", held_out: "HeldOut", tried: list[Planned], law: Law, marks: list[int]) -> list[Record]:
    """The probe of each rate, all from the same weights; no forecast stands where a loss was no number."""
    weights = {name: value.clone() for name, value in setup.model.state_dict().items()}
    chosen, rows = setup.arguments.learning_rate, []
    for planned in tried:
        change_arguments(setup.arguments, learning_rate=planned.learning_rate)
        curve = record_curve(build_trainer(setup, held_out), held_out, marks)
        found = foretell(law, planned, curve.scores)._asdict() if curve.is_finite else {}
        rows.append({"learning_rate": planned.learning_rate, "measured": curve.scores, **found})
        setup.model.load_state_dict(weights)
    change_arguments(setup.arguments, learning_rate=chosen)
    return rows


def _list_obstacles(setup: "Setup", held_out: "HeldOut", course: Course) -> Iterator[str]:
    """Why the calibration does not cover this kind of run, whatever its size."""
    args = setup.arguments
    if not held_out.sets:
        yield "nothing is held out"
    if course.first:
        yield f"the run goes on from step {course.first:,}, and the forecast is calibrated on runs from their start"
    if course.targets_per_epoch is None:
        yield "the text is streamed or mixed, and how often it will be read is not known"
    if setup.config.finetune.method is not FinetuneMethod.full:
        yield f"it is calibrated on finetune=full, and found finetune={setup.config.finetune.method.value}"
    if setup.model.config.model_type != "gpt2":
        yield f"it is calibrated on models of the type gpt2, and this one is {setup.model.config.model_type}"
    optimizer = "training.muon=true" if setup.config.muon else f"training.optim={name_of(args.optim)}"
    if "adamw" not in optimizer or setup.config.averages_itself:
        yield f"it is calibrated on AdamW, and found {optimizer}"
    if build_schedule(args, course.steps) is None:
        yield f"training.lr_scheduler_type={name_of(args.lr_scheduler_type)} follows what is measured"
    if setup.config.goldfish is not None:
        yield f"it is calibrated on a loss of all tokens, and found training.goldfish={setup.config.goldfish}"
    if args.world_size > 1:
        yield "it probes in one process, and there are several"
