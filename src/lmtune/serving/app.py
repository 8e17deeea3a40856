"""The routes.

GET  /                   the page
GET  /health             whether the server is there
GET  /metrics            for Prometheus
GET  /v1/models          the checkpoints
POST /v1/completions     texts, as OpenAI's API has them
POST /v2/runs            the same in an older wire format, with GET /v2/users/me
GET  /openapi.json       all of this for programs
"""

from __future__ import annotations

import logging
import re
import time
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from lmtune import __version__
from lmtune.config import ServeSettings
from lmtune.errors import LmtuneError
from lmtune.serving import completions, runs
from lmtune.serving.access import Access
from lmtune.serving.answer import Channel, Pieces, TextRequest, Work, check_limits, follow, prepare
from lmtune.serving.body import read_object
from lmtune.serving.completion_request import PARAMETERS, parse_request
from lmtune.serving.completions import Completion, Composer
from lmtune.serving.engine import QueueFullError, StoppingError
from lmtune.serving.faults import ErrorBody, FaultError, RunErrorBody, explain_fault
from lmtune.serving.gate import Gate
from lmtune.serving.job import PromptTokens
from lmtune.serving.metrics import Metrics
from lmtune.serving.models import Models, Served
from lmtune.serving.output import Piece
from lmtune.serving.runs import Run, User, build_run, parse_run

logger = logging.getLogger(__name__)


class Health(BaseModel):
    """The server is there."""

    status: str = "ok"


