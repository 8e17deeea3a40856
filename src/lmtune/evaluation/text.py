"""Which text the checkpoints are scored on, and which part of it where eval.max_tokens= limits it."""

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtune.config import DataConfig, EvalCommandConfig, EvalSplit, load_data_config
from lmtune.config.data import is_split_alike
from lmtune.data.corpus import Corpus
from lmtune.data.premise import load_facts
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.unseparated import encode_unseparated
from lmtune.errors import ConfigError
from lmtune.runs import Run
from lmtune.storage import Record
from lmtune.token_stream import TokenStream
from lmtune.vocabulary import decode_plain, hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


class EvalText(NamedTuple):
    """The text of an evaluation."""

    data: DataConfig
    split: EvalSplit
    own: Run | None
    """The run whose text it is; None for a text that was named."""


def choose_text(config: EvalCommandConfig, runs: dict[str, Run | None]) -> EvalText:
    """The text asked for, else the held-out text of the first run among the checkpoints."""
    split = config.eval.split or EvalSplit.validation
    if config.data is not None:
        return EvalText(config.data, split, None)
    own = [run for run in runs.values() if run is not None]
    if not own:
        raise ConfigError(
            f"ckpt={next(iter(runs))} comes from no run, so it has no held-out text of its own. Name some: data=wikitext, "
            "data.files=..."
        )
    recorded = [run.load_config() for run in own]
    for run, other in zip(own[1:], recorded[1:], strict=True):
        if hold_out_differently(own[0], run, recorded[0], other):
            logger.info(
                "%s was trained on another selection of text than %s, whose held-out documents are scored; it may have learned "
                "some of them",
                run.folder,
                own[0].folder,
            )
    return EvalText(load_data_config(recorded[0]["data"], recorded[0]["seed"]), split, own[0])


def hold_out_differently(one: Run, other: Run, recorded: Record, others: Record) -> bool:
    """True if two runs held out different text, as far as their records tell."""
    held, theirs = (load_facts(run).get("held_out", {}).get("validation") for run in (one, other))
    if held is not None and theirs is not None:
        return bool(held["text"] != theirs["text"])
    now, then = (load_data_config(config["data"], config["seed"]) for config in (recorded, others))
    return not is_split_alike(now, then)


def build_stream(corpus: Corpus, split: EvalSplit, tokenizer: "PreTrainedTokenizerBase") -> tuple[TokenStream, str]:
    """(stream, split_by): the documents of one split as ids; held-out ones from the cache where they are there."""
    if tokenizer.eos_token_id is None:
        stream = encode_unseparated(list(corpus.batches(split.value)), tokenizer, corpus.seed)
    else:
        encoded = EncodedCorpus(corpus, tokenizer)
        if split.value in ("validation", "test"):
            streams, split_by = encoded.load_held_out()
            if split.value in streams:
                return streams[split.value], split_by
        stream = encoded.encode_stream(split.value)
    return stream, "none" if split is EvalSplit.all else corpus.split.note


class Part:
    """The documents of a text that are scored where eval.max_tokens= limits them: the same ones for each checkpoint.

    tokenizers: of all checkpoints. Where they differ no document is cut, since none would be cut alike in two vocabularies.
    """

    def __init__(self, max_tokens: int, tokenizers: "list[PreTrainedTokenizerBase]") -> None:
        self.max_tokens = max_tokens
        alike = len({hash_tokenizer(each) for each in tokenizers}) == 1 if max_tokens else True
        self.cuts = alike and all(each.eos_token_id is not None for each in tokenizers)
        self._drawn: np.ndarray | None = None

    def choose(
        self, corpus: Corpus, split: EvalSplit, whole: TokenStream, tokenizer: "PreTrainedTokenizerBase"
    ) -> TokenStream:
        """What is scored of a split, all of it without a limit."""
        if not self.max_tokens or (self._drawn is None and len(whole.ids) <= self.max_tokens):
            self.max_tokens = 0  # the first checkpoint decides for all
            return whole
        if self.cuts:
            return whole.select(self.max_tokens, partial(decode_plain, tokenizer))
        if self._drawn is None:
            self._drawn = whole.draw(self.max_tokens)
        if tokenizer.eos_token_id is None:
            texts = list(corpus.texts(split.value))
            return encode_unseparated([texts[number] for number in self._drawn], tokenizer, corpus.seed)
        return whole.take(self._drawn)
