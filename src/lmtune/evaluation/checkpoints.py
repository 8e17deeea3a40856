"""Checkpoints scored one after the other on the same documents."""

import logging
from typing import TYPE_CHECKING

from lmtune.config import EvalCommandConfig
from lmtune.data.build import build_corpus
from lmtune.data.corpus import Corpus
from lmtune.data.losses import assess_losses
from lmtune.data.past import load_past
from lmtune.data.predecessor import PAST, load_earlier
from lmtune.data.premise import resolve_change
from lmtune.evaluation import documents
from lmtune.evaluation.comparison import DocumentBits
from lmtune.evaluation.learned import Learned, find_learned
from lmtune.evaluation.protocol import describe_limit, hash_model
from lmtune.evaluation.suites.run import Loaded
from lmtune.evaluation.text import EvalText, Part, build_stream
from lmtune.evaluation.windows import resolve_stride
from lmtune.modeling import loading, positions
from lmtune.modeling.checkpoint import Checkpoint
from lmtune.modeling.device import place_model
from lmtune.modeling.out_of_memory import explain_memory
from lmtune.modeling.tokenizer import load_tokenizer
from lmtune.runs import Run
from lmtune.token_stream import TokenStream
from lmtune.vocabulary import hash_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def load_checkpoint(
    config: EvalCommandConfig, checkpoint: Checkpoint, tokenizer: "PreTrainedTokenizerBase | None" = None
) -> Loaded:
    """Model and tokenizer on their device, with the length of the windows."""
    tokenizer = tokenizer or load_tokenizer(checkpoint.path, separates=False)
    model = loading.load_model(checkpoint.path, whole=config.check_weights)
    context = positions.resolve_length("eval.context", config.eval.context, model)
    resolve_stride(config.eval.stride, context)
    return Loaded(place_model(model, config.device), tokenizer, context)


def score_checkpoints(
    config: EvalCommandConfig, text: EvalText, checkpoints: dict[str, Checkpoint]
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
        learned = say_learned(ckpt, found.run, corpus, text)
        loaded = load_checkpoint(config, found, tokenizer)
        scored[ckpt] = score_text(loaded, stream, config)
        scored[ckpt].measures["protocol"] |= {
            "split": text.split.value,
            "split_by": split_by,
            "limit": describe_limit(stream, whole, part.max_tokens),
            **({"changed_text": True} if changed else {}),
            **({"learned": learned._asdict()} if learned is not None else {}),
        }
    return scored


def say_learned(ckpt: str, run: Run | None, corpus: Corpus, text: EvalText) -> Learned | None:
    """Say what of the text the run of a checkpoint has learned, or that this is not known; None for nothing, or no run."""
    past = None if run is None else load_past(run.folder / PAST)
    if past is None:
        if run is not None and text.own is None:
            logger.info("%s has not written down what it has learned, so some of this text may be among it", run.folder)
        return None
    learned = find_learned(corpus, text.split, past)
    if learned is not None:
        logger.warning("%s", learned.render(ckpt))
    return learned


def score_text(loaded: Loaded, stream: TokenStream, config: EvalCommandConfig) -> documents.ScoredCheckpoint:
    """The scores of one checkpoint on a text, in total and per document."""
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
