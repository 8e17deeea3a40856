"""Data sets fetched from the Hub into a folder that is carried elsewhere, prepared as the training there loads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune import carried
from lmtune.data.hub_source import find_cause
from lmtune.errors import DataError, LmtuneError, first_line
from lmtune.hub import check_available
from lmtune.patience import turn_to
from lmtune.storage import Record

if TYPE_CHECKING:
    from datasets import DatasetBuilder


@dataclass(frozen=True, slots=True)
class HubData:
    """A data set of the Hub."""

    repository: str
    subset: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        return "/".join(filter(None, [self.repository, self.subset]))


def fetch_data(wanted: HubData, folder: Path) -> Record:
    """Fetch all splits of a data set; return what was fetched.

    Its files go to the usual cache of this machine, each as the Hub says it is; what datasets makes of them to the folder, which
    is all that it asks for without a network. Raises DataError for what cannot be had or loaded.
    """
    check_available("dataset", wanted.repository, wanted.revision, DataError)
    turn_to(f"fetching {wanted}")
    from datasets import load_dataset_builder
    from huggingface_hub import snapshot_download

    try:
        builder = load_dataset_builder(
            wanted.repository, wanted.subset, revision=wanted.revision, cache_dir=str(folder / "datasets")
        )
        _check_single(builder)
        _fetch_files(builder)
        builder.download_and_prepare()
        card = snapshot_download(
            wanted.repository,
            repo_type="dataset",
            revision=wanted.revision,
            allow_patterns=["README.md", ".gitattributes"],
            cache_dir=folder / "hub",
        )
    except LmtuneError:
        raise
    except Exception as fault:  # whatever datasets, the Hub's client and its network raise means: it cannot be had now
        raise find_cause(wanted.repository, fault) or DataError(
            f"{wanted} was not fetched: {first_line(fault)}. Check data.path= and data.subset=; where the network failed, the same "
            "command goes on where it stopped."
        ) from fault
    places = (Path(builder.cache_dir), Path(card))
    return {
        "kind": "dataset",
        "repository": wanted.repository,
        "subset": wanted.subset,
        "revision": wanted.revision,
        "commit": Path(card).name,
        "folders": [place.relative_to(folder).as_posix() for place in places],
    }


def _check_single(builder: DatasetBuilder) -> None:
    """Raise DataError where the folder holds another revision: without a network datasets takes the newest, whichever was asked."""
    place = Path(builder.cache_dir)
    held = [other.name for other in place.parent.glob("*") if other.is_dir() and other.suffix != ".incomplete"]
    if held and place.name not in held:
        raise DataError(
            f"The folder holds {builder.repo_id} at {held[0]}, and {place.name} was asked for; without a network one would be "
            "taken for the other. Give another output=."
        )


def _fetch_files(builder: DatasetBuilder) -> None:
    """Fetch the files of a data set where datasets looks for them, and compare each with what the Hub says of it."""
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.hf_api import RepoFile

    repository = str(builder.repo_id)
    place = f"hf://datasets/{repository}@"
    urls = [url for urls in (builder.config.data_files or {}).values() for url in urls if url.startswith(place)]
    for commit, _, name in (url.removeprefix(place).partition("/") for url in urls):
        get = partial(hf_hub_download, repository, repo_type="dataset", revision=commit)
        root = Path(get(name).removesuffix(name))
        listed = HfApi().get_paths_info(repository, name, revision=commit, repo_type="dataset")
        expected = {entry.path: carried.expect(entry) for entry in listed if isinstance(entry, RepoFile)}
        carried.check_files(root, expected, partial(get, force_download=True))
