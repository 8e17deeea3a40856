"""`lmtune tokenizer`: learn a byte-level BPE vocabulary from text, ready for from_pretrained.

lmtune tokenizer data=pt-wiki model=gpt2
lmtune train data=pt-wiki model=gpt2 model.tokenizer=outputs/pt-wiki-tokenizer/... model.transplant=mean
"""

from pathlib import Path
from typing import IO, Any

from lmtune.config import OutputFormat, TokenizerCommandConfig
from lmtune.data.build import build_corpus
from lmtune.data.corpus import Corpus
from lmtune.errors import CheckpointError, ConfigError
from lmtune.modeling import loading
from lmtune.modeling.saved_tokenizer import save_tokenizer
from lmtune.modeling.tokenizer import LEARN, Fit, learn_tokenizer, load_tokenizer, measure_fit
from lmtune.paths import GivenPath
from lmtune.runs.search import check_creatable, new_folder
from lmtune.storage import render_json, slug, write_json
from lmtune.training.setup import check_data_source


def run(config: TokenizerCommandConfig, stdout: IO[str]) -> dict[str, Any]:
    """Learn the vocabulary, save it, and print how it fits the text beside that of the model."""
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
    stdout.write((render_json(account) if config.format is OutputFormat.json else render_account(account)) + "\n")
    return account


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
        loading.check_model_source(config.model)


def render_account(account: dict[str, Any]) -> str:
    """The account as a table, the folder last."""
    learned, source = account["learned_from"], account.get("source")
    fits = [("learned", Fit(**account["fit"]))] + ([(source["tokenizer"], Fit(**source["fit"]))] if source else [])
    lines = [
        f"{account['entries']:,} entries, learned from {learned['data']} ({learned['text']}, seed {learned['seed']}); "
        f"measured on its {account['measured_on']} documents",
        "",
        f"{'tokenizer':<40}{'tokens/word':>12}{'bytes/token':>12}{'parts of characters':>21}",
    ]
    for name, fit in fits:
        lines.append(
            f"{name[-39:]:<40}{fit.tokens_per_word:>12.3f}{fit.bytes_per_token:>12.3f}{100 * fit.byte_fallback:>19.3f} %"
        )
    if source:
        more = 100 * (source["fit"]["tokens_per_word"] / account["fit"]["tokens_per_word"] - 1)
        lines += ["", f"the other vocabulary needs {more:+.1f} % tokens for the same text"]
    return "\n".join([*lines, f"tokenizer: {account['folder']}"])
