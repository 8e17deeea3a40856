"""What a run trains on and is measured on: one source, a mixture, or a stream."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lmtune.config import DataConfig
from lmtune.data import cache
from lmtune.data.blocks import Blocks, TrainingRows
from lmtune.data.canaries import Canary
from lmtune.data.corpus import Corpus
from lmtune.data.goldfish import Goldfish
from lmtune.data.laned import LanedStore, LanedText
from lmtune.data.mixture import MixedBlocks, Part
from lmtune.data.past import Past, build_past, load_past, save_past
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.prepared import Facts, Prepared, StreamFacts
from lmtune.data.progress import show_progress
from lmtune.data.splits import HELD_OUT
from lmtune.data.streaming import Source, StreamedBlocks, prepare_stream
from lmtune.errors import naming_text
from lmtune.patience import saying, turn_to
from lmtune.token_stream import TokenStream
from lmtune.vocabulary import encode_document_opening

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_PAST = 300_000_000
"""Bytes of training text up to which a run records what it trains on."""


def build_corpus(config: DataConfig, order_seed: int | None = None, past: Past | None = None) -> Corpus:
    """The text of one data configuration, split by its own seed; nothing is read yet.

    order_seed: of the order in which text comes while streaming; by default that of the split. past: what the model knows
    already.
    """
    return Corpus(config, config.seed, past=past, order_seed=order_seed)


def prepare_training(
    corpus: Corpus,
    mixed: dict[str, DataConfig],
    tokenizer: "PreTrainedTokenizerBase",
    block_size: int,
    canaries: Sequence[Canary] = (),
) -> Prepared:
    """What a run trains on and is measured on.

    mixed: configurations of the other sources of data.mix, by name. block_size: tokens of a row. canaries: to be planted in the
    training text of the corpus.
    """
    turn_to("preparing the text")
    encoded = EncodedCorpus(corpus, tokenizer, canaries)
    prepared = _prepare(encoded, block_size)
    prepared.facts["held_out"] = {split: describe_stream(stream) for split, stream in prepared.held_out.items()}
    if not mixed:
        return prepared
    corpora = _build_others(corpus, prepared, mixed)
    others = {}
    for name, other in corpora.items():
        with naming_text(f"data.mix={name}"):
            others[name] = _prepare(EncodedCorpus(other, tokenizer), block_size)
    return _mix_streams(corpus, prepared, others) if corpus.config.streaming else _mix(corpus.config, prepared, others)


def _prepare(encoded: EncodedCorpus, block_size: int) -> Prepared:
    return prepare_stream(encoded, block_size) if encoded.corpus.config.streaming else encoded.prepare(block_size)


def leave_out(goldfish: int | None, blocks: TrainingRows, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Leave one in `goldfish` targets of some rows out of the loss; None leaves out none."""
    if goldfish is not None:
        blocks.leave_out(Goldfish(goldfish, tokenizer.eos_token_id, len(encode_document_opening(tokenizer))))


def count_left_out(prepared: Prepared) -> None:
    """Count in the ledger, and for each source of a mixture, what an epoch leaves out; a stream is counted as it is read."""
    blocks, ledger = prepared.blocks, prepared.ledger
    with saying("counting what is left out of the loss"):
        if isinstance(blocks, MixedBlocks):
            for name, part in blocks.parts.items():
                ledger.mix[name]["targets_left_out"] = part.blocks.count_left_out(range(len(part.blocks.rows)))
            ledger.targets_left_out = next(iter(ledger.mix.values()))["targets_left_out"]
        elif isinstance(blocks, Blocks):
            ledger.targets_left_out = blocks.count_left_out(range(len(blocks.rows)))


def build_replayed(corpus: Corpus, lead: Prepared, other: DataConfig, watched: TokenStream | None) -> Corpus:
    """Old text that is learned again beside that of `corpus`, without what the run holds out.

    watched: held-out text that tells what is forgotten; None where this text holds it out by itself.
    """
    whole = replace(other, streaming=False)
    apart = [] if watched is None else [watched]
    (replayed,) = _build_others(corpus, lead, {other.name: whole}, *apart).values()
    return replayed


