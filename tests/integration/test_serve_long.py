"""lmtune serve for minutes: requests made up from its own description, mixed load, and its page in a real browser."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from serving_client import ENDLESS, TOKEN, httpx

pytestmark = pytest.mark.slow
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SECONDS = float(os.environ.get("LMTUNE_TEST_SOAK", "60"))
"""Of mixed load; 600 show what ten minutes do to the memory."""
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_requests_made_up_from_its_description(serve, tmp_path):
    pytest.importorskip("schemathesis")
    client = serve(max_new_tokens=4, context=64, max_sequences=4)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{client.url}/openapi.json",
            "-H", f"Authorization: Bearer {TOKEN}", "--seed", "16", "--max-examples", "50", "--checks", CHECKS,
        ],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert client.is_idle()


MIXED = [
    {"prompt": "O paciente", "max_tokens": 20},
    {"prompt": ["A médica", "Voltou"], "max_tokens": 8, "n": 2, "logprobs": 2, "echo": True},
    {"prompt": "O paciente " * 60, "max_tokens": 5, "temperature": 0, "repetition_penalty": 1.3},
    {"prompt": "A", "max_tokens": 6, "num_beams": 3},
    {"prompt": "B", "max_tokens": 60, "top_p": 0.8, "stop": ["o", "a"], "stream": True},
    {"prompt": "C", "max_tokens": -1},
    {"prompt": "D", "max_tokens": 400, "stream": True, "gone": True, **ENDLESS},
]


def ask(client, http, body):
    """One request; its status. `gone`: it is left in the middle."""
    body = dict(body)
    gone = body.pop("gone", False)
    if not gone:
        return http.post("/v1/completions", json=body).status_code
    with http.stream("POST", "/v1/completions", json=body) as answer:
        next(answer.iter_lines())
        return answer.status_code


def test_mixed_load_leaves_nothing_behind(serve):
    client = serve(slots=8, queue=16)
    statuses, ended = set(), time.monotonic() + SECONDS

    def work(seed):
        draw = random.Random(seed)
        with httpx.Client(base_url=client.url, headers=client.headers, timeout=120) as http:
            while time.monotonic() < ended:
                body = draw.choice(MIXED)
                status = ask(client, http, body)
                statuses.add((body["max_tokens"] < 0, status))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    memory = psutil.Process().memory_info
    time.sleep(SECONDS / 5)
    early = memory().rss
    for thread in threads:
        thread.join()
    assert statuses <= {(False, 200), (False, 429), (True, 400)}
    assert client.is_idle()
    assert memory().rss < 1.05 * early


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page(serve, models, tokenizer, width, scheme):
    playwright = pytest.importorskip("playwright.sync_api")
    for folder in models:  # else a text may end before it is stopped
        file = Path(folder) / "generation_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "suppress_tokens": [tokenizer.eos_token_id]}))
    client = serve(models)
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(client.url)
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.click("#examples button >> nth=1")
        play(page)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert said == []
        assert all(url.startswith((client.url, "data:")) for url in asked)
        browser.close()


def play(page):
    """Two checkpoints, another setting beside them, next words, and a text that is stopped."""
    assert page.input_value("#prompt") == "A médica"
    page.keyboard.press("Control+Enter")
    wait_for_states(page, "tokens", 2)
    texts = [part.inner_text() for part in page.query_selector_all(".text")]
    assert all(text.startswith("A médica") and len(text) > 12 for text in texts)
    assert texts[0] != texts[1]
    page.click("#add")
    page.click("#words")
    page.wait_for_selector("#bars button")
    word = page.query_selector("#bars button:not([disabled])")
    word.click()
    page.wait_for_timeout(500)
    assert len(page.input_value("#prompt")) > len("A médica")
    for length in page.query_selector_all("input[type=number][aria-label=length]"):
        length.fill("480")
    page.click("#write")
    page.wait_for_timeout(100)
    page.keyboard.press("Escape")
    wait_for_states(page, "Stopped", 3)
    page.click("#forget")
    assert page.is_visible("#token")


def wait_for_states(page, word, count):
    for _ in range(150):
        states = [state.inner_text() for state in page.query_selector_all(".state")]
        if len(states) == count and all(word in state for state in states):
            return
        page.wait_for_timeout(100)
    raise AssertionError(states)
