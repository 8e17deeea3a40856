"""`lmtune data`: where every document and token of a data set goes, before anything is trained.

lmtune data data=bio model=gpt2-small-pt
lmtune data shard=1/8 output=parts/1 data.files='corpus/*.jsonl.zst' model=gpt2
lmtune data merge='parts/*' data.files='corpus/*.jsonl.zst' model=gpt2
lmtune data cache=list
"""

import itertools
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from lmtune.commands.result import Result
from lmtune.config import CacheAction, DataCommandConfig
from lmtune.config.parts import Shard, read_shard
from lmtune.data import cache, merging, part_files, parts
from lmtune.data.build import build_corpus, prepare_training
from lmtune.data.corpus import Corpus
from lmtune.data.hub_source import check_data_source
from lmtune.data.overlap import Overlap
from lmtune.data.predecessor import find_past
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.prepared import Prepared
from lmtune.errors import CheckpointError, ConfigError
from lmtune.modeling import loading, positions
from lmtune.modeling.source import check_model_source
from lmtune.paths import GivenPath
from lmtune.patience import turn_to
from lmtune.reporting.data_tables import render_cache, render_ledger, render_part, render_quotes, render_shape
from lmtune.training.vocabulary import build_tokenizer

SHOWN_CHARS = 300
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def run(config: DataCommandConfig) -> Result:
    """Prepare the text as `lmtune train` would, and account for it."""
    if config.cache is not CacheAction.off:
        return manage_cache(config.cache)
    check_model_source(config.model)
    if config.shard is not None:
        return prepare_part(config, read_shard(config.shard))
    if config.merge is not None:
        return merge_parts(config)
    for data in (config.data, *config.mixed_sets.values()):
        check_data_source(data)
    corpus = build_corpus(
        replace(config.data, streaming=False), past=find_past(config.model, None)
    )  # the account is of all the text
    tokenizer = build_tokenizer(config.model, corpus)
    block_size = config.data.block_size or positions.resolve_context(config.model)
    prepared = prepare_training(corpus, config.mixed_sets, tokenizer, block_size)
    account = build_account(prepared, corpus, tokenizer)
    return Result(account, lambda: render_account(account, prepared, corpus, tokenizer, private=config.private))


def prepare_part(config: DataCommandConfig, shard: Shard) -> Result:
    """Prepare one part of the text, unless that has been done."""
    given = GivenPath("output", str(config.output), CheckpointError)
    tokenizer = loading.build_tokenizer(config.model, lambda: refuse_to_learn("shard"))
    part = parts.prepare_part(config.data, shard, given, tokenizer, find_past(config.model, None))
    account = {"part": shard.number, "of": shard.of, "folder": str(part.folder), **part.describe()}
    return Result(account, lambda: render_part(account))


def merge_parts(config: DataCommandConfig) -> Result:
    """Join all parts of the text to what `lmtune train` starts from."""
    tokenizer = loading.build_tokenizer(config.model, lambda: refuse_to_learn("merge"))
    found = part_files.load_parts(config.merge)
    encoded = merging.join_parts(config.data, found, tokenizer, find_past(config.model, None))
    block_size = config.data.block_size or positions.resolve_context(config.model)
    prepared = encoded.prepare(block_size)
    cache.check_kept(encoded.build_key(block_size))
    account = {"parts": len(found), "ledger": prepared.ledger.as_dict(), **prepared.facts}
    joined = f"joined from {len(found):,} parts, whose folders are read from now on"
    return Result(
        account,
        lambda: [*render_ledger(prepared.ledger), joined],
        hints=["lmtune train with the same data= and model= starts from it"],
    )


def refuse_to_learn(key: str) -> NoReturn:
    """Raise ConfigError for a vocabulary that would be learned from the text, which no part has all of."""
    raise ConfigError(
        f"{key}= needs a vocabulary that is there before the text is read, found model.tokenizer=learn. "
        "Learn one first, with lmtune tokenizer, and give its folder as model.tokenizer=."
    )


def build_account(prepared: Prepared, corpus: Corpus, tokenizer: Any) -> dict[str, Any]:
    """The ledger, the lengths of documents, and how much of the held-out text also stands in the training text."""
    turn_to("measuring what was prepared")
    lengths, words = [], 0
    overlap = Overlap(tokenizer, prepared.held_out)
    for ids, documents in EncodedCorpus(corpus, tokenizer).encode_batches("train", measured=True):
        overlap.add(ids)
        lengths.append(documents["tokens"])
        words += int(documents["words"].sum())
    train = prepared.ledger.sides["train"]
    quantiles = np.quantile(np.concatenate(lengths), QUANTILES).tolist()
    return {
        "ledger": prepared.ledger.as_dict(),
        "tokens_per_document": dict(zip(map(str, QUANTILES), quantiles, strict=True)),
        "tokens_per_word": train.text_tokens / max(1, words),
        "bytes_per_token": train.bytes / max(1, train.text_tokens),
        "seen_in_training": overlap.shares(),
        **prepared.facts,
    }


def render_account(
    account: dict[str, Any], prepared: Prepared, corpus: Corpus, tokenizer: Any, *, private: bool
) -> list[str]:
    """The account for people, with the first documents and blocks to look at, unless they are private."""
    known = [*render_ledger(prepared.ledger), *render_shape(account)]
    if private:
        return known
    documents = [text[:SHOWN_CHARS] for text in itertools.islice(corpus.texts("train"), 3)]
    rows = range(min(2, len(prepared.blocks)))
    decoded = [tokenizer.decode(prepared.blocks[row]["input_ids"])[:SHOWN_CHARS] for row in rows]
    shown = [*render_quotes("document", documents), *render_quotes("block", decoded)]
    return [*known, *shown]


def manage_cache(action: CacheAction) -> Result:
    """List what is kept of prepared text, or remove all of it."""
    entries = cache.list_entries()
    if action is CacheAction.prune:
        for entry in entries:
            cache.remove_entry(entry.folder)
    done = "removed" if action is CacheAction.prune else "kept"
    account = {
        "folder": str(cache.find_folder() or ""),
        "bytes": sum(entry.bytes for entry in entries),
        "entries": [{"folder": entry.folder.name, "bytes": entry.bytes, "built": entry.built} for entry in entries],
    }
    return Result(account, lambda: render_cache(account, done))
