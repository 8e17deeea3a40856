"""Paths that users type: what exists there, in words, and an LmtuneError if that cannot be determined.

Every key that takes a path goes through here. Path.exists() and the like raise if a folder may not be entered, a name is too
long, links form a cycle or `~nobody` is no user; and opening a pipe or a device may block forever.

    given = GivenPath("ckpt", "~/run", CheckpointError)
    folder = given.expand()
    if not given.is_folder(folder):
        raise given.refuse("a run folder", describe(folder), "Check the path.")
"""

import difflib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lmtune.errors import ConfigError, LmtuneError

SHOWN_CHARS = 160
"""Characters of a path in a message; a longer one keeps its ends."""
NAME_BYTES, PATH_BYTES = 255, 4095
"""Limits of file systems for one name, and of Linux for a whole path."""
MAX_TEXT_BYTES = 100_000_000
"""Maximum size of a text that is read in one piece."""
NEAR = 0.75
"""How similar a name has to be (ratio of difflib) to be suggested for another."""
CIRCLE = "a link that leads round in a circle"
GONE = frozenset([errno.ENOENT, errno.ENOTDIR, errno.ESRCH])
"""Nothing exists there, or no longer: processes come and go below /proc."""


class Kind(Enum):
    """The kind of a path, as messages call it."""

    FILE = "a file"
    FOLDER = "a folder"
    PIPE = "a pipe"
    SOCKET = "a socket"
    DEVICE = "a device"
    BROKEN_LINK = "a link to nothing"
    NOTHING = "nothing"


_TESTS: tuple[tuple[Callable[[int], bool], Kind], ...] = (
    (stat.S_ISREG, Kind.FILE),
    (stat.S_ISDIR, Kind.FOLDER),
    (stat.S_ISFIFO, Kind.PIPE),
    (stat.S_ISSOCK, Kind.SOCKET),
)


