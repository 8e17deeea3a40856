"""One line of the list of runs, read from the small files of a run folder, whatever state they are in."""

import json
import math
import os
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from lmtune.errors import CheckpointError
from lmtune.runs.folder import Run
from lmtune.runs.lock import LOCK
from lmtune.runs.mark import MARK, Mark, find_mark
from lmtune.runs.shape import keep_sound
from lmtune.storage import Record, load_json

STATUSES = ("completed", "stopped", "failed", "running")
BROKEN_OFF = "broken off"
"""Status of a run that is recorded as running, but whose process on this machine is gone: it was killed."""
UNKNOWN = "unknown"
TAIL = 1 << 16
"""Bytes read from the end of metrics.jsonl, for a run without results."""
_YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Entry:
    """The known facts about one run."""

    run: Run
    mark: Mark | None
    name: str
    """<data>-<model>, or name=; for a run with damaged records, the name of its folder."""
    status: str
    steps: int | None
    """Completed training steps."""
    bits_per_byte: float | None
    """On its first held-out set: the final number, or that of the last evaluation as long as there is none."""
    scored_at: int | None
    """The step of that evaluation; None for the final number."""
    set: str
    """Name of the held-out set."""
    text: str
    """Identifies the text of the number: numbers on different texts are not comparable. '' if not recorded."""
    fault: str | None
    """What is wrong with its records."""

    @property
    def began(self) -> datetime | None:
        """When it was started, in local time."""
        try:
            return None if self.mark is None else datetime.fromisoformat(self.mark.began).astimezone()
        except ValueError:
            return None

    @property
    def order(self) -> tuple[bool, int, str, str]:
        """Sort key, greater for later runs: by number, with copies of runs before those in their original place."""
        mark, folder = self.mark, self.run.folder
        if mark is None:
            return (False, 0, "", str(folder))
        return (Path(mark.folder) == folder.absolute(), mark.number, mark.began, str(folder))

    def as_dict(self) -> Record:
        """The values that format=json prints."""
        began = self.began
        return {
            "folder": str(self.run.folder.absolute()),
            "name": self.name,
            "began": None if began is None else began.isoformat(timespec="seconds"),
            "status": self.status,
            "steps": self.steps,
            "bits_per_byte": self.bits_per_byte,
            "scored_at": self.scored_at,
            "set": self.set or None,
            "text": self.text or None,
            "fault": self.fault,
        }


def load_entry(run: Run) -> Entry:
    """The entry of a run from its records. Never raises: damage is reported as the fault of the entry."""
    mark, results, fault = _load_records(run)
    sets = _find(results, dict, "eval")
    name, measures = next(iter(sets.items()), ("", {}))
    bits, step = _find_number(measures, "bits_per_byte"), None
    steps = _find(results, int, "train", "steps", default=None)
    if bits is None or steps is None:
        last = _read_tail(run.metrics_file)
        if bits is None:
            bits, step = _find_last_score(last)
        steps = _find(last[-1], int, "step", default=None) if steps is None and last else steps
    return Entry(
        run,
        mark,
        _find(results, str, "name") or run.folder.absolute().parent.name,
        _tell_status(run, _find(results, str, "status")),
        steps,
        bits,
        step,
        str(name),
        _find(measures, str, "protocol", "text"),
        fault,
    )


def load_overrides(run: Run) -> list[str]:
    """Overrides of a run, or of its job in a sweep, as recorded by Hydra; [] if unknown."""
    try:
        found = yaml.load((run.hydra_folder / "overrides.yaml").read_text(encoding="utf-8"), _YAML)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return []
    return [each.lstrip("+") for each in found if isinstance(each, str)] if isinstance(found, list) else []


def load_results(run: Run) -> tuple[Mark | None, Record, str | None]:
    """(mark, results, fault): run.json, the parts of results.json that are as a run writes them, and what is wrong with either."""
    mark, results, fault = _load_records(run)
    return mark, keep_sound(results)[0], fault


def _load_records(run: Run) -> tuple[Mark | None, Record, str | None]:
    """(mark, results, fault), as far as the records are intact."""
    mark = find_mark(run.folder)
    fault = None
    if mark is None:
        there = os.path.lexists(run.folder / MARK)
        fault = f"{MARK} is not as it was written" if there else f"{MARK} is not there"
    try:
        results = load_json(run.results_file)
    except FileNotFoundError:
        return mark, {}, fault or "it has no results.json"
    except (OSError, CheckpointError):
        return mark, {}, fault or "results.json does not read"
    sealed = "results.json" in ((mark.checksums or {}) if mark else {})
    if sealed and not run.find_results():
        return mark, {}, "results.json is not as it was written"
    if fault is None and (strange := keep_sound(results)[1]):
        fault = f"results.json is not as lmtune writes it: {', '.join(strange)}"
    return mark, results, fault


def _tell_status(run: Run, status: str) -> str:
    if status not in STATUSES:
        return UNKNOWN
    return BROKEN_OFF if status == "running" and _has_ended(run.folder / f"{LOCK}.json") else status


def _has_ended(holder_file: Path) -> bool:
    """True if the last process that held the run was on this machine and is gone. Takes no lock, so that nobody is disturbed."""
    try:
        holder = load_json(holder_file)
        number = int(holder["pid"])
        if holder["host"] != socket.gethostname():
            return False
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (OSError, CheckpointError, KeyError, TypeError, ValueError, OverflowError):
        return False
    return False


def _read_tail(file: Path) -> list[Record]:
    """The last lines of metrics.jsonl, in order."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
            lines = stream.read(TAIL).splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            loaded = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the first line may be cut
        found += [loaded] if isinstance(loaded, dict) else []
    return found


def _find_last_score(lines: list[Record]) -> tuple[float | None, int | None]:
    for line in reversed(lines):
        bits = _find_number(line, "eval_bits_per_byte")
        if bits is not None:
            return bits, _find(line, int, "step", default=None)
    return None, None


def _find_number(record: object, name: str) -> float | None:
    value = _find(record, (int, float), name, default=None)
    return None if value is None or not math.isfinite(value) else float(value)


def _find(record: object, kind: type | tuple[type, ...], *names: str, default: Any = "") -> Any:
    """The value below these nested names if it is of a kind; else `default`, or an empty dict if a dict was wanted."""
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    if isinstance(record, kind) and not isinstance(record, bool):
        return record
    return {} if kind is dict else default
