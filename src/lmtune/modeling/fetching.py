"""Fetching models from the Hub into a folder that is copied elsewhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lmtune import carried, foreign, hub
from lmtune.config import ModelConfig, ModelInit
from lmtune.errors import LmtuneError, ModelError, first_line
from lmtune.hub import check_available, choose_files, is_hub_id
from lmtune.modeling.tokenizer import LEARN
from lmtune.patience import turn_to
from lmtune.storage import Record
from lmtune.units import render_bytes, render_count

logger = logging.getLogger(__name__)

WEIGHTS = (".safetensors", ".bin")
INDEX = ".index.json"
"""Ending of the file that says which weights are in which file, behind the name that one file would have."""
NO_VOCABULARY = frozenset(
    [
        foreign.CONFIG,
        foreign.GENERATION,
        foreign.ADAPTER,
        "LICENSE.txt",
        "README.txt",
        "added_tokens.json",
        "all_results.json",
        "chat_template.jinja",
        "chat_template.json",
        "eval_results.json",
        "preprocessor_config.json",
        "processor_config.json",
        "results.json",
        "special_tokens_map.json",
        "train_results.json",
        "trainer_state.json",
    ]
)
"""Files beside a model that hold no vocabulary."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model on the Hub, and how much of it to fetch."""

    key: str
    repository: str
    revision: str | None = None
    weights: bool = True
    """False if its settings and tokenizer are enough."""
    vocabulary: bool = True
    """False if the tokenizer comes from elsewhere."""


def list_models(config: ModelConfig) -> list[HubModel]:
    """Models that training with these settings loads from the Hub; an adapter's base is known only once the adapter is fetched."""
    found = []
    other = config.tokenizer not in (None, config.path)
    if config.path is not None and is_hub_id(config.path):
        weights = config.init is ModelInit.pretrained
        found.append(HubModel("model.path", config.path, config.revision, weights, vocabulary=not other))
    if config.tokenizer not in (None, LEARN, config.path) and is_hub_id(str(config.tokenizer)):
        found.append(HubModel("model.tokenizer", str(config.tokenizer), weights=False))
    return found


def fetch_model(wanted: HubModel, folder: Path) -> Iterator[Record]:
    """Fetch a model, and the base of an adapter; yield what was fetched of each.

    Raises ModelError for one that cannot be fetched, ConfigError for a file that differs from the Hub's listing.
    """
    snapshot = _fetch_snapshot(wanted, folder / "hub")
    yield _describe(wanted, snapshot, folder)
    names = [file.name for file in snapshot.iterdir()]
    adapter = foreign.load_settings(foreign.Source(wanted.key, str(snapshot))).get(foreign.ADAPTER, {})
    name, revision = adapter.get("base_model_name_or_path"), adapter.get("revision")
    if isinstance(name, str) and is_hub_id(name):
        base = HubModel(wanted.key, name, revision, wanted.weights, wanted.vocabulary and not _list_vocabulary(names))
        yield _describe(base, _fetch_snapshot(base, folder / "hub"), folder)


def _describe(wanted: HubModel, snapshot: Path, folder: Path) -> Record:
    return {
        "kind": "model",
        "repository": wanted.repository,
        "revision": wanted.revision,
        "commit": snapshot.name,
        "folders": [snapshot.relative_to(folder).as_posix()],
    }


def _fetch_snapshot(wanted: HubModel, cache: Path) -> Path:
    check_available("model", wanted.repository, wanted.revision)
    turn_to(f"fetching {wanted.repository}")
    try:
        return _download(wanted, cache)
    except LmtuneError:
        raise
    except Exception as fault:  # anything that the Hub's client raises means that it is not available now
        refusal = foreign.explain_refusal(f"{wanted.key}={wanted.repository}", fault)
        raise ModelError(
            refusal
            or f"{wanted.key}={wanted.repository} was not fetched: {first_line(fault)}. The same command goes on where it stopped."
        ) from fault


def _download(wanted: HubModel, cache: Path) -> Path:
    """The folder with the files of a model that are read, each checked against the Hub's listing."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    commit = str(HfApi().model_info(wanted.repository, revision=wanted.revision).sha)
    listed = HfApi().list_repo_tree(wanted.repository, revision=commit)
    entries = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
    chosen = choose_files(entries, wanted.weights)
    check_parts(wanted, chosen)
    size = sum(entries[name].size for name in chosen)
    logger.info("%s: %s, %s", wanted.repository, render_count(len(chosen), "file"), render_bytes(size))
    get = partial(snapshot_download, wanted.repository, revision=wanted.revision, cache_dir=cache)
    snapshot = Path(get(allow_patterns=chosen))
    expected = {name: carried.expect(entries[name]) for name in chosen}
    absent = set(foreign.NAMES) - entries.keys()
    for name in absent:  # offline, a file counts as absent only if the cache has recorded that
        with suppress(EntryNotFoundError):
            hf_hub_download(wanted.repository, name, revision=wanted.revision, cache_dir=cache)
    carried.check_files(snapshot, expected, lambda name: get(allow_patterns=[name], force_download=True))
    check_shards(wanted, snapshot, chosen)
    return snapshot


def check_parts(wanted: HubModel, names: list[str]) -> None:
    """Raise ModelError for a repository that lacks what is loaded of it: where the folder is carried, it would be too late."""
    lacks = []
    if foreign.CONFIG not in names and foreign.ADAPTER not in names:
        lacks.append(foreign.CONFIG)
    if wanted.weights and not any(name.endswith(WEIGHTS) for name in names):
        lacks.append("weights (*.safetensors)")
    if wanted.vocabulary and foreign.ADAPTER not in names and not _list_vocabulary(names):
        lacks.append("a tokenizer (tokenizer.json, or vocabulary files)")
    if lacks:
        remedy = " Name another tokenizer with model.tokenizer=." if len(lacks) == 1 and "tokenizer" in lacks[0] else ""
        raise ModelError(
            f"{wanted.key}={wanted.repository} is no whole model: expected {' and '.join(lacks)} at its top, found "
            f"{', '.join(sorted(names)) or 'no file of a model'}.{remedy or ' Take another model, or another revision of it.'}"
        )


def check_shards(wanted: HubModel, snapshot: Path, names: list[str]) -> None:
    """Raise ModelError where the list of weights, which large models have, names files that are not there."""
    for index in (name for name in names if name.endswith(INDEX) and name.removesuffix(INDEX).endswith(WEIGHTS)):
        listed = json.loads((snapshot / index).read_text(encoding="utf-8")).get("weight_map", {}).values()
        lacking = sorted({str(name) for name in listed} - set(names))
        if lacking and set(listed) & set(names):
            raise ModelError(
                f"{wanted.key}={wanted.repository} is no whole model: its {index} lists {render_count(len(lacking), 'file')} that "
                f"it does not have ({', '.join(lacking)}). Take another model, or another revision of it."
            )


def _list_vocabulary(names: Iterable[str]) -> list[str]:
    """Of the files of a model, those that a vocabulary may be read from."""
    return [name for name in names if name.endswith(hub.SETTINGS) and name not in NO_VOCABULARY and INDEX not in name]
