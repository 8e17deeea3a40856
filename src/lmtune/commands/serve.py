"""`lmtune serve`: an HTTP API with a token, and a page to play with prompts.

lmtune serve ckpt=outputs/...
lmtune serve ckpt=[outputs/...,gpt2] serve.port=8080 serve.slots=32
"""

import logging
import time
from importlib.util import find_spec

from lmtune.commands.result import Result
from lmtune.config import ServeConfig
from lmtune.errors import ConfigError
from lmtune.hub import is_hub_id
from lmtune.modeling.checkpoint import resolve_checkpoint
from lmtune.patience import rest
from lmtune.versions import render_install

logger = logging.getLogger(__name__)

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def run(config: ServeConfig) -> Result:
    """Serve until a signal comes; what was begun is written to its end."""
    check_installed()
    for ckpt in filter(is_hub_id, config.checkpoints):
        resolve_checkpoint(ckpt)  # one that cannot be had is refused before torch is imported
    from lmtune.serving.access import resolve_access

    access = resolve_access(config.serve)
    from lmtune.serving.app import build_app
    from lmtune.serving.metrics import Metrics
    from lmtune.serving.models import load_models
    from lmtune.serving.server import build_server, open_socket, serve

    began = time.monotonic()
    with open_socket(config.serve) as listening:
        models = load_models(config)
        metrics = Metrics(models)
        server = build_server(build_app(models, config.serve, access, metrics), config.serve)
        rest()
        logger.info(
            "serving %s on %s", ", ".join(each.name for each in models), render_address(listening.getsockname())
        )
        if access.made:
            logger.info("token, made for this process and shown once: %s", access.token)
        serve(server, listening, models.stop_taking)
        models.close()
    read, written = metrics.total(metrics.prompt_tokens), metrics.total(metrics.written_tokens)
    requests = metrics.total(metrics.requests)
    values = {
        "requests": requests,
        "prompt_tokens": read,
        "generated_tokens": written,
        "seconds": round(time.monotonic() - began, 1),
    }
    return Result(values, lambda: [f"{requests:,} requests, {read:,} tokens read, {written:,} written"])


def render_address(address: tuple[str, int]) -> str:
    """The URL of a socket."""
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_installed() -> None:
    """Raise ConfigError where the packages of the extra are missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"lmtune serve needs {' and '.join(missing)}, not installed here. {render_install(*missing)}")
