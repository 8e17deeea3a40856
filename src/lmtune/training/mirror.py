"""A folder that only the disk of rank 0 holds, for the ranks of other hosts: a copy, for as long as it is needed."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lmtune.runs import MANIFEST
from lmtune.training.distributed import agree, gather, is_first, is_joined
from lmtune.units import render_bytes

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

PIECE = 64 << 20
"""Bytes of a file that travel at once."""


@contextmanager
def mirrored(checkpoint: Path, device: torch.device) -> Iterator[Path]:
    """Where this rank finds a sealed checkpoint of rank 0: there, or in a copy that its host keeps meanwhile.

    All ranks come here. Hosts that see the folder of rank 0, on a shared disk, take it from there; of the others, one rank
    writes a copy below TMPDIR for all. device: that of the communication backend.
    """
    if not is_joined():
        yield checkpoint
        return
    seal = agree((checkpoint / MANIFEST).read_bytes)
    lacking = gather(None if _read(checkpoint / MANIFEST) == seal else _name_host())
    if not any(lacking):
        yield checkpoint
        return
    rank = int(os.environ["RANK"])
    writes = lacking[rank] is not None and lacking.index(lacking[rank]) == rank
    folder = Path(tempfile.mkdtemp(prefix="lmtune-")) if writes else None
    try:
        _send(checkpoint, folder, device)
        copies = gather(folder)
        source = copies[lacking.index(lacking[rank])] if lacking[rank] is not None else checkpoint
        assert source is not None
        yield source
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _send(source: Path, target: Path | None, device: torch.device) -> None:
    """Send the files of a folder of rank 0 to all ranks; those with a target write them there."""
    files = agree(lambda: [(str(file.relative_to(source)), file.stat().st_size) for file in _list_files(source)])
    if is_first():
        amount = render_bytes(sum(size for _, size in files))
        logger.info("%s goes to the hosts that do not see the run folder: %s", source.name, amount)
    for name, size in files:
        if target is not None:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
        place = source / name if is_first() else Path(os.devnull) if target is None else target / name
        with place.open("rb" if is_first() else "wb") as stream:
            _send_file(stream, size, device)


def _send_file(stream: BinaryIO, size: int, device: torch.device) -> None:
    """Read `size` bytes from the stream on rank 0, write them to that of each other rank."""
    import torch

    for start in range(0, size, PIECE):
        count = min(PIECE, size - start)
        if is_first():
            piece = torch.frombuffer(bytearray(stream.read(count)), dtype=torch.uint8).to(device)
        else:
            piece = torch.empty(count, dtype=torch.uint8, device=device)
        torch.distributed.broadcast(piece, src=0)
        if not is_first():
            stream.write(piece.cpu().numpy().data)


def _list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None


def _name_host() -> str:
    """Equal for the ranks of one host; torchrun numbers the hosts that it has started ranks on."""
    return f"{socket.gethostname()} {os.environ.get('GROUP_RANK', '')}"
