"""Prepared text on disk, kept by content: whole, or built anew. Nothing here is needed: what is lost is made again.

An entry is a folder named by its key, with a record of its files' sizes and checksums, which are compared whenever it is
opened. A cache that cannot be locked is used without locks; one that cannot be read or written is done without, in a
temporary folder. Entries hold people's text, so their owner alone may read them.
"""

import atexit
import errno
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from lmtune.data.remote import RemoteFile, TextFile
from lmtune.errors import CheckpointError, DataError
from lmtune.storage import CHECKSUM, checksum, checksum_of, find_signed, load_json, sign, sync, sync_folder, write_json

logger = logging.getLogger(__name__)

FORMAT = 4
"""Raised whenever prepared text is written in another way; older entries are then built anew."""
RECORD = "record.json"
"""Written last: an entry without it was interrupted."""
ELSEWHERE = "elsewhere"
"""Key in the content of a record: paths of files that belong to an entry and lie outside of it, in order."""
NAMES = re.compile(
    r"(record|tokenizer)\.json|train\.(arrow|ids)|rows\.npy|(validation|test)(-(ids|documents)\.npy|\.arrow)|(sums|past)\.npz"
)
"""Files that lmtune puts into an entry. Nothing else in the cache's folder is ever deleted."""
KEY = re.compile(r"[0-9a-f]{32}")

T = TypeVar("T")
Build = Callable[[Path], dict[str, Any]]
"""Writes files into an empty folder; returns the content for the record of the entry."""
Load = Callable[[Path, dict[str, Any]], T]
"""Opens the files of an entry; is given what Build returned."""

_temporary: dict[str, tuple[Path, dict[str, Any]]] = {}
"""Entries that found no place in the cache, in folders that go with the process."""


def find_folder() -> Path | None:
    """LMTUNE_CACHE, or lmtune below the user's cache folder; None for a user without a home."""
    given, shared = os.environ.get("LMTUNE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if given or shared:
        return Path(given) if given else Path(str(shared)) / "lmtune"
    try:
        return Path.home() / ".cache" / "lmtune"
    except RuntimeError:  # a number without an entry in passwd, as in many containers
        return None


def make_private(folder: Path) -> None:
    """Make a folder that its owner alone may enter; one that is there stays as it is, and entries in it are closed too."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def key_of(parts: Mapping[str, object]) -> str:
    """xxh3-128 of the settings and contents that decide what is prepared."""
    return checksum_of(json.dumps({**parts, "format": FORMAT}, sort_keys=True, default=str))


def cached(key: str, build: Build, load: Load[T]) -> T:
    """What `load` makes of the entry for `key`, which is built where no whole one is there.

    Other processes that want the same wait meanwhile, and say so. Raises what `build` raises, and DataError where neither
    the cache nor a temporary folder takes it.
    """
    root = find_folder()
    if root is None:
        _tell_once("There is no home folder and no LMTUNE_CACHE, so prepared text is not kept")
        return _load_temporary(key, build, load, "no home folder")
    try:
        make_private(root)
        folder = root / key
        if (content := find_content(folder)) is not None:
            with suppress(OSError):  # it may go just now, by `cache=prune`
                return load(folder, content)
        with locked(root / f"{key}.lock") as alone:
            content = find_content(folder)
            if content is None:
                content = build_entry(folder, build, sweeps=alone)
        return load(folder, content)
    except OSError as error:
        reason = error.strerror or str(error)
        _tell_once(
            f"{root}, where prepared text is kept, is done without: {reason}. LMTUNE_CACHE= names another folder"
        )
        return _load_temporary(key, build, load, f"{root}: {reason}")


def check_kept(key: str) -> None:
    """Raise DataError unless the cache holds the entry, which without one goes with the process."""
    root = find_folder()
    if root is None or not (root / key / RECORD).is_file():
        raise DataError(
            f"Prepared text has to stay for others, and {root or 'no cache'} does not keep it. Name a folder to write in with "
            "LMTUNE_CACHE=."
        )


def find_content(folder: Path) -> dict[str, Any] | None:
    """The content in the record of an entry; None unless all of its files have the sizes and checksums that were recorded."""
    try:
        record = load_json(folder / RECORD)
    except FileNotFoundError:
        return None
    except (OSError, CheckpointError):
        record = {}
    fault = find_fault(folder, record, folder.name)
    if fault is not None:
        _tell_once(f"prepared text {folder.name} is damaged ({fault}), so it is prepared anew")
        return None
    content: dict[str, Any] = record["content"]
    return content


def find_fault(folder: Path, record: dict[str, Any], key: str, digest: Callable[[Path], str] = checksum) -> str | None:
    """The file of an entry that is not as its record says; None for an entry that is whole.

    key: what the record has to name. digest: gives the checksum of a file in the folder. Files that lie elsewhere, which may
    be large, are read again only where their dates differ; see checksum_file.
    """
    if not _is_record(record, key):
        return RECORD
    for name, expected in record["files"].items():
        if not _is_as_recorded(folder / name, expected, digest):
            return name
    outside: dict[str, dict[str, Any]] = record["content"].get(ELSEWHERE, {})
    return next((name for name, seen in outside.items() if not _is_as_recorded(Path(name), seen, checksum_file)), None)


def _is_as_recorded(file: Path, expected: dict[str, Any], digest: Callable[[Path], str]) -> bool:
    return file.is_file() and file.stat().st_size == expected["bytes"] and digest(file) == expected[CHECKSUM]


def _is_record(record: dict[str, Any], key: str) -> bool:
    """True for the record of an entry of lmtune's, as it was written."""
    return record.get("key") == key and find_signed(record) is not None


def build_entry(folder: Path, build: Build, sweeps: bool) -> dict[str, Any]:
    """Build aside, seal, put in place; return the content of the record. sweeps: remove what killed builds have left."""
    root, key = folder.parent, folder.name
    if sweeps:
        for left in root.glob(f".{key}-*"):  # of a build that was killed
            remove_files(left)
    aside = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=root))
    try:
        content = build(aside)
        _seal(aside, key, content)
        if find_content(folder) is None:  # without locks, another may have been faster
            _place(aside, folder)
    finally:
        with suppress(OSError):
            remove_files(aside)
    return content