class Model(BaseModel):
    """A checkpoint."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "lmtune"
    context: int
    """Tokens of a prompt and its text together, at most."""
    examples: list[str]
    """Prompts to start with."""


class ModelList(BaseModel):
    """All checkpoints, the first of which is meant where none is named."""

    object: str = "list"
    data: list[Model]


class Service:
    """The handlers of the routes."""

    def __init__(self, models: Models, settings: ServeSettings, metrics: Metrics) -> None:
        self.models = models
        self.settings = settings
        self.metrics = metrics

    async def complete(self, request: Request) -> Response:
        """POST /v1/completions."""
        asked = parse_request(await read_object(request, self.settings.max_body))
        served = self._find(asked.model)
        work, pieces = await self._write(request, asked.text, served)
        composer = Composer(asked, served, work)
        if not asked.stream:
            return _as_json(await completions.collect(composer, pieces))
        # Errors of a request appear before its first piece, while the status can still be set.
        first = await anext(pieces)
        events = completions.render_stream(composer, _put_back(first, pieces))
        return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def run(self, request: Request) -> Response:
        """POST /v2/runs."""
        created = datetime.now(UTC)
        asked = parse_run(await read_object(request, self.settings.max_body))
        served = self.models.find(asked.pipeline) or self.models.first
        work, pieces = await self._write(request, asked.text, served)
        texts: dict[int, str] = {}
        async for piece in pieces:
            if isinstance(piece, Piece):
                texts[piece.index] = texts.get(piece.index, "") + piece.text
        written = [texts[index] for index in sorted(texts)]
        return _as_json(build_run(asked, written, served.decode(work.jobs[0].ids), work, created))

    def list_models(self) -> ModelList:
        """GET /v1/models."""
        return ModelList(
            data=[
                Model(id=each.name, created=each.created, context=each.context, examples=each.examples)
                for each in self.models
            ]
        )

    def _find(self, name: str | None) -> Served:
        served = self.models.find(name)
        if served is None:
            known = ", ".join(each.name for each in self.models)
            raise FaultError(
                404, f"There is no such model. Expected one of {known}.", param="model", code="model_not_found"
            )
        return served

    async def _write(self, request: Request, text: TextRequest, served: Served) -> tuple[Work, Pieces]:
        """Start generating the texts of a request. Raises a fault if it cannot be served."""
        began = time.monotonic()
        check_limits(text, self.settings)
        served.engine.check_room(text.texts)  # before the prompts are encoded
        if self.settings.log_prompts:
            logger.info("prompts: %r", text.prompts)
        channel = Channel()
        work = await run_sync(prepare, text, served, self.settings, channel.send)
        served.engine.submit(work.jobs)
        self.metrics.prompt_tokens.labels(served.name).inc(work.prompt_tokens)
        return work, self._measure(follow(channel, work, request), began, served, work)

    async def _measure(self, pieces: Pieces, began: float, served: Served, work: Work) -> Pieces:
        """The same pieces, timed and counted."""
        first = True
        try:
            async for piece in pieces:
                if first:
                    self.metrics.first.observe(time.monotonic() - began)
                    first = False
                yield piece
            if work.jobs[0].expired:
                work.notices.append("The time for this request was up: its text ends where it was.")
        finally:
            await pieces.aclose()  # frees the slots
            self.metrics.seconds.observe(time.monotonic() - began)
            self.metrics.written_tokens.labels(served.name).inc(work.written)


def _as_json(body: BaseModel) -> Response:
    return Response(body.model_dump_json(), media_type="application/json")


async def _put_back(first: Piece | PromptTokens, rest: Pieces) -> Pieces:
    try:
        yield first
        async for piece in rest:
            yield piece
    finally:
        await rest.aclose()


def build_app(models: Models, settings: ServeSettings, access: Access, metrics: Metrics) -> Gate:
    """The whole application, inside its gate."""
    service = Service(models, settings, metrics)
    api = FastAPI(title="lmtune", version=__version__, docs_url=None, redoc_url=None)
    page = files("lmtune.serving").joinpath("page.html").read_text(encoding="utf-8")
    allowed = {"Content-Security-Policy": render_policy(page)}

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers=allowed)

    @api.get("/health", response_model=Health)
    async def show_health() -> Health:
        return Health()

    @api.get("/metrics", response_class=PlainTextResponse, responses=_errors(401))
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @api.get("/v1/models", response_model=ModelList, responses=_errors(401))
    async def list_models() -> ModelList:
        return service.list_models()

    @api.get("/v2/users/me", response_model=User, responses=_errors(401, body=RunErrorBody))
    async def show_user() -> User:
        return User()

    faults = (400, 401, 404, 408, 413, 429, 500, 503)
    api.post(
        "/v1/completions",
        response_model=Completion,
        responses=_errors(*faults),
        openapi_extra=_takes(_completion_schema()),
    )(service.complete)
    api.post(
        "/v2/runs",
        response_model=Run,
        responses=_errors(*faults, 422, body=RunErrorBody),
        openapi_extra=_takes(_run_schema()),
    )(service.run)
    for kind in (HTTPException, FaultError, LmtuneError, QueueFullError, StoppingError, Exception):
        api.add_exception_handler(kind, _explain)
    return Gate(api, access, metrics, settings.max_seconds)


async def _explain(request: Request, error: Exception) -> Response:
    """Any error as JSON. Starlette raises an unexpected one again, for the gate to log."""
    fault = _name_status(error) if isinstance(error, HTTPException) else explain_fault(error)
    body = fault.render(request.url.path)
    return Response(body, fault.status, headers=dict(fault.headers), media_type="application/json")


def _name_status(error: HTTPException) -> FaultError:
    """The fault for a path or method that does not exist."""
    messages = {
        404: "There is no such path. Texts are continued by POST /v1/completions; there is no chat.",
        405: "This path does not take that method.",
    }
    return FaultError(error.status_code, messages.get(error.status_code, error.detail), headers=error.headers or {})


def _errors(*statuses: int, body: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": body, "description": "An error."} for status in statuses}


def _takes(schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _completion_schema() -> dict[str, Any]:
    parameters = {name: parameter.schema for name, parameter in PARAMETERS.items()}
    return {"type": "object", "properties": parameters, "additionalProperties": False}


def _run_schema() -> dict[str, Any]:
    properties = {"pipeline_id": {"type": "string"}, "data": runs.DATA_SCHEMA}
    return {"type": "object", "properties": properties, "required": ["pipeline_id", "data"]}


def render_policy(page: str) -> str:
    """A Content-Security-Policy that lets the page run its own script and contact its own server, and nothing else."""
    hashes = {
        kind: f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
        for kind in ("script", "style")
        for text in re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
    }
    return (
        f"default-src 'none'; script-src {hashes.get('script')}; style-src {hashes.get('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
