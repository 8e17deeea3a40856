"""One process at a time: the lock of a run folder, and the folder itself, known by more than its path."""

import contextlib
import errno
import os
import socket
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from lmtune.errors import CheckpointError
from lmtune.storage import load_json, write_json

LOCK = ".lock"
LOCK_NAMES = (LOCK, f"{LOCK}.json", f"{LOCK}.lease")
HEARTBEAT_LIMIT = 60
"""Seconds without a sign of life after which the holder of a run counts as dead, where the file system has no locks."""
PATIENCE = 65
"""Seconds to watch for that sign: clocks of other machines are not trusted."""
NO_LOCKS = frozenset([errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK])
"""Errors of a file system without locks."""


def lock_folder(folder: Path) -> BaseFileLock:
    """Hold a run folder for this process alone, for as long as it lives; raise CheckpointError where another holds it.

    The operating system lets go of the lock when the process ends. Where the file system has no locks, a heartbeat in
    the folder stands for one. Raises OSError for a folder that cannot be written to.
    """
    holder = folder / f"{LOCK}.json"
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        lock = _acquire(folder / LOCK)
    except Timeout:
        raise CheckpointError(
            f"{folder} is in use by {_describe_holder(holder)}. Wait for it to end, or start a run of its own "
            "(leave out resume=)."
        ) from None
    write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "started": started})
    return lock


class Place:
    """A folder that is held open, so that it is noticed if it is renamed, deleted or replaced, and found again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        """Hold it no longer."""
        os.close(self._descriptor)

    @property
    def is_kept(self) -> bool:
        """False once another folder, or none, lies where this one was."""
        try:
            now = self.folder.stat()
        except OSError as error:
            # A network's file system that does not answer has not moved anything.
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        held = os.fstat(self._descriptor)
        return (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino)

    def check(self) -> None:
        """Raise CheckpointError unless the folder lies where it did."""
        if self.is_kept:
            return
        found = self.find()
        went = f"it was moved to {found}" if found else "it was deleted or replaced"
        remedy = f"Its checkpoints are whole there: go on with resume={found}." if found else "Start the run anew."
        raise CheckpointError(
            f"{self.folder}: expected the run folder to stay while its run goes on, found that {went}. {remedy}"
        )

    def find(self) -> Path | None:
        """Where the folder is now; None where it is gone, or this system does not tell."""
        with contextlib.suppress(OSError):
            path = Path(_path_of(self._descriptor))
            now, held = path.stat(), os.fstat(self._descriptor)
            return path if (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino) else None
        return None


def _path_of(descriptor: int) -> str:
    linux = Path(f"/proc/self/fd/{descriptor}")
    if linux.is_symlink():
        return str(linux.readlink())
    import fcntl

    get_path = getattr(fcntl, "F_GETPATH", None)  # macOS
    if get_path is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    return fcntl.fcntl(descriptor, get_path, bytes(1024)).rstrip(b"\0").decode()


def _acquire(file: Path) -> BaseFileLock:
    """The operating system's lock on a file, or a heartbeat where there is none; raise Timeout where another has it."""
    lock: BaseFileLock = FileLock(file, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except OSError as error:  # Timeout is one too, without a number
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLease(file.with_name(f"{file.name}.lease"), lease_duration=HEARTBEAT_LIMIT)
        lock.acquire(timeout=PATIENCE)
    return lock


def _describe_holder(file: Path) -> str:
    try:
        holder = load_json(file)
    except (OSError, CheckpointError):
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')}, which started {holder.get('started')}"
