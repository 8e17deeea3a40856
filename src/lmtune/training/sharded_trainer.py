"""LmTrainer for weights that are spread over processes: its hooks that read or write them.

What lies in a checkpoint is whole, so that a run goes on from it under any number of processes, sharded or not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch.distributed.fsdp import FSDPModule
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from lmtune.modeling.layers import below_adapter
from lmtune.training import sharding
from lmtune.training.taking_up import keeping_settings
from lmtune.training.trainer import LmTrainer


class ShardedTrainer(LmTrainer):
    """LmTrainer for a model that sharding.shard_model has had."""

    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LambdaLR

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # Keeps Trainer from wrapping the model again. Set here, since Trainer's __init__ refuses to save a model marked so.
        self.is_distributed_loading_by_transformers = True

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        # Entered for all passes of a step but the last. Trainer's own reads settings of transformers' FSDP integration.
        sharded = cast(FSDPModule, below_adapter(self.model))
        sharded.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            sharded.set_requires_gradient_sync(True)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        whole = sharding.gather_model(self.model)
        with self.checkpoints.noting_failure():
            if whole is not None:
                folder = Path(output_dir or str(self.args.output_dir))
                whole.save_pretrained(folder)
                self.checkpoints.check_reads_back(whole, folder)  # not later, when nobody has it whole any more

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = sharding.gather_optimizer(self.optimizer)
        with self.checkpoints.noting_failure():
            if self.args.should_save:
                torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        sharding.restore(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        sharding.restore(self.model, Path(str(self.state.best_model_checkpoint)))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            with keeping_settings(self.optimizer, self.lr_scheduler):
                sharding.load_optimizer(self.optimizer, Path(checkpoint) / OPTIMIZER_NAME)
                self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))
