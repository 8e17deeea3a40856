"""A folder whose files appear only when all of them are written and checked, readable by other users."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmtune.errors import CheckpointError, one_line
from lmtune.runs.unfinished import unfinished
from lmtune.storage import sync, sync_folder


@contextmanager
def staged(folder: Path, last: str) -> Iterator[Path]:
    """Yield a folder inside `folder` to write in; its content is moved up at the end, flushed to disk, with `last` last.

    On failure nothing is moved and it is removed. Raises CheckpointError if the disk cannot be written.
    """
    try:
        with unfinished(folder) as aside:
            yield aside
            _make_readable(aside)
            for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
                path.rename(folder / path.name)
        sync_folder(folder)
    except OSError as fault:
        raise CheckpointError(
            f"{folder} could not be written: {one_line(fault)}. Nothing was left in it. Make room, or give another output=."
        ) from fault


def _make_readable(folder: Path) -> None:
    """Give each file the mode of new files, and flush it to disk: safetensors writes 0600, which no other user can read."""
    umask = os.umask(0o077)
    os.umask(umask)
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~umask)
            sync(file)
