"""Checks of what a model is to be loaded from, before anything heavy happens."""

from lmtune import foreign
from lmtune.config import ModelConfig, Transplant
from lmtune.errors import ModelError
from lmtune.hub import check_available, is_local
from lmtune.modeling import adapters, wholeness
from lmtune.modeling.tokenizer import LEARN
from lmtune.paths import describe, show


def check_model_source(config: ModelConfig, whole: bool = True) -> None:
    """Raise ModelError, within two seconds, for a path or Hub id that cannot be loaded."""
    foreign.check_docstrings()
    tokenizer = None if config.tokenizer in (LEARN, config.path) else config.tokenizer
    for key, path in (("model.path", config.path), ("model.tokenizer", tokenizer)):
        if path is not None:
            revision = config.revision if key == "model.path" else None
            _check_source(foreign.Source(key, path, revision, whole=whole))
    if tokenizer is not None and config.transplant is Transplant.omp:
        _check_donor(foreign.Source("model.transplant", tokenizer, title=f"model.tokenizer={show(tokenizer)}"))


def _check_donor(source: foreign.Source) -> None:
    """Raise ModelError for a folder that holds no model beside its tokenizer; a Hub id is checked when it is loaded."""
    if source.is_folder and not any(foreign.find_file(source, name) for name in (foreign.CONFIG, foreign.ADAPTER)):
        raise ModelError(
            f"{source}: model.transplant=omp looks new tokens up in a model that has their vocabulary, found a tokenizer alone. "
            "Name a model, or give model.transplant=fvt."
        )


def _check_source(source: foreign.Source) -> None:
    if not is_local(source.given):
        check_available("model", source.path, source.revision, source.error)
    elif not source.is_folder:
        expected = "a folder with a tokenizer" if source.key == "model.tokenizer" else "a folder with a saved model"
        raise source.given.refuse(expected, describe(source.given.expand()), "Check the path.")
    else:
        check_folder(source)


def check_folder(source: foreign.Source) -> None:
    """Raise the source's error for settings in its folder that are unreadable, or ask for code or for a model that is not there.

    Likewise for a folder that was sealed and has changed since.
    """
    wholeness.check_sealed(source)
    if source.key == "model.tokenizer":
        foreign.load_settings(source)
        return
    settings, base = adapters.open_source(source)
    foreign.check_settings(source, settings)
    if base is not None:
        adapters.check_base(base)
