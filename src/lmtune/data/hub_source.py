"""A dataset of the Hugging Face Hub, or a folder of one, as a source."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.files import SAVED, SAVED_SPLITS, kind_of
from lmtune.data.rendering import Wanted, render_rows
from lmtune.data.shards import split_rows
from lmtune.data.tables import Rows, load_saved, wrap_dataset
from lmtune.errors import DataError, first_line
from lmtune.foreign import explain_refusal
from lmtune.hub import check_available, is_local
from lmtune.paths import GivenPath, show
from lmtune.storage import checksum_of

SCRIPT = re.compile("scripts are no longer supported")
"""What datasets says of a data set that would run code."""
CONFIGURATIONS = re.compile(r"among the available configs: \[(.*)\]")
"""What it says of one with several configurations, when none was named."""
SHOWN = 12
"""Configurations in a message; some data sets have hundreds."""


@dataclass(slots=True)
class HubSource:
    """A dataset of the Hugging Face Hub; its shards are the files it is kept in, or all of it once downloaded."""

    config: DataConfig
    rules: tuple[DocumentRule, ...] = field(init=False)
    remarks: dict[str, None] = field(init=False, default_factory=dict)
    passed_over: dict[str, int] = field(init=False, default_factory=dict)
    _wanted: dict[str, Wanted] = field(init=False, default_factory=dict)
    _loaded: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rules = (self.config.documents or DocumentRule.row,)

    def fingerprint(self) -> str:
        return checksum_of(json.dumps({split: self._load(split)._fingerprint for split in self.splits()}))

    def describe(self) -> list[dict[str, Any]]:
        return [
            {
                "name": self._name,
                "split": split,
                "revision": self._find_revision(),
                "rows": getattr(self._load(split), "num_rows", None),
                **self._identify_folder(),
            }
            for split in self.splits()
        ]

    def _identify_folder(self) -> dict[str, str]:
        """Names, sizes and dates of the files of a folder that is streamed, since its content is not read beforehand."""
        if not (self.config.streaming and self._is_local):
            return {}
        files = sorted(file for file in Path(str(self.config.path)).expanduser().rglob("*") if file.is_file())
        facts = [(file.as_posix(), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return {"files": checksum_of(json.dumps(facts))}

    @property
    def _is_local(self) -> bool:
        return self.config.path is not None and is_local(GivenPath("data.path", self.config.path, DataError))

    def splits(self) -> tuple[str, ...]:
        given = {"validation": self.config.validation_split, "test": self.config.test_split}
        return ("train", *(split for split, name in given.items() if name))

    def expect_bytes(self, split: str) -> int | None:
        return None

    def count_shards(self, split: str) -> int:
        return int(self._load(split).num_shards) if self.config.streaming else 1

    def find_empty(self, split: str) -> frozenset[int]:
        return frozenset()

    def load_rows(self, split: str, shard: int) -> Iterator[Rows]:
        dataset = self._load(split)
        if self.config.streaming:
            dataset = dataset.shard(num_shards=self.count_shards(split), index=shard, contiguous=True)
        table = wrap_dataset(dataset, f"{self.config.path} ({split})")
        wanted = self._wanted.setdefault(split, Wanted(self.config.where))
        return split_rows(render_rows(table, self.config.text_column, wanted), self.rules[0])

    def explain_empty(self, split: str) -> str:
        wanted = self._wanted.get(split)
        if wanted is not None and wanted.met and not wanted.found:
            return f"{self._name} ({split}): {wanted.explain()}"
        return f"{self._name}: expected text, found none ({split}). Check data.path= and data.text_column=."

    @property
    def _name(self) -> str:
        return "/".join(filter(None, [self.config.path, self.config.subset]))

    def _find_revision(self) -> str | None:
        """The commit that is streamed, since nothing else tells whether the content changed; else what was asked for."""
        config = self.config
        if not config.streaming or config.path is None or self._is_local:
            return config.revision
        if "commit" not in self._loaded:
            from huggingface_hub import HfApi
            from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

            try:
                self._loaded["commit"] = HfApi().dataset_info(config.path, revision=config.revision).sha
            except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
                raise DataError(
                    f"{config.path} cannot be streamed: {first_line(error)}. Check the network, or leave out data.streaming."
                ) from error
        return str(self._loaded["commit"])

    def _load(self, split: str) -> Any:
        if split not in self._loaded:
            import datasets

            config = self.config
            if (folder := _find_saved(config)) is not None:
                self._loaded[split] = self._load_saved_split(folder, split)
                return self._loaded[split]
            name = _name_splits(config)[split]
            try:
                self._loaded[split] = datasets.load_dataset(
                    config.path,
                    config.subset,
                    revision=config.revision,
                    split=name,
                    streaming=config.streaming,
                )
            except (ValueError, RuntimeError, OSError) as error:
                raise self._explain(name, error) from error
        return self._loaded[split]

    def _load_saved_split(self, folder: Path, split: str) -> Any:
        """A split of a folder that save_to_disk has written."""
        config = self.config
        loaded = load_saved(folder)
        name = _name_splits(config)[split]
        if not hasattr(loaded, "keys"):
            if split == "train" and name == "train":
                return loaded.to_iterable_dataset() if config.streaming else loaded
            raise DataError(
                f"data.path={show(config.path)} is a saved dataset without splits, found data.{split}_split={name}."
            )
        if name not in loaded:
            raise DataError(
                f"data.path={show(config.path)}: expected a split {name!r}, found {', '.join(loaded)}. "
                f"Name one with data.{split}_split=."
            )
        return loaded[name].to_iterable_dataset() if config.streaming else loaded[name]

    def _explain(self, split: str | None, error: Exception) -> DataError:
        config = self.config
        if (cause := find_cause(str(config.path), error)) is not None:
            return cause
        where = [f"data.subset={config.subset}"] if config.subset else []
        return DataError(
            f"{show(config.path)} ({', '.join([*where, f'split {split}'])}) does not load as a dataset: {first_line(error)}. "
            "Check data.path, data.subset and data.train_split."
        )


def find_cause(path: str, fault: Exception) -> DataError | None:
    """Why a data set of the Hub cannot be had, in our words; None for what its library's words have to do for."""
    if SCRIPT.search(str(fault)):
        script = first_line(fault).rpartition(" ")[2]
        return DataError(
            f"data.path={show(path)} needs code of its own ({script}), which lmtune never runs; expected a data set of "
            "plain files. Take one, such as its branch data.revision=refs/convert/parquet."
        )
    if (listed := CONFIGURATIONS.search(str(fault))) is not None:
        names = re.findall(r"'([^']+)'", listed.group(1))
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
        return DataError(
            f"data.path={show(path)} has several configurations ({shown}), expected which of them is meant. Name one, "
            f"data.subset={names[0]}."
        )
    refusal = explain_refusal(f"data.path={show(path)}", fault)
    return None if refusal is None else DataError(refusal)


