"""Compressed files as streams whose end is checked: a part of one never passes for the whole.

    with open_unpacked(Path("corpus.jsonl.zst")) as stream:
        stream.read(16_000_000)

Libraries believe the end of a file: some return what there is of a frame that breaks off, some pass over what follows the
first damaged member. Here each member has to be complete, with nothing but zeros behind the last.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import zstandard

from lmtune.data.remote import RemoteFile, TextFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LARGEST_WINDOW = 2**31
"""Bytes that a zst file may look back, as `zstd --long=31` writes them; memory is taken only as far as it is used."""
MOST_UNPACKED = 1_000_000
"""Bytes of content that one step makes."""


Take = Callable[[], bytes]
"""Packed bytes that no decompressor has seen yet; raises EOFError where there are none."""


class Decompressor(Protocol):
    """The interface that all decompressors of one member share."""

    @property
    def eof(self) -> bool:
        """True at the end of the member."""

    @property
    def unused_data(self) -> bytes:
        """Packed bytes behind that end."""


D = TypeVar("D", bound=Decompressor)


def _step_limited(member: bz2.BZ2Decompressor | lzma.LZMADecompressor, take: Take) -> bytes:
    return member.decompress(take() if member.needs_input else b"", MOST_UNPACKED)


def _step_deflated(member: "zlib._Decompress", take: Take) -> bytes:
    made = member.decompress(member.unconsumed_tail, MOST_UNPACKED)  # what is left of the step before comes first
    return made or member.decompress(take(), MOST_UNPACKED)


def _step_whole(member: "zstandard.ZstdDecompressionObj", take: Take) -> bytes:
    return member.decompress(take())


class Packing(NamedTuple, Generic[D]):
    """One way of compressing."""

    build: Callable[[], D]
    """A decompressor for one member."""
    step: Callable[[D, Take], bytes]
    """The next content that a decompressor makes, perhaps none."""
    read: int = 65_536
    """Packed bytes given at a time."""
    magic: bytes = b""
    """What a member starts with, where the library has no words for anything else."""


PACKINGS: dict[str, Packing[Any]] = {
    ".gz": Packing(lambda: zlib.decompressobj(wbits=31), _step_deflated, magic=b"\x1f\x8b"),
    ".bz2": Packing(bz2.BZ2Decompressor, _step_limited),
    ".xz": Packing(lzma.LZMADecompressor, _step_limited),
    # Takes no limit for what it makes at once: 4 kB of zst hold 128 MB at most.
    ".zst": Packing(
        lambda: zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj(), _step_whole, read=4096
    ),
}
UNPACKING_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)
"""What a packed file raises that is cut off, damaged, or none."""


def open_unpacked(file: TextFile) -> IO[bytes]:
    """A binary stream of the content, compression undone. Reading it raises one of UNPACKING_ERRORS; EOFError: cut off."""
    packing = PACKINGS.get(file.suffix.lower())
    if packing is not None:
        return io.BufferedReader(_Unpacked(file, packing), MOST_UNPACKED)
    return io.BufferedReader(file.open_whole(), MOST_UNPACKED) if isinstance(file, RemoteFile) else file.open("rb")


class _Unpacked(io.RawIOBase):
    """Members of a packed file, one after another."""

    def __init__(self, file: TextFile, packing: Packing[Any]) -> None:
        self._packed = file.open_whole() if isinstance(file, RemoteFile) else file.open("rb", buffering=0)
        self._packing = packing
        self._member: Decompressor | None = None
        self._members = 0
        self._waiting = b""
        """Packed bytes that no decompressor has seen."""
        self._made = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._packed.close()
        super().close()

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer as far as one step goes; 0 at an end that is one."""
        while not self._made:
            made = self._step()
            if made is None:
                return 0
            self._made = memoryview(made)
        free = memoryview(buffer)
        size = min(len(free), len(self._made))
        free[:size] = self._made[:size]
        self._made = self._made[size:]
        return size

    def _step(self) -> bytes | None:
        """Content of the next packed bytes, perhaps none; None behind the last member."""
        member = self._member or self._open_member()
        if member is None:
            return None
        made = self._packing.step(member, self._take)
        if member.eof:
            self._waiting = member.unused_data
            self._member = None
        return made

    def _open_member(self) -> Decompressor | None:
        """Start the next member; None at the end of the file, where zeros may fill up a block of a tape."""
        while not self._waiting.lstrip(b"\0"):
            self._waiting = self._packed.read(self._packing.read) or b""
            if not self._waiting:
                if not self._members:
                    raise EOFError("it is empty")
                return None
        if self._members:
            self._waiting = self._waiting.lstrip(b"\0")
        magic = self._packing.magic[: len(self._waiting)]
        if not self._waiting.startswith(magic):
            raise OSError("Not a gzipped file" if not self._members else "something else follows what was packed")
        self._member = self._packing.build()
        self._members += 1
        return self._member

    def _take(self) -> bytes:
        """Packed bytes that no one has seen, and at least one of them."""
        data = self._waiting or self._packed.read(self._packing.read)
        self._waiting = b""
        if not data:
            raise EOFError("it breaks off before the end of what was packed")
        return data
