"""The energy that a training takes, measured or estimated by codecarbon on this machine; nothing is sent or looked up.

lmtune train tracker=codecarbon   ->   results.json: train.energy.kilowatt_hours
"""

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.errors import describe_error
from lmtune.runs import Run
from lmtune.storage import Record

logger = logging.getLogger(__name__)


class EnergyMeter(TrainerCallback):
    """Measures from the first step to the last. A run that was resumed keeps what its earlier starts had taken."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.meter: Any = None
        self.measured: Record | None = None
        """`kilowatt_hours` of cpu, gpu, ram and all, `seconds`, and `codecarbon`, its version; None before the end."""

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        from codecarbon import OfflineEmissionsTracker

        self.meter = OfflineEmissionsTracker(output_methods=[], log_level="error", allow_multiple_runs=True)
        self.meter.start()
