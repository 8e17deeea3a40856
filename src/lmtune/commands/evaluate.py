"""`lmtune eval`: score one checkpoint, or several side by side, on held-out text.

lmtune eval ckpt=outputs/...        on the text that the run held out
lmtune eval ckpt=gpt2 data=wikitext eval.split=test
lmtune eval ckpt=[outputs/...,gpt2] the difference, with a confidence interval
lmtune eval ckpt=gpt2 suite=gpt2-zeroshot
"""

import logging
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np

from lmtune.commands import benchmarking, comparing
from lmtune.commands.benchmarking import Loaded
from lmtune.commands.preparing import check_data_source
from lmtune.config import DataConfig, EvalCommandConfig, EvalSplit, OutputFormat, load_data_config
from lmtune.data.corpora import build_corpus
from lmtune.data.corpus import IDENTITY, Corpus
from lmtune.data.tokens import hash_tokenizer
from lmtune.errors import ConfigError
from lmtune.evaluation.comparison import DocumentBits
from lmtune.evaluation.protocol import hash_model
from lmtune.evaluation.windows import check_stride
from lmtune.modeling import loading, positions
from lmtune.modeling.tokenizer import load_tokenizer
from lmtune.records import render_json
from lmtune.runs import Run
from lmtune.streams import DOCUMENT_TABLE, NO_SEPARATOR, PLAIN_TEXT, TokenStream
from lmtune.training.memory import explain_memory

logger = logging.getLogger(__name__)

DEFAULT_SEED = 42
SOURCE = ("path", "subset", "revision", "train_split", "files", "validation_files")
"""Settings that name the text itself."""


class Text(NamedTuple):
    """What is scored."""

    data: DataConfig
    seed: int
    split: EvalSplit


def run(config: EvalCommandConfig, stdout: IO[str]) -> dict[str, Any]:
    """Score the checkpoints and print their measures."""
    if config.eval.per_document and config.format is not OutputFormat.json:
        comparing.check_output(config.output)
    checkpoints = {ckpt: loading.find_checkpoint(ckpt, config.check_weights) for ckpt in config.checkpoints}
    if config.suite is not None:
        return benchmarking.run(
            config,
            config.suite,
            {ckpt: partial(load_checkpoint, config, found) for ckpt, found in checkpoints.items()},
            stdout,
        )
    text = choose_text(config, {ckpt: found.run for ckpt, found in checkpoints.items()})
    check_data_source(text.data)
    corpus = build_corpus(text.data, text.seed)
    scored = {
        ckpt: score_text(load_checkpoint(config, found), corpus, text.split, config)
        for ckpt, found in checkpoints.items()
    }
    results = comparing.build_results(text.data.name, scored)
    if config.format is OutputFormat.json:
        stdout.write(render_json(results) + "\n")
    else:
        stdout.write("\n".join(comparing.render_table(text.data.name, scored)) + "\n")
        if config.eval.per_document:
            for file in comparing.write_documents(text.data.name, scored, config.output):
                logger.info("documents, the worst first: %s", file)
    return results


def choose_text(config: EvalCommandConfig, runs: dict[str, Run | None]) -> Text:
    """The text asked for, else the held-out text of the first run among the checkpoints."""
    split = config.eval.split or EvalSplit.validation
    if config.data is not None:
        return Text(config.data, DEFAULT_SEED if config.seed is None else config.seed, split)
    own = [run for run in runs.values() if run is not None]
    if not own:
        raise ConfigError(
            f"ckpt={next(iter(runs))} comes from no run, so it has no held-out text of its own. Name some: data=wikitext, "
            "data.files=..."
        )
    recorded = [run.load_config() for run in own]
    for run, other in zip(own[1:], recorded[1:], strict=True):
        if select_settings(other) != select_settings(recorded[0]):
            logger.info(
                "%s was trained on another selection of text than %s, whose held-out documents are scored; it may have learned "
                "some of them",
                run.folder,
                own[0].folder,
            )
    seed = recorded[0]["seed"] if config.seed is None else config.seed
    return Text(load_data_config(recorded[0]["data"]), seed, split)


def select_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Of a run's config.yaml, what decides which text was read and which of it was held out."""
    return {"seed": config["seed"], **{name: config["data"].get(name) for name in (*SOURCE, *IDENTITY)}}


def load_checkpoint(config: EvalCommandConfig, checkpoint: loading.Checkpoint) -> Loaded:
    """Model and tokenizer on their device, with the length of the windows."""
    tokenizer = load_tokenizer(checkpoint.path, separates=False)
    model = loading.load_model(checkpoint.path, whole=config.check_weights)
    context = positions.settle_length("eval.context", config.eval.context, model)
    check_stride(config.eval.stride, context)
    return Loaded(model.to(loading.choose_device(config.device)), tokenizer, context)


def score_text(loaded: Loaded, corpus: Corpus, split: EvalSplit, config: EvalCommandConfig) -> comparing.Scored:
    """The measures of one checkpoint on one split, and what each document has to do with them."""
    from lmtune.evaluation.perplexity import Scoring, evaluate_documents

    settings = config.eval
    stream, split_by = build_stream(corpus, split, loaded.tokenizer)
    with explain_memory("eval.batch_size=1; a lower eval.context; eval.dtype=bfloat16; device=cpu"):
        scoring = Scoring(loaded.context, settings.batch_size, settings.stride, settings.dtype.value)
        measures, scores = evaluate_documents(loaded.model, stream, scoring)
    measures["protocol"] |= {
        "split": split.value,
        "split_by": split_by,
        "tokenizer": hash_tokenizer(loaded.tokenizer),
        "model": hash_model(loaded.model),
    }
    scored = comparing.Scored(measures, DocumentBits(scores["nll"], stream.documents["bytes"]))
    if settings.per_document:
        measures["documents"] = comparing.list_documents(stream, scored, loaded.tokenizer)
    return scored


def build_stream(corpus: Corpus, split: EvalSplit, tokenizer: Any) -> tuple[TokenStream, str]:
    """(stream, split_by): the documents of one split as ids; held-out ones from the cache where they are there."""
    if tokenizer.eos_token_id is None:
        return encode_unseparated(list(corpus.texts(split.value)), tokenizer), corpus.ledger.split_by or "none"
    if split.value in ("validation", "test"):
        streams, split_by = corpus.load_held_out(tokenizer)
        if split.value in streams:
            return streams[split.value], split_by
    return corpus.encode_stream(split.value, tokenizer), corpus.ledger.split_by or "none"


def encode_unseparated(texts: list[str], tokenizer: Any) -> TokenStream:
    """Documents end to end with nothing between them, for a vocabulary without an end-of-text token."""
    rows = [tokenizer(text, **PLAIN_TEXT)["input_ids"] for text in texts]
    table = np.zeros(len(rows), dtype=DOCUMENT_TABLE)
    for number, (text, ids) in enumerate(zip(texts, rows, strict=True)):
        # Nothing predicts the very first token, so what it stands for is in no count.
        counted = (
            text
            if number
            else text[tokenizer(text, **PLAIN_TEXT, return_offsets_mapping=True)["offset_mapping"][0][1] :]
        )
        table[number] = (len(ids), len(counted.encode()), len(counted), len(counted.split()), 0)
    return TokenStream(np.concatenate([np.array(ids, dtype=np.uint32) for ids in rows]), table, NO_SEPARATOR)