def _seal(folder: Path, key: str, content: dict[str, Any]) -> None:
    """Sync all files to the disk, then write their record."""
    files = {}
    for file in sorted(folder.iterdir()):
        sync(file)
        files[file.name] = {"bytes": file.stat().st_size, CHECKSUM: checksum(file)}
    write_json(folder / RECORD, sign({"lmtune": "prepared text", "key": key, "files": files, "content": content}))


def _place(aside: Path, folder: Path) -> None:
    """Move an entry to its name; file by file where its folder holds files of others, the record last."""
    if folder.is_symlink():
        raise FileExistsError(errno.EEXIST, "a link has the name of prepared text", str(folder))
    remove_files(folder)
    if not folder.exists():
        aside.rename(folder)
    else:
        for file in sorted(aside.iterdir(), key=lambda file: file.name == RECORD):
            file.replace(folder / file.name)
    sync_folder(folder.parent)


def remove_files(folder: Path) -> None:
    """Delete the files of lmtune in an entry, the record first, and the folder if nothing else is in it."""
    if folder.is_symlink():
        return
    with suppress(FileNotFoundError, NotADirectoryError):
        for file in sorted(folder.iterdir(), key=lambda file: file.name != RECORD):
            if NAMES.fullmatch(file.name) and not file.is_dir():
                file.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _load_temporary(key: str, build: Build, load: Load[T], reason: str) -> T:
    """As `cached`, in a folder that goes with this process."""
    if key not in _temporary:
        try:
            folder = Path(tempfile.mkdtemp(prefix="lmtune-"))
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            _temporary[key] = folder, build(folder)
        except OSError as error:
            raise DataError(
                f"Prepared text finds no place: expected room in the cache ({reason}) or in {tempfile.gettempdir()} "
                f"({error.strerror or error}). Make room, or name folders that have it with LMTUNE_CACHE= and TMPDIR=."
            ) from error
    folder, content = _temporary[key]
    return load(folder, content)


