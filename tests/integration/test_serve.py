"""lmtune serve over loopback: two wire formats, and everything that may come instead of a request."""

import concurrent.futures
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx2 as httpx
import pytest
import torch

from lmtune.config import LongPrompt, ServeConfig, ServeSettings
from lmtune.modeling.generation import build_generation_config

TOKEN = "a-token-of-these-tests-0123456789"
ENDLESS = {"eos_token_id": 319, "suppress_tokens": [319]}
"""Settings with which a text ends at its length only."""


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


class Client:
    """Asks a server that runs in a thread of this process."""

    def __init__(self, url, served):
        self.url = url
        self.models = served
        self.headers = {"Authorization": f"Bearer {TOKEN}"}
        self.http = httpx.Client(base_url=url, headers=self.headers, timeout=60)

    def post(self, path="/v1/completions", **body):
        return self.http.post(path, json=body)

    def complete(self, prompt, **given):
        answer = self.post(prompt=prompt, **given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stream(self, **body):
        """The events of a stream, as objects; [DONE] as it is."""
        with self.http.stream("POST", "/v1/completions", json={**body, "stream": True}) as answer:
            assert answer.status_code == 200, answer.read()
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def is_idle(self):
        """True once no text is written any more."""
        return wait_until(lambda: self.models.running == self.models.waiting == 0)


def wait_until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


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
        running.append((server, thread, served))
        assert wait_until(lambda: server.started)
        return Client(f"http://127.0.0.1:{listening.getsockname()[1]}", served)

    yield start
    for server, thread, served in running:
        server.should_exit = True
        thread.join()
        served.close()


@pytest.fixture
def client(serve):
    return serve()


def generate(client, prompt, settings, new, seed=0, number=0):
    """The texts that model.generate itself writes."""
    served = list(client.models)[number]
    ids = torch.tensor([served.tokenizer(prompt)["input_ids"]])
    config = build_generation_config(served.model, {"max_new_tokens": new, **settings})
    torch.manual_seed(seed)
    found = served.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return [served.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True) for row in found]


# The wire format of OpenAI


def test_a_text_is_that_of_generate(client):
    answer = client.complete("O paciente", temperature=0, max_tokens=8)
    (choice,) = answer["choices"]
    assert choice["text"] == generate(client, "O paciente", {"do_sample": False}, 8)[0]
    assert (answer["object"], answer["model"], choice["finish_reason"]) == ("text_completion", "one", "length")
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["usage"]["total_tokens"] == 8 + answer["usage"]["prompt_tokens"]
    drawn = client.complete("O paciente", temperature=0.7, seed=5, max_tokens=8)["choices"][0]["text"]
    assert drawn == generate(client, "O paciente", {"do_sample": True, "temperature": 0.7, "top_k": 0}, 8, seed=5)[0]


