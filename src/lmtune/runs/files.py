"""The files of a run folder and of its checkpoints: what they are called and where they lie."""

import re
from dataclasses import dataclass
from pathlib import Path

from lmtune.runs.lock import LOCK_NAMES

STATE = "trainer_state.json"
"""Trainer's record of where it is, in each checkpoint."""
HYDRA = ".hydra"
HYDRA_RECORDS = ("hydra.yaml", "overrides.yaml")

RECORDS = ("config.yaml", "ledger.json", "results.json", "metrics.jsonl", "samples.jsonl", "samples.md", "train.log")
PAGE, SCORES = "report.html", "scores.npz"
START_NAMES = (*RECORDS, PAGE, SCORES, HYDRA, *LOCK_NAMES)
"""Names that a run may create from its start on."""
END_NAMES = ("model", PAGE, SCORES)
"""Names that it creates when it completes."""


CHECKPOINT_FILE = re.compile(
    r"manifest\.json|trainer_state\.json|(generation_|adapter_)?config\.json|(adapter_)?model[\w.-]*\.safetensors(\.index\.json)?"
    r"|(optimizer|scheduler|scaler)\.pt|rng_state\w*\.pth|stream\.npz|tokenizer[\w.]*|vocab\.json|merges\.txt|\w+\.jinja|README\.md"
)
"""What Trainer, transformers and lmtune call the files of a checkpoint."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Paths of the records in a run folder."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def ledger_file(self) -> Path:
        return self.folder / "ledger.json"

    @property
    def transplant_file(self) -> Path:
        return self.folder / "transplant.json"

    @property
    def canaries_file(self) -> Path:
        return self.folder / "canaries.json"

    @property
    def metrics_file(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def samples_file(self) -> Path:
        return self.folder / "samples.jsonl"

    @property
    def samples_page(self) -> Path:
        return self.folder / "samples.md"

    @property
    def results_file(self) -> Path:
        return self.folder / "results.json"

    @property
    def report_file(self) -> Path:
        return self.folder / PAGE

    @property
    def scores_file(self) -> Path:
        return self.folder / SCORES

    @property
    def log_file(self) -> Path:
        return self.folder / "train.log"

    @property
    def tracker_file(self) -> Path:
        return self.folder / "tracker.json"

    @property
    def hydra_folder(self) -> Path:
        return self.folder / HYDRA

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint folder, -1 for another name."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else -1
