"""Trainer on the rows of the data room."""

from typing import Any

from transformers import PrinterCallback, Trainer

from lmtune.data.blocks import TrainingRows


class RowTrainer(Trainer):
    """Trainer that takes rows in the order that they ask for, and leaves stdout to results."""

    train_dataset: TrainingRows

    def __init__(self, **settings: Any) -> None:
        self._own_sampler: Any = None
        super().__init__(**settings)
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        self._own_sampler = rows.build_sampler(
            self.args.data_seed if self.args.data_seed is not None else self.args.seed
        )
        return super()._get_train_sampler(train_dataset) if self._own_sampler is None else self._own_sampler

    def _run_epoch(self, **settings: Any) -> None:
        # Where batches of a resumed epoch are skipped under several processes, accelerate does not find the sampler.
        if hasattr(self._own_sampler, "set_epoch"):
            self._own_sampler.set_epoch(settings["epoch"])
        super()._run_epoch(**settings)
