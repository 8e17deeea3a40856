"""run.json: the mark that a run puts into its folder before anything else, and the names that it claims for the run."""

import os
import secrets
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lmtune import __version__
from lmtune.errors import CheckpointError
from lmtune.storage import find_signed, load_json, render_json, sign, write_json

MARK = "run.json"


@dataclass(frozen=True, slots=True)
class Mark:
    """Which run made a folder, and which names in it belong to the run."""

    id: str
    """Random; the same in every manifest of the run, and in copies of its folder."""
    number: int
    """Counts the runs started in the same place: unlike a clock, it never goes back."""
    began: str
    """Date and time of the start, ISO 8601 with time zone."""
    folder: str
    """Where the run was started; a copy is elsewhere."""
    made_folders: tuple[str, ...] = ()
    """Folders created for it, the innermost first; they are removed with a run that has learned nothing."""
    made: tuple[str, ...] = ()
    """Names in the folder that the run has made or is about to make: nothing else in it is touched."""
    checksums: dict[str, str] | None = None
    """Checksums of records that are final: config.yaml, and results.json of a run that has completed."""
    lmtune: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """As it is written, with a checksum of its own."""
        lists = {"made": list(self.made), "made_folders": list(self.made_folders)}
        return sign({"about": ABOUT, **asdict(self), **lists})

    def with_names(self, names: tuple[str, ...]) -> "Mark":
        """The mark with further names that are the run's own."""
        return replace(self, made=(*self.made, *(name for name in names if name not in self.made)))

    def without_name(self, name: str) -> "Mark":
        """A copy without a name that the run has given up."""
        return replace(self, made=tuple(each for each in self.made if each != name))

    def with_checksum(self, name: str, value: str | None) -> "Mark":
        """A copy with the checksum of a record, or without one."""
        others = {key: each for key, each in (self.checksums or {}).items() if key != name}
        return replace(self, checksums=others if value is None else {**others, name: value})


ABOUT = (
    "lmtune made this folder for one run. What `made` names is the run's own, and is replaced or deleted as it goes on."
)


def new_mark(folder: Path, number: int, made_folders: list[Path], names: tuple[str, ...]) -> Mark:
    """The mark of a run that starts now, in an empty folder; `names` belong to it from the start."""
    began = datetime.now(UTC).isoformat(timespec="milliseconds")
    return Mark(secrets.token_hex(8), number, began, str(folder), tuple(map(str, made_folders)), names)


def find_mark(folder: Path) -> Mark | None:
    """The mark of a folder, None if there is none or it is not as it was written."""
    try:
        return parse_mark(load_json(folder / MARK))
    except (OSError, CheckpointError):
        return None


def parse_mark(content: dict[str, Any]) -> Mark | None:
    """A mark from what as_dict gave, by this version or another; None if it was changed since, or lacks a field."""
    record = find_signed(content)
    if record is None:
        return None
    known = {item.name: record[item.name] for item in fields(Mark) if item.name in record}
    try:
        return Mark(**known | {name: tuple(record.get(name, ())) for name in ("made", "made_folders")})
    except TypeError:
        return None


def place_mark(folder: Path, mark: Mark) -> None:
    """Mark a folder that has no mark yet; raise FileExistsError if another process was first."""
    file = folder / MARK
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(render_json(mark.as_dict(), indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        file.unlink()
        raise


def write_mark(folder: Path, mark: Mark) -> None:
    """Replace the mark of a folder."""
    write_json(folder / MARK, mark.as_dict())
