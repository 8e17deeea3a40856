"""A run that starts from the model of another run: what that one has learned is not held out here."""

import logging
from pathlib import Path

from lmtune.config import DataConfig, ModelConfig, ModelInit
from lmtune.data.build import record_past
from lmtune.data.corpus import Corpus
from lmtune.data.past import EARLIER, Past, load_past, save_past
from lmtune.data.prepared import Prepared
from lmtune.errors import ConfigError
from lmtune.runs import Run, step_of
from lmtune.runs.mark import find_mark

logger = logging.getLogger(__name__)

PAST = "past.npz"
"""File of a run folder with hashes of what the model has been trained on by the end of the run."""


def find_predecessor(config: ModelConfig) -> Run | None:
    """The run whose model or checkpoint the training starts from; None for any other model."""
    if config.path is None or config.init is not ModelInit.pretrained:
        return None
    folder = Path(config.path)
    inside_run = (folder.name == "model" or step_of(folder) >= 0) and find_mark(folder.parent) is not None
    return Run(folder.parent) if inside_run else None


def check_private(config: ModelConfig, *, private: bool) -> None:
    """Raise ConfigError for a run that would show what a private one has learned. private: of the run that is to begin."""
    source = find_predecessor(config)
    if source is not None and source.is_private and not private:
        raise ConfigError(
            f"model.path={config.path}: expected private=true beside the model of a run that was trained so, found private=false. "
            "Its weights may hold text of that corpus, which samples, pages and a push would show. Give private=true."
        )


def find_past(config: ModelConfig, resumed: Run | None) -> Past | None:
    """What the model knows before its training; a resumed run uses what it found at its start."""
    source = find_predecessor(config)
    if source is None:
        return None
    if resumed is not None and (resumed.folder / PAST).exists():
        return load_earlier(resumed)
    past = load_past(source.folder / PAST)
    if past is None:
        logger.info(
            "%s has not written down what it has learned, so some of what is held out here may be among it",
            source.folder,
        )
    return past


def load_earlier(run: Run) -> Past | None:
    """What the model knew before a run."""
    return load_past(run.folder / PAST, EARLIER)


def write_past(
    run: Run, corpus: Corpus, prepared: Prepared, mixed: dict[str, DataConfig], replayed: Corpus | None = None
) -> None:
    """Write into a run folder what its model will know, unless that was written before."""
    if (run.folder / PAST).exists():
        return
    past = record_past(corpus, prepared, mixed, replayed)
    if past is None:
        logger.info("what is learned is not written down (a stream, or more text than that is done for)")
    if past is not None or corpus.past is not None:
        run.claim(PAST)
        save_past(run.folder / PAST, past, corpus.past)