def _name_splits(config: DataConfig) -> dict[str, str | None]:
    """What the dataset calls each of our splits."""
    return {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}


def _find_local(config: DataConfig) -> Path | None:
    """The folder that data.path= names; None for an id of the Hub."""
    given = GivenPath("data.path", str(config.path), DataError)
    if config.path is None or not is_local(given):
        return None
    folder = given.expand()
    return folder if given.is_folder(folder) else None


def _find_saved(config: DataConfig) -> Path | None:
    """The folder that data.path= names, where save_to_disk has written it."""
    folder = _find_local(config)
    given = GivenPath("data.path", str(config.path), DataError)
    is_saved = folder is not None and any(given.is_file(folder / name) for name in (SAVED, SAVED_SPLITS))
    return folder if is_saved else None


def find_guessed_files(config: DataConfig) -> dict[str, list[Path]] | None:
    """By split, the files of a local folder whose text `datasets` would guess types of: 007 in a .csv, a date in a .jsonl.

    None for a data set of the Hub, and for kinds that say what they hold.
    """
    folder = _find_local(config)
    if folder is None or _find_saved(config) is not None:
        return None
    import datasets

    try:
        builder = datasets.load_dataset_builder(str(folder), config.subset)
    except Exception:  # whatever it is, loading it says so, in words
        return None
    found = builder.config.data_files or {}
    if not {"Csv", "Json"} & {kind.__name__ for kind in type(builder).__mro__}:
        return None
    wanted = {split: name for split, name in _name_splits(config).items() if name}
    files = {split: [Path(file) for file in found[name]] for split, name in wanted.items() if name in found}
    is_known = files.keys() == wanted.keys() and all(kind_of(file) for each in files.values() for file in each)
    return files if is_known else None


def check_data_source(config: DataConfig) -> None:
    """Raise DataError for a Hub dataset that cannot be had."""
    if (
        config.given_files is None
        and config.path is not None
        and not is_local(GivenPath("data.path", config.path, DataError))
    ):
        check_available("dataset", config.path, config.revision, DataError)