@dataclass(frozen=True, slots=True)
class GivenPath:
    """A path as typed after `key=`, and the class of errors about it, which its methods raise.

    They take this path, or paths below it.
    """

    key: str
    given: str
    error: type[LmtuneError] = ConfigError

    def __str__(self) -> str:
        return f"{self.key}={show(self.given)}"

    def refuse(self, expected: str, found: str, remedy: str) -> LmtuneError:
        """The error, to be raised."""
        return self.error(f"{self}: expected {expected}, found {found}. {remedy}")

    def expand(self) -> Path:
        """The path with `~` and `~user` expanded. An existing name that begins with ~ and is no user's stays as it is.

        Refused: an empty path, a character that no path can have, a user without a home.
        """
        if not self.given:
            raise self.refuse("a path", "nothing", f"Say where, or leave {self.key}= out.")
        if not _is_possible(self.given):
            raise self.refuse("a path", "a character that no path can have", "Check the path.")
        expanded = os.path.expanduser(self.given)  # noqa: PTH111  Path.expanduser raises where this leaves the path as it was
        user = self.given.split("/")[0]
        if not expanded.startswith("~") or (user != "~" and _is_there(Path(user))):
            return Path(expanded)
        reason = "HOME is not set and this user has no home" if user == "~" else f"there is no user {show(user[1:])}"
        raise self.refuse("a path", f"{show(user)}, but {reason}", "Write the folder out.")

    def anchor(self) -> Path:
        """The expanded path, made absolute, links kept. Refused: a working directory that was removed."""
        path = self.expand()
        try:
            return path if path.is_absolute() else Path.cwd() / path
        except OSError as fault:
            raise self.refuse(
                "a folder to start from",
                "that the one where you stand has been removed",
                "Change to another, or give a whole path.",
            ) from fault

    def find_kind(self, path: Path) -> Kind:
        """The kind of `path`, following links. Refused: see explain."""
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError) as fault:
            number = getattr(fault, "errno", None)
            if number not in GONE and number != errno.ELOOP:
                raise self._refuse_to_look(path, fault) from fault
            return Kind.BROKEN_LINK if number == errno.ELOOP or _is_link(path) else Kind.NOTHING
        return next((kind for test, kind in _TESTS if test(mode)), Kind.DEVICE)

    def is_file(self, path: Path) -> bool:
        """True for a file, also through links; see find_kind."""
        return self.find_kind(path) is Kind.FILE

    def is_folder(self, path: Path) -> bool:
        """True for a folder, also through links; see find_kind."""
        return self.find_kind(path) is Kind.FOLDER

    def check_file(self, path: Path, expected: str) -> None:
        """Refuse anything but a file: reading a pipe or a device may block."""
        kind = self.find_kind(path)
        if kind is not Kind.FILE:
            is_there = kind not in (Kind.NOTHING, Kind.BROKEN_LINK)
            raise self.refuse(expected, describe(path), "Name a file on a disk." if is_there else "Check the path.")

    def read_text(self, path: Path, expected: str) -> str:
        """Read UTF-8 text, no further than the size of the file: those below /proc have size 0, and may never end.

        Refused: what is no file, does not open or decode, or has more than MAX_TEXT_BYTES.
        """
        self.check_file(path, expected)
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if size > MAX_TEXT_BYTES:
                    raise self.refuse(f"at most {MAX_TEXT_BYTES:,} bytes", f"{size:,}", "Give a part of it.")
                return stream.read(size).decode("utf-8")
        except UnicodeDecodeError as fault:
            place = f"byte {fault.object[fault.start]:#04x} at offset {fault.start:,}"
            raise self.refuse(expected, place, "Convert it to UTF-8.") from fault
        except OSError as fault:
            raise self._refuse_to_look(path, fault) from fault

    def list_folder(self, folder: Path) -> list["os.DirEntry[str]"]:
        """The entries of a folder, sorted by name; none if it is gone or no folder. Refused: one that may not be read."""
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (OSError, ValueError) as fault:
            if getattr(fault, "errno", None) in GONE:
                return []
            raise self._refuse_to_look(folder, fault) from fault

    def walk_files(self, folder: Path) -> Iterator[Path]:
        """All files below a folder. Links to folders are yielded, not followed, so that this ends.

        Refused: a folder that may not be read, at any depth.
        """
        waiting = [folder]
        while waiting:
            for entry in self.list_folder(waiting.pop()):
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    yield Path(entry.path)

    def resolve(self, path: Path) -> Path:
        """Absolute and without links. Refused: a cycle of links."""
        try:
            return path.resolve()
        except (OSError, ValueError, RuntimeError) as fault:  # until Python 3.13 a cycle is a RuntimeError
            raise self._refuse_to_look(path, fault) from fault

    def check_can_make(self, folder: Path) -> None:
        """Refuse a folder that is not writable or cannot be created. Creates nothing. folder: an absolute path."""
        kind = self.find_kind(folder)
        if kind is Kind.NOTHING:
            folder = next(filter(_is_there, folder.parents))
            kind = self.find_kind(folder)
        remedy = f"Give another {self.key}=."
        if kind is not Kind.FOLDER:
            raise self.refuse("a folder that can be made", f"that {show(folder)} is {describe(folder)}", remedy)
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise self.refuse("a folder to write in", f"that this user may not write in {show(folder)}", remedy)

    def make_folder(self, folder: Path) -> Path:
        """Create the folder and its parents if missing; return it. Refused: one that cannot be created."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as fault:
            found = describe(folder)
            reason = explain(folder, fault) if found == Kind.NOTHING.value else found
            raise self.refuse("a folder that can be made", reason, f"Give another {self.key}=.") from fault
        return folder

    def _refuse_to_look(self, path: Path, fault: BaseException) -> LmtuneError:
        return self.refuse("a path to follow", explain(path, fault), "Name another path, or mend that.")


def describe(path: Path) -> str:
    """The kind of a path, in words that follow `found`. Never raises."""
    given = GivenPath("path", str(path))
    try:
        kind = given.find_kind(path)
        if kind is Kind.BROKEN_LINK:
            return _describe_link(path)
        above = next(filter(_is_there, path.parents), path) if kind is Kind.NOTHING else path
        is_reachable = above in (path, Path()) or given.is_folder(above)
        return kind.value if is_reachable else f"nothing, since {show(above)} is no folder"
    except (LmtuneError, OSError) as fault:
        return explain(path, fault.__cause__ or fault)


def explain(path: Path, fault: BaseException) -> str:
    """Why a path cannot be looked at, in words that follow `found`."""
    number = getattr(fault, "errno", None)
    if number == errno.ENAMETOOLONG:
        longest = max(len(os.fsencode(part)) for part in path.parts)
        if longest > NAME_BYTES:
            return f"a name of {longest:,} bytes, where file systems take {NAME_BYTES}"
        return f"a path of {len(os.fsencode(path)):,} bytes, where the system takes {PATH_BYTES:,}"
    if number in (errno.EACCES, errno.EPERM):
        return f"{show(_find_barrier(path))}, which this user may not look into"
    if number == errno.ELOOP or isinstance(fault, RuntimeError):
        return CIRCLE
    if isinstance(fault, ValueError):
        return "a character that no path can have"
    return f"that {show(path)} cannot be looked at ({getattr(fault, 'strerror', None) or fault})"


def find_near(path: Path) -> str | None:
    """The most similar name in the folder of a path that does not exist; None if none is similar, or none can be listed."""
    try:
        beside = sorted(each.name for each in path.parent.iterdir())
    except (OSError, ValueError):
        return None
    return next(iter(difflib.get_close_matches(path.name, beside, n=1, cutoff=NEAR)), None)


def show(path: object) -> str:
    """A path for a message: in one line, shortened to its ends if long, unprintable characters escaped."""
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(path))
    half = SHOWN_CHARS // 2
    return text if len(text) <= SHOWN_CHARS else f"{text[:half]}...{text[-half:]}"


def shorten(path: Path) -> Path:
    """A path relative to the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _describe_link(path: Path) -> str:
    try:
        path.stat()
    except OSError as fault:
        if fault.errno == errno.ELOOP:
            return CIRCLE
    return f"a link to {show(path.readlink())}, which is not there"


def _is_possible(given: str) -> bool:
    """False for a NUL, a lone surrogate, or a non-ASCII character in an ASCII locale."""
    try:
        return b"\0" not in os.fsencode(given)
    except UnicodeEncodeError:
        return False


def _find_barrier(path: Path) -> Path:
    """The outermost part of a forbidden path that may not be looked into."""
    whole = [*reversed(path.parents), path]
    for above, part in zip([path, *whole], whole, strict=False):
        try:
            part.stat()
        except OSError:
            # A link below /proc is forbidden by itself; any other part because of the folder that it lies in.
            return part if above in (path, Path()) or _is_link(part) else above
    return path


def _is_there(path: Path) -> bool:
    """True for anything with that name, including a broken link; False if it cannot be looked at."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _is_link(path: Path) -> bool:
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except (OSError, ValueError):
        return False
