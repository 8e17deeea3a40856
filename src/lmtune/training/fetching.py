"""What a training fetches from the Hub, told before it is fetched."""

from collections.abc import Iterator

from lmtune import hub
from lmtune.config import ModelInit, TrainConfig
from lmtune.storage import Record


def list_fetches(config: TrainConfig) -> list[Record]:
    """One record for each repository of the Hub that a training reads: its key, id, whether it is in the cache, files and bytes.

    files, bytes: at most those that are fetched; None where they are there already, or where the Hub gives no list.
    """
    return [
        _describe(key, kind, repository, revision, weights)
        for key, kind, repository, revision, weights in _list_repositories(config)
        if hub.is_hub_id(repository)
    ]


def _list_repositories(config: TrainConfig) -> Iterator[tuple[str, str, str, str | None, bool]]:
    """(key, kind, id, revision, whether its weights are read) of whatever may be on the Hub."""
    model = config.model
    if model.path is not None:
        yield "model.path", "model", model.path, model.revision, model.init is ModelInit.pretrained
    if model.tokenizer not in (None, "learn", model.path):
        yield "model.tokenizer", "model", str(model.tokenizer), None, False
    for data in (config.data, *config.eval_sets.values(), *config.mixed_sets.values(), *config.replay_sets.values()):
        if data.given_files is None and data.path is not None:
            yield "data.path", "dataset", data.path, data.revision, True


def _describe(key: str, kind: str, repository: str, revision: str | None, weights: bool) -> Record:
    cached = hub.is_cached(kind, repository, revision)
    listed = None if cached else hub.load_listing(kind, repository, revision)
    sizes = None if listed is None else dict(listed)
    if sizes is not None and kind == "model":
        sizes = {name: sizes[name] for name in hub.choose_files(sizes, weights)}
    return {
        "key": key,
        "repository": repository,
        "cached": cached,
        "files": None if sizes is None else len(sizes),
        "bytes": None if sizes is None else sum(sizes.values()),
    }