@contextmanager
def locked(file: Path) -> Iterator[bool]:
    """Hold a lock, so that one process builds; False where the file system has none, and two may build the same."""
    lock = FileLock(file, mode=0o600, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        logger.info("another process is preparing the same text; waiting for it")
        lock.acquire()
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@lru_cache
def _tell_once(text: str) -> None:
    logger.info(text)


def checksum_file(file: TextFile) -> str:
    """xxh3-128 of the content; for a folder, of all files in it; behind an address, of what its server says of the content.

    Read again only where path, size, dates or inode differ from the last time; a file changed in the last two
    seconds is always read, since it may change once more within the grain of the clock.
    """
    if isinstance(file, RemoteFile):
        return file.identify()
    if file.is_dir():
        return checksum_of("".join(checksum_file(inner) for inner in sorted(file.rglob("*")) if inner.is_file()))
    try:
        seen = _look_at(file)
        known = load_note(file)
        if {**seen, "checksum": known.get("checksum")} == known:
            return str(known["checksum"])
        digest = checksum(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    if time.time_ns() - seen["modified"] > 2_000_000_000:
        _write_note(file, {**seen, "checksum": digest})
    return digest


def adopt_note(file: TextFile, note: dict[str, Any]) -> None:
    """Take over what another process has noted of a file, where its size, dates and inode are still those."""
    with suppress(OSError):
        if note and not isinstance(file, RemoteFile) and {**_look_at(file), "checksum": note.get("checksum")} == note:
            _write_note(file, note)


def _look_at(file: Path) -> dict[str, int]:
    """Facts that differ if a file may have changed."""
    status = file.stat()
    return {
        "bytes": status.st_size,
        "modified": status.st_mtime_ns,
        "changed": status.st_ctime_ns,  # moves on even where a copying program sets the date back
        "inode": status.st_ino,
    }


def _write_note(file: Path, note: dict[str, Any]) -> None:
    place = _find_note(file)
    if place is not None:
        with suppress(OSError):  # it is read again then
            make_private(place.parent.parent)
            make_private(place.parent)
            write_json(place, note)


def _find_note(file: Path) -> Path | None:
    root = find_folder()
    return None if root is None else root / "files" / f"{checksum_of(str(file.resolve()))}.json"


def load_note(file: TextFile) -> dict[str, Any]:
    """What is noted of a file, {} where that is not there or does not read."""
    note = None if isinstance(file, RemoteFile) else _find_note(file)
    if note is not None:
        with suppress(OSError, CheckpointError):
            return load_json(note)
    return {}


@dataclass(frozen=True, slots=True)
class Entry:
    """Prepared text in the cache."""

    folder: Path
    bytes: int
    built: str
    """Date and time, ISO 8601."""


def list_entries() -> list[Entry]:
    """Entries that lmtune has made, the newest first; other files in the folder are left aside."""
    root = find_folder()
    found = [path for path in root.iterdir() if _is_entry(path)] if root is not None and root.is_dir() else []
    dated = []
    for folder in found:
        with suppress(FileNotFoundError):  # another process may remove it meanwhile
            size = sum(file.stat().st_size for file in folder.iterdir() if NAMES.fullmatch(file.name))
            dated.append(((folder / RECORD).stat().st_mtime, folder, size))
    return [
        Entry(folder=folder, bytes=size, built=datetime.fromtimestamp(date).isoformat(" ", "minutes"))
        for date, folder, size in sorted(dated, reverse=True)
    ]


def _is_entry(folder: Path) -> bool:
    if not KEY.fullmatch(folder.name) or folder.is_symlink():
        return False
    try:
        return _is_record(load_json(folder / RECORD), folder.name)
    except (OSError, CheckpointError):
        return False


def remove_entry(folder: Path) -> None:
    """Delete an entry; its record goes first, so that half an entry is never taken for a whole one."""
    with locked(folder.with_suffix(".lock")):
        remove_files(folder)
