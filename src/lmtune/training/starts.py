"""What results.json holds of a run that goes on: when it was begun and taken up again, and how well it predicted at first."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from lmtune.evaluation.by_document import MOST, name_documents
from lmtune.evaluation.documents import measure_documents
from lmtune.runs import Run
from lmtune.storage import Record
from lmtune.token_stream import TokenStream
from lmtune.training.foresight import Course, describe_model
from lmtune.training.memory import estimate_memory

if TYPE_CHECKING:
    from lmtune.training.context import RunContext
    from lmtune.training.setup import Setup


def describe_start(context: "RunContext", setup: "Setup", sets: list[str], course: Course) -> Record:
    """What a reader of the run wants to know of a start of it. sets: names of the held-out sets; memory: bytes of a step."""
    block_size, muon = setup.prepared.ledger.block_size, setup.config.muon
    memory = estimate_memory(setup.arguments, setup.model, block_size, muon=muon)
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


def record_first(run: Run, stream: TokenStream, nll: np.ndarray) -> None:
    """Keep the bits per byte of each held-out document before the first step, unless they are very many. nll: [documents]."""
    if len(nll) <= MOST:
        bits = [round(each, 6) for each in measure_documents(stream, nll).tolist()]
        run.write_results({**run.find_results(), "first": dict(zip(name_documents(stream), bits, strict=True))})


def find_first(run: Run, stream: TokenStream) -> list[float | None] | None:
    """[documents] what record_first has kept of each, None for one that was not scored then; None where that is so of all."""
    known = run.find_results().get("first", {})
    found = [known.get(name) for name in name_documents(stream)]
    return found if any(bits is not None for bits in found) else None
