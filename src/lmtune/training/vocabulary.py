"""The vocabulary of a training. One that is learned is kept beside its prepared text: jobs of a sweep and later runs take it up."""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtune.config import ModelConfig
from lmtune.data.cache import cached, key_of
from lmtune.data.corpus import Corpus
from lmtune.modeling import loading
from lmtune.modeling.tokenizer import LEARN, wrap_learned
from lmtune.storage import naming_disk_errors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FILE = "tokenizer.json"


def build_tokenizer(config: ModelConfig, corpus: Corpus) -> "PreTrainedTokenizerBase":
    """The tokenizer that the configuration asks for; raises what loading.build_tokenizer raises."""
    if config.tokenizer != LEARN or corpus.config.streaming:
        return _build(config, corpus)
    loading.check_learned(config)
    decides = {
        "vocabulary of": corpus.key,
        "entries": config.vocab_size,
        "tokenizers": metadata.version("tokenizers"),
    }

    def learn(folder: Path) -> dict[str, Any]:
        learned = _build(config, corpus).backend_tokenizer
        with naming_disk_errors(folder / FILE):
            learned.save(str(folder / FILE))
        return {}

    def load(folder: Path, _: dict[str, Any]) -> "PreTrainedTokenizerBase":
        from tokenizers import Tokenizer

        return wrap_learned(Tokenizer.from_file(str(folder / FILE)), loading.resolve_positions(config))

    return cached(key_of(decides), learn, load)


def _build(config: ModelConfig, corpus: Corpus) -> Any:
    return loading.build_tokenizer(config, lambda: corpus.texts("train"))
