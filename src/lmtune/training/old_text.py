"""Where the old text of forgetting.on= comes from: a data set, or the untouched model itself, which writes it once."""

import math
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lmtune.config import SplitRule
from lmtune.config.data import is_split_alike
from lmtune.config.forgetting import SELF
from lmtune.data.blocks import Blocks
from lmtune.data.build import build_replayed, leave_out
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.written import build_key, is_kept, load_written
from lmtune.errors import naming_text
from lmtune.modeling.writing import choose_rows, write_rows
from lmtune.patience import turn_to
from lmtune.storage import Record
from lmtune.training.arguments import count_rows_per_step
from lmtune.training.disk import count_steps
from lmtune.training.distributed import check_same_text
from lmtune.training.replay import Replay

if TYPE_CHECKING:
    from lmtune.training.held_out import HeldOut
    from lmtune.training.setup import Setup

SEED = 0
"""Seed of what a model writes, and of the order of old text: all runs of a sweep over seeds replay the same text."""
USUAL_TOKENS = 500_000
"""Most tokens that a model writes, unless forgetting.tokens says so."""
TRIED = 32
"""Tokens of a row that are written to tell how long all of it takes."""


class Writing(NamedTuple):
    """Old text that a model has to write."""

    rows: int
    tokens: int
    key: str
    """Key of the entry in the cache."""

    @property
    def kept(self) -> bool:
        """True where it has been written before."""
        return is_kept(self.key)


def prepare_replay(setup: "Setup", held_out: "HeldOut") -> Replay | None:
    """The old text of a run, which is accounted for in its ledger and its facts; None without forgetting.on."""
    forgetting = setup.config.forgetting
    if forgetting.on is None:
        return None
    turn_to("preparing the old text")
    replay = _take_written(setup) if forgetting.writes else _take_set(setup, held_out)
    check_same_text({"replay": setup.prepared.facts["replay"]})
    return replay


def describe_budget(setup: "Setup", held_out: "HeldOut") -> Record | None:
    """What a budget will cost; None without one. The text of a data set is prepared, that of a model is not written yet."""
    forgetting = setup.config.forgetting
    if forgetting.on is None:
        return None
    most, block_size = forgetting.most_share, setup.prepared.ledger.block_size
    told = {"on": forgetting.on, "budget": forgetting.rise, "most": most, "replay": forgetting.source or SELF}
    told |= {"replayed_tokens": count_replayed(setup) * block_size, "longer_steps": most / (1 - most)}
    if not forgetting.writes:
        _take_set(setup, held_out)
        return {**told, "tokens": setup.prepared.ledger.replay["tokens"], "written": None}
    writing = plan_writing(setup)
    return {**told, "tokens": writing.tokens, "written": writing.kept}


def time_writing(setup: "Setup") -> float:
    """Tokens a second at which the model writes the beginning of its rows; later ones take longer, as more stands before them."""
    rows = count_together(setup)
    for length in (2, TRIED):  # the first text after a start is slower, and not counted
        began = time.perf_counter()
        for batch in write_rows(setup.model, setup.tokenizer, length, rows, SEED):
            tokens = batch.size
    return tokens / (time.perf_counter() - began)


def plan_writing(setup: "Setup") -> Writing:
    """How much the model is to write for a run, and where that is kept."""
    args, block_size, forgetting = setup.arguments, setup.prepared.ledger.block_size, setup.config.forgetting
    most = count_replayed(setup) * block_size
    rows = math.ceil((forgetting.tokens or max(1, min(USUAL_TOKENS, most))) / block_size)
    parts = {
        "model": setup.untouched,
        "block_size": block_size,
        "rows": rows,
        "rows_at_once": count_together(setup),
        "seed": SEED,
        "device": args.device.type,
    }
    return Writing(rows, rows * block_size, build_key(setup.tokenizer, parts))


def count_together(setup: "Setup") -> int:
    """Rows that the model writes together."""
    return choose_rows(setup.model, setup.arguments.device.type, setup.prepared.ledger.block_size + 1)


def count_replayed(setup: "Setup") -> int:
    """Rows of old text that a run learns if each step has the largest share of it."""
    args, most = setup.arguments, setup.config.forgetting.most_share
    steps = count_steps(args, len(setup.prepared.blocks))
    return math.ceil(steps * count_rows_per_step(args) * most / (1 - most))


def _take_written(setup: "Setup") -> Replay:
    """Text of the model's own, which it writes where it has not done so before."""
    block_size, writing = setup.prepared.ledger.block_size, plan_writing(setup)
    setup.model.to(setup.arguments.device)  # type: ignore[arg-type]  # transformers' signature is that of its decorator
    write = partial(write_rows, setup.model, setup.tokenizer, block_size + 1, writing.rows, SEED)
    written = load_written(writing.key, setup.tokenizer, block_size, writing.rows, write)
    return _open(setup, written.blocks, written.tokens, written.checksum, {"seed": SEED, "model": setup.untouched})


def _take_set(setup: "Setup", held_out: "HeldOut") -> Replay:
    """The training part of a data set, without what the run holds out anywhere."""
    on = str(setup.config.forgetting.on)
    ((name, config),) = setup.config.replay_sets.items()
    watched = held_out.sets[on]
    # Stretches are drawn by their place: with a document less, others would be held out, and those of the watched text learned.
    same = SplitRule.stretches.value in watched.split_by and is_split_alike(config, setup.config.eval_sets[on])
    corpus = build_replayed(setup.corpus, setup.prepared, config, None if same else watched.stream)
    with naming_text(f"forgetting.{setup.config.forgetting.source_key}={name}"):
        prepared = EncodedCorpus(corpus, setup.tokenizer).prepare(setup.prepared.ledger.block_size)
    ledger, blocks = prepared.ledger, prepared.blocks
    assert isinstance(blocks, Blocks)
    counts = {"documents_held_elsewhere": ledger.documents_held_elsewhere, "sources": ledger.sources}
    replay = _open(setup, blocks, ledger.targets, prepared.facts["corpus"], counts)
    replay.corpus = corpus
    return replay


def _open(setup: "Setup", blocks: Blocks, tokens: int, identity: str, counts: Record) -> Replay:
    forgetting = setup.config.forgetting
    source = forgetting.source or SELF
    setup.prepared.facts["replay"] = identity
    account = {"source": source, "blocks": len(blocks.rows), "tokens": tokens, **counts}
    if setup.config.goldfish is not None:
        leave_out(setup.config.goldfish, blocks, setup.tokenizer)
        account["targets_left_out"] = blocks.count_left_out(range(len(blocks.rows)))
    setup.prepared.ledger.replay = account
    return Replay(blocks, str(forgetting.on), forgetting.rise, forgetting.most_share, source, seed=SEED)
