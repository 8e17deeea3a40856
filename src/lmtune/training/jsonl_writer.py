"""Records that grow line by line while a training runs."""

import logging
from pathlib import Path

from lmtune.storage import Record, append_jsonl

logger = logging.getLogger(__name__)


class JsonlWriter:
    """Appends to a JSON Lines file that outlives a full disk: what could not be written waits for the next line."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.waiting: list[Record] = []

    def add(self, value: Record) -> None:
        """Write a line, after those that wait."""
        self.waiting.append(value)
        try:
            while self.waiting:
                append_jsonl(self.file, self.waiting[0])
                del self.waiting[0]
        except OSError as error:
            logger.info(
                "%s COULD NOT BE WRITTEN: %s. %d lines wait.", self.file.name, error.strerror, len(self.waiting)
            )
