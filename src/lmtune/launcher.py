"""The key-value store of torchrun, which its processes share before they connect to each other."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]  # a name of its compiled part


RESTARTS = "TORCHELASTIC_RESTART_COUNT"


def count_processes() -> int:
    """How many processes a launcher has started; 1 without one."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def has_store() -> bool:
    """True for one of several processes that torchrun has started, unless it was told to keep no store for them."""
    return count_processes() > 1 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def open_store() -> Store:
    """The store of torchrun, which outlives its processes."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # a name of its compiled part

    environment = os.environ
    return TCPStore(
        environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), is_master=False, wait_for_workers=False
    )


def count_restarts() -> int:
    """How often torchrun has restarted the processes after a failure; each host counts from its own start."""
    return int(os.environ.get(RESTARTS) or 0)


def name_key(name: str) -> str:
    """A key of the store, different after each restart by torchrun."""
    return f"lmtune/{name}/{count_restarts()}"


def is_first_to_say(text: str) -> bool:
    """True for the first process that asks about a text, so that it is logged once for all of them."""
    if not has_store():
        return True
    try:
        return int(open_store().add(name_key(sha256(text.encode()).hexdigest()), 1)) == 1
    except (RuntimeError, ValueError):  # the store is gone with its host: better logged twice than never
        return True
