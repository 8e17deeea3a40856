"""lmtune serve, and everything that may come instead of a request."""

import concurrent.futures
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from serving_client import ENDLESS, TOKEN, httpx


def deep(depth):
    return b'{"prompt":' + b"[" * depth + b"]" * depth + b"}"


BODIES = [
    (b"", 400), (b"{", 400), (b"[]", 400), (b"null", 400), (b'{"prompt": NaN}', 400), (b'{"temperature": Infinity}', 400),
    (b'{"temperature": 1e999}', 400), (b'{"max_tokens": ' + b"9" * 5000 + b"}", 400), (deep(100_000), 400), (deep(50), 400),
    (b'{"prompt": "\\ud800"}', 400), (b'\xff\xfe{"a"', 400), (b'{"prompt": "' + b"a" * 10_000_000 + b'"}', 413),
]  # fmt: skip
WRONG = [
    {"max_tokens": -3}, {"max_tokens": "7"}, {"max_tokens": 2.5}, {"max_tokens": True}, {"max_tokens": 0},
    {"max_tokens": 10**9}, {"max_tokens": 512}, {"max_new_tokens": 10**6}, {"max_length": 10**6}, {"max_length": 1},
    {"temperature": "hot"}, {"temperature": -1}, {"top_p": 2.0}, {"top_p": 0}, {"top_k": -1}, {"min_p": 2},
    {"no_repeat_ngram_size": -1}, {"suppress_tokens": [10**6]}, {"eos_token_id": 10**6}, {"eos_token_id": []},
    {"bad_words_ids": [[]]}, {"bad_words_ids": [[999]]}, {"sequence_bias": [[[1], 1e9]]}, {"sequence_bias": {"1": 2}},
    {"num_beams": 10_000}, {"num_beams": 0}, {"n": 1000}, {"num_return_sequences": 500}, {"num_beams": 2, "logprobs": 1},
    {"n": 0}, {"logprobs": 1000}, {"stop": ["a"] * 100}, {"stop": ""}, {"seed": "x"}, {"seed": 10**30}, {"prompt": {}},
    {"prompt": []}, {"prompt": [[]]}, {"prompt": [-1]}, {"prompt": [10**6]}, {"prompt": ["a", 1]}, {"logit_bias": {"x": 1}},
    {"logit_bias": {"999": 1}}, {"stream": "yes"}, {"suffix": "b"}, {"best_of": 3}, {"presence_penalty": 9},
    {"max_tokens": 1, "max_new_tokens": 1}, {"min_new_tokens": 99}, {"num_return_sequences": 2, "temperature": 0},
    {"temperatur": 1}, {"assistant_early_exit": 1}, {"custom_generate": "owner/repo"}, {"trust_remote_code": True},
    {"penalty_alpha": 0.5}, {"dola_layers": "high"}, {"constraints": []}, {"cache_implementation": "offloaded"},
    {"compile_config": {}}, {"watermarking_config": {}}, {"output_scores": True}, {"use_cache": False},
    {"assistant_model": "gpt2"}, {"streamer": 1}, {"logits_processor": []}, {"generation_config": {}},
]  # fmt: skip


def check_fault(answer, status):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert "Traceback" not in answer.text
    assert "site-packages" not in answer.text


def test_whatever_comes_the_answer_is_an_error_as_json_and_the_server_goes_on(client, capfd, caplog):
    caplog.set_level(logging.INFO, "lmtune")
    for body, status in BODIES:
        check_fault(client.http.post("/v1/completions", content=body), status)
    for given in WRONG:
        answer = client.post(**{"prompt": "a", **given})
        assert answer.status_code == 400, given
        check_fault(answer, 400)
    check_fault(client.http.get("/nowhere"), 404)
    check_fault(client.http.get("/v1/completions"), 405)
    assert client.complete("O paciente", max_tokens=2)["choices"][0]["finish_reason"]
    assert client.is_idle()
    assert "Traceback" not in capfd.readouterr().err + caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {TOKEN}"},
    ],
)
def test_without_the_token_nothing_but_the_page_and_health_answers(client, headers):
    for path in (
        "/metrics",
        "/v1/models",
        "/v1/completions",
        "/v2/runs",
        "/v2/users/me",
        "/openapi.json",
        "/nowhere",
        "/docs",
    ):
        assert httpx.get(client.url + path, headers=headers).status_code == 401
    answer = httpx.post(f"{client.url}/v1/completions", headers=headers, json={"prompt": "a"})
    check_fault(answer, 401)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert httpx.get(f"{client.url}/health").json() == {"status": "ok"}
    page = httpx.get(client.url)
    assert page.status_code == 200
    assert "connect-src 'self'" in page.headers["Content-Security-Policy"]


