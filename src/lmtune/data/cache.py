"""Prepared text on disk, kept by content: built once, by one process at a time, and whole or absent."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lmtune.errors import DataError
from lmtune.records import checksum, checksum_of, load_json, write_json

FORMAT = 2
"""Raised whenever prepared text is written in another way; older entries are then built anew."""
RECORD = "record.json"
"""Written last: an entry without it was interrupted."""


def cache_folder() -> Path:
    """LMTUNE_CACHE, or lmtune below the user's cache folder."""
    given = os.environ.get("LMTUNE_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lmtune"


def key_of(parts: dict[str, Any]) -> str:
    """A name for what comes out of these settings and contents."""
    return checksum_of(json.dumps({**parts, "format": FORMAT}, sort_keys=True, default=str))


def checksum_file(file: Path) -> str:
    """xxh3-128 of the content; for a folder, of all files in it.

    Read again only where path, size, dates or inode differ from the last time; a file changed in the last two
    seconds is always read, since it may change once more within the grain of the clock.
    """
    if file.is_dir():
        return checksum_of("".join(checksum_file(inner) for inner in sorted(file.rglob("*")) if inner.is_file()))
    try:
        status = file.stat()
        seen = {
            "bytes": status.st_size,
            "modified": status.st_mtime_ns,
            "changed": status.st_ctime_ns,  # moves on even where a copying program sets the date back
            "inode": status.st_ino,
        }
        note = cache_folder() / "files" / f"{checksum_of(str(file.resolve()))}.json"
        known = load_json(note) if note.exists() else {}
        if {**seen, "checksum": known.get("checksum")} == known:
            return str(known["checksum"])
        digest = checksum(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. Check its permissions.") from error
    if time.time_ns() - status.st_mtime_ns > 2_000_000_000:
        _make_folder(note.parent)
        write_json(note, {**seen, "checksum": digest})
    return digest


def build_once(key: str, build: Callable[[Path], None]) -> Path:
    """The cache entry for `key`, built if it is not there; other processes wait meanwhile and say so."""
    folder = cache_folder() / key
    if (folder / RECORD).exists():
        return folder
    _make_folder(folder.parent)
    lock = _acquire(folder.with_suffix(".lock"))
    try:
        if not (folder / RECORD).exists():
            aside = folder.with_suffix(".building")
            shutil.rmtree(aside, ignore_errors=True)
            shutil.rmtree(folder, ignore_errors=True)
            aside.mkdir()
            try:
                build(aside)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            aside.rename(folder)
    finally:
        lock.release()
    return folder


@dataclass(frozen=True, slots=True)
class Entry:
    """Prepared text in the cache."""

    folder: Path
    bytes: int
    built: str
    """Date and time, ISO 8601."""


def list_entries() -> list[Entry]:
    """Whole entries, the newest first."""
    folders = sorted(cache_folder().glob(f"*/{RECORD}"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [
        Entry(
            folder=file.parent,
            bytes=sum(inner.stat().st_size for inner in file.parent.iterdir()),
            built=datetime.fromtimestamp(file.stat().st_mtime).isoformat(" ", "minutes"),
        )
        for file in folders
    ]


def remove_entry(folder: Path) -> None:
    """Delete an entry; its record goes first, so that half an entry is never taken for a whole one."""
    lock = _acquire(folder.with_suffix(".lock"))
    try:
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder}, where prepared text is kept, cannot be made: {error.strerror}. "
            "Set LMTUNE_CACHE to a folder that you may write to."
        ) from error


def _acquire(file: Path) -> FileLock:
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        sys.stderr.write("another process is preparing the same text; waiting for it\n")
        lock.acquire()
    return lock
