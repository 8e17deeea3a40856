"""JSON, JSON Lines and text files that are never left half-written, with their checksums and names."""

import errno
import glob
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import xxhash

from lmtune.errors import CheckpointError

T = TypeVar("T")

RUST_ERROR = re.compile(r"\(os error (\d+)\)")
"""What Rust's standard library writes behind the words of an error of the operating system."""
CHECKSUM = "xxh3_128"
"""Key of a checksum in a record."""

Record = dict[str, Any]
"""A JSON object, such as results.json, or a line of metrics.jsonl."""


def load_json(file: Path) -> dict[str, Any]:
    """A JSON object; raise CheckpointError for a file that holds none."""
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file} is not JSON ({error}), so it was cut off or changed. Put it back as it was."
        ) from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {type(loaded).__name__}.")
    return loaded


def load_record(file: Path, read: Callable[[Record], T], expected: str, otherwise: str) -> T:
    """What `read` takes from a record of a run. Raises CheckpointError if the file is missing or its content is not as expected.

    expected: what the file is, in words. otherwise: how to do without it.
    """
    try:
        return read(load_json(file))
    except (OSError, KeyError, TypeError, ValueError) as error:
        found = "none" if isinstance(error, FileNotFoundError) else "another content"
        raise CheckpointError(
            f"{file}: expected {expected}, found {found}. Copy it again from where the run was trained, or {otherwise}."
        ) from error


def load_jsonl(file: Path) -> list[dict[str, Any]]:
    """Objects of a JSON Lines file, up to the first invalid line, such as a last one cut off by a kill."""
    lines: list[dict[str, Any]] = []
    for line in file.read_bytes().split(b"\n"):
        try:
            loaded = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(loaded, dict):
            break
        lines.append(loaded)
    return lines


def write_json(file: Path, value: Any) -> None:
    """Write indented JSON; see write_text."""
    write_text(file, render_json(value, indent=2) + "\n")


def append_jsonl(file: Path, value: dict[str, Any]) -> None:
    """Append a line; if that fails (a full disk), raise OSError and leave the file as it was."""
    line = render_json_line(value).encode()
    with file.open("ab", buffering=0) as stream:
        end = stream.tell()
        try:
            if stream.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        except OSError:
            stream.truncate(end)
            raise


def write_text(file: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old text or the new one, also after a power cut."""
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)  # never over an existing file
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def list_unfinished(file: Path) -> list[Path]:
    """What write_text has left of a file beside it: of a process that was killed, or of one that is writing it."""
    return list(file.parent.glob(f".{glob.escape(file.name)}.{'[0-9a-f]' * 8}"))


@contextmanager
def naming_disk_errors(place: Path) -> Iterator[None]:
    """What libraries written in Rust raise of the operating system, as the OSError that it is.

    tokenizers raises a bare Exception where it cannot write, safetensors an error of its own. place: where they write.
    """
    try:
        yield
    except Exception as error:
        found = None if isinstance(error, OSError) else RUST_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(place)) from error


def render_json(value: Any, indent: int | None = None) -> str:
    """Standard JSON: non-finite numbers, which it cannot express, become null."""
    return json.dumps(_without_infinities(value), ensure_ascii=False, indent=indent, allow_nan=False)


def render_json_line(value: dict[str, Any]) -> str:
    """A line of JSON Lines."""
    return render_json(value) + "\n"


def render_number(value: float | None) -> str:
    """Four decimals, or a dash for None or a non-finite number."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def measure_folder(folder: Path) -> int:
    """Bytes of the files below a folder; files that disappear meanwhile are left out."""
    size = 0
    for place, _, names in os.walk(folder):  # skips folders that are gone; rglob would raise
        for name in names:
            with suppress(OSError):
                size += Path(place, name).stat().st_size
    return size


def slug(text: str) -> str:
    """The last part of a path or Hub id as a folder name: `pucpr/gpt2-bio-pt` to `gpt2-bio-pt`."""
    last = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "run"


def number_names(name: str) -> Iterator[str]:
    """The name, then the name with -2, -3, ... appended, without end."""
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def checksum(file: Path) -> str:
    """xxh3-128 of a file, in hexadecimal."""
    digest, buffer = xxhash.xxh3_128(), memoryview(bytearray(1 << 18))
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def checksum_of(text: str) -> str:
    """xxh3-128 of a text, in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(text.encode())


def sign(record: Record) -> Record:
    """A record with a checksum of itself."""
    return {**record, CHECKSUM: checksum_of(render_json(record))}


def find_signed(signed: Record) -> Record | None:
    """What `sign` was given; None where it has been changed since."""
    record = {name: value for name, value in signed.items() if name != CHECKSUM}
    return record if signed.get(CHECKSUM) == checksum_of(render_json(record)) else None


def sync(file: Path) -> None:
    """Flush the content of a file to disk."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinities(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
