"""`lmtune check`: what a training would do, and what it would cost; nothing is trained.

lmtune check data=bio model=gpt2-small-pt
lmtune check lr-find data=bio range.steps=200
"""

from pathlib import Path

from lmtune.commands.lr_find import settle
from lmtune.commands.result import Result
from lmtune.config import CheckConfig, LrFindConfig, render_plain
from lmtune.config.sharding import refuse_sharding
from lmtune.reporting.foresight import render_foresight
from lmtune.runs.search import OUTPUTS
from lmtune.storage import Record
from lmtune.training import foresight
from lmtune.training.building import build_trainer
from lmtune.training.context import check_no_secret
from lmtune.training.determinism import restored_determinism
from lmtune.training.fetching import list_fetches
from lmtune.training.held_out import load_held_out
from lmtune.training.resume import find_run, find_step, name_run
from lmtune.training.setup import Setup, build_setup, render_settings


def run(config: CheckConfig) -> Result:
    """Load, prepare and check everything that `lmtune train` would before its first step, and tell what follows from it.

    Raises what `lmtune train` would raise, and ConfigError for weights that are to be spread.
    """
    refuse_sharding(config, "lmtune check")
    plain = render_settings(config)
    check_no_secret(plain)
    fetched = list_fetches(config)
    return look_ahead(config, plain, build_setup(config), fetched)


@restored_determinism()
def look_ahead(config: CheckConfig, plain: Record, setup: Setup, fetched: list[Record]) -> Result:
    """What the training would do, as far as that is known before its first step; with check.probe, measured on real steps."""
    from lmtune.training.old_text import describe_budget

    held_out = load_held_out(setup)
    trainer = build_trainer(setup, held_out)
    resumed = find_run(config, plain)
    course = foresight.plan_course(trainer, setup, find_step(resumed))
    found: Record = {
        "name": name_run(config),
        "hub": fetched,
        "text": foresight.describe_text(setup, held_out),
        "model": foresight.describe_model(setup),
        "course": course.as_dict(),
        "schedule": foresight.describe_schedule(trainer, course),
        "memory": foresight.describe_memory(setup),
        "disk": foresight.describe_disk(
            setup,
            course.steps,
            folder=Path(config.output or OUTPUTS) if resumed is None else resumed.folder,
            present=0 if resumed is None else resumed.measure_checkpoints(),
        ),
        "chosen": setup.chosen,
        "remarks": foresight.list_remarks(setup, trainer, held_out, course),
        "settings": foresight.list_settings(plain, config.origins),
    }
    if (budget := describe_budget(setup, held_out)) is not None:
        found["forgetting"] = budget
    if config.check.forecast:
        from lmtune.training.forecast_probe import run_forecast

        found["forecast"] = run_forecast(setup, held_out, course, config.check)
    if config.check.probe:
        from lmtune.training.probe import run_probe

        found["probe"] = run_probe(trainer, setup, held_out, config.check)
        found["cost"] = foresight.estimate_costs(found, course, config.check)
    return Result(found, lambda: render_foresight(found))


def run_range(config: LrFindConfig, origins: dict[str, str]) -> Result:
    """The same of `lmtune lr-find`, which evaluates and saves nothing: its text, model, rates and memory.

    origins: key to the place that gives its value.
    """
    plain = {**render_settings(config), "range": render_plain(config.range)}
    fetched = list_fetches(config)
    settle(config)
    setup = build_setup(config)
    course = foresight.plan_range(setup, config.range)
    found: Record = {
        "name": f"{name_run(config)}-lr-find",
        "hub": fetched,
        "text": foresight.describe_text(setup, None),
        "model": foresight.describe_model(setup),
        "course": course.as_dict(),
        "schedule": foresight.describe_range(config.range),
        "memory": foresight.describe_memory(setup),
        "chosen": setup.chosen,
        "remarks": foresight.list_remarks_of_setup(setup),
        "settings": foresight.list_settings(plain, origins),
    }
    return Result(found, lambda: render_foresight(found))
