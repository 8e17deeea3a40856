"""The HTTP server: it listens, and after a signal finishes what was begun and stops."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from lmtune.config import ServeSettings
from lmtune.errors import ConfigError, first_line
from lmtune.serving.gate import Gate

BACKLOG = 1024
"""Connections that may wait to be accepted."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to lmtune."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers: uvicorn's own would raise the signal again at the end."""
        yield


def build_server(app: Gate, settings: ServeSettings) -> Server:
    """A server for the app that does not listen yet."""
    return Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )


def open_socket(settings: ServeSettings) -> socket.socket:
    """A socket that listens. Raises ConfigError for an address or a port that is not available."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"serve.host={settings.host} serve.port={settings.port}: expected an address of this machine and a free port, found: "
            f"{first_line(error)}. serve.port=0 takes any free one."
        ) from error


def serve(server: Server, listening: socket.socket, stop_taking: Callable[[], None]) -> None:
    """Answer until a signal comes; then finish what was begun. A second signal ends that too."""

    def end(number: int, frame: FrameType | None) -> None:
        stop_taking()
        server.force_exit = server.should_exit
        server.should_exit = True

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # nohup
            signal.signal(number, end)
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
