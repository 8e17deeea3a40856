"""What is logged of a run before its first step."""

import logging
from collections.abc import Iterator

from lmtune.data.ledger import Ledger
from lmtune.data.predecessor import find_predecessor
from lmtune.training import devices
from lmtune.training.arguments import count_devices
from lmtune.training.batches import BatchPlan
from lmtune.training.context import RunContext
from lmtune.training.setup import Setup
from lmtune.training.throughput import FlopsMeter

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


def render_data(setup: Setup) -> Iterator[str]:
    """The text: what is learned, held out and left out."""
    ledger = setup.prepared.ledger
    yield _render_blocks(ledger)
    source = find_predecessor(setup.config.model)
    if source is not None and setup.corpus.past is not None:
        learned = ledger.documents_spared + ledger.documents_learned_before
        yield (
            f"data: nothing that {source.folder} has learned is held out ({learned:,} documents would have been); "
            f"{ledger.documents_held_again:,} more that it held out still are"
        )
    if ledger.bytes_copied:
        yield f"data: {ledger.bytes_copied:,} bytes are copies of what is held out, and are not learned"
    for name, part in ledger.mix.items():
        yield f"mix: {name}: {part['blocks_per_epoch']:,} of {part['blocks']:,} blocks an epoch"


def _render_blocks(ledger: Ledger) -> str:
    if not ledger.blocks:
        return f"data: streamed in blocks of {ledger.block_size:,}; held out by {ledger.split_by}"
    train, held = ledger.sides["train"], ledger.sides["validation"]
    return (
        f"data: {ledger.documents_kept:,} documents ({ledger.documents_are}); {train.tokens:,} tokens to learn "
        f"in {ledger.blocks:,} blocks of {ledger.block_size:,}; {held.tokens:,} held out by {ledger.split_by}"
    )


def render_model(context: RunContext, setup: Setup) -> Iterator[str]:
    """The model, where it is trained, in which precision, and in steps of which size."""
    from lmtune.modeling.loss import is_fused

    args, model = context.arguments, setup.model
    yield f"model: {model.num_parameters():,} parameters on {args.device}, {context.world_size} process(es)"
    attention = getattr(model.config, "_attn_implementation", None)
    device = devices.detect_device(args.use_cpu)
    yield devices.describe_device(device, args, attention, "fused" if is_fused(model) else "plain")
    rows, passes = args.per_device_train_batch_size, args.gradient_accumulation_steps
    yield BatchPlan(rows, passes, count_devices(args), setup.prepared.ledger.block_size).render()
