"""The text of a data configuration, read and split into what is trained on and what is held out."""

import copy
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain

import numpy as np

from lmtune.config import DataConfig, DocumentRule, SplitRule
from lmtune.data import splits
from lmtune.data.columns import Texts, hash_texts, iterate_strings
from lmtune.data.first_pass import FirstPass, read_first_pass
from lmtune.data.identity import build_key
from lmtune.data.ledger import Ledger
from lmtune.data.passages import Copies
from lmtune.data.past import Past
from lmtune.data.selection import Selection, leave_out, withdraw
from lmtune.data.shards import say_remark
from lmtune.data.sources import build_source
from lmtune.data.splits import HELD_OUT, Assigner, Drawn, Shares, Split, count_withheld
from lmtune.data.wrapping import is_wrapped
from lmtune.errors import DataError

RULES_IN_WORDS = {
    DocumentRule.file: "whole files",
    DocumentRule.blank_line: "stretches between blank lines",
    DocumentRule.line: "lines",
    DocumentRule.row: "rows",
    DocumentRule.wikitext: "articles, from one ` = Title = ` to the next",
}
WRAPPED = (
    "most lines are broken at a fixed width, in the middle of sentences, and are learned as they stand. Join the lines of each "
    "paragraph first; if paragraphs are separated by blank lines: perl -00pe 's/\\n(?=.)/ /g' OLD.txt > NEW.txt"
)
STREAM_HELD_OUT_BYTES = 4_000_000
"""Bytes of each held-out split of a stream: about a million tokens, which a small model scores in minutes."""