def record_past(
    corpus: Corpus, prepared: Prepared, mixed: dict[str, DataConfig], replayed: Corpus | None = None
) -> Past | None:
    """What a model will know once it has been trained on this text, what it knew before included.

    None where that is not recorded: for a stream, which has not been read yet, and for more than MOST_PAST bytes.
    """
    if corpus.config.streaming or prepared.ledger.bytes_kept > MOST_PAST:
        return None
    sources = [corpus, *_build_others(corpus, prepared, mixed).values(), *([] if replayed is None else [replayed])]

    def build(folder: Path) -> dict[str, Any]:
        training = chain.from_iterable(source.batches("train") for source in sources)
        held_out = chain.from_iterable(corpus.batches(split) for split in HELD_OUT)
        save_past(folder / "past.npz", build_past(show_progress(training, "noting what is learned"), held_out), None)
        return {}

    key = cache.key_of({"past": [source.key for source in sources]})
    past = cache.cached(key, build, lambda folder, _: load_past(folder / "past.npz"))
    return past if past is None or corpus.past is None else past.join(corpus.past)


def describe_stream(stream: TokenStream) -> StreamFacts:
    """Which text a stream is, and how much of it."""
    table = stream.documents
    return {"text": stream.identify(), "documents": len(table), "bytes": int(table["bytes"].sum())}


def _build_others(
    corpus: Corpus, lead: Prepared, mixed: dict[str, DataConfig], *apart: TokenStream
) -> dict[str, Corpus]:
    """Other sources, without what the lead holds out, what stands apart, and what the run held out that the model comes from."""
    config = corpus.config
    same: dict[str, Any] = {
        "isolate_documents": config.isolate_documents,
        "stride": config.stride,
        "packing": config.packing,
    }
    held = np.concatenate(
        [np.empty(0, np.uint64), *(stream.documents["order"] for stream in (*lead.held_out.values(), *apart))]
    )
    before = None if corpus.past is None else corpus.past.without_learned()
    found = {}
    for number, (name, other) in enumerate(mixed.items(), start=1):
        shaped = replace(other, **same, streaming=config.streaming and other.streaming)
        order_seed = derive_seed(corpus.order_seed, number)
        found[name] = Corpus(shaped, corpus.seed, held, before, order_seed, withholds=True)
    return found


def derive_seed(seed: int, number: int) -> int:
    """A seed for the order of one of several sources, so that texts that run in parallel are not shuffled alike."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])


def _mix(config: DataConfig, lead: Prepared, others: dict[str, Prepared]) -> Prepared:
    """The lead's held-out text and account, with its rows and those of the other sources.

    Documents that the lead holds out are left out of the others, whatever their own splits say.
    """
    parts = {}
    for name, prepared in {config.name: lead, **others}.items():
        assert isinstance(prepared.blocks, Blocks)
        parts[name] = Part(prepared.blocks, config.mix[name])
    blocks = MixedBlocks(parts)
    lead.ledger.mix = {
        name: {
            "weight": part.weight,
            "blocks": len(part.blocks.rows),
            "blocks_per_epoch": taken,
            "documents_held_elsewhere": others[name].ledger.documents_held_elsewhere if name in others else 0,
            "sources": others.get(name, lead).ledger.sources,
        }
        for (name, part), taken in zip(parts.items(), blocks.rows_per_epoch, strict=True)
    }
    return Prepared(blocks, lead.held_out, lead.ledger, _name_texts(lead, others))


def _mix_streams(corpus: Corpus, lead: Prepared, others: dict[str, Prepared]) -> Prepared:
    """As _mix, of streams, and of texts on disk beside them: rows come by their shares for as long as the run lasts."""
    config = corpus.config
    sources = [
        Source(name, config.mix[name], _open_laned(prepared, config.lanes, (corpus.order_seed, number)))
        for number, (name, prepared) in enumerate({config.name: lead, **others}.items())
    ]
    return Prepared(StreamedBlocks(sources, config.lanes), lead.held_out, lead.ledger, _name_texts(lead, others))


def _open_laned(prepared: Prepared, lanes: int, seeds: tuple[int, ...]) -> LanedText:
    """A prepared source in lanes. seeds: of the order of rows that lie on disk."""
    blocks = prepared.blocks
    if isinstance(blocks, StreamedBlocks):
        (source,) = blocks.sources
        return source.text
    assert isinstance(blocks, Blocks)
    return LanedStore(blocks, prepared.ledger, lanes, seeds)


def _name_texts(lead: Prepared, others: dict[str, Prepared]) -> Facts:
    return {**lead.facts, "mix": {name: prepared.facts["corpus"] for name, prepared in others.items()}}
