"""Error responses to clients, in the format of OpenAI's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from lmtune.errors import LmtuneError, ModelError
from lmtune.serving.engine import QueueFullError, StoppingError

RETRY_SECONDS = 2


class Detail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """An error as OpenAI's API words it."""

    error: Detail


class RunErrorBody(BaseModel):
    """An error of /v2."""

    detail: Detail


@dataclass(slots=True)
class FaultError(Exception):
    """An answer with a status other than 200."""

    status: int
    message: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def render(self, path: str) -> str:
        """The body, as clients of that path read it."""
        detail = Detail(message=self.message, type=self.kind, param=self.param, code=self.code)
        body = RunErrorBody(detail=detail) if path.startswith("/v2/") else ErrorBody(error=detail)
        return body.model_dump_json()


def bad_request(message: str, param: str | None = None, code: str | None = None) -> FaultError:
    """Status 400."""
    return FaultError(400, message, param=param, code=code)


def explain_fault(error: BaseException) -> FaultError:
    """Any error as one that a client may see: no internals, no traceback."""
    retry = {"Retry-After": str(RETRY_SECONDS)}
    if isinstance(error, FaultError):
        return error
    if isinstance(error, QueueFullError):
        message = f"Too many texts wait already. Try again in {RETRY_SECONDS} seconds."
        return FaultError(429, message, "rate_limit_error", code="queue_full", headers=retry)
    if isinstance(error, StoppingError):
        return FaultError(503, "The server is about to stop.", "server_error", code="stopping", headers=retry)
    if isinstance(error, ModelError):
        return FaultError(500, str(error), "server_error", code="model")
    if isinstance(error, LmtuneError):
        return bad_request(str(error).replace("generation.*: ", "").replace("generation.", ""))
    if "memory" in str(error):
        return FaultError(
            503, "There was not enough memory for this request.", "server_error", code="memory", headers=retry
        )
    return FaultError(500, "The request could not be answered; the log of the server says more.", "server_error")
