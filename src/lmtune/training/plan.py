"""What is logged of a run before its first step."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmtune.config import EvalConfig
from lmtune.data.lanes import render_lanes
from lmtune.data.ledger import Ledger
from lmtune.data.predecessor import find_predecessor
from lmtune.storage import Record
from lmtune.training import devices
from lmtune.training.arguments import count_devices, count_warmup, name_of
from lmtune.training.batches import BatchPlan
from lmtune.training.context import RunContext
from lmtune.training.foresight import Course
from lmtune.training.held_out import HeldOut
from lmtune.training.setup import Setup
from lmtune.training.throughput import FlopsMeter
from lmtune.units import render_count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lmtune.training.trainer import LmTrainer

logger = logging.getLogger(__name__)


def log_plan(context: RunContext, setup: Setup, meter: FlopsMeter) -> None:
    """Say what is about to happen, in a few lines."""
    lines = [*render_data(setup), *render_model(context, setup), *setup.remarks]
    if meter.peak is not None:
        per_token, peak = meter.flops_per_token / 1e9, meter.peak / 1e12
        lines.append(f"MFU: {per_token:.3g} GFLOP a token, of {peak:.0f} TFLOP/s a chip")
    lines.append(f"run folder: {context.run.folder}")
    if context.checkpoint:
        lines.append(f"resuming from {context.checkpoint.name}")
    for line in lines:
        logger.info(line)


def render_course(trainer: "LmTrainer", course: Course, held_out: HeldOut, settings: EvalConfig) -> Iterator[str]:
    """The learning rate and length of the run, and what is scored when."""
    yield f"learns: {render_schedule(trainer, course)}; {course.steps:,} steps, {render_epochs(course)}"
    args = trainer.args
    every, unit = {
        "steps": (max(1, int(args.eval_steps or 1)), "steps"),
        "epoch": (1, "epoch"),
    }.get(name_of(args.eval_strategy), (0, ""))
    if held_out.sets and course.evaluations:
        start = "at the start, " if course.first == 0 else ""
        rhythm = f"every {every:,} {unit}, " if every > 1 else f"every {unit.removesuffix('s')}, " if every else ""
        yield f"scored: {', '.join(held_out.sets)} (held out), {start}{rhythm}at the end"
    for name, held in held_out.sets.items():
        if (limits := held.render_limits(settings)) is not None:
            yield f"held out: {name}: {limits} are scored"


def render_schedule(trainer: "LmTrainer", course: Course) -> str:
    """Learning rate, its course, and warm-up."""
    args = trainer.args
    if trainer.timeline is not None:
        phases = trainer.timeline.phases
        peaks = f"{max(max(phase.peaks) for phase in phases):.3g}"
        return f"{len(phases)} phases of one cycle each, learning rates up to {peaks}"
    warmup = count_warmup(args, course.steps)
    first = f", {render_count(warmup, 'step')} of warm-up" if warmup else ""
    return f"learning rate {args.learning_rate:.3g}, {name_of(args.lr_scheduler_type)}{first}"


def render_epochs(course: Course) -> str:
    """`1 epoch`, `2.5 epochs`."""
    epochs = course.steps / course.steps_per_epoch
    return f"{epochs:,.3g} epoch" + ("" if epochs == 1 else "s")


def render_data(setup: Setup) -> Iterator[str]:
    """The text: what is learned, held out and left out."""
    ledger = setup.prepared.ledger
    yield _render_blocks(ledger)
    data, processes = setup.config.data, setup.arguments.world_size
    if data.streaming and (read := render_lanes(data, setup.corpus.source, processes)) is not None:
        yield f"data: {read}"
    source = find_predecessor(setup.config.model)
    if source is not None and setup.corpus.past is not None:
        learned = ledger.documents_spared + ledger.documents_learned_before
        yield (
            f"data: nothing that {source.folder} has learned is held out ({learned:,} documents would have been); "
            f"{ledger.documents_held_again:,} more that it held out still are"
        )
    if ledger.bytes_copied:
        yield f"data: {ledger.bytes_copied:,} bytes are copies of what is held out, and are not learned"
    if ledger.documents_planted:
        yield (
            f"data: {ledger.documents_planted:,} copies of canaries are planted in the training text; lmtune audit looks for them"
        )
    if (one_in := setup.config.goldfish) is not None:
        yield _render_left_out(ledger, one_in)
    for name, part in ledger.mix.items():
        yield f"mix: {name}: {_render_part(part)}"
    if ledger.replay:
        budget, tokens = setup.config.forgetting, ledger.replay["tokens"]
        whose = "the model's own" if budget.writes else ledger.replay["source"]
        yield (
            f"old text: {tokens:,} tokens ({whose}); at most {budget.most_share:.1%} of a step, on top of the new, so that "
            f"{budget.on} rises by no more than {budget.rise:.2%}"
        )


def _render_left_out(ledger: Ledger, one_in: int) -> str:
    if not ledger.targets:
        return f"training.goldfish: one in {one_in} tokens is left out of the loss, by the tokens before it"
    share = ledger.targets_left_out / ledger.targets
    return (
        f"training.goldfish: {ledger.targets_left_out:,} of {ledger.targets:,} tokens ({share:.1%}) are left out of the loss, in "
        "each epoch the same"
    )


def _render_part(part: Record) -> str:
    """How much of a source of data.mix is learned: of an epoch, or of a run of streams."""
    if "blocks_per_epoch" in part:
        return f"{part['blocks_per_epoch']:,} of {part['blocks']:,} blocks an epoch"
    read = f"of {part['blocks']:,}, prepared whole" if "blocks" in part else "streamed"
    return f"{part['blocks_per_run']:,} blocks of the run, {read}"


def _render_blocks(ledger: Ledger) -> str:
    if not ledger.blocks:
        return f"data: streamed in blocks of {ledger.block_size:,}; held out by {ledger.split_by}"
    train, held = ledger.sides["train"], ledger.sides["validation"]
    return (
        f"data: {ledger.documents_kept:,} documents ({ledger.documents_are}); {train.tokens:,} tokens to learn "
        f"in {ledger.blocks:,} blocks of {ledger.block_size:,}; {held.tokens:,} held out by {ledger.split_by}"
    )


def render_parameters(model: "PreTrainedModel") -> str:
    """How many there are, and how many of them learn where not all do."""
    count = sum(weight.numel() for weight in model.parameters())
    learned = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    if learned == count:
        return f"{count:,} parameters"
    return f"{render_millions(learned)} of {render_millions(count)} parameters learn ({learned / count:.1%})"


def render_millions(count: int) -> str:
    """`2.4M`, `137M`, `812k`."""
    return f"{count / 1e6:.3g}M" if count >= 1e6 else f"{count / 1e3:.3g}k" if count >= 1000 else str(count)


def render_model(context: RunContext, setup: Setup) -> Iterator[str]:
    """The model, where it is trained, in which precision, and in steps of which size."""
    from lmtune.modeling.loss import is_fused

    args, model = context.arguments, setup.model
    yield f"model: {render_parameters(model)} on {args.device}, {render_count(context.world_size, 'process')}"
    attention = getattr(model.config, "_attn_implementation", None)
    device = devices.detect_device(args.use_cpu)
    yield devices.describe_device(device, args, attention, "fused" if is_fused(model) else "plain")
    rows, passes = args.per_device_train_batch_size, args.gradient_accumulation_steps
    yield BatchPlan(rows, passes, count_devices(args), setup.prepared.ledger.block_size).render()
