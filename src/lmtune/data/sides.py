"""The text of a data configuration, dealt out to what is learned and what is held out."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from lmtune.config import DataConfig, DocumentRule, SplitRule
from lmtune.config.data import select_settings
from lmtune.data import cache, splits
from lmtune.data.columns import Texts, count_bytes, count_chars, hash_texts, iterate_strings
from lmtune.data.documents import Selection
from lmtune.data.encoding import PROOF_CHARS, PROOF_DOCUMENTS
from lmtune.data.ledger import SIDES, Ledger
from lmtune.data.passages import Copies
from lmtune.data.past import Past
from lmtune.data.progress import show_progress
from lmtune.data.sources import build_source
from lmtune.data.splits import HELD_OUT, Dealt, Shares
from lmtune.errors import DataError
from lmtune.patience import saying

RULES_IN_WORDS = {
    DocumentRule.file: "whole files",
    DocumentRule.blank_line: "stretches between blank lines",
    DocumentRule.line: "lines",
    DocumentRule.row: "rows",
    DocumentRule.wikitext: "articles, from one ` = Title = ` to the next",
}


class Survey(NamedTuple):
    """What one reading of the training split tells, before anything is held out."""

    chars: np.ndarray
    """[documents] characters of each."""
    hashes: np.ndarray
    """[documents] of the text, where the source keeps other splits to compare with; else empty."""
    by_hash: dict[str, list[Texts]]
    """Documents that a hash would hold out."""
    proof: list[str]
    """Beginnings of documents from all over the text, to prove an encoder on."""


class SplitText:
    """The text of one data configuration, split into sides. Nothing is read before it is needed.

    Documents pass through in batches and are not kept: the training side is read once to decide what is held out, and
    once more whenever it is asked for. Held-out documents stay in memory.

    left_out: hashes of documents (with this seed) that are held out elsewhere, and so are not to be learned from here.
    past: what the model that learns from here knows already, none of which is held out.
    """

    def __init__(
        self, config: DataConfig, seed: int, left_out: np.ndarray | None = None, past: Past | None = None
    ) -> None:
        self.config = config
        self.seed = seed
        self.past = past
        self.left_out = np.empty(0, np.uint64) if left_out is None else np.unique(left_out)
        self.source = build_source(config)
        self.shares = self._find_shares()
        self.bytes_copied = 0
        """Of the training text, left out the last time that it was dealt out."""

    @cached_property
    def key(self) -> str:
        """Changes with the content of the source and with every setting that decides what is read and held out."""
        settings = {**select_settings(self.config), "seed": self.seed}
        with saying("reading the files for their checksums"):
            fingerprint = self.source.fingerprint()
        content = {"source": fingerprint, "left_out": xxhash.xxh3_128_hexdigest(self.left_out.tobytes())}
        return cache.key_of({**content, **self.conditions, "rules": self.source.rules, **settings})

    @property
    def conditions(self) -> dict[str, str]:
        """What besides text, settings and seed decides what is held out."""
        return {} if self.past is None else {"past": self.past.identify()}

    @cached_property
    def ledger(self) -> Ledger:
        rule = " and ".join(RULES_IN_WORDS[rule] for rule in self.source.rules)
        many = self.config.rows_per_document
        return Ledger(
            sources=self.source.describe(),
            passed_over=dict(self.source.passed_over),
            rows_per_document=many,
            documents_are=rule
            if many == 1
            else f"runs of {many:,} consecutive {rule}, since the source names no articles",
        )

    @cached_property
    def survey(self) -> Survey:
        """Reads the training split for the first time and fills the ledger up to the split."""
        chars, hashes = [], []
        by_hash: dict[str, list[Texts]] = {side: [] for side in HELD_OUT}
        proof: list[tuple[int, str]] = []
        for texts in show_progress(self.load_documents("train", self.ledger), "reading"):
            marks = hash_texts(texts, self.seed)
            proof = sample_texts(proof, marks, texts)
            chars.append(count_chars(texts))
            if self._keeps_apart:
                hashes.append(hash_texts(texts, seed=0))
            for side, held in self.deal_by_hash(texts, self.ledger).items():
                if side in by_hash:
                    by_hash[side].append(held)
        self._check_found("train", self.ledger.documents_read, self.ledger.documents_kept)
        self.ledger.remarks = list(self.source.remarks)
        return Survey(
            np.concatenate(chars),
            np.concatenate(hashes or [np.empty(0, np.uint64)]),
            by_hash,
            [text for _, text in proof],
        )

    @cached_property
    def held_out(self) -> dict[str, list[Texts]]:
        """Documents of validation and test. Decides the rule of the split and writes it into the ledger."""
        config = self.config
        if config.split_by is SplitRule.given and not self._keeps_apart:
            raise DataError(
                f"data.split_by=given: {config.name} keeps nothing apart. Give data.validation_files=, "
                "name a split with data.validation_split=, or choose hash or stretches."
            )
        survey = self.survey
        given = {side: self._load_given(side) for side in self.source.splits() if side != "train"}
        if not any(self.shares):
            self.ledger.split_by = "given"
            return given
        rule = splits.choose_rule(survey.chars, config.split_by)
        counts = {side: sum(map(len, held)) for side, held in survey.by_hash.items()}
        counts["train"] = len(survey.chars) - sum(counts.values())
        if config.split_by is None and splits.find_empty(counts, self.shares):
            rule = SplitRule.stretches  # as a hash may do with some dozens of documents
        drawn = survey.by_hash
        if rule is SplitRule.stretches:
            drawn, counts = self._draw_stretches()
        splits.check_sides(counts, survey.chars, self.shares, knows=self.ledger.documents_spared)
        self.ledger.split_by = rule.value if self.shares.validation else "given"
        return {**{side: texts for side, texts in drawn.items() if texts}, **given}

    @property
    def rule(self) -> str:
        """hash, stretches or given: how documents were held out."""
        _ = self.held_out
        return self.ledger.split_by

    def batches(self, which: str) -> Iterator[Texts]:
        """Documents of one side, or `all` of them as the source has them, in its order."""
        if which == "all":
            return chain.from_iterable(self.load_documents(split, Ledger()) for split in self.source.splits())
        held = self.held_out
        if which in HELD_OUT:
            return iter(held.get(which, []))
        return (dealt["train"] for dealt in self._deal() if "train" in dealt)

    def texts(self, which: str) -> Iterator[str]:
        """Documents of one side, or `all`, one by one."""
        return iterate_strings(self.batches(which))

    def load_documents(self, split: str, ledger: Ledger) -> Iterator[Texts]:
        """Documents of one split of the source, filtered and counted."""
        selection = Selection(self.config, ledger)
        for shard in range(self.source.count_shards(split)):
            before = ledger.tally()
            documents = selection.take(self.source.load_rows(split, shard))
            yield from self._leave_out(documents, ledger) if len(self.left_out) else documents
            ledger.settle(split, shard, before)

    def _leave_out(self, batches: Iterable[Texts], ledger: Ledger) -> Iterator[Texts]:
        for texts in batches:
            known = np.isin(hash_texts(texts, self.seed), self.left_out)
            ledger.documents_held_elsewhere += int(known.sum())
            ledger.withdraw("held_elsewhere", int(known.sum()), int(count_bytes(texts)[known].sum()))
            if not known.all():
                yield texts.filter(pa.array(~known))

    def _find_shares(self) -> Shares:
        """What is drawn from the training split: nothing for a side that the source keeps apart itself."""
        if self.config.split_by is SplitRule.given:
            return Shares(0.0, 0.0)
        kept = self.source.splits()
        return Shares(*(0.0 if side in kept else getattr(self.config, f"{side}_fraction") for side in HELD_OUT))

    @property
    def _keeps_apart(self) -> bool:
        return len(self.source.splits()) > 1

    def _deal(self) -> Iterator[Dealt]:
        """The training split once more, dealt out by the rule that was chosen."""
        documents = self.load_documents("train", Ledger())
        if self.ledger.split_by == SplitRule.stretches.value:
            return self._leave_out_copies(self._deal_stretches(documents))
        return (self.deal_by_hash(texts) for texts in documents)

    def deal_by_hash(self, texts: Texts, ledger: Ledger | None = None) -> Dealt:
        """Documents to their sides; none that the model knows is held out, and what was held out from it still is.

        ledger: where those that change their side for it are counted.
        """
        dealt = splits.deal_by_hash(texts, self.shares, self.seed)
        if self.past is None:
            return dealt
        moved = splits.move_documents(dealt, self.past, self.shares)
        if ledger is not None:
            ledger.count_moves(moved.learned, moved.held_again)
        return moved.dealt

    def _deal_stretches(self, batches: Iterable[Texts], ledger: Ledger | None = None) -> Iterator[Dealt]:
        if ledger is not None:
            ledger.documents_spared = ledger.documents_held_again = 0  # of a hash that gave way
        for dealt in splits.deal_by_stretches(batches, self.survey.chars, self.shares, self.seed):
            if self.past is not None:
                dealt, learned, held_again = splits.move_passages(dealt, self.past, self.shares)
                if ledger is not None:
                    ledger.count_moves(learned, held_again)
            yield dealt

    def _leave_out_copies(self, batches: Iterable[Dealt]) -> Iterator[Dealt]:
        """Stretches are drawn by their place, so their text may stand elsewhere too; there it is not learned."""
        copies = Copies(texts for side in HELD_OUT for texts in self.held_out.get(side, []))
        self.bytes_copied = left = 0
        for dealt in batches:
            if "train" in dealt:
                dealt["train"], copied = copies.leave_out(dealt["train"])
                self.bytes_copied += copied
                left += len(dealt["train"])
            yield dealt
        if not left:
            raise DataError(
                f"Nothing is left to train on: all of the {self.bytes_copied:,} bytes beside what is held out are copies of it. "
                "Give more text, or hold nothing out with data.validation_fraction=0."
            )

    def _draw_stretches(self) -> tuple[dict[str, list[Texts]], dict[str, int]]:
        """(held-out texts, documents with text on each side)."""
        drawn: dict[str, list[Texts]] = {side: [] for side in HELD_OUT}
        counts = dict.fromkeys(SIDES, 0)
        for dealt in self._deal_stretches(self.load_documents("train", Ledger()), self.ledger):
            for side, texts in dealt.items():
                counts[side] += sum(not text.isspace() for text in texts.to_pylist())
                if side in drawn:
                    drawn[side].append(texts)
        return drawn, counts

    def _load_given(self, side: str) -> list[Texts]:
        """Documents that the source itself keeps apart, but for those that also stand in the training text."""
        ledger = self.ledger
        read, kept_before = ledger.documents_read, ledger.documents_kept
        kept, dropped = [], 0
        for texts in self.load_documents(side, ledger):
            known = np.isin(hash_texts(texts, seed=0), self.survey.hashes)
            if self.past is not None:
                before = self.past.find_learned(texts) & ~known
                ledger.documents_learned_before += int(before.sum())
                ledger.withdraw("learned_before", int(before.sum()), int(count_bytes(texts)[before].sum()))
                texts, known = texts.filter(pa.array(~before)), known[~before]
            dropped += int(known.sum())
            ledger.withdraw("in_training", int(known.sum()), int(count_bytes(texts)[known].sum()))
            if not known.all():
                kept.append(texts.filter(pa.array(~known)))
        self._check_found(side, ledger.documents_read - read, ledger.documents_kept - kept_before + dropped)
        ledger.documents_in_training += dropped
        if not kept:
            raise DataError(
                f"Every held-out document also stands in the training text ({dropped:,} of them), or in that of the run that the "
                f"model comes from ({ledger.documents_learned_before:,}). Give other files to hold out."
            )
        return kept

    def _check_found(self, split: str, read: int, kept: int) -> None:
        if not read:
            raise DataError(self.source.explain_empty(split))
        if not kept:
            raise DataError(
                f"All {read:,} documents ({split}) have fewer than data.min_chars={self.config.min_chars} characters. Lower it."
            )


def sample_texts(kept: list[tuple[int, str]], hashes: np.ndarray, texts: Texts) -> list[tuple[int, str]]:
    """The beginnings of the documents with the smallest hashes so far: a sample of all, whatever their order."""
    import pyarrow.compute as pc

    smallest = np.argsort(hashes)[:PROOF_DOCUMENTS]
    beginnings = pc.utf8_slice_codeunits(texts.take(pa.array(smallest)), 0, PROOF_CHARS).to_pylist()
    return sorted([*kept, *zip(hashes[smallest].tolist(), beginnings, strict=True)])[:PROOF_DOCUMENTS]
