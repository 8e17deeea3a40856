"""`starts` in results.json: when a run was begun and taken up again, with which model, on which machine."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lmtune.storage import Record
from lmtune.training.foresight import Course, describe_model
from lmtune.training.memory import estimate_memory

if TYPE_CHECKING:
    from lmtune.training.context import RunContext
    from lmtune.training.setup import Setup


def describe_start(context: "RunContext", setup: "Setup", sets: list[str], course: Course) -> Record:
    """What a reader of the run wants to know of a start of it. sets: names of the held-out sets; memory: bytes of a step."""
    memory = estimate_memory(setup.arguments, setup.model, setup.prepared.ledger.block_size)
    model = describe_model(setup)
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": course.first,
        "steps": course.steps,
        "sets": sets,
        "parameters": model["parameters"],
        "trained": model["trained"],
        "precision": model["precision"],
        "unigram_bits_per_byte": setup.prepared.facts.get("unigram_bits_per_byte"),
        "memory": None if memory is None else memory.total,
        "machine": context.manifest["machine"],
    }


def record_start(context: "RunContext", start: Record) -> None:
    """Write down that the run is running, and that it has started once more."""
    known = {key: value for key, value in context.run.find_results().items() if key != "reason"}
    context.run.write_results({**known, "status": "running", "starts": [*known.get("starts", []), start]})
