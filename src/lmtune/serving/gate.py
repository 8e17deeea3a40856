"""Around all routes: the token, the time a request may take, errors as JSON, what is counted and what is logged."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from lmtune.errors import describe_error
from lmtune.serving.access import Access
from lmtune.serving.answer import ClientGoneError
from lmtune.serving.faults import FaultError, explain_fault
from lmtune.serving.metrics import Metrics

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

GRACE = 30.0
"""Seconds for the body and for a slow reader, beyond what the text may take."""
GONE = 499
"""Status in the log and in the counts for a client that has gone; nothing is sent."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Gate:
    """An ASGI app around another."""

    def __init__(self, app: App, access: Access, metrics: Metrics, seconds: float) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics
        self._seconds = seconds + GRACE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        began = time.monotonic()
        reply = _Reply(send)
        try:
            self._access.check(scope["path"], _find_header(scope, b"authorization"))
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, reply.send)
        except Exception as error:
            await self._explain(scope["path"], error, reply)
        finally:
            self._metrics.note(scope["path"], reply.status)
            seconds = time.monotonic() - began
            logger.info("%s %s %s %.2f s", scope["method"], quote(scope["path"]), reply.status, seconds)

    async def _explain(self, path: str, error: Exception, reply: _Reply) -> None:
        """Say what went wrong, if nothing has been said yet."""
        if isinstance(error, (ClientGoneError, OSError)):  # TimeoutError too: a reader too slow for its text
            reply.status = GONE
            return
        fault = explain_fault(error)
        if fault.status == 500:
            trace = error if os.environ.get("LMTUNE_DEBUG") == "1" else None
            logger.error("%s could not be answered: %s", quote(path), describe_error(error), exc_info=trace)
        if not reply.status:
            await reply.say(path, fault)


class _Reply:
    """The response to a client."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        """0 before an answer has begun."""

    async def send(self, message: Message) -> None:
        """Pass a message on, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            message["headers"] = [*message.get("headers", []), *own]
        await self._send(message)

    async def say(self, path: str, fault: FaultError) -> None:
        """Send a fault."""
        body = fault.render(path).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **fault.headers}
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": fault.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": body})


def _find_header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)
