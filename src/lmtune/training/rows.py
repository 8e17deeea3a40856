"""Trainer on the rows of the data room."""

from typing import Any

from transformers import PrinterCallback, Trainer

from lmtune.data.blocks import TrainingRows


class RowTrainer(Trainer):
    """Trainer that takes rows in the order that they ask for, and leaves stdout to results."""

    train_dataset: TrainingRows

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        own = rows.build_sampler(self.args.data_seed if self.args.data_seed is not None else self.args.seed)
        return super()._get_train_sampler(train_dataset) if own is None else own
