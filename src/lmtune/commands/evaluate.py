"""`lmtune eval`: score a checkpoint on held-out text.

lmtune eval ckpt=outputs/...        on the text that the run held out
lmtune eval ckpt=gpt2 data=wikitext eval.split=test
"""

from typing import IO, Any

from lmtune.commands.closing import COLUMNS
from lmtune.commands.opening import check_data_source
from lmtune.config import DataConfig, EvalCommandConfig, EvalSplit, OutputFormat, load_data_config
from lmtune.data.corpus import Corpus
from lmtune.data.tokens import hash_tokenizer
from lmtune.errors import ConfigError
from lmtune.modeling import loading
from lmtune.modeling.tokenizer import load_tokenizer
from lmtune.runs import Run, render_json, render_number
from lmtune.streams import TokenStream

DEFAULT_SEED = 42


def run(config: EvalCommandConfig, stdout: IO[str]) -> dict[str, Any]:
    """Score the checkpoint and print its measures."""
    from lmtune.evaluation.perplexity import evaluate_stream  # pulls in torch: after the quick checks, not before them

    checkpoint = loading.find_checkpoint(str(config.ckpt))
    data, seed, split = choose_text(config, checkpoint.run)
    check_data_source(data)
    tokenizer = load_tokenizer(checkpoint.path)
    model = loading.load_model(checkpoint.path)
    context = loading.check_length("eval.context", config.eval.context, model.config)
    model.to(loading.choose_device(config.device))
    stream, split_by = build_stream(Corpus(data, seed), split, tokenizer)
    stride, dtype = config.eval.stride, config.eval.dtype.value
    measures = evaluate_stream(model, stream, context, config.eval.batch_size, stride=stride, dtype=dtype)
    measures["protocol"] |= {
        "split": split.value,
        "split_by": split_by,
        "tokenizer": hash_tokenizer(tokenizer),
    }
    results = {"eval": {data.name: measures}}
    print_measures(results, config.format, stdout)
    return results


def choose_text(config: EvalCommandConfig, run: Run | None) -> tuple[DataConfig, int, EvalSplit]:
    """(data, seed, split): the text asked for, else the held-out text of the run that the checkpoint comes from."""
    if config.data is not None:
        return (
            config.data,
            DEFAULT_SEED if config.seed is None else config.seed,
            config.eval.split or EvalSplit.validation,
        )
    if run is None:
        raise ConfigError(
            f"ckpt={config.ckpt} comes from no run, so it has no held-out text of its own. Name some: data=wikitext, data.files=..."
        )
    recorded = run.load_config()
    data = load_data_config(recorded["data"])
    return data, recorded["seed"] if config.seed is None else config.seed, config.eval.split or EvalSplit.validation


def build_stream(corpus: Corpus, split: EvalSplit, tokenizer: Any) -> tuple[TokenStream, str]:
    """(stream, split_by): the documents of one split as ids; held-out ones from the cache where they are there."""
    if split.value in ("validation", "test"):
        streams, split_by = corpus.load_held_out(tokenizer)
        if split.value in streams:
            return streams[split.value], split_by
    return corpus.encode_stream(split.value, tokenizer), corpus.ledger.split_by or "none"


def print_measures(results: dict[str, Any], form: OutputFormat, stdout: IO[str]) -> None:
    """One JSON document, or a table for people."""
    if form is OutputFormat.json:
        stdout.write(render_json(results) + "\n")
        return
    for name, measures in results["eval"].items():
        protocol = measures["protocol"]
        stdout.write(f"{name} ({protocol['split']}, {protocol['documents']:,} documents)\n")
        for key, words in COLUMNS.items():
            stdout.write(f"{words:<24}{render_number(measures[key]):>12}\n")
        stdout.write(
            f"{measures['tokens']:,} tokens, {measures['words']:,} words, {measures['bytes']:,} bytes; "
            f"windows of {protocol['context']:,}, {protocol['dtype']}, {measures['seconds']:.1f} s\n"
        )
