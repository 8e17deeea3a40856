"""Automatic choices for a run: activation checkpointing if memory is short, torch.compile if it pays."""

from typing import TYPE_CHECKING, NamedTuple

from lmtune.modeling.layers import find_blocks
from lmtune.storage import Record
from lmtune.training.arguments import change_arguments, spreads
from lmtune.training.batches import USUAL_ROWS
from lmtune.training.compiling import find_compile_failure
from lmtune.training.distributed import agree
from lmtune.training.memory import StepMemory, estimate_memory, measure_free_memory
from lmtune.training.throughput import build_flops_meter
from lmtune.units import render_bytes, render_duration
from lmtune.versions import get_argument

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

USABLE = 0.9
"""Fraction of the free memory that an estimate may fill; the rest is for fragmentation and what is not counted."""

COMPILE_PAYS_AFTER = {"cuda": 180.0, "cpu": 1200.0}
"""Seconds of training from which torch.compile is chosen. It takes about 20 s and gains a quarter on a GPU."""

ROWS_AT_ONCE = (64, 32, 16)
"""Rows of one pass that are tried on a GPU. GPT-2 of 124 million parameters, rows of 1,024, reached 278,000 tokens/s with 8 on
an H100, 344,000 with 32 and 357,000 with 64 (docs/benchmarks.md)."""

CPU_RATE = 1e11
"""FLOP/s that training reaches on a thread: 0.8 to 2.1e11 were measured, see docs/benchmarks.md."""

REACHED_SHARE = 0.3
"""Share of a GPU's peak that training reaches uncompiled, as measured for GPT-2 of 124 million parameters on an H100."""


class Plan(NamedTuple):
    """Training arguments chosen for the steps to come, and remarks on them for the user."""

    chosen: Record
    remarks: list[str]


def plan_steps(
    given: Record, arguments: "TrainingArguments", model: "PreTrainedModel", block_size: int, targets: int
) -> Plan:
    """Choose among what `given` leaves open, for a run of `targets` trained tokens, and set it in `arguments`."""
    memory = estimate_memory(arguments, model, block_size, muon=bool(given.get("muon")))
    plan = _plan_checkpointing(given, arguments, model, memory)
    settled = "torch_compile" in given or arguments.torch_compile or _shards(given, arguments)
    if not plan.chosen and not settled:  # a backend alone asks for it
        seconds = estimate_seconds(arguments, model, block_size, targets)
        compiled = _plan_compile(arguments, model, seconds)
        plan = Plan(compiled.chosen, plan.remarks + compiled.remarks)
    change_arguments(arguments, **plan.chosen)
    return plan


def choose_rows(given: Record, arguments: "TrainingArguments", model: "PreTrainedModel", block_size: int) -> int | None:
    """Rows of one pass for a step of batch.tokens on a GPU: as many as half of its free memory holds; None where that is open.

    With few rows a GPU waits for the launches of its kernels. Rank 0 decides for all, and a resumed run keeps what it began with.
    """
    named = {"per_device_train_batch_size", "gradient_accumulation_steps"} & given.keys()
    if arguments.device.type != "cuda" or named or arguments.auto_find_batch_size:
        return None
    muon = bool(given.get("muon"))
    return agree(lambda: fit_rows(arguments, model, block_size, measure_free_memory(arguments.device), muon=muon))


def fit_rows(
    arguments: "TrainingArguments", model: "PreTrainedModel", block_size: int, free: int, *, muon: bool = False
) -> int:
    """The largest of ROWS_AT_ONCE whose step takes at most half of `free` bytes; USUAL_ROWS if none does or nothing is known."""
    for rows in ROWS_AT_ONCE:
        memory = estimate_memory(arguments, model, block_size, rows, muon=muon)
        if memory is None:
            break
        if memory.total <= free / 2:
            return rows
    return USUAL_ROWS


def estimate_seconds(
    arguments: "TrainingArguments", model: "PreTrainedModel", block_size: int, targets: int
) -> float | None:
    """Seconds that training on `targets` tokens will take, roughly; None on a chip whose peak is not known."""
    import torch

    meter = build_flops_meter(arguments, model, block_size)
    if arguments.device.type == "cpu":
        rate = CPU_RATE * torch.get_num_threads()
    elif meter.peak is not None:
        rate = REACHED_SHARE * meter.peak
    else:
        return None
    return targets * meter.flops_per_token / (rate * arguments.world_size)


def _plan_checkpointing(
    given: Record, arguments: "TrainingArguments", model: "PreTrainedModel", memory: StepMemory | None
) -> Plan:
    """Activation checkpointing where a step would not fit without it. It changes no result, so the machine may decide."""
    if memory is None:
        return Plan({}, [f"memory of a step: not known beforehand for {type(model).__name__}"])
    free = measure_free_memory(arguments.device)
    gathered = ""
    if spreads(given, arguments):
        memory, gathered = memory.spread(arguments.world_size), ", and the blocks that run are whole besides"
    told = f"memory of a step: about {memory.render()} of {render_bytes(free)} free{gathered}"
    left_alone = {"activation_checkpointing", "gradient_checkpointing"} & given.keys() or arguments.auto_find_batch_size
    if memory.total <= USABLE * free or left_alone or _shards(given, arguments):
        return Plan({}, [told])
    return Plan({"activation_checkpointing": True}, [f"{told}; activations are computed twice instead of kept"])


def _plan_compile(arguments: "TrainingArguments", model: "PreTrainedModel", seconds: float | None) -> Plan:
    """torch.compile for runs so long that it pays, where blocks can be found and compiled."""
    recomputes = get_argument(arguments, "activation_checkpointing")
    kept_plain = recomputes or arguments.auto_find_batch_size
    # Measured on a CPU: 1.2 to 1.5 times with dropout in the attention, which torch computes in many steps there; else 1.0.
    pays = arguments.device.type == "cuda" or (arguments.device.type == "cpu" and _drops_attention(model))
    if kept_plain or not pays or seconds is None or find_blocks(model) is None:
        return Plan({}, [])
    if seconds < COMPILE_PAYS_AFTER[arguments.device.type]:
        return Plan({}, [])
    failure = find_compile_failure(arguments.device)
    if failure is not None:
        return Plan(
            {}, [f"torch.compile would pay in about {render_duration(seconds)}, but does not work here: {failure}"]
        )
    return Plan({"torch_compile": True, "torch_compile_backend": "inductor"}, [])


def _drops_attention(model: "PreTrainedModel") -> bool:
    """True for dropout of attention probabilities, by the names that configs have for it."""
    config = model.config.get_text_config()
    return any(getattr(config, name, None) for name in ("attn_pdrop", "attention_dropout", "attn_dropout"))


def _shards(given: Record, arguments: "TrainingArguments") -> bool:
    """True if weights are sharded (DeepSpeed, fully_shard): the peak memory of one device is not estimated then."""
    return bool(arguments.deepspeed) or spreads(given, arguments)
