"""A folder of models and data sets of the Hub that is carried to a machine without a network.

    hub/        models as huggingface_hub keeps them, without links, so that every disk and every archive takes them
    datasets/   data sets as datasets prepares them
    lmtune-fetch.sha256     the checksum of each file; sha256sum --check reads it, and it marks the folder

That is Hugging Face's own layout: with HF_HOME=folder every library reads it, and lmtune goes on the network no more.
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
"""Hexadecimal digits of a SHA-1; a SHA-256 has 64."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The size and hash of a file, according to the Hub."""

    bytes: int
    checksum: str
    """SHA-256 of a large file, in 64 digits; of others git's own SHA-1, in 40."""


def expect(entry: "RepoFile") -> Expected:
    """A file as the Hub lists it."""
    return Expected(entry.size, entry.blob_id if entry.lfs is None else entry.lfs.sha256)


def open_folder(output: str) -> Path:
    """The folder that is filled, made and marked; what of it has been damaged is removed, to be fetched again.

    Raises ConfigError for a folder that cannot be made, or holds anything that lmtune fetch has not put there.
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
    """Compare files below `root` with what the Hub says of them, by name; one that differs is fetched again, once.

    Raises ConfigError where it differs then.
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
    """Write the checksums of all files; return path in the folder to their bytes and sha256."""
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
    """A file of a model by itself; of a data set all that it was prepared to, which comes to be as a whole."""
    if file.is_relative_to(folder / "datasets"):
        shutil.rmtree(file.parent, ignore_errors=True)
    else:
        file.unlink(missing_ok=True)


def _drop_links(folder: Path) -> None:
    """Put each file where a link to it stands, and remove what libraries need only while they fetch."""
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
    """A file as the Hub would list it."""
    return Expected(file.stat().st_size, _checksum(file, git=len(like.checksum) == GIT_DIGITS))


def _checksum(file: Path, *, git: bool = False) -> str:
    """SHA-256 of a file in hexadecimal, or the SHA-1 by which git knows it."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode()) if git else hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
