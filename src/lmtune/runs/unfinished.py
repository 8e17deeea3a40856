"""Output of a command while it is written, out of sight; what a killed process has left of it is removed by the next command.

A folder of the form `.unfinished-<id>`, locked for as long as its process lives, holds the files. The operating system releases the
lock when the process ends, however it ends, so a folder that can be locked is nobody's any more.
"""

import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from filelock import FileLock

from lmtune.paths import shorten
from lmtune.runs.lock import LOCK, lock_folder

logger = logging.getLogger(__name__)

NAME = re.compile(r"\.unfinished-[0-9a-f]{16}")
FILES = "files"


@contextmanager
def unfinished(folder: Path) -> Iterator[Path]:
    """A new hidden folder inside `folder` to write in, which is removed at the end. Raises OSError if the disk does not take it."""
    aside = folder / f".unfinished-{token_hex(8)}"
    aside.mkdir()
    try:
        lock = lock_folder(aside)
        try:
            (aside / FILES).mkdir()
            yield aside / FILES
        finally:
            lock.release()
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def is_abandoned(path: Path) -> bool:
    """True for an unfinished folder whose process has ended."""
    with _taking(path) as taken:
        return taken


def remove_abandoned(folder: Path) -> bool:
    """Remove the unfinished folders in `folder` whose processes have ended; True if there were any."""
    found = False
    with suppress(OSError):  # a folder that may not be read stays as it is
        for path in sorted(folder.iterdir()):
            with _taking(path) as taken:
                if taken:
                    shutil.rmtree(path, ignore_errors=True)
                    logger.info("%s: removed what a process that was killed had left unfinished", shorten(folder))
                    found = True
    return found


@contextmanager
def _taking(path: Path) -> Iterator[bool]:
    """Lock an unfinished folder; False for anything else, and for one that a process holds or might hold.

    The holder's record is written under the lock, so a folder without one may be just beginning. On a file system without locks
    nobody can tell, and the folder stays.
    """
    begun = NAME.fullmatch(path.name) and not path.is_symlink() and (path / f"{LOCK}.json").is_file()
    if not begun or (path / f"{LOCK}.lease").exists():
        yield False
        return
    lock = FileLock(path / LOCK, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except OSError:  # Timeout is one too
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
