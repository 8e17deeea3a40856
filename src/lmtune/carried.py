"""A folder of Hub models and data sets, to be copied to a machine without a network.

    hub/        models in huggingface_hub's layout, without links, so that any file system or archive can hold them
    datasets/   data sets as datasets prepares them
    lmtune-fetch.sha256     the checksum of each file, for sha256sum --check; its presence marks the folder

This is Hugging Face's own layout: with HF_HOME=folder every library reads it, and lmtune stays offline.
"""

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.environment import CARRIED
from lmtune.errors import ConfigError
from lmtune.paths import GivenPath, show
from lmtune.patience import saying
from lmtune.storage import Record, write_text

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

logger = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
GIT_DIGITS = 40
"""Hex digits of a SHA-1; a SHA-256 has 64."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Size and checksum of a file according to the Hub."""

    bytes: int
    checksum: str
    """SHA-256 (64 hex digits) of a file in LFS, else git's blob SHA-1 (40)."""


def expect(entry: "RepoFile") -> Expected:
    """The expected size and checksum of a file that the Hub lists."""
    return Expected(entry.size, entry.blob_id if entry.lfs is None else entry.lfs.sha256)


def open_folder(output: str) -> Path:
    """Create and mark the output folder; in an existing one, remove damaged files so that they are fetched again.

    Raises ConfigError if it cannot be created, or holds files that lmtune fetch did not put there.
    """
    given = GivenPath("output", output)
    folder = given.anchor()
    given.check_can_make(folder)
    names = [entry.name for entry in given.list_folder(folder)]
    if names and CARRIED not in names:
        raise given.refuse(
            "a new folder, an empty one, or one that lmtune fetch has filled",
            f"others' files in it ({show(names[0])}). Nothing of it was touched",
            "Give another output=.",
        )
    given.make_folder(folder)
    if not names:
        write_text(folder / CARRIED, "")
    for file in _find_damaged(folder):
        logger.warning("%s is not as it was fetched; it is fetched again", file.relative_to(folder))
        _remove(folder, file)
    return folder


def check_files(root: Path, expected: Mapping[str, Expected], fetch: Callable[[str], object]) -> None:
    """Compare files below `root` with their expected size and checksum, by name; one that differs is fetched again, once.

    Raises ConfigError if it still differs.
    """
    for name, wanted in expected.items():
        if _identify(root / name, wanted) != wanted:
            fetch(name)
            found = _identify(root / name, wanted)
            if found != wanted:
                raise ConfigError(
                    f"{show(name)} came twice as {found.bytes:,} bytes with the checksum {found.checksum}; expected "
                    f"{wanted.bytes:,} with {wanted.checksum}, as the Hub says. Try again later, or through another network."
                )


def seal(folder: Path) -> dict[str, Record]:
    """Write the checksums of all files; return their bytes and sha256 by relative path."""
    with saying("computing checksums"):
        _drop_links(folder)
        known = {
            file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _checksum(file)}
            for file in sorted(_list_files(folder))
        }
    write_text(folder / CARRIED, "".join(f"{facts['sha256']}  {name}\n" for name, facts in known.items()))
    return known


def _find_damaged(folder: Path) -> list[Path]:
    lines = (folder / CARRIED).read_text(encoding="utf-8").splitlines()
    known = {folder / name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    with saying("checking what is there"):
        return [file for file, digest in known.items() if not file.is_file() or _checksum(file) != digest]


def _remove(folder: Path, file: Path) -> None:
    """Remove a file of a model; for a data set the file's whole folder, since datasets prepares it as a unit."""
    if file.is_relative_to(folder / "datasets"):
        shutil.rmtree(file.parent, ignore_errors=True)
    else:
        file.unlink(missing_ok=True)


def _drop_links(folder: Path) -> None:
    """Replace each link by the file it points to, and remove what libraries need only while downloading."""
    for link in [file for file in (folder / "hub").glob("*--*/snapshots/**/*") if file.is_symlink()]:
        target = link.resolve()
        aside = link.with_name(f".{link.name}.lmtune")
        aside.hardlink_to(target)
        aside.replace(link)
    blobs = (folder / "hub").glob("*--*/blobs")
    _remove_all([*blobs, folder / "hub" / ".locks", *(folder / "datasets").rglob("*.lock")])


def _remove_all(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _list_files(folder: Path) -> Iterator[Path]:
    parts = ("hub/*--*/refs", "hub/*--*/.no_exist", "hub/*--*/snapshots", "datasets")
    return (file for part in parts for each in folder.glob(part) for file in each.rglob("*") if file.is_file())


def _identify(file: Path, like: Expected) -> Expected:
    """Size and checksum of a local file, with the kind of checksum that `like` has."""
    return Expected(file.stat().st_size, _checksum(file, git=len(like.checksum) == GIT_DIGITS))


def _checksum(file: Path, *, git: bool = False) -> str:
    """SHA-256 of a file in hexadecimal, or the SHA-1 by which git knows it."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode()) if git else hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