def test_prompts_of_all_sizes(client):
    for prompt in ("", " ", "\0", "🙂" * 50, "a" * 300_000, "palavra " * 100_000):
        answer = client.post(prompt=prompt, max_tokens=1, temperature=0)
        assert answer.status_code == 200, answer.text
    assert client.complete("", echo=True, max_tokens=1)["usage"]["prompt_tokens"] == 1


def test_more_than_may_wait_is_told_to_come_back(serve):
    client = serve(slots=1, queue=2)
    long = {"prompt": "a", "max_tokens": 400, **ENDLESS}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = [each.result() for each in [pool.submit(client.post, **long) for _ in range(12)]]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["Retry-After"]) > 0
    check_fault(refused, 429)
    assert client.complete("a", max_tokens=1)


def test_a_client_that_goes_away_frees_its_slot(serve, monkeypatch):
    from lmtune.serving.batch import Batch

    step = Batch.step
    monkeypatch.setattr(
        Batch, "step", lambda batch: time.sleep(0.01) or step(batch)
    )  # the text outlasts a slow machine
    client = serve(slots=1)
    long = {"prompt": "a", "max_tokens": 500, **ENDLESS}
    with client.http.stream("POST", "/v1/completions", json={**long, "stream": True}) as answer:
        lines = answer.iter_lines()  # held: httpx closes the connection of an iterator that is let go
        next(lines)
        assert client.models.running == 1
    assert client.is_idle()
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{client.url}/v1/completions", headers=client.headers, json=long, timeout=0.05)
    assert client.is_idle()
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{client.url}/v1/completions", headers=client.headers, json={**long, "num_beams": 8}, timeout=0.05)
    assert client.is_idle()


