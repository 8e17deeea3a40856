"""Servers that run in a thread of the process of the tests."""

import threading

import pytest
from serving_client import TOKEN, Client, wait_until

from lmtune.config import ServeConfig, ServeSettings


@pytest.fixture
def models(build_tiny, tokenizer, tmp_path):
    """Two model folders, with different weights."""
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    for seed, name in enumerate(("one", "two")):
        model = build_tiny(seed=seed, n_positions=512)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    (tmp_path / "one" / "README.md").write_text(
        "---\nlanguage: pt\nwidget:\n- text: O paciente\n- text: A médica\n---\n# one\n", encoding="utf-8"
    )
    return [str(tmp_path / name) for name in ("one", "two")]


@pytest.fixture
def serve(models, monkeypatch):
    """A function that starts a server with settings; it stops at the end."""
    from lmtune.serving.access import resolve_access
    from lmtune.serving.app import build_app
    from lmtune.serving.metrics import Metrics
    from lmtune.serving.models import load_models
    from lmtune.serving.server import build_server, open_socket

    monkeypatch.setenv("LMTUNE_SERVE_TOKEN", TOKEN)
    running = []

    def start(ckpt=None, **given):
        settings = ServeSettings(port=0, device="cpu", **given)
        served = load_models(ServeConfig(ckpt=ckpt or models[:1], serve=settings))
        app = build_app(served, settings, resolve_access(settings), Metrics(served))
        server, listening = build_server(app, settings), open_socket(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}", served)
        running.append((server, thread, served, client))
        assert wait_until(lambda: server.started)
        return client

    yield start
    for server, thread, served, client in running:
        client.http.close()
        server.should_exit = True
        thread.join()
        served.close()


@pytest.fixture
def client(serve):
    return serve()
