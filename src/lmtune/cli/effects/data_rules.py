"""When `data.*` keys have no effect: a source has one place, and each kind of source reads only its own settings."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lmtune.config.checks import is_there
from lmtune.config.conditions import LEAVE_ONE, Idle
from lmtune.config.data import DataConfig, SplitRule
from lmtune.data.files import TEXT_SUFFIXES, kind_of, list_files
from lmtune.data.remote import RemoteFile, TextFile
from lmtune.errors import LmtuneError
from lmtune.urls import find_protocol

DataRule = Callable[[DataConfig], Idle | None]


def if_on_hub(data: DataConfig) -> Idle | None:
    """Text comes from a data set of the Hub."""
    if data.given_files is None:
        return None
    remedy = LEAVE_ONE if data.path is not None else "Leave it out, or name a data set of the Hub with data.path=."
    return Idle("the text comes from files", remedy, "data.files")


def if_revised(data: DataConfig) -> Idle | None:
    """Text comes from a source that has revisions."""
    if data.given_files is None and data.path is not None and is_there(data.path):
        return Idle(f"data.path={data.path} is a folder, which has no revisions", "Leave it out.", "data.path")
    return if_on_hub(data)


def if_in_files(data: DataConfig) -> Idle | None:
    """Text comes from files."""
    if data.given_files is not None:
        return None
    return Idle(
        "the text comes from a data set of the Hub",
        "Name the split to hold out with data.validation_split=, or give data.files=.",
        "data.path",
    )


def if_in_columns(data: DataConfig) -> Idle | None:
    """Text comes from tables."""
    if data.given_files is None or not _hold_only(data.given_files, TEXT_SUFFIXES):
        return None
    return Idle(
        "the files are plain text, which has no columns",
        "Leave it out, or give tables (.jsonl, .csv, ...).",
        "data.files",
    )


def if_encoded(data: DataConfig) -> Idle | None:
    """Some file holds encoded text."""
    if data.given_files is None:
        return Idle("the text comes from a data set of the Hub, which is decoded", "Leave it out.", "data.path")
    if _hold_only(data.given_files, (".parquet", ".arrow")) and not _hold_bytes(data.given_files):
        return Idle("the files (.parquet, .arrow) say themselves how they are encoded", "Leave it out.", "data.files")
    return None


def if_validation_is_drawn(data: DataConfig) -> Idle | None:
    """Documents are drawn to be held out."""
    if data.split_by is SplitRule.given:
        return Idle("found data.split_by=given", LEAVE_ONE, "data.split_by")
    if data.given_files is not None and data.validation_files is not None:
        return Idle("data.validation_files= is what is held out", LEAVE_ONE, "data.validation_files")
    if data.given_files is None and data.validation_split is not None:
        return Idle(
            f"data.validation_split={data.validation_split} is what is held out",
            "Leave one of the two out (data.validation_split=null).",
            "data.validation_split",
        )
    return None


def if_test_is_drawn(data: DataConfig) -> Idle | None:
    """Documents are drawn for a test set."""
    if data.split_by is SplitRule.given:
        return Idle("found data.split_by=given", LEAVE_ONE, "data.split_by")
    if data.given_files is None and data.test_split is not None:
        return Idle(
            f"data.test_split={data.test_split} is the test",
            "Leave one of the two out (data.test_split=null).",
            "data.test_split",
        )
    return None


def if_something_is_drawn(data: DataConfig) -> Idle | None:
    """Documents are drawn at all."""
    if data.split_by is SplitRule.given:
        return None
    drawn = (data.validation_fraction and not if_validation_is_drawn(data)) or (
        data.test_fraction and not if_test_is_drawn(data)
    )
    return (
        None
        if drawn
        else Idle("no documents are drawn to be held out", "Leave it out, or give data.validation_fraction=.")
    )


def if_streaming(data: DataConfig) -> Idle | None:
    """Text is read while it is trained on."""
    if data.streaming:
        return None
    return Idle(
        "data.streaming is off, and all rows are shuffled",
        "Leave it out, or give data.streaming=true.",
        "data.streaming",
    )


def if_streams_are_mixed(data: DataConfig) -> Idle | None:
    """Several texts are streamed."""
    if not data.streaming:
        return Idle("data.streaming is off, and all text is prepared", "Leave it out.", "data.streaming")
    return None  # without data.mix there are no sources to name, which is refused


DATA_RULES: Mapping[str, DataRule] = {
    "data.path": if_on_hub,
    "data.subset": if_on_hub,
    "data.revision": if_revised,
    "data.train_split": if_on_hub,
    "data.validation_split": if_on_hub,
    "data.test_split": if_on_hub,
    "data.validation_files": if_in_files,
    "data.text_column": if_in_columns,
    "data.where": if_in_columns,
    "data.encoding": if_encoded,
    "data.validation_fraction": if_validation_is_drawn,
    "data.test_fraction": if_test_is_drawn,
    "data.split_by": if_something_is_drawn,
    "data.seed": if_something_is_drawn,
    "data.shuffle_blocks": if_streaming,
    "data.lanes": if_streaming,
    "data.prepared": if_streams_are_mixed,
}


def _hold_bytes(given: str | list[str]) -> bool:
    """True if a parquet file among the paths has binary columns, whose encoding is not recorded."""
    from pyarrow import ArrowException, parquet

    from lmtune.data.tables import is_bytes

    if any(map(find_protocol, given if isinstance(given, list) else [given])):
        return True  # do not ask a server before the text is read
    try:
        schemas = [
            parquet.read_schema(str(file)) for file in list_files("data.files", given) if kind_of(file) == ".parquet"
        ]
    except (LmtuneError, ArrowException, OSError):  # reading them will report it
        return True
    return any(is_bytes(kind) for schema in schemas for kind in schema.types)


def _hold_only(given: str | list[str], kinds: tuple[str, ...]) -> bool:
    """True if all files that paths, globs and folders name are of these kinds.

    For addresses and missing files, the name decides.
    """
    paths = given if isinstance(given, list) else [given]
    named: list[TextFile] = [RemoteFile(path, 0, ()) if find_protocol(path) else Path(path) for path in paths]
    try:
        files = named if any(map(find_protocol, paths)) else list_files("data.files", given)
    except LmtuneError:  # reading them will report it
        files = named
    return all(kind_of(file) in kinds for file in files)
