"""`lmtune data`: where every document and token of a data set goes, before anything is trained.

lmtune data data=bio model=gpt2-small-pt
lmtune data cache=list
"""

import itertools
import math
from dataclasses import replace
from typing import IO, Any

import numpy as np

from lmtune.config import CacheAction, DataCommandConfig, OutputFormat
from lmtune.data import cache
from lmtune.data.build import build_corpus, prepare_training
from lmtune.data.corpus import Corpus
from lmtune.data.ledger import LEFT_OUT, Ledger
from lmtune.data.overlap import Overlap
from lmtune.data.predecessor import find_past
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.prepared import Prepared
from lmtune.modeling import loading, positions
from lmtune.storage import render_json
from lmtune.training.setup import check_data_source

SHOWN_CHARS = 300
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def run(config: DataCommandConfig, stdout: IO[str]) -> dict[str, Any]:
    """Prepare the text as `lmtune train` would, and print its account."""
    if config.cache is not CacheAction.off:
        return manage_cache(config, stdout)
    loading.check_model_source(config.model)
    for data in (config.data, *config.mixed_sets.values()):
        check_data_source(data)
    corpus = build_corpus(
        replace(config.data, streaming=False), past=find_past(config.model, None)
    )  # the account is of all the text
    tokenizer = loading.build_tokenizer(config.model, lambda: corpus.texts("train"))
    block_size = config.data.block_size or positions.find_context(config.model)
    prepared = prepare_training(corpus, config.mixed_sets, tokenizer, block_size)
    account = build_account(prepared, corpus, tokenizer)
    if config.format is OutputFormat.json:
        stdout.write(render_json(account) + "\n")
    else:
        stdout.write("\n".join(render_account(account, prepared, corpus, tokenizer)) + "\n")
    return account


def build_account(prepared: Prepared, corpus: Corpus, tokenizer: Any) -> dict[str, Any]:
    """The ledger, the lengths of documents, and how much of the held-out text also stands in the training text."""
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


def render_account(account: dict[str, Any], prepared: Prepared, corpus: Corpus, tokenizer: Any) -> list[str]:
    """The account for people, with the first documents and blocks to look at."""
    documents = [text[:SHOWN_CHARS] for text in itertools.islice(corpus.texts("train"), 3)]
    rows = range(min(2, len(prepared.blocks)))
    decoded = [tokenizer.decode(prepared.blocks[row]["input_ids"])[:SHOWN_CHARS] for row in rows]
    shown = [*_quote("document", documents), *_quote("block", decoded)]
    return [*render_ledger(prepared.ledger), *render_shape(account), *shown]


def render_ledger(ledger: Ledger) -> list[str]:
    """The ledger as a table whose columns add up."""
    rows = [
        ("rows read", ledger.rows_read),
        ("  empty", -ledger.rows_empty),
        ("  without the wanted values", -ledger.rows_unwanted),
        ("  repeated", -ledger.rows_repeated),
        ("rows used", ledger.rows_used),
        ("documents read", ledger.documents_read),
        ("  too short", -ledger.documents_short),
        ("  beyond the limit", -ledger.documents_over_limit),
        ("  held out, but also in the training text", -ledger.documents_in_training),
        ("  held out, but learned before", -ledger.documents_learned_before),
        ("documents kept", ledger.documents_kept),
    ]
    lines = [f"{words:<44}{count:>14,}" for words, count in rows if count or not words.startswith("  ")]
    lines += [
        "",
        f"{'split by ' + ledger.split_by:<14}{'documents':>14}{'bytes':>16}{'text tokens':>16}{'separators':>14}{'tokens':>16}",
    ]
    for side, counts in ledger.sides.items():
        lines.append(
            f"{side:<14}{counts.documents:>14,}{counts.bytes:>16,}{counts.text_tokens:>16,}{counts.separators:>14,}{counts.tokens:>16,}"
        )
    return [
        *render_bytes(ledger),
        "",
        *lines,
        "",
        f"{ledger.blocks:,} blocks of {ledger.block_size:,}: {ledger.targets:,} targets, every training token"
        f"{' but the first' if ledger.packed else ''}; "
        f"{ledger.padding:,} places left over" + (f", {ledger.repeated:,} repeated" if ledger.repeated else ""),
        f"documents are {ledger.documents_are}",
        *([f"{ledger.bytes_copied:,} bytes left out as copies of what is held out"] if ledger.bytes_copied else []),
        *(
            f"mix: {name}: {part['blocks_per_epoch']:,} of {part['blocks']:,} blocks an epoch, "
            f"{part['documents_held_elsewhere']:,} documents left out that are held out elsewhere"
            for name, part in ledger.mix.items()
        ),
    ]


def render_bytes(ledger: Ledger) -> list[str]:
    """Where each byte of the sources went, as a column that adds up; what others added stands with a plus."""
    rows = [("bytes read", f"{ledger.bytes_read:,}")]
    rows += [
        (f"  {words}", f"{-ledger.left_out[kind]:+,}") for kind, words in LEFT_OUT.items() if ledger.left_out.get(kind)
    ]
    return [f"{words:<44}{count:>14}" for words, count in [*rows, ("bytes kept", f"{ledger.bytes_kept:,}")]]


def render_shape(account: dict[str, Any]) -> list[str]:
    """Lengths, tokens per word, and what the held-out text shares with the training text."""
    lengths = account["tokens_per_document"]
    words = ", ".join(
        f"{name} {lengths[quantile]:,.0f}"
        for quantile, name in zip(lengths, ("least", "10 %", "half", "90 %", "most"), strict=True)
    )
    lines = [
        f"tokens of a training document: {words}",
        f"{account['tokens_per_word']:.3f} tokens a word, {account['bytes_per_token']:.3f} bytes a token, "
        f"encoded by {account['encoder']}",
    ]
    for side, share in account["seen_in_training"].items():
        found = "none" if math.isnan(share) else f"{100 * share:.3f} %"
        lines.append(f"{found} of the 13-word sequences of {side} also stand in the training text")
    return lines


def manage_cache(config: DataCommandConfig, stdout: IO[str]) -> dict[str, Any]:
    """List what is kept of prepared text, or remove all of it."""
    entries = cache.list_entries()
    if config.cache is CacheAction.prune:
        for entry in entries:
            cache.remove_entry(entry.folder)
    done = "removed" if config.cache is CacheAction.prune else "kept"
    total = sum(entry.bytes for entry in entries)
    account = {
        "folder": str(cache.find_folder() or ""),
        "bytes": total,
        "entries": [{"folder": entry.folder.name, "bytes": entry.bytes, "built": entry.built} for entry in entries],
    }
    lines = [f"{entry.bytes / 1e6:>12,.1f} MB  {entry.built}  {entry.folder.name}" for entry in entries]
    lines.append(f"{len(entries)} entries {done}, {total / 1e6:,.1f} MB in {account['folder']}")
    stdout.write((render_json(account) if config.format is OutputFormat.json else "\n".join(lines)) + "\n")
    return account


def _quote(what: str, texts: list[str]) -> list[str]:
    return [
        line
        for number, text in enumerate(texts, 1)
        for line in ("", f"{what} {number}:", *(f"| {part}" for part in text.split("\n")))
    ]
