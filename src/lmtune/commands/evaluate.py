"""`lmtune eval`: score one checkpoint, or several side by side, on held-out text.

lmtune eval ckpt=outputs/...        on the text that the run held out
lmtune eval ckpt=gpt2 data=wikitext eval.split=test
lmtune eval ckpt=[outputs/...,gpt2] the difference, with a confidence interval
lmtune eval ckpt=gpt2 suite=gpt2-zeroshot
"""

import logging
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from lmtune.commands.result import Result
from lmtune.config import DataConfig, EvalCommandConfig, EvalSplit, load_data_config
from lmtune.config.data import select_settings
from lmtune.data.build import build_corpus
from lmtune.data.corpus import Corpus
from lmtune.data.hub_source import check_data_source
from lmtune.data.losses import assess_losses
from lmtune.data.predecessor import load_earlier
from lmtune.data.premise import load_facts, resolve_change
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.unseparated import encode_unseparated
from lmtune.errors import ConfigError
from lmtune.evaluation import documents
from lmtune.evaluation.comparison import DocumentBits
from lmtune.evaluation.protocol import describe_limit, hash_model
from lmtune.evaluation.suites.run import Loaded, build_results, run_suite
from lmtune.evaluation.windows import resolve_stride
from lmtune.modeling import loading, positions
from lmtune.modeling.checkpoint import Checkpoint, resolve_checkpoint
from lmtune.modeling.device import place_model
from lmtune.modeling.out_of_memory import explain_memory
from lmtune.modeling.tokenizer import load_tokenizer
from lmtune.reporting.suite_tables import render_suite
from lmtune.reporting.tables import render_evaluation
from lmtune.runs import Run
from lmtune.token_stream import TokenStream
from lmtune.vocabulary import hash_tokenizer

logger = logging.getLogger(__name__)


class Text(NamedTuple):
    """What is scored."""

    data: DataConfig
    split: EvalSplit
    own: Run | None
    """The run whose text it is; None for a text that was named."""


def run(config: EvalCommandConfig) -> Result:
    """Score the checkpoints on a text, or on the tasks of a suite."""
    if config.output is not None:
        documents.check_output(config.output)
    checkpoints = {ckpt: resolve_checkpoint(ckpt, config.check_weights) for ckpt in config.checkpoints}
    if config.suite is not None:
        loads = {ckpt: partial(load_checkpoint, config, found) for ckpt, found in checkpoints.items()}
        models, suite = run_suite(config, config.suite, loads), config.suite
        return Result(build_results(models), lambda: render_suite(suite, models))
    text = choose_text(config, {ckpt: found.run for ckpt, found in checkpoints.items()})
    check_data_source(text.data)
    scored = score_checkpoints(config, text, checkpoints)
    if config.output is not None:
        for file in documents.write_documents(text.data.name, scored, config.output):
            logger.info("documents, the worst first: %s", file)
    results = documents.build_results(text.data.name, scored)
    return Result(results, lambda: render_evaluation(results))


def choose_text(config: EvalCommandConfig, runs: dict[str, Run | None]) -> Text:
    """The text asked for, else the held-out text of the first run among the checkpoints."""
    split = config.eval.split or EvalSplit.validation
    if config.data is not None:
        return Text(config.data, split, None)
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
    return Text(load_data_config(recorded[0]["data"], recorded[0]["seed"]), split, own[0])


def hold_out_differently(one: Run, other: Run, recorded: dict[str, Any], others: dict[str, Any]) -> bool:
    """True where two runs did not hold out the same text, as far as they have written it down."""
    held, theirs = (load_facts(run).get("held_out", {}).get("validation") for run in (one, other))
    if held is not None and theirs is not None:
        return bool(held["text"] != theirs["text"])
    now, then = (load_data_config(config["data"], config["seed"]) for config in (recorded, others))
    return select_settings(now, located=True) != select_settings(then, located=True)


def load_checkpoint(config: EvalCommandConfig, checkpoint: Checkpoint, tokenizer: Any = None) -> Loaded:
    """Model and tokenizer on their device, with the length of the windows."""
    tokenizer = tokenizer or load_tokenizer(checkpoint.path, separates=False)
    model = loading.load_model(checkpoint.path, whole=config.check_weights)
    context = positions.resolve_length("eval.context", config.eval.context, model)
    resolve_stride(config.eval.stride, context)
    return Loaded(place_model(model, config.device), tokenizer, context)


