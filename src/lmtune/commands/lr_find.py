"""`lmtune lr-find`: the settings of a training, tried with rates that grow; a curve and a suggestion.

lmtune lr-find data=bio model=gpt2-small-pt
"""

import math
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

from lmtune.commands.result import Result
from lmtune.config import FinetuneMethod, ForgettingConfig, LrFindConfig
from lmtune.config.sharding import refuse_sharding
from lmtune.config.training_arguments import WITHHELD
from lmtune.errors import TrainingError
from lmtune.patience import turn_to
from lmtune.reporting.figures import render_curve
from lmtune.reporting.tables import render_rates
from lmtune.runs.search import new_folder
from lmtune.storage import write_json, write_text
from lmtune.training.arguments import change_arguments
from lmtune.training.building import give_optimizer
from lmtune.training.determinism import restored_determinism
from lmtune.training.foresight import plan_course
from lmtune.training.outlook import Outlook
from lmtune.training.resume import name_run
from lmtune.training.schedules import smooth, suggest_rates
from lmtune.training.setup import Setup, build_setup
from lmtune.training.trial import explained

LEAST_STEPS = 3
"""Fewer points have no slope to speak of."""


def run(config: LrFindConfig) -> Result:
    """Try the rates, and write lr-find.json and lr-find.svg."""
    settle(config)
    setup = build_setup(config)
    if setup.arguments.process_index:
        return Result(run_test(config, setup), list)
    with new_folder(config.output, f"{name_run(config)}-lr-find") as folder:
        tried = run_test(config, setup)
        turn_to("drawing the curve")
        write_json(folder / "lr-find.json", tried)
        curve = render_curve(
            tried["rates"], tried["smoothed"], "loss against learning rate", "lr", "learning rate", "log"
        )
        write_text(folder / "lr-find.svg", curve)
    return Result({**tried, "folder": str(folder)}, lambda: render_rates(tried, folder / "lr-find.svg"))


def run_test(config: LrFindConfig, setup: Setup) -> dict[str, Any]:
    """try_rates with a folder for Trainer, which makes one and writes nothing there."""
    with TemporaryDirectory() as unused:
        change_arguments(setup.arguments, output_dir=unused)
        return try_rates(config, setup)


def settle(config: LrFindConfig) -> None:
    """Set the training arguments of the test: its own number of steps, nothing evaluated, saved or pushed."""
    refuse_sharding(config, "lmtune lr-find")
    config.forgetting, config.replay_sets = ForgettingConfig(), {}
    config.training |= dict.fromkeys(WITHHELD) | {
        "max_steps": config.range.steps,
        "learning_rate": config.range.start,
        "lr_scheduler_type": "constant",  # rates are set before each step
        "warmup_steps": 0,
        "save_strategy": "no",
        "eval_strategy": "no",
        "load_best_model_at_end": False,
    }


@restored_determinism()
def try_rates(config: LrFindConfig, setup: Setup) -> dict[str, Any]:
    """Rates, losses, smoothed losses and suggestions. Raises TrainingError where the loss is NaN or infinite from the start."""
    from lmtune.training.lr_finder import LrRangeCallback, freeze_below
    from lmtune.training.progress import ProgressLine
    from lmtune.training.trainer import LmTrainer

    if config.finetune.method is FinetuneMethod.gradual:
        freeze_below(setup.model, config.finetune.block_groups, config.finetune.phases[config.range.phase - 1].groups)
    with explained():
        trainer = LmTrainer(
            model=setup.model,
            args=setup.arguments,
            rows=setup.prepared.blocks,
            tokenizer=setup.tokenizer,
            score=lambda model: {},  # nothing is evaluated
        )
        give_optimizer(trainer, config)
    tried = LrRangeCallback(config.range, trainer.losses)
    trainer.add_callback(tried)
    progress = ProgressLine(Outlook(replace(plan_course(trainer, setup, first=0), evaluations=0), final_share=0.0))
    trainer.add_callback(progress)
    try:
        trainer.fit()
    finally:
        progress.close()
    finite = next((place for place, loss in enumerate(tried.losses) if not math.isfinite(loss)), len(tried.losses))
    rates, losses = tried.rates[:finite], tried.losses[:finite]
    if len(losses) < LEAST_STEPS:
        raise TrainingError(
            f"The loss was finite for {len(losses)} of {config.range.steps} steps from a rate of {config.range.start:.3g}; "
            f"expected {LEAST_STEPS} or more. Lower range.start, or check the weights."
        )
    smoothed = smooth(losses)
    return {"rates": rates, "losses": losses, "smoothed": smoothed, "suggestions": suggest_rates(rates, smoothed)}
