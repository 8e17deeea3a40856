"""The body of a request: JSON of a limited size, read as it is meant and no further."""

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import Request

from lmtune.serving.faults import FaultError, bad_request

SECONDS = 30.0
"""Seconds in which a body has to arrive."""
THROWN_AWAY = 32_000_000
"""Bytes beyond the limit that are still read."""
DEEPEST = 32
"""Lists and objects in one another."""


async def read_object(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object of a request. Raises a fault for a body that is too large, too slow, or no such object. limit: bytes."""
    return parse_object(await _read(request, limit))


async def _read(request: Request, limit: int) -> bytes:
    """What is too large is read and thrown away for a while: a client that is still writing would not see the answer."""
    size, body = 0, bytearray()
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= limit:
                    body += part
                elif size > limit + THROWN_AWAY:
                    break
    except TimeoutError as error:
        raise FaultError(408, f"The body did not come within {SECONDS:.0f} seconds.") from error
    if size > limit:
        raise FaultError(
            413, f"The body is too large: expected at most {limit:,} bytes.", headers={"Connection": "close"}
        )
    return bytes(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises a fault for anything else: NaN, numbers of thousands of digits, depths that no request needs."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise bad_request(
            f"The body is too deep: expected at most {DEEPEST} lists and objects in one another."
        ) from error
    except (ValueError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not JSON: {str(error).splitlines()[0]}.") from error
    if not isinstance(value, dict):
        raise bad_request(f"The body: expected a JSON object, found {type(value).__name__}.")
    _check(value, DEEPEST)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check(value: object, depth: int) -> None:
    """Raise a fault for depths that no request needs, and for halves of characters, which no text has."""
    if depth < 0:
        raise bad_request(f"The body is too deep: expected at most {DEEPEST} lists and objects in one another.")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise bad_request("A text holds half of a surrogate pair, which is no character.") from error
    elif isinstance(value, dict):
        for name, each in value.items():
            _check(name, depth)
            _check(each, depth - 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth - 1)
