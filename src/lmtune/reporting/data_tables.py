"""Tables for a terminal: where the text of a data set went, what the cache holds, and how a vocabulary fits a text."""

import math

from lmtune.data.ledger import LEFT_OUT, Ledger
from lmtune.data.overlap import WORDS
from lmtune.storage import Record


def render_ledger(ledger: Ledger) -> list[str]:
    """The ledger as tables whose columns add up: bytes, rows and documents, tokens of each split."""
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
    counted = [f"{words:<44}{count:>14,}" for words, count in rows if count or not words.startswith("  ")]
    return [*render_bytes(ledger), "", *counted, "", *render_splits(ledger), "", *render_blocks(ledger)]


def render_bytes(ledger: Ledger) -> list[str]:
    """Where each byte of the sources went, as a column that adds up; added bytes have a plus."""
    rows = [("bytes read", f"{ledger.bytes_read:,}")]
    rows += [
        (f"  {words}", f"{-ledger.left_out[kind]:+,}") for kind, words in LEFT_OUT.items() if ledger.left_out.get(kind)
    ]
    return [f"{words:<44}{count:>14}" for words, count in [*rows, ("bytes kept", f"{ledger.bytes_kept:,}")]]


def render_splits(ledger: Ledger) -> list[str]:
    """Documents, bytes and tokens of the training text and the held-out text."""
    title = f"split by {ledger.split_by}"
    lines = [f"{title:<14}{'documents':>14}{'bytes':>16}{'text tokens':>16}{'separators':>14}{'tokens':>16}"]
    for side, counts in ledger.sides.items():
        lines.append(
            f"{side:<14}{counts.documents:>14,}{counts.bytes:>16,}{counts.text_tokens:>16,}{counts.separators:>14,}{counts.tokens:>16,}"
        )
    return lines


def render_blocks(ledger: Ledger) -> list[str]:
    """The blocks of training tokens, with notes on their documents and sources."""
    return [
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


def render_shape(account: Record) -> list[str]:
    """Lengths, tokens per word, and the overlap of held-out and training text."""
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
        lines.append(f"{found} of the {WORDS}-word sequences of {side} also stand in the training text")
    return lines


def render_quotes(what: str, texts: list[str]) -> list[str]:
    """Each text under a numbered title, a bar before each of its lines. what: what they are, such as `document`."""
    return [
        line
        for number, text in enumerate(texts, 1)
        for line in ("", f"{what} {number}:", *(f"| {part}" for part in text.split("\n")))
    ]


def render_part(account: Record) -> list[str]:
    """The contents of one part of a text, and its folder last."""
    documents = ", ".join(f"{count:,} {split}" for split, count in account["documents"].items() if count)
    return [
        f"part {account['part']:,} of {account['of']:,}: {account['files']:,} files, {account['bytes_kept']:,} bytes of text kept",
        f"documents: {documents or 'none'}",
        f"{account['tokens']:,} training tokens, encoded by {account['encoder']}",
        f"folder: {account['folder']}",
    ]


def render_cache(account: Record, done: str) -> list[str]:
    """The prepared texts in the cache. done: what became of them, such as `kept`."""
    entries = account["entries"]
    return [
        *(f"{entry['bytes'] / 1e6:>12,.1f} MB  {entry['built']}  {entry['folder']}" for entry in entries),
        f"{len(entries)} entries {done}, {account['bytes'] / 1e6:,.1f} MB in {account['folder']}",
    ]


def render_tokenizer(account: Record) -> list[str]:
    """What a vocabulary was learned from, how it fits a text compared with the model's own, and the folder last."""
    learned, source = account["learned_from"], account.get("source")
    extends = account.get("extends")
    name = "extended" if extends else "learned"
    fits = [(name, account["fit"])] + ([(source["tokenizer"], source["fit"])] if source else [])
    lines = [
        f"{account['entries']:,} entries, learned from {learned['data']} ({learned['text']}, seed {learned['seed']}); "
        f"measured on its {account['measured_on']} documents",
        *([_render_extension(extends)] if extends else []),
        *([_render_shortage(account)] if account["entries"] < account["asked"] else []),
        "",
        f"{'tokenizer':<34}{'tokens/word':>12}{'bytes/token':>12}{'parts of characters':>21}",
    ]
    for name, fit in fits:
        lines.append(
            f"{name[-33:]:<34}{fit['tokens_per_word']:>12.3f}{fit['bytes_per_token']:>12.3f}{100 * fit['byte_fallback']:>19.3f} %"
        )
    if source:
        more = 100 * (source["fit"]["tokens_per_word"] / account["fit"]["tokens_per_word"] - 1)
        lines += ["", f"the other vocabulary needs {more:+.1f} % tokens for the same text"]
    return [*lines, f"tokenizer: {account['folder']}"]


def _render_shortage(account: Record) -> str:
    return (
        f"{account['asked']:,} entries were asked for: no other pair occurs "
        f"{account['learned_from']['min_frequency']:,} times in the text (tokenizer.min_frequency)"
    )


def _render_extension(counts: Record) -> str:
    return (
        f"{counts['kept']:,} entries of the old vocabulary keep their ids, {counts['added']:,} are new; "
        f"{counts['unused']:,} old ones occur nowhere in the text (unused.json)"
    )
