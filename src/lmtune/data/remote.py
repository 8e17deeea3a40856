"""Files behind addresses, read by fsspec: object stores, the Hub, web servers.

files = list_remote("data.files", "s3://bucket/corpus/*.jsonl.zst", passed_over)
with files[0].open() as stream: ...

What a file is known by is what its server says of it (ETag, size, date). Where a server says too little to tell that
a file has changed, it is read once for a checksum.
"""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import xxhash

from lmtune.errors import DataError, first_line
from lmtune.paths import show
from lmtune.storage import checksum_of
from lmtune.urls import find_protocol
from lmtune.versions import render_install

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
"""Protocols whose packages are extras of lmtune."""
TAGS = ("ETag", "etag", "md5Hash", "crc32c", "generation", "blob_id", "content_md5", "Content-MD5", "checksum")
"""Under which names file systems give what changes with the content."""
DATES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "modified", "created")
"""The same of dates; the first that is there counts."""
PIECE_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file behind an address. What the readers ask of a path, it answers too."""

    url: str
    size: int
    """Size in bytes."""
    facts: tuple[tuple[str, str], ...]
    """What its server says of its content, by name: `etag`, `modified`, or the checksum of the content itself."""

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the path, without what follows a `?`."""
        return _path_of(self.url).name

    @property
    def suffix(self) -> str:
        """The last suffix of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def suffixes(self) -> list[str]:
        """All suffixes of the name."""
        return PurePosixPath(self.name).suffixes

    def identify(self) -> str:
        """xxh3-128 of the address and of what tells its content."""
        return checksum_of(json.dumps([self.url, self.size, *self.facts]))

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Its bytes, which can be read from any place on if the server can."""
        files, path = _connect(self.url)
        stream: IO[bytes] = files.open(path, mode)
        return stream

    def open_whole(self) -> io.RawIOBase:
        """Its bytes from the first to the last; EOFError where they come to an end before that."""
        return _Whole(self.open(), self.size)


TextFile: TypeAlias = Path | RemoteFile
"""A file that text is read from, on disk or elsewhere."""


class _Whole(io.RawIOBase):
    """A stream that knows how many bytes it has to give: a connection that ends is not the end of the file."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size, self._given = stream, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        free = memoryview(buffer)
        piece = self._stream.read(len(free))
        free[: len(piece)] = piece
        self._given += len(piece)
        if not piece and self._given != self._size:
            raise EOFError(f"{self._given:,} of its {self._size:,} bytes came")
        return len(piece)

    def close(self) -> None:
        self._stream.close()
        super().close()


def list_remote(
    key: str, url: str, is_text: Callable[[RemoteFile], bool], passed_over: dict[str, list[Any]]
) -> list[RemoteFile]:
    """Files behind an address: one, those that a pattern with `*` matches, or all below a folder; sorted by their paths.

    is_text: whether the name of a file says that it is read. passed_over: is filled with others of patterns and folders.
    Raises DataError for what cannot be reached, or is not there.
    """
    with _explained(key, url):
        files, path = _connect(url)
        named = RemoteFile(url, 0, ())
        if "*" not in path and is_text(named):
            return [_look_at(files, path, {})]
        found = files.glob(path, detail=True) if "*" in path else files.find(path, detail=True)
        chosen = []
        for name, info in sorted(found.items()):
            file = RemoteFile(files.unstrip_protocol(name), 0, ())
            if info.get("type") == "directory":
                continue
            if file.name.startswith("."):
                passed_over.setdefault("hidden", []).append(file)
            elif not is_text(file):
                passed_over.setdefault("of other kinds", []).append(file)
            else:
                chosen.append(_look_at(files, name, info))
        return chosen


def _look_at(files: Any, path: str, listed: dict[str, Any]) -> RemoteFile:
    """A file with what is known of its content. listed: what a list said of it."""
    info = listed if _find_facts(listed) and listed.get("size") is not None else files.info(path)
    if info.get("type") == "directory":
        raise FileNotFoundError(path)
    size, facts = info.get("size"), _find_facts(info)
    if size is None or not facts:
        size, facts = _read_facts(files, path)
    return RemoteFile(files.unstrip_protocol(path), int(size), tuple(facts.items()))


def _find_facts(info: dict[str, Any]) -> dict[str, str]:
    """What tells that the content of a file has changed: a tag, and a date."""
    facts = {}
    if (tag := next((info[name] for name in TAGS if info.get(name)), None)) is not None:
        facts["etag"] = str(tag).strip('"')
    if (date := next((info[name] for name in DATES if info.get(name)), None)) is not None:
        facts["modified"] = _render_date(date)
    return facts


def _render_date(date: object) -> str:
    if isinstance(date, int | float):
        date = datetime.fromtimestamp(date, UTC)
    return date.isoformat() if isinstance(date, datetime) else str(date)


def _read_facts(files: Any, path: str) -> tuple[int, dict[str, str]]:
    """(bytes, checksum) of a file that its server says too little about."""
    digest, size = xxhash.xxh3_128(), 0
    with files.open(path, "rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, {"xxh3_128": digest.hexdigest()}


def _connect(url: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url)
    return files, str(path)


def _path_of(url: str) -> PurePosixPath:
    web = find_protocol(url) in ("http", "https")
    return PurePosixPath(urlsplit(url).path if web else url)


@contextmanager
def _explained(key: str, url: str) -> Iterator[None]:
    """Raise DataError for whatever file systems raise in here."""
    protocol, given = find_protocol(url), f"{key}={show(url)}"
    try:
        yield
    except ImportError as error:
        package = PACKAGES.get(str(protocol))
        remedy = f"Install it: {render_install(package)}" if package else "Install it."
        raise DataError(
            f"{given}: {protocol}:// is read by a package that is not installed ({first_line(error)}). {remedy}"
        ) from error
    except FileNotFoundError as error:
        raise DataError(
            f"{given}: expected text there, found nothing, or no server that answers. Check the address and the network."
        ) from error
    except ValueError as error:
        raise DataError(
            f"{given}: {first_line(error)}. Expected a path, or an address that fsspec reads, such as s3://, gs://, hf:// or https://."
        ) from error
    except (
        Exception
    ) as error:  # each file system has errors of its own, for refused keys, hosts that are down, and more
        raise DataError(
            f"{given} cannot be looked at: {type(error).__name__}, {first_line(error)}. Check the address, the network and "
            f"the access that the settings of {protocol}:// give."
        ) from error
