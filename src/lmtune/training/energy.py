"""The energy that a training takes, as codecarbon measures or estimates it on this machine; nothing is sent or looked up.

lmtune train tracker=codecarbon   ->   results.json: train.energy
"""

import logging
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.runs import Run
from lmtune.storage import Record, write_json

logger = logging.getLogger(__name__)

NAME = "codecarbon"
AMOUNTS = ("kilowatt_hours", "cpu", "gpu", "ram", "seconds")
"""What is measured while training: kWh of the whole machine and of its parts, and the seconds that were measured."""


class EnergyMeter(TrainerCallback):
    """Measures from the first step to the last; tracker.json keeps the sum for a start of the run that follows."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.meter: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        from codecarbon import OfflineEmissionsTracker

        logging.getLogger(NAME).setLevel(logging.ERROR)  # it speaks before it reads its own log_level
        if self.meter is None:
            self.meter = OfflineEmissionsTracker(output_methods=[], log_level="error", allow_multiple_runs=True)
            self.meter.start()

    def close(self) -> None:
        """End the measurement, however the training has ended, and add it to what earlier starts had taken."""
        if self.meter is None:
            return
        self.meter.stop()
        found = getattr(self.meter, "final_emissions_data", None)
        if found is None:
            logger.warning("tracker=%s could not measure the energy of this training", NAME)
            return
        now = (found.energy_consumed, found.cpu_energy, found.gpu_energy, found.ram_energy, found.duration)
        before = self.read() or {}
        energy: Record = {name: before.get(name, 0.0) + amount for name, amount in zip(AMOUNTS, now, strict=True)}
        energy["method"] = f"{NAME} {found.codecarbon_version}"
        write_json(self.run.tracker_file, self.run.load_tracker_ids() | {NAME: energy})
        self.meter = None

    def read(self) -> Record | None:
        """The sum over all starts of the run; None before the first has ended."""
        return self.run.load_tracker_ids().get(NAME)
