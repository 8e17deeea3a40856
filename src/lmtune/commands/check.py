"""`lmtune check`: what a training would do, and what it would cost; nothing is trained.

lmtune check data=bio model=gpt2-small-pt
"""

from pathlib import Path

from lmtune.commands.result import Result
from lmtune.config import CheckConfig
from lmtune.reporting.foresight import render_foresight
from lmtune.runs.search import OUTPUTS
from lmtune.storage import Record
from lmtune.training import foresight
from lmtune.training.context import check_no_secret
from lmtune.training.determinism import restored_determinism
from lmtune.training.held_out import load_held_out
from lmtune.training.resume import find_run, find_step, fingerprint_of, name_run
from lmtune.training.session import build_trainer
from lmtune.training.setup import Setup, build_setup, render_settings


def run(config: CheckConfig) -> Result:
    """Load, prepare and check everything that `lmtune train` would before its first step, and tell what follows from it.

    Raises what `lmtune train` would raise.
    """
    plain = render_settings(config)
    check_no_secret(plain)
    return look_ahead(config, plain, build_setup(config))


@restored_determinism()
def look_ahead(config: CheckConfig, plain: Record, setup: Setup) -> Result:
    """What the training would do, of all that is known before its first step; with check.probe, of steps that are tried."""
    held_out = load_held_out(setup)
    trainer = build_trainer(setup, held_out)
    resumed = find_run(config, fingerprint_of(plain))
    course = foresight.plan_course(trainer, setup, find_step(resumed))
    args, model = setup.arguments, setup.model
    found: Record = {
        "name": name_run(config),
        "text": foresight.describe_text(setup, held_out),
        "model": foresight.describe_model(setup),
        "course": foresight.describe_course(course),
        "schedule": foresight.describe_schedule(trainer, course),
        "memory": foresight.describe_memory(args, model, setup.prepared.ledger.block_size),
        "disk": foresight.describe_disk(
            args,
            model,
            course.steps,
            folder=Path(config.output or OUTPUTS) if resumed is None else resumed.folder,
            present=0 if resumed is None else resumed.measure_checkpoints(),
        ),
        "chosen": setup.chosen,
        "remarks": foresight.list_remarks(setup, trainer, held_out, course),
        "settings": foresight.list_settings(plain, config.origins),
    }
    if config.check.probe:
        from lmtune.training.probe import run_probe

        found["probe"] = run_probe(trainer, setup, held_out, config.check)
        found["cost"] = foresight.estimate_costs(found, course, config.check)
    return Result(found, lambda: render_foresight(found))