class Corpus:
    """The text of one data configuration. Nothing is read before it is needed.

    Documents pass through in batches and are not kept: the training split is read once to decide what is held out, and
    read again each time it is asked for. Held-out documents stay in memory. Of a stream only as much is read for the split
    as holds STREAM_HELD_OUT_BYTES; documents after that which fall on a held-out split are never trained on.

    seed: decides what is held out. order_seed: decides the order in which a stream is trained on; by default the same.
    left_out: [documents] uint64 hashes (with this seed) of documents held out elsewhere, which are not trained on here.
    past: what the model has learned before, none of which is held out here, and what was held out from it, none of which is
    trained on if this text holds anything out. withholds: nor if it does not, as for text of data.mix, which is not scored.
    """

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        left_out: np.ndarray | None = None,
        past: Past | None = None,
        order_seed: int | None = None,
        withholds: bool = False,
    ) -> None:
        self.config = config
        self.seed = seed
        self.order_seed = seed if order_seed is None else order_seed
        self.past = past
        self.left_out = np.empty(0, np.uint64) if left_out is None else np.unique(left_out)
        self.source = build_source(config)
        self._scored = not withholds
        self.assigner = Assigner(self._choose_shares(), seed, past, withholds or bool(self.kept_apart))

    @cached_property
    def key(self) -> str:
        """Changes with the content of the source and with every setting that decides what is read and held out."""
        return build_key(self.config, self.source, self.seed, self.left_out, self.past)

    @property
    def ledger(self) -> Ledger:
        """What was read, and how it was split. Not to be changed: who counts on works on a copy."""
        return self.split.ledger

    @cached_property
    def first_pass(self) -> FirstPass:
        """What a first reading of the training split tells. Raises DataError where there is no document in it."""
        opened, streaming = self.open_ledger(), self.config.streaming
        read = Ledger() if streaming else opened  # documents of a stream are counted when they are trained on
        documents = self.load_documents("train", read)
        if streaming:
            first = read_first_pass(documents, self.assigner, opened, enough=STREAM_HELD_OUT_BYTES)
        else:
            expected = self.source.expect_bytes("train")
            first = read_first_pass(
                documents, self.assigner, opened, with_hashes=bool(self.kept_apart), expected=expected
            )
        if is_wrapped(first.excerpts):
            self._remark(WRAPPED)
        if not streaming:
            opened.remarks = list(self.source.remarks)
        self._check_found("train", read.documents_read, read.documents_kept, read.documents_held_elsewhere)
        return first

    def _remark(self, remark: str) -> None:
        """Say something about the text, and keep it for its ledger."""
        named = f"{self.config.name}: {remark}"
        self.source.remarks[named] = None
        say_remark(named)

    @cached_property
    def split(self) -> Split:
        """What is held out, and by which rule. Raises DataError where a split that was asked for is empty."""
        config, shares = self.config, self.assigner.shares
        if config.split_by is SplitRule.given and not self.kept_apart:
            raise DataError(
                f"data.split_by=given: {config.name} keeps nothing apart. Give data.validation_files=, "
                "name a split with data.validation_split=, or choose hash or stretches."
            )
        first = self.first_pass
        ledger = copy.deepcopy(first.ledger)
        given = {split: self._load_given(split, first.hashes, ledger) for split in self.kept_apart}
        if not any(shares):
            ledger.split_by = SplitRule.given.value
            return Split(SplitRule.given, given, ledger.split_by, ledger)
        rule, drawn = self._draw(first)
        wanted = shares if self._scored else Shares(0.0, 0.0)
        splits.check_splits(drawn.documents, first.chars, wanted, knows=drawn.learned)
        ledger.split_by = self._describe_split(rule, len(first.chars))
        ledger.documents_spared, ledger.documents_held_again = drawn.learned, drawn.held_again
        held_out = {split: texts for split, texts in {**drawn.held_out, **given}.items() if texts}
        return Split(rule, held_out, ledger.split_by, ledger)

    @property
    def kept_apart(self) -> list[str]:
        """Splits that the source itself holds out."""
        return [split for split in self.source.splits() if split != "train"]

    def batches(self, split: str, ledger: Ledger | None = None) -> Iterator[Texts]:
        """Documents of one split, or `all` of them, in the order of the source; all but held-out ones are read again.

        ledger: gets what of the training split is left out, since it was held out from the model or copies what is.
        """
        ledger = Ledger() if ledger is None else ledger
        if split == "all":
            return chain.from_iterable(self.load_documents(each, Ledger()) for each in self.source.splits())
        if split in HELD_OUT:
            return iter(self.split.held_out.get(split, []))
        documents = self.load_documents("train", Ledger())
        if self.split.rule is SplitRule.stretches:
            assigned = self.assigner.assign_by_stretches(documents, self.first_pass.chars)
            return self._without_copies(count_withheld(assigned, ledger), ledger)
        parts = count_withheld(map(self.assigner.assign_by_hash, documents), ledger)
        return (part["train"] for part in parts if "train" in part)

    def texts(self, split: str) -> Iterator[str]:
        """Documents of one split, or `all`, one by one; as `batches`, they are read again at each call."""
        return iterate_strings(self.batches(split))

    def load_documents(self, split: str, ledger: Ledger) -> Iterator[Texts]:
        """Documents of one split of the source, filtered, and counted in the ledger."""
        selection = Selection(self.config, ledger)
        for shard in range(self.source.count_shards(split)):
            before = ledger.tally()
            documents = selection.take(self.source.load_rows(split, shard))
            yield from leave_out(documents, self.left_out, self.seed, ledger)
            ledger.settle(split, shard, before)

    def open_ledger(self) -> Ledger:
        """An account of this text in which nothing is counted yet."""
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

    def _choose_shares(self) -> Shares:
        """What is drawn from the training split: nothing for a split that the source keeps apart itself."""
        if self.config.split_by is SplitRule.given:
            return Shares(0.0, 0.0)
        kept = self.source.splits()
        return Shares(*(0.0 if split in kept else getattr(self.config, f"{split}_fraction") for split in HELD_OUT))

    def _draw(self, first: FirstPass) -> tuple[SplitRule, Drawn]:
        """The rule of the split, and what it holds out."""
        config, drawn = self.config, first.drawn
        if config.streaming:
            return SplitRule.hash, drawn
        if config.split_by is None and not self._scored and first.ledger.documents_held_elsewhere:
            return SplitRule.hash, drawn  # whole documents are held out of it: stretches of the rest would be lost
        rule = splits.choose_rule(first.chars, config.split_by)
        if config.split_by is None and splits.find_empty(drawn.documents, self.assigner.shares):
            rule = SplitRule.stretches  # as a hash may do with some dozens of documents
        if rule is not SplitRule.stretches:
            return rule, drawn
        drawn = Drawn()
        for assigned in self.assigner.assign_by_stretches(self.load_documents("train", Ledger()), first.chars):
            drawn.add(assigned, lambda texts: sum(not text.isspace() for text in texts.to_pylist()))
        return rule, drawn

    def _describe_split(self, rule: SplitRule, documents: int) -> str:
        """How the validation split was made; and the test split, if that alone cuts documents."""
        if not self.assigner.shares.validation:
            return "given and stretches" if rule is SplitRule.stretches else "given"
        return f"{rule.value}, among the first {documents:,} documents" if self.config.streaming else rule.value

    def _without_copies(self, batches: Iterable[splits.Parts], ledger: Ledger) -> Iterator[Texts]:
        """The training parts. Stretches are drawn by their place, so their text may be elsewhere too: it is not trained on."""
        copies = Copies(texts for split in HELD_OUT for texts in self.split.held_out.get(split, []))
        left = all_copied = 0
        for parts in batches:
            if "train" in parts:
                texts, copied = copies.leave_out(parts["train"])
                all_copied += copied
                left += len(texts)
                yield texts
        if not left:
            raise DataError(
                f"Nothing is left to train on: all of the {all_copied:,} bytes beside what is held out are copies of it. "
                "Give more text, or hold nothing out with data.validation_fraction=0."
            )
        ledger.bytes_copied += all_copied
        ledger.withdraw("copied", 0, all_copied)

    def _load_given(self, split: str, training: np.ndarray, ledger: Ledger) -> list[Texts]:
        """Documents that the source itself keeps apart, without those that were trained on or will be.

        Raises DataError if none are left of text that is scored. Of other text all may be gone: old text that is replayed keeps
        apart the very documents that the run watches.

        training: [documents] uint64 hashes of the training text. Of a stream they are not known and so none; it leaves out
        of what is trained on what is held out here.
        """
        read, found, dropped = ledger.documents_read, 0, 0
        kept = []
        for texts in self.load_documents(split, ledger):
            found += len(texts)
            known = np.isin(hash_texts(texts, seed=0), training)
            if self.past is not None:
                before = self.past.mark_learned(texts) & ~known
                ledger.documents_learned_before += int(before.sum())
                texts, known = withdraw(texts, before, "learned_before", ledger), known[~before]
            dropped += int(known.sum())
            if len(left := withdraw(texts, known, "in_training", ledger)):
                kept.append(left)
        if self._scored:
            self._check_found(split, ledger.documents_read - read, found)
        ledger.documents_in_training += dropped
        if self._scored and not kept:
            raise DataError(
                f"Every held-out document also stands in the training text ({dropped:,} of them), or in that of the run that the "
                f"model comes from ({ledger.documents_learned_before:,}). Give other files to hold out."
            )
        return kept

    def _check_found(self, split: str, read: int, kept: int, held_elsewhere: int = 0) -> None:
        """Raise DataError where no document was read, or none of those that were is kept."""
        if not read:
            raise DataError(self.source.explain_empty(split))
        if not kept and held_elsewhere:
            short = read - held_elsewhere
            raise DataError(
                f"Nothing is left of {read:,} documents ({split}): {held_elsewhere:,} are held out in another text of the run, or "
                f"by the run that the model comes from{', the others are shorter than data.min_chars' if short else ''}. Give "
                "other text here, or hold out less there."
            )
        if not kept:
            raise DataError(
                f"All {read:,} documents ({split}) have fewer than data.min_chars={self.config.min_chars} characters. Lower it."
            )