def score_checkpoints(
    config: EvalCommandConfig, text: Text, checkpoints: dict[str, Checkpoint]
) -> dict[str, documents.ScoredCheckpoint]:
    """Each checkpoint on the same documents, the text of a run checked to be still the one that it held out."""
    corpus = build_corpus(text.data, past=None if text.own is None else load_earlier(text.own))
    tokenizers = {ckpt: load_tokenizer(found.path, separates=False) for ckpt, found in checkpoints.items()}
    part = Part(config.eval.max_tokens or 0, list(tokenizers.values()))
    scored: dict[str, documents.ScoredCheckpoint] = {}
    for ckpt, found in checkpoints.items():
        tokenizer = tokenizers[ckpt]
        whole, split_by = build_stream(corpus, text.split, tokenizer)
        changed = False
        if text.own is not None and not scored:
            changed = resolve_change(text.own, corpus, text.split, whole, config.changed_text)
        stream = part.choose(corpus, text.split, whole, tokenizer)
        if (said := assess_losses(corpus.config.name, stream.documents, config.eval.max_lost)) is not None:
            logger.warning(said)
        loaded = load_checkpoint(config, found, tokenizer)
        scored[ckpt] = score_text(loaded, stream, config)
        scored[ckpt].measures["protocol"] |= {
            "split": text.split.value,
            "split_by": split_by,
            "limit": describe_limit(stream, whole, part.max_tokens),
            **({"changed_text": True} if changed else {}),
        }
    return scored


class Part:
    """The documents of a text that are scored where eval.max_tokens= limits them: the same ones for each checkpoint.

    tokenizers: of all checkpoints. Where they differ no document is cut, since none would be cut alike in two vocabularies.
    """

    def __init__(self, max_tokens: int, tokenizers: list[Any]) -> None:
        self.max_tokens = max_tokens
        alike = len({hash_tokenizer(each) for each in tokenizers}) == 1 if max_tokens else True
        self.cuts = alike and all(each.eos_token_id is not None for each in tokenizers)
        self._drawn: np.ndarray | None = None

    def choose(self, corpus: Corpus, split: EvalSplit, whole: TokenStream, tokenizer: Any) -> TokenStream:
        """What is scored of a split, all of it without a limit."""
        if not self.max_tokens or (self._drawn is None and len(whole.ids) <= self.max_tokens):
            self.max_tokens = 0  # the first checkpoint decides for all
            return whole
        if self.cuts:
            return whole.select(self.max_tokens, partial(_decode, tokenizer))
        if self._drawn is None:
            self._drawn = whole.draw(self.max_tokens)
        if tokenizer.eos_token_id is None:
            texts = list(corpus.texts(split.value))
            return encode_unseparated([texts[number] for number in self._drawn], tokenizer, corpus.seed)
        return whole.take(self._drawn)


def _decode(tokenizer: Any, ids: np.ndarray) -> str:
    return str(tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False))


def score_text(loaded: Loaded, stream: TokenStream, config: EvalCommandConfig) -> documents.ScoredCheckpoint:
    """The measures of one checkpoint on a text, and what each document has to do with them."""
    from lmtune.evaluation.evaluator import Scoring, evaluate_documents

    settings = config.eval
    with explain_memory("eval.batch_size=1; a lower eval.context; eval.dtype=bfloat16; device=cpu"):
        scoring = Scoring(loaded.context, settings.batch_size, settings.stride, settings.dtype.value)
        measures, scores = evaluate_documents(loaded.model, stream, scoring)
    measures["protocol"] |= {"tokenizer": hash_tokenizer(loaded.tokenizer), "model": hash_model(loaded.model)}
    scored = documents.ScoredCheckpoint(measures, DocumentBits(scores["nll"], stream.documents["bytes"]))
    if settings.per_document:
        measures["documents"] = documents.list_documents(stream, scored, loaded.tokenizer)
    return scored


def build_stream(corpus: Corpus, split: EvalSplit, tokenizer: Any) -> tuple[TokenStream, str]:
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
