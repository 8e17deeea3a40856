"""POST /v2/runs and GET /v2/users/me: the wire format of the hosted API that GPT-2 large was offered through.

    {"pipeline_id": "pipeline_1", "data": ["Era uma vez", {"response_length": 64, "remove_input": true, "do_sample": true}]}

The answer's `result_preview` is a text that holds JSON: the text, or a list of texts where several were asked for.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from lmtune.config.ranges import Range
from lmtune.serving.answer import TextRequest, Work
from lmtune.serving.completion_request import OWN
from lmtune.serving.faults import FaultError
from lmtune.serving.parameters import GENERATION, SWITCH, Parameter, check_parameters, number_parameter

NEW_TOKENS = 20
"""New tokens of generate, unless told otherwise."""

KEYWORDS: dict[str, Parameter] = {
    **GENERATION,
    "response_length": number_parameter(Range(least=1, whole=True)),
    "remove_input": SWITCH,
    "seed": OWN["seed"],
}
"""What the second entry of `data` takes."""


class Run(BaseModel):
    """A run that has completed."""

    id: str
    pipeline_id: str
    created_at: datetime
    started_at: datetime
    ended_at: datetime
    run_state: str = "complete"
    compute_time_ms: int
    result_preview: str
    error: str | None = None
    notices: list[str] | None = None


class User(BaseModel):
    """Whose token it is: this server knows one."""

    id: str = "user_lmtune"
    username: str = "lmtune"


@dataclass(slots=True, kw_only=True)
class RunRequest:
    """A request, read."""

    text: TextRequest
    pipeline: str
    keeps_prompt: bool


def parse_run(body: dict[str, Any]) -> RunRequest:
    """A request from the object of its body. Raises a fault with status 422 for the first thing that is wrong in it."""
    try:
        return _parse(body)
    except FaultError as fault:
        fault.status = 422
        raise


def _parse(body: dict[str, Any]) -> RunRequest:
    pipeline, data = body.get("pipeline_id"), body.get("data")
    if not isinstance(pipeline, str):
        raise FaultError(422, "pipeline_id: expected a text.", param="pipeline_id")
    if not (isinstance(data, list) and 1 <= len(data) <= 2 and isinstance(data[0], str)):
        raise FaultError(422, "data: expected a list with a prompt, and at most one object of settings.", param="data")
    keywords = data[1] if len(data) == 2 else {}
    if not isinstance(keywords, dict):
        raise FaultError(422, "data: expected an object of settings behind the prompt.", param="data")
    check_parameters(keywords, KEYWORDS)
    given = {name: value for name, value in keywords.items() if value is not None}
    new = given.pop("response_length", None)
    if new is not None and {"max_new_tokens", "max_length"} & given.keys():
        raise FaultError(422, "response_length is max_new_tokens here. Give one length.", param="response_length")
    keeps_prompt = not given.pop("remove_input", False)
    stops = given.pop("stop_strings", [])
    own = given.pop("max_new_tokens", None)
    max_length = given.pop("max_length", None)
    text = TextRequest(
        prompts=[data[0]],
        seed=given.pop("seed", None),
        max_time=given.pop("max_time", None),
        settings=given,
        new_tokens=new or own or (None if max_length else NEW_TOKENS),
        max_length=max_length,
        stops=[stops] if isinstance(stops, str) else stops,
    )
    return RunRequest(text=text, pipeline=pipeline, keeps_prompt=keeps_prompt)


def build_run(request: RunRequest, texts: list[str], prompt: str, work: Work, created: datetime) -> Run:
    """The run object. texts: what was written, without the prompt."""
    ended = datetime.now(UTC)
    results = [prompt + text if request.keeps_prompt else text for text in texts]
    return Run(
        id=f"run_{secrets.token_hex(16)}",
        pipeline_id=request.pipeline,
        created_at=created,
        started_at=created,
        ended_at=ended,
        compute_time_ms=round((ended - created).total_seconds() * 1000),
        result_preview=json.dumps(results[0] if len(results) == 1 else results),
        notices=work.notices or None,
    )


DATA_SCHEMA: dict[str, Any] = {
    "type": "array",
    "prefixItems": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {name: parameter.schema for name, parameter in KEYWORDS.items()},
            "additionalProperties": False,
        },
    ],
    "minItems": 1,
    "maxItems": 2,
}
