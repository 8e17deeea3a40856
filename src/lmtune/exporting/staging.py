"""A folder of files that appear when all of them are written and proven, and that others may read."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from lmtune.errors import CheckpointError, one_line
from lmtune.storage import sync, sync_folder


@contextmanager
def staged(folder: Path, last: str) -> Iterator[Path]:
    """A folder inside `folder` to write in; what it holds in the end moves up, on disk, `last` at the end.

    Where anything fails nothing moves and it is removed. Raises CheckpointError for a disk that does not take it.
    """
    aside = folder / f".{token_hex(4)}"
    try:
        aside.mkdir()
        yield aside
        _make_readable(aside)
        for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
            path.rename(folder / path.name)
        sync_folder(folder)
    except OSError as fault:
        raise CheckpointError(
            f"{folder} could not be written: {one_line(fault)}. Nothing was left in it. Make room, or give another output=."
        ) from fault
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _make_readable(folder: Path) -> None:
    """Give each file the mode that new files have, on disk: safetensors writes 0600, which no other user can read."""
    umask = os.umask(0o077)
    os.umask(umask)
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o666 & ~umask)
            sync(file)
