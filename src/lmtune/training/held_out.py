"""The held-out text of a run: what of it is scored, and its measures."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtune.config import EvalConfig
from lmtune.data.build import build_corpus
from lmtune.data.losses import assess_losses
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import DataError, naming_text
from lmtune.evaluation.comparison import DocumentBits
from lmtune.evaluation.document_scores import SetScores
from lmtune.runs.evaluations import Measures, check_set_names
from lmtune.token_stream import TokenStream
from lmtune.training.distributed import check_same_text
from lmtune.training.setup import Setup
from lmtune.vocabulary import decode_plain

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, TrainingArguments

logger = logging.getLogger(__name__)


class HeldOutSet(NamedTuple):
    """Text that is scored while the model learns, and at the end."""

    stream: TokenStream
    sample: TokenStream
    """What of it is scored while the model learns: eval.max_tokens of it."""
    final: TokenStream
    """What of it is scored at the end: eval.final_max_tokens of it."""
    split_by: str

    def render_limits(self, settings: EvalConfig) -> str | None:
        """How much of the text is scored when; None if it is all of it at any time."""
        whole = f"{len(self.stream.ids):,}"
        parts = [
            f"{len(part.ids):,} of {whole} tokens {when} ({key}={limit:,})"
            for part, when, key, limit in (
                (self.sample, "while training", "eval.max_tokens", settings.selection),
                (self.final, "at the end", "eval.final_max_tokens", settings.final_max_tokens),
            )
            if part is not self.stream
        ]
        return "; ".join(parts) or None


@dataclass(frozen=True, slots=True)
class HeldOut:
    """All sets that a run is scored on; the first one decides which checkpoint is best."""

    sets: dict[str, HeldOutSet]
    settings: EvalConfig
    context: int
    """Tokens of an evaluation window."""
    arguments: "TrainingArguments"
    nll: dict[str, np.ndarray] = field(default_factory=dict)
    """Nats of each document when it was last scored, [documents], by set."""

    def score_sample(self, model: "PreTrainedModel") -> dict[str, Measures]:
        """Measures of each set, of what is scored while the model learns. All processes take part."""
        return self.score(model, {name: held.sample for name, held in self.sets.items()})

    def score_final(self, model: "PreTrainedModel") -> dict[str, Measures]:
        """Measures of each set, of what is scored at the end. All processes take part."""
        return self.score(model, {name: held.final for name, held in self.sets.items()})

    def collect_final(self) -> dict[str, SetScores]:
        """Scores of each document from score_final, which has to be the last evaluation."""
        return {
            name: SetScores(held.final.identify(), DocumentBits(self.nll[name], held.final.documents["bytes"]))
            for name, held in self.sets.items()
        }

    @property
    def samples_all(self) -> bool:
        """True where the same text is scored while the model learns and at the end."""
        return all(held.sample is held.final for held in self.sets.values())

    @property
    def final_share(self) -> float:
        """How many times the text of an evaluation while the model learns is scored at the end."""
        samples = sum(len(held.sample.ids) for held in self.sets.values())
        return sum(len(held.final.ids) for held in self.sets.values()) / max(1, samples)

    def score(self, model: "PreTrainedModel", streams: dict[str, TokenStream]) -> dict[str, Measures]:
        """Measures of each stream. All processes take part."""
        from lmtune.evaluation.evaluator import Scoring, Workers, evaluate_documents
        from lmtune.training.distributed import sum_over_ranks
        from lmtune.training.sharding import lending

        args, settings = self.arguments, self.settings
        batch_size = args.per_device_eval_batch_size
        scoring = Scoring(self.context, batch_size, settings.stride, settings.dtype.value)

        def add(sums: "torch.Tensor") -> "torch.Tensor":
            return sum_over_ranks(sums, args.device)

        workers = Workers(args.process_index, args.world_size, add)
        with lending(model):
            found = {name: evaluate_documents(model, stream, scoring, workers) for name, stream in streams.items()}
        self.nll.update((name, scores["nll"]) for name, (_, scores) in found.items())
        return {name: measures for name, (measures, _) in found.items()}


def load_held_out(setup: Setup) -> HeldOut:
    """The held-out text of `data=` first, then that of each set of `eval_data=` and `forgetting.on=`.

    Raises DataError for a set that holds nothing out, or of which the vocabulary loses more than eval.max_lost,
    ConfigError for names of sets that would be mistaken for one another in the log.
    """
    config, prepared = setup.config, setup.prepared
    found = {}
    if "validation" in prepared.held_out:
        found[config.data.name] = (prepared.held_out["validation"], prepared.ledger.split_by)
    check_set_names([*found, *config.eval_sets])
    for name, data in config.eval_sets.items():
        key = "eval_data" if name in config.eval_data else "forgetting.on"
        with naming_text(f"{key}={name}"):
            corpus = build_corpus(data, past=setup.corpus.past)
            streams, split_by = EncodedCorpus(corpus, setup.tokenizer).load_held_out()
        if "validation" not in streams:
            raise DataError(f"{key}={name}: it holds nothing out. Give conf/data/{name}.yaml a validation_fraction.")
        found[name] = (streams["validation"], split_by)
    if config.eval_sets:
        prepared.facts["watched"] = {name: found[name][0].identify() for name in config.eval_sets}
        check_same_text(prepared.facts)

    decode = partial(decode_plain, setup.tokenizer)
    sets = {
        name: build_held_out_set(name, stream, split_by, config.eval, decode)
        for name, (stream, split_by) in found.items()
    }
    return HeldOut(sets, config.eval, setup.context, setup.arguments)


def build_held_out_set(
    name: str, stream: TokenStream, split_by: str, settings: EvalConfig, decode: Callable[[np.ndarray], str]
) -> HeldOutSet:
    """A held-out set with what of it is scored when; raise DataError where the vocabulary loses much of it."""
    said = assess_losses(f"{name} (held out)", stream.documents, settings.max_lost)
    if said is not None:
        logger.warning(said)
    final = stream.select(settings.final_max_tokens, decode)
    alike = settings.selection == settings.final_max_tokens
    return HeldOutSet(stream, final if alike else stream.select(settings.selection, decode), final, split_by)
