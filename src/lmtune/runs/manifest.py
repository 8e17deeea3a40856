"""Sealed folders, complete or absent: a manifest, written last, has the size and checksum of every file."""

import json
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lmtune.errors import CheckpointError
from lmtune.storage import CHECKSUM, checksum, find_signed, load_json, sign, sync, sync_folder, write_json

MANIFEST = "manifest.json"
NOT_OF_MODEL = frozenset([".md", ".pt", ".pth", ".npz"])


def seal(folder: Path, manifest: dict[str, Any], private: frozenset[str] = frozenset()) -> None:
    """Write manifest.json, with the size and checksum of every file and its own checksum, once all files are on disk.

    private: names of files that hold people's text, which only their owner may read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    for file in paths:
        # safetensors writes 0600, which another user (a container, a web server) cannot read
        file.chmod(0o600 if file.name in private else 0o644)
    with ThreadPoolExecutor(1) as disk:  # the disk writes while the processor reads
        written = [disk.submit(sync, file) for file in paths]
        files = {
            file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, CHECKSUM: checksum(file)}
            for file in paths
        }
        for each in written:
            each.result()
    write_json(folder / MANIFEST, sign({**manifest, "files": files}))
    sync_folder(folder)


def load_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None if it is missing or not as it was written."""
    try:
        return find_signed(load_json(folder / MANIFEST))
    except (OSError, CheckpointError):
        return None


def find_fault(folder: Path) -> str | None:
    """What is wrong with a sealed folder; None if every file is there with its size and checksum."""
    manifest = load_manifest(folder)
    if manifest is None:
        return f"{MANIFEST} is missing or unreadable, or not as it was written"
    return _find_fault(folder, manifest["files"])


def find_damage(folder: Path, pattern: str = "*") -> str | None:
    """What is wrong with the model files of a folder that was sealed; None if nothing, or if it never was.

    Pages, which people may edit, and training state, from which no model is loaded, are ignored.
    pattern: of the names of the files to check.
    """
    manifest = load_manifest(folder)
    if manifest is None:
        return f"{MANIFEST} is not as it was written" if _was_sealed(folder / MANIFEST) else None
    of_model = {name: each for name, each in manifest["files"].items() if Path(name).suffix not in NOT_OF_MODEL}
    files = {name: each for name, each in of_model.items() if fnmatchcase(name, pattern)}
    return _find_fault(folder, files)


def is_edited(folder: Path, name: str) -> bool:
    """True for a file of a sealed folder that exists and has changed since."""
    manifest = load_manifest(folder) or {"files": {}}
    return (
        name in manifest["files"]
        and (folder / name).is_file()
        and _find_fault(folder, {name: manifest["files"][name]}) is not None
    )


def _was_sealed(file: Path) -> bool:
    """True for a manifest of ours, damaged or not; other programs have files of that name too."""
    try:
        text = file.read_bytes().decode(errors="replace")
    except OSError:
        return False
    try:
        return CHECKSUM in text or not isinstance(json.loads(text), dict)
    except ValueError:
        return True


def _find_fault(folder: Path, files: dict[str, Any]) -> str | None:
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["bytes"]:
            return f"{name} has {file.stat().st_size} bytes, expected {expected['bytes']}"
        if checksum(file) != expected[CHECKSUM]:
            return f"{name} does not have the checksum it was saved with"
    return None


def find_surplus(folder: Path, manifest: dict[str, Any]) -> str | None:
    """A file or link in a sealed folder that its manifest does not name, or None."""
    known = {*manifest["files"], MANIFEST}
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not _is_plain_folder(path))
    return next((name for name in names if name not in known), None)


def _is_plain_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
