"""`lmtune tokenizer`: learn a byte-level BPE vocabulary from text, ready for from_pretrained.

lmtune tokenizer data=pt-wiki model=gpt2
lmtune train data=pt-wiki model=gpt2 model.tokenizer=outputs/pt-wiki-tokenizer/... model.transplant=mean
"""

from pathlib import Path
from typing import Any

from lmtune.commands.result import Result
from lmtune.config import TokenizerCommandConfig
from lmtune.data.build import build_corpus
from lmtune.data.corpus import Corpus
from lmtune.data.hub_source import check_data_source
from lmtune.errors import CheckpointError, ConfigError
from lmtune.modeling.saved_tokenizer import save_tokenizer
from lmtune.modeling.source import check_model_source
from lmtune.modeling.tokenizer import LEARN, learn_tokenizer, load_tokenizer, measure_fit
from lmtune.paths import GivenPath
from lmtune.reporting.data_tables import render_tokenizer
from lmtune.runs.search import check_creatable, new_folder
from lmtune.storage import slug, write_json


def run(config: TokenizerCommandConfig) -> Result:
    """Learn the vocabulary, save it, and measure how it fits the text beside that of the model."""
    check_sources(config)
    corpus = build_corpus(config.data)
    settings = config.tokenizer
    measured_on = "validation" if corpus.split.held_out.get("validation") else "train"
    with new_folder(config.output, f"{slug(config.data.name)}-tokenizer") as folder:
        tokenizer = learn_tokenizer(
            corpus.texts(settings.text.value),
            settings.vocab_size,
            settings.max_length,
            settings.min_frequency,
            settings.special_tokens,
            max_chars=None,
        )
        save_tokenizer(tokenizer, folder)
    account = build_account(config, corpus, tokenizer, folder, measured_on)
    write_json(folder / "lmtune.json", account)
    return Result(account, lambda: render_tokenizer(account))


def build_account(
    config: TokenizerCommandConfig, corpus: Corpus, tokenizer: Any, folder: Path, measured_on: str
) -> dict[str, Any]:
    """What was learned from what, and how it fits held-out text beside the vocabulary of the model."""
    settings = config.tokenizer
    account: dict[str, Any] = {
        "folder": str(folder),
        "entries": len(tokenizer),
        "learned_from": {
            "data": config.data.name,
            "text": settings.text.value,
            "seed": config.data.seed,
            "min_frequency": settings.min_frequency,
        },
        "measured_on": measured_on,
        "fit": measure_fit(tokenizer, corpus.texts(measured_on))._asdict(),
    }
    if config.model is not None:
        source = config.model.tokenizer or str(config.model.path)
        revision = config.model.revision if source == config.model.path else None
        key = "model.path" if source == config.model.path else "model.tokenizer"
        theirs = measure_fit(load_tokenizer(source, revision, key=key), corpus.texts(measured_on))
        account["source"] = {"tokenizer": source, "fit": theirs._asdict()}
    return account


def check_sources(config: TokenizerCommandConfig) -> None:
    """Raise for sources that are not there, a model without a vocabulary of its own, and a folder that cannot be made."""
    if config.output is not None:
        check_creatable(GivenPath("output", config.output, CheckpointError))
    check_data_source(config.data)
    if config.model is not None:
        if config.model.tokenizer == LEARN:
            raise ConfigError(
                f"model={config.model.name} learns its vocabulary, so there is none to compare with yet. Leave model= out."
            )
        check_model_source(config.model)
