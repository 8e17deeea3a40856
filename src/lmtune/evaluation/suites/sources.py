"""Rows of a benchmark: from a file of the user's own, or from the Hub where it loads without a script."""

import json
from dataclasses import dataclass
from typing import Any

from lmtune.errors import DataError, first_line
from lmtune.hub import check_available
from lmtune.paths import GivenPath, describe, show


@dataclass(frozen=True, slots=True)
class HubSplit:
    """A split of a Hub dataset."""

    path: str
    split: str = "test"
    subset: str | None = None
    revision: str | None = None
    """refs/convert/parquet where the main branch needs a script, which datasets 5 does not run."""
    folder: str | None = None
    """The folder of the files in that branch."""

    def __str__(self) -> str:
        return "/".join(filter(None, [self.path, self.subset, self.split]))


def load_rows(source: HubSplit, file: str | None) -> list[dict[str, Any]]:
    """Rows of `file` (.jsonl: objects; else text, one row {"text": line} a line, compressed or not), or of the source.

    Raises DataError for what is not there or does not load.
    """
    return _load_file(GivenPath("suite.files", file, DataError)) if file is not None else _load_hub(source)


def _load_file(given: GivenPath) -> list[dict[str, Any]]:
    import fsspec

    file = given.expand()
    if not given.is_file(file):
        raise DataError(
            f"{show(file)} does not read: expected a file in .txt or .jsonl, found {describe(file)}. Check suite.files."
        )
    try:
        local = fsspec.filesystem("file")  # fsspec.open would take :: and :// in a name for protocols
        with local.open(str(file), "rt", encoding="utf-8", newline="\n", compression="infer") as stream:
            text = stream.read()
        lines = text.removesuffix("\n").split("\n")
        if ".jsonl" in file.suffixes:
            return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{show(file)} does not read: {first_line(error)}. Expected .txt or .jsonl in UTF-8."
        ) from error
    return [{"text": line} for line in lines]


def _load_hub(source: HubSplit) -> list[dict[str, Any]]:
    import datasets

    check_available("dataset", source.path, source.revision, DataError)
    settings: dict[str, Any] = {"revision": source.revision, "split": source.split}
    if source.folder is not None:
        settings["data_files"] = {source.split: f"{source.folder}/*.parquet"}
    try:
        return list(datasets.load_dataset(source.path, None if source.folder else source.subset, **settings))
    except Exception as error:  # whatever the Hub client, fsspec and Arrow raise means: it cannot be had
        raise DataError(f"{source} does not load: {first_line(error)}.") from error
