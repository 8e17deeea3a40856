"""Where text comes from: files of many kinds, and datasets of the Hub.

A source hands out rows (a row of a table, or a document of a text file) for each split it has, shard by shard, and a
fingerprint of its content that can be known without reading rows.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.file_source import FileSource
from lmtune.data.hub_source import HubSource, find_guessed_files
from lmtune.data.tables import Rows


class Source(Protocol):
    """Something that rows of text come from."""

    rules: tuple[DocumentRule, ...]
    """What a document is, as the source hands it out; several where files of several kinds are read."""

    remarks: dict[str, None]
    """What was guessed while it was read, or looks odd, in words."""
    passed_over: dict[str, int]
    """Number of files that match and are not read, by reason."""

    def fingerprint(self) -> str:
        """Changes when the content does."""

    def describe(self) -> list[dict[str, Any]]:
        """What is read, for the ledger."""

    def splits(self) -> tuple[str, ...]:
        """`train`, and those of `validation` and `test` that the source itself keeps apart."""

    def expect_bytes(self, split: str) -> int | None:
        """About how many bytes of text a split has; None where that takes reading it."""

    def count_shards(self, split: str) -> int:
        """Parts of a split that can be read one by one."""

    def find_empty(self, split: str) -> frozenset[int]:
        """Shards of a split that are known to hold nothing, with none of them read."""

    def load_rows(self, split: str, shard: int) -> Iterator[Rows]:
        """Batches of rows of one shard, in the order of the source."""

    def explain_empty(self, split: str) -> str:
        """Why no document was found in a split that has been read."""


def build_source(config: DataConfig) -> Source:
    """The source that the configuration names."""
    if config.given_files is not None:
        return FileSource(config)
    splits = find_guessed_files(config)
    return HubSource(config) if splits is None else FileSource(config, splits)
