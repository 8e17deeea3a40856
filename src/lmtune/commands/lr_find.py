"""`lmtune lr-find`: the settings of a training, tried with rates that grow; a curve and a suggestion.

lmtune lr-find data=bio model=gpt2-small-pt
"""

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from lmtune.config import FinetuneMethod, LrFindConfig, OutputFormat
from lmtune.config.training_arguments import WITHHELD
from lmtune.data.blocks import collate
from lmtune.errors import TrainingError
from lmtune.reporting.figures import render_curve
from lmtune.runs.search import new_folder
from lmtune.storage import render_json, write_json, write_text
from lmtune.training.resume import name_run
from lmtune.training.schedules import find_suggestions, smooth
from lmtune.training.setup import Setup, build_setup
from lmtune.training.trial import explained

LEAST_STEPS = 3
"""Fewer points have no slope to speak of."""


def run(config: LrFindConfig, stdout: IO[str]) -> dict[str, Any]:
    """Try the rates, write lr-find.json and lr-find.svg, and print what to take."""
    settle(config)
    setup = build_setup(config)
    if setup.arguments.process_index:
        return run_test(config, setup)
    with new_folder(config.output, f"{name_run(config)}-lr-find") as folder:
        tried = run_test(config, setup)
        write_json(folder / "lr-find.json", tried)
        curve = render_curve(
            tried["rates"], tried["smoothed"], "loss against learning rate", "lr", "learning rate", "log"
        )
        write_text(folder / "lr-find.svg", curve)
        stdout.write(render(tried, folder, config.format) + "\n")
    return tried


def run_test(config: LrFindConfig, setup: Setup) -> dict[str, Any]:
    """try_rates with a folder for Trainer, which makes one and writes nothing there."""
    with TemporaryDirectory() as unused:
        setup.arguments.output_dir = unused
        return try_rates(config, setup)


def settle(config: LrFindConfig) -> None:
    """Training arguments of the test: its own number of steps, nothing evaluated, saved or pushed."""
    config.training |= dict.fromkeys(WITHHELD) | {
        "max_steps": config.range.steps,
        "learning_rate": config.range.start,
        "lr_scheduler_type": "constant",  # rates are set before each step
        "warmup_steps": 0,
        "save_strategy": "no",
        "eval_strategy": "no",
        "load_best_model_at_end": False,
    }


def try_rates(config: LrFindConfig, setup: Setup) -> dict[str, Any]:
    """Rates, losses, smoothed losses and suggestions. Raises TrainingError where the loss is no number from the start."""
    from lmtune.training.lr_range import RangeTrainer, freeze_below

    if config.finetune.method is FinetuneMethod.gradual:
        freeze_below(setup.model, config.finetune.block_groups, config.finetune.phases[config.range.phase - 1].groups)
    with explained():
        trainer = RangeTrainer(
            settings=config.range,
            model=setup.model,
            args=setup.arguments,
            train_dataset=setup.prepared.blocks,
            data_collator=collate,
        )
    trainer.train()
    finite = next((place for place, loss in enumerate(trainer.losses) if not math.isfinite(loss)), len(trainer.losses))
    rates, losses = trainer.rates[:finite], trainer.losses[:finite]
    if len(losses) < LEAST_STEPS:
        raise TrainingError(
            f"The loss was finite for {len(losses)} of {config.range.steps} steps from a rate of {config.range.start:.3g}; "
            f"expected {LEAST_STEPS} or more. Lower range.start, or check the weights."
        )
    smoothed = smooth(losses)
    return {"rates": rates, "losses": losses, "smoothed": smoothed, "suggestions": find_suggestions(rates, smoothed)}


def render(tried: dict[str, Any], folder: Path, form: OutputFormat) -> str:
    """The suggestions as a table, or everything as JSON."""
    if form is OutputFormat.json:
        return render_json({**tried, "folder": str(folder)})
    found = tried["suggestions"]
    return "\n".join(
        [
            f"{len(tried['rates'])} rates from {tried['rates'][0]:.2e} to {tried['rates'][-1]:.2e}",
            f"{'a tenth of the rate of the lowest loss':<42}{found['minimum_tenth']:.2e}",
            f"{'where the loss falls fastest':<42}{found['steepest']:.2e}",
            f"try training.learning_rate={found['minimum_tenth']:.1e}",
            f"curve: {folder / 'lr-find.svg'}",
        ]
    )