def test_many_connections_and_a_reader_that_does_not_read(client):
    address_of_it = ("127.0.0.1", client.http.base_url.port)
    idle = [socket.create_connection(address_of_it) for _ in range(500)]
    slow = socket.create_connection(address_of_it)
    body = json.dumps({"prompt": "a", "max_tokens": 300, "stream": True}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    slow.sendall(head.encode() + body)
    for connection in idle[:50]:
        connection.sendall(b"GET / HTTP/1.1\r\nHost:")
    assert client.complete("O paciente", max_tokens=3)
    for connection in (*idle, slow):
        connection.close()
    assert client.is_idle()
    assert client.complete("O paciente", max_tokens=3)


def test_a_request_ends_when_its_time_is_up(serve):
    client = serve(max_seconds=0.05)
    answer = client.complete("a", max_tokens=500, **ENDLESS)
    assert answer["usage"]["completion_tokens"] < 500
    assert "time for this request was up" in answer["notices"][0]


def test_what_is_counted_and_what_is_logged(client, caplog):
    caplog.set_level(logging.INFO, "lmtune")
    client.complete("um segredo", max_tokens=3, seed=1, n=2)
    client.http.get("/nowhere?token=abc")
    text = client.http.get("/metrics").text
    assert 'lmtune_requests_total{path="/v1/completions",status="200"} 1.0' in text
    assert 'lmtune_requests_total{path="other",status="404"} 1.0' in text
    assert 'lmtune_generated_tokens_total{model="one"} 6.0' in text
    assert "lmtune_time_to_first_token_seconds_count 1.0" in text
    assert "POST /v1/completions 200" in caplog.text
    for secret in ("segredo", TOKEN, "token=abc"):
        assert secret not in caplog.text


def test_the_description_of_the_api_names_every_parameter(client):
    from lmtune.serving.completion_request import PARAMETERS

    paths = client.http.get("/openapi.json").json()["paths"]
    schema = paths["/v1/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(schema["properties"]) == set(PARAMETERS)


# The command


@pytest.fixture
def begin(models, tmp_path):
    """A function that starts the command in a process of its own; gives the process and its lines on stderr until it serves."""
    running = []

    def start(*arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "lmtune", "serve", f"ckpt={models[0]}", "serve.port=0", "serve.device=cpu", *arguments],
            cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        lines = []
        while line := process.stderr.readline():
            lines.append(line)
            if line.startswith("token") or ("serving" in line and "LMTUNE_SERVE_TOKEN" in environment):
                break
        return process, "".join(lines)

    yield start
    for process in running:
        process.kill()
        process.communicate()


def address(lines):
    return next(word for word in lines.split() if word.startswith("http://"))


def test_the_command_makes_a_token_serves_and_drains(begin):
    process, lines = begin("format=json")
    token = lines.split()[-1]
    headers, url = {"Authorization": f"Bearer {token}"}, address(lines)
    assert httpx.get(f"{url}/v1/models", headers=headers).status_code == 200
    with httpx.stream(
        "POST", f"{url}/v1/completions", headers=headers, timeout=60,
        json={"prompt": "a", "max_tokens": 300, "stream": True, **ENDLESS},
    ) as answer:  # fmt: skip
        events = answer.iter_lines()
        next(events)
        process.send_signal(signal.SIGTERM)
        rest = [line for line in events if line]
    assert rest[-1] == "data: [DONE]"
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert json.loads(out)["generated_tokens"] == 300
    assert token not in out + err
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")


def test_a_second_signal_does_not_wait(begin):
    process, lines = begin()
    headers, url = {"Authorization": f"Bearer {lines.split()[-1]}"}, address(lines)
    long = {"prompt": "a", "max_tokens": 500, "num_beams": 16, "stream": True, **ENDLESS}
    asking = threading.Thread(
        target=leave_quietly, args=(f"{url}/v1/completions",), kwargs={"headers": headers, "json": long}
    )
    asking.start()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    asking.join()
    assert "Traceback" not in process.stderr.read()


def leave_quietly(url, **given):
    with contextlib.suppress(httpx.TransportError):
        httpx.post(url, timeout=60, **given)


def test_what_cannot_be_served_is_refused_before_a_model_is_loaded(lmtune, models, monkeypatch, tmp_path):
    monkeypatch.delenv("LMTUNE_SERVE_TOKEN", raising=False)
    ckpt = f"ckpt={models[0]}"
    cases = [
        (("serve", "serve.port=0"), "lmtune serve needs ckpt="),
        (("serve", ckpt, "serve.host=0.0.0.0"), "it needs a token of your own"),
        (("serve", ckpt, "serve.host=203.0.113.9", "serve.token_file=token"), "expected an address of this machine"),
        (("serve", ckpt, "serve.token_file=nowhere"), "serve.token_file=nowhere: expected a text file"),
        (("serve", ckpt, "serve.token_file=short"), "expected 16 or more characters"),
        (("serve", ckpt, "serve.token=abcdefgh12345678"), "carries a secret"),
        (("serve", ckpt, "serve.port=70000"), "serve.port=70000: expected"),
        (("serve", ckpt, "serve.slot=2"), "Did you mean serve.slots?"),
        (("serve", ckpt, "serve.context=4096", "serve.port=0"), "the model has 512 positions"),
        (("serve", ckpt, "serve.device=warp", "serve.port=0"), "serve.device=warp: expected"),
    ]
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "short").write_text("secret")
    for arguments, message in cases:
        answer = lmtune(*arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert message in answer.err, arguments
