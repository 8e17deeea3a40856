"""`lmtune tokenizer`: learn a byte-level BPE vocabulary from text, or extend that of a model, ready for from_pretrained.

lmtune tokenizer data=pt-wiki model=gpt2
lmtune tokenizer data=pt-wiki model=gpt2 extend=10000
lmtune train data=pt-wiki model=gpt2 model.tokenizer=outputs/pt-wiki-tokenizer/... model.transplant=mean
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtune.commands.result import Result
from lmtune.config import TokenizerCommandConfig
from lmtune.data.build import build_corpus
from lmtune.data.corpus import Corpus
from lmtune.data.hub_source import check_data_source
from lmtune.errors import CheckpointError, ConfigError
from lmtune.exporting.staging import staged
from lmtune.modeling.extending import check_extensible, extend_tokenizer
from lmtune.modeling.saved_tokenizer import save_tokenizer
from lmtune.modeling.source import check_model_source
from lmtune.modeling.tokenizer import LEARN, learn_tokenizer, load_tokenizer, measure_fit
from lmtune.paths import GivenPath, show
from lmtune.reporting.data_tables import render_tokenizer
from lmtune.runs.search import check_creatable, new_folder
from lmtune.storage import slug, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_CONFIG = "tokenizer_config.json"
"""Without it transformers does not take a folder for a tokenizer."""

UNUSED = "unused.json"
"""Entries of the old vocabulary that occur nowhere in the text, in the form of a vocab.json."""


def run(config: TokenizerCommandConfig) -> Result:
    """Learn or extend the vocabulary, save it whole or not at all, and measure how it fits the text beside that of the model."""
    check_sources(config)
    theirs = load_theirs(config)
    corpus = build_corpus(config.data)
    with (
        new_folder(config.output, f"{slug(config.data.name)}-tokenizer") as folder,
        staged(folder, last=TOKENIZER_CONFIG) as aside,
    ):
        if config.extend and theirs is not None:
            tokenizer, extends = extend(config, corpus, theirs, aside)
        else:
            tokenizer, extends = learn(config, corpus), {}
        save_tokenizer(tokenizer, aside)
        asked = len(theirs) + config.extend if config.extend and theirs is not None else config.tokenizer.vocab_size
        account = build_account(config, corpus, tokenizer, folder) | {"asked": asked} | extends
        if theirs is not None:
            account["source"] = {
                "tokenizer": name_theirs(config),
                "fit": measure_fit(theirs, corpus.texts(account["measured_on"]))._asdict(),
            }
        write_json(aside / "lmtune.json", account)
    return Result(account, lambda: render_tokenizer(account))


def learn(config: TokenizerCommandConfig, corpus: Corpus) -> "PreTrainedTokenizerBase":
    """A vocabulary of the text's own."""
    settings = config.tokenizer
    return learn_tokenizer(
        corpus.texts(settings.text.value),
        settings.vocab_size,
        settings.max_length,
        settings.min_frequency,
        settings.special_tokens,
        max_chars=None,
    )


def extend(
    config: TokenizerCommandConfig, corpus: Corpus, theirs: "PreTrainedTokenizerBase", folder: Path
) -> tuple["PreTrainedTokenizerBase", dict[str, Any]]:
    """(tokenizer, account): the vocabulary of the model with entries for the text; old ones without use go to a file."""
    texts = corpus.texts(config.tokenizer.text.value)
    extension = extend_tokenizer(theirs, texts, config.extend, config.tokenizer.min_frequency)
    write_json(folder / UNUSED, {token: index for index, token in extension.unused.items()})
    counts = {"kept": len(theirs), "added": extension.added, "unused": len(extension.unused)}
    return extension.tokenizer, {"extends": counts}


def build_account(
    config: TokenizerCommandConfig, corpus: Corpus, tokenizer: "PreTrainedTokenizerBase", folder: Path
) -> dict[str, Any]:
    """What was learned from what, and how it fits held-out text."""
    settings = config.tokenizer
    measured_on = "validation" if corpus.split.held_out.get("validation") else "train"
    return {
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


def load_theirs(config: TokenizerCommandConfig) -> "PreTrainedTokenizerBase | None":
    """The vocabulary of model=, to compare with or to extend; None where no model is named."""
    if config.model is None:
        return None
    source = name_theirs(config)
    own = source == config.model.path
    key = "model.path" if own else "model.tokenizer"
    theirs = load_tokenizer(source, config.model.revision if own else None, key=key)
    if config.extend:
        check_extensible(theirs, f"{key}={show(source)}")
    return theirs


def name_theirs(config: TokenizerCommandConfig) -> str:
    """Folder or Hub id of the vocabulary of model=."""
    assert config.model is not None
    return config.model.tokenizer or str(config.model.path)


def check_sources(config: TokenizerCommandConfig) -> None:
    """Raise for sources that are not there, a model without a vocabulary of its own, and a folder that cannot be made."""
    if config.output is not None:
        check_creatable(GivenPath("output", config.output, CheckpointError))
    check_data_source(config.data)
    if config.model is not None:
        if config.model.tokenizer == LEARN:
            use, remedy = ("extend", "Name another model") if config.extend else ("compare with", "Leave model= out")
            raise ConfigError(
                f"model={config.model.name} learns its vocabulary, so there is none to {use} yet. {remedy}."
            )
        check_model_source(config.model)
