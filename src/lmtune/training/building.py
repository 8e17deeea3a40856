"""The trainer of a run, from what has been loaded and prepared."""

from collections.abc import Callable
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lmtune.config import FinetuneMethod, TrainConfig
from lmtune.modeling.layers import runs_in_step
from lmtune.modeling.out_of_memory import explain_memory
from lmtune.patience import turn_to
from lmtune.training import memory, trial
from lmtune.training.arguments import change_arguments
from lmtune.training.held_out import HeldOut
from lmtune.training.setup import Setup

if TYPE_CHECKING:
    from lmtune.training.replay import Replay
    from lmtune.training.trainer import LmTrainer


def build_trainer(setup: Setup, held_out: HeldOut, replay: "Replay | None" = None) -> "LmTrainer":
    """The trainer of a run. What its first step needs is tried, so that failures come before there is a run folder."""
    from lmtune.training.gradual import unfreeze_gradually

    turn_to("trying the first step")
    with TemporaryDirectory() as unused, trial.explained(), explain_memory(render_remedy(setup)):
        change_arguments(setup.arguments, output_dir=unused)  # Trainer makes it
        trainer = _construct(setup, held_out, replay)
        if setup.config.finetune.method is FinetuneMethod.gradual:
            unfreeze_gradually(trainer, setup.config.finetune)
        give_optimizer(trainer, setup.config)
        trial.try_training(trainer)
    return trainer


def give_optimizer(trainer: "LmTrainer", config: TrainConfig) -> None:
    """Set the optimizer of a trainer where it is not the one that Trainer itself would build."""
    from lmtune.training import muon, schedule_free

    if config.muon:
        trainer.optimizer = muon.build_optimizer(trainer)
    if config.averages_itself:
        trainer.optimizer = schedule_free.build_optimizer(trainer)


def _construct(setup: Setup, held_out: HeldOut, replay: "Replay | None") -> "LmTrainer":
    from lmtune.training.replay import ReplayTrainer
    from lmtune.training.sharded_trainer import ShardedTrainer
    from lmtune.training.trainer import LmTrainer

    kind: Callable[..., LmTrainer] = ShardedTrainer if runs_in_step(setup.model) else LmTrainer
    if replay is not None:
        kind = partial(ReplayTrainer, replay=replay)
    return kind(
        model=setup.model,
        args=setup.arguments,
        rows=setup.prepared.blocks,
        tokenizer=setup.tokenizer,
        score=held_out.score_sample,
    )


def render_remedy(setup: Setup) -> str:
    """What to change where a training step does not fit into memory."""
    spread = runs_in_step(setup.model)
    return memory.render_memory_remedy(setup.arguments, setup.prepared.ledger.block_size, spread=spread)