def test_several_prompts_and_several_texts_of_each(client):
    answer = client.complete(["O paciente", "A médica"], n=2, seed=3, max_tokens=6)
    texts = [choice["text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    settings = {"do_sample": True, "top_k": 0}
    expected = [generate(client, p, settings, 6, seed)[0] for p in ("O paciente", "A médica") for seed in (3, 4)]
    assert texts == expected
    ids = next(iter(client.models)).tokenizer("O paciente")["input_ids"]
    assert client.complete(ids, seed=3, max_tokens=6)["choices"][0]["text"] == texts[0]


def test_a_stream_makes_the_same_text(client):
    asked = {"prompt": "O paciente", "max_tokens": 12, "seed": 1, "n": 2}
    whole = client.complete(**asked)
    *events, done = client.stream(**asked, stream_options={"include_usage": True})
    assert done == "[DONE]"
    usage = events.pop()
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    texts = ["", ""]
    for event in events:
        (part,) = event["choices"]
        texts[part["index"]] += part["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    ends = [event["choices"][0]["finish_reason"] for event in events]
    assert [end for end in ends if end] == ["length", "length"]
    assert len(events) > 4


def test_a_stop_string_is_cut_and_never_half_streamed(client):
    plain = client.complete("O paciente", temperature=0, max_tokens=30)["choices"][0]["text"]
    stop = plain[9:13]
    place = plain.index(stop)
    answer = client.complete("O paciente", temperature=0, max_tokens=30, stop=[stop, "never there"])["choices"][0]
    assert (answer["text"], answer["finish_reason"]) == (plain[:place], "stop")
    shown = ""
    for event in client.stream(prompt="O paciente", temperature=0, max_tokens=30, stop=stop)[:-1]:
        shown += event["choices"][0]["text"]
        assert plain[:place].startswith(shown)
    assert shown == plain[:place]


def test_echo_and_logprobs(client):
    answer = client.complete("O paciente", temperature=0, max_tokens=4, echo=True, logprobs=3)["choices"][0]
    assert answer["text"].startswith("O paciente")
    found = answer["logprobs"]
    assert "".join(found["tokens"]) == answer["text"]
    assert (found["token_logprobs"][0], found["top_logprobs"][0], found["text_offset"][0]) == (None, None, 0)
    assert all(len(top) <= 3 for top in found["top_logprobs"][1:])
    served = next(iter(client.models))
    ids = torch.tensor([served.tokenizer(answer["text"])["input_ids"]])
    if len(ids[0]) == len(found["tokens"]):
        logits = served.model(input_ids=ids).logits[0].log_softmax(-1).detach()
        assert found["token_logprobs"][1] == pytest.approx(float(logits[0, ids[0, 1]]), abs=1e-4)
    scored = client.complete("O paciente", max_tokens=0, echo=True, logprobs=0)["choices"][0]
    assert scored["text"] == "O paciente"
    assert scored["logprobs"]["token_logprobs"] == found["token_logprobs"][: len(scored["logprobs"]["tokens"])]


def test_parameters_of_generate_by_their_own_names(client):
    settings = {"do_sample": True, "top_k": 9, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2}
    text = client.complete("A médica", max_new_tokens=9, seed=2, **settings)["choices"][0]["text"]
    assert text == generate(client, "A médica", settings, 9, seed=2)[0]
    beams = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5}
    texts = [choice["text"] for choice in client.complete("A médica", max_new_tokens=9, **beams)["choices"]]
    assert texts == generate(client, "A médica", {"do_sample": False, **beams}, 9)


def test_contrary_settings_at_the_same_time(client):
    asked = [
        ({"do_sample": False}, {"temperature": 0}),
        ({"do_sample": True, "temperature": 2.0, "top_k": 0}, {"temperature": 2.0}),
        ({"do_sample": False, "repetition_penalty": 1.9}, {"temperature": 0, "repetition_penalty": 1.9}),
        ({"do_sample": False, "num_beams": 2}, {"num_beams": 2}),
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(client.complete, "O paciente", max_tokens=40, seed=4, **wire) for _, wire in asked]
        texts = [each.result()["choices"][0]["text"] for each in pending]
    assert texts == [generate(client, "O paciente", settings, 40, seed=4)[0] for settings, _ in asked]


def test_two_checkpoints_are_chosen_by_name(serve, models):
    client = serve(models)
    listed = client.http.get("/v1/models").json()["data"]
    assert [(each["id"], each["context"]) for each in listed] == [("one", 512), ("two", 512)]
    assert listed[0]["examples"] == ["O paciente", "A médica"]
    texts = [
        client.complete("O paciente", model=name, temperature=0, max_tokens=8)["choices"][0]["text"]
        for name in ("one", "two")
    ]
    assert texts == [generate(client, "O paciente", {"do_sample": False}, 8, number=place)[0] for place in (0, 1)]
    assert texts[0] != texts[1]
    missing = client.post(prompt="a", model="three")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_what_reads_as_a_special_token_is_text(client):
    text = "<|endoftext|>"
    answer = client.complete(text, max_tokens=1, echo=True, logprobs=0)
    assert answer["usage"]["prompt_tokens"] > 1
    assert answer["choices"][0]["text"].startswith(text)


def test_a_long_prompt_is_cut_and_the_answer_says_so(serve):
    client = serve()
    long = "O paciente chegou no hospital. " * 200
    answer = client.complete(long, temperature=0, max_tokens=8)
    assert "its beginning was left out" in answer["notices"][0]
    assert answer["usage"]["prompt_tokens"] == 512 - 8
    refusing = serve(long_prompt=LongPrompt.refuse)
    refused = refusing.post(prompt=long, max_tokens=8)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_an_unchanged_openai_client(client):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key=TOKEN, max_retries=0) as api:
        assert [model.id for model in api.models.list()] == ["one"]
        asked = {"model": "one", "prompt": "O paciente", "max_tokens": 6, "seed": 1}
        whole = api.completions.create(**asked, logprobs=2)
        assert len(whole.choices[0].logprobs.tokens) == whole.usage.completion_tokens
        parts = [event.choices[0].text for event in api.completions.create(**asked, stream=True)]
        assert "".join(parts) == whole.choices[0].text
        with pytest.raises(openai.BadRequestError, match="temperature"):
            api.completions.create(model="one", prompt="a", temperature=-1)
    with (
        openai.OpenAI(base_url=f"{client.url}/v1", api_key="wrong", max_retries=0) as api,
        pytest.raises(openai.AuthenticationError),
    ):
        api.models.list()


# The older wire format


def test_a_run_comes_back_as_a_text_of_json(client):
    data = ["O paciente", {"response_length": 8, "remove_input": True, "do_sample": False}]
    run = client.post("/v2/runs", pipeline_id="pipeline_680b", data=data).json()
    assert json.loads(run["result_preview"]) == generate(client, "O paciente", {"do_sample": False}, 8)[0]
    assert (run["run_state"], run["pipeline_id"], run["error"]) == ("complete", "pipeline_680b", None)
    kept = client.post("/v2/runs", pipeline_id="x", data=["O paciente", {"response_length": 8}]).json()
    assert json.loads(kept["result_preview"]) == "O paciente" + json.loads(run["result_preview"])
    several = {"num_return_sequences": 2, "do_sample": True, "response_length": 4, "remove_input": True, "seed": 3}
    texts = json.loads(client.post("/v2/runs", pipeline_id="x", data=["A", several]).json()["result_preview"])
    assert texts == generate(client, "A", {"do_sample": True, "num_return_sequences": 2}, 4, seed=3)
    assert client.http.get("/v2/users/me").json()["username"] == "lmtune"


def test_errors_of_runs_are_as_their_clients_read_them(client):
    wrong = client.post("/v2/runs", pipeline_id="x", data=["a", {"custom_generate": "owner/repo"}])
    assert wrong.status_code == 422
    assert "custom_generate is not taken" in wrong.json()["detail"]["message"]
    stranger = httpx.get(f"{client.url}/v2/users/me", headers={"Authorization": "Bearer no"})
    assert stranger.status_code == 401
    assert stranger.json()["detail"]["message"]


# What may come instead of a request


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


def test_a_client_that_goes_away_frees_its_slot(serve):
    client = serve(slots=1)
    long = {"prompt": "a", "max_tokens": 500, **ENDLESS}
    with client.http.stream("POST", "/v1/completions", json={**long, "stream": True}) as answer:
        next(answer.iter_lines())
        assert client.models.running == 1
    assert client.is_idle()
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{client.url}/v1/completions", headers=client.headers, json=long, timeout=0.05)
    assert client.is_idle()
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{client.url}/v1/completions", headers=client.headers, json={**long, "num_beams": 8}, timeout=0.05)
    assert client.is_idle()


def test_many_connections_and_a_reader_that_does_not_read(client):
    idle = [
        socket.create_connection(client.http.base_url.host and ("127.0.0.1", client.http.base_url.port))
        for _ in range(300)
    ]
    slow = socket.create_connection(("127.0.0.1", client.http.base_url.port))
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
    client = serve(max_seconds=0.3)
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
    from lmtune.serving.completions import PARAMETERS

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
            if "token" in line or ("serving" in line and "LMTUNE_SERVE_TOKEN" in environment):
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
