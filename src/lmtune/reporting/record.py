"""The records that a page shows of a run, finished, stopped, or still running, read from its folder alone."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lmtune.errors import CheckpointError
from lmtune.reporting.svg import Point
from lmtune.runs import Run
from lmtune.runs.entry import load_overrides, load_results
from lmtune.runs.evaluations import Evaluation, find_evaluation, read_evaluations
from lmtune.runs.shape import LEDGER, find_strange
from lmtune.storage import Record, load_json

BITS = "bits_per_byte"


@dataclass(frozen=True)
class RunRecord:
    """The records of one run. Any of them may be missing: a page is written from whatever there is."""

    folder: Path
    config: Record
    results: Record
    ledger: Record = field(default_factory=dict)
    metrics: list[Record] = field(default_factory=list)
    samples: list[Record] = field(default_factory=list)
    began: str | None = None
    """ISO 8601."""
    overrides: list[str] = field(default_factory=list)
    """Overrides as typed, recorded by Hydra."""
    faults: list[str] = field(default_factory=list)
    """What is wrong with its files, and is left out here."""

    @property
    def status(self) -> str:
        """running, completed, stopped or failed; unknown if the results are gone."""
        return str(self.results.get("status", "unknown"))

    @property
    def name(self) -> str:
        """The name of the run; as long as it has none, those of its data and model."""
        given = self.results.get("name") or self.config["name"]
        return str(given or f"{self.config['data']['name']}-{self.config['model']['name']}")

    @property
    def starts(self) -> list[Record]:
        """One for each start of the run, the oldest first; none for a run of an older lmtune."""
        return list(self.results.get("starts", []))

    @property
    def private(self) -> bool:
        return bool(self.config.get("private"))

    @cached_property
    def sets(self) -> list[str]:
        """Names of the held-out sets, the run's own first."""
        if self.results.get("eval"):
            return list(self.results["eval"])
        return list(self.starts[-1]["sets"]) if self.starts else []

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """All evaluations during training, in order; one for each step."""
        found = read_evaluations(self.metrics, self.sets) if self.sets else []
        return list({evaluation.step: evaluation for evaluation in found}.values())

    @property
    def best_step(self) -> int | None:
        """The step whose weights the run ends with; None if that is the last one, or not known yet."""
        step: int | None = self.results.get("train", {}).get("best_step")
        return step

    @property
    def steps(self) -> int:
        """Steps that were trained, as far as they were logged."""
        logged = max((line["step"] for line in self.metrics), default=0)
        return int(self.results.get("train", {}).get("steps", logged))

    def list_points(self, key: str) -> list[Point]:
        """(step, value) of all lines of metrics.jsonl that have a key."""
        return [(line["step"], line[key]) for line in self.metrics if isinstance(line.get(key), (int, float))]

    def list_bits(self, name: str) -> list[Point]:
        """(step, bits per byte) of a held-out set."""
        found = ((each.step, each.sets[name].get(BITS)) for each in self.evaluations)
        return [(step, bits) for step, bits in found if bits is not None]

    def find_before(self, name: str) -> Record:
        """Measures before the first step; {} if there are none."""
        first = find_evaluation(self.evaluations, 0)
        return {} if first is None else first.sets.get(name, {})

    def find_after(self, name: str) -> Record:
        """Measures of the final model on the same text, or of the last evaluation as long as there is no final one."""
        compared = self.results.get("eval", {}).get(name, {}).get("while_training")
        if compared is not None:
            return dict(compared["after"])
        return self.evaluations[-1].sets[name] if self.evaluations else self.results.get("eval", {}).get(name, {})


def load_record(folder: Path) -> RunRecord:
    """The records of a run; raise CheckpointError for a folder without the settings of one."""
    run = Run(folder)
    mark, results, fault = load_results(run)
    ledger, strange = _load_ledger(run.ledger_file)
    metrics = run.load_metrics()
    return RunRecord(
        folder=folder,
        config=run.load_config(),
        results=results,
        ledger=ledger,
        metrics=metrics,
        samples=run.load_samples(),
        began=None if mark is None else mark.began,
        overrides=load_overrides(run),
        faults=[each for each in (fault, strange, _find_cut(run.metrics_file, len(metrics))) if each is not None],
    )


def _load_ledger(file: Path) -> tuple[Record, str | None]:
    """(ledger, fault): {} where it is missing, or not as a run writes it."""
    try:
        ledger = load_json(file)
    except FileNotFoundError:
        return {}, None
    except (OSError, CheckpointError):
        return {}, f"{file.name} does not read"
    strange = find_strange(ledger, LEDGER)
    return (ledger, None) if strange is None else ({}, f"{file.name} is not as lmtune writes it: {strange}")


def _find_cut(file: Path, read: int) -> str | None:
    """Where a log was not read to its end; None if only its last line is incomplete. read: its lines that were."""
    written = file.read_bytes().count(b"\n") if file.exists() else 0
    return f"{file.name} is not as lmtune writes it from line {read + 1} of {written} on" if read < written else None
