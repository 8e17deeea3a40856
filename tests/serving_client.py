"""Asks a server of lmtune, and says what model.generate itself writes."""

import json
import time

import torch

from lmtune.exporting.client import http as httpx  # of the two, the one that huggingface_hub brings
from lmtune.modeling.generation import build_generation_config

TOKEN = "a-token-of-these-tests-0123456789"
ENDLESS = {"eos_token_id": 319, "suppress_tokens": [319]}
"""Settings with which a text ends at its length only."""


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


def generate(client, prompt, settings, new, seed=0, number=0):
    """The texts that model.generate itself writes."""
    served = list(client.models)[number]
    ids = torch.tensor([served.tokenizer(prompt)["input_ids"]])
    config = build_generation_config(served.model, {"max_new_tokens": new, **settings})
    torch.manual_seed(seed)
    found = served.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return [served.tokenizer.decode(row[ids.shape[1] :], skip_special_tokens=True) for row in found]
