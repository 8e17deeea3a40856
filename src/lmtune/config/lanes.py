"""What data.lanes needs: a number of processes that divides it, and a fixed batch size."""

from typing import TYPE_CHECKING

from lmtune.errors import ConfigError
from lmtune.launcher import count_processes

if TYPE_CHECKING:
    from lmtune.config.train import TrainConfig


def check_lanes(config: "TrainConfig") -> None:
    """Raise ConfigError if processes could not each have lanes of their own, or batches could be dealt otherwise later."""
    lanes = config.data.lanes
    if not config.data.streaming or lanes == 1:
        return
    processes = count_processes()
    if lanes % processes:
        fitting = [str(number) for number in range(1, processes) if lanes % number == 0]
        raise ConfigError(
            f"data.lanes={lanes}: expected a number of processes that divides it, found {processes}. Start "
            f"{' or '.join(fitting)} of them, or begin a run with a multiple of the processes, such as data.lanes={processes}."
        )
    if config.training.get("auto_find_batch_size"):
        raise ConfigError(
            f"data.lanes={lanes} and training.auto_find_batch_size do not go together, found both: lanes are dealt by batches, "
            "which would become others. Choose one of the two."
        )
