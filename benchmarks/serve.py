"""Clients of a server at the same time: lmtune serve, transformers serve with and without continuous batching, generate in turn.

    LMTUNE_TEST_DATA=... python benchmarks/serve.py --clients 1 8 32 --rounds 3
    ... --sides generate lmtune transformers continuous      the last two need transformers[serving]

Each client asks once for a greedy text of --new tokens behind a prompt of its own, as a stream. The model is GPT-2 small by its
shape, with random weights, in float32. Sides take turns within a round, since machines drift; each server is a process of its own
and is asked only while the others are idle.
"""

import argparse
import json
import os
import platform
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from lmtune.exporting.client import http as httpx

SIDES = ("generate", "lmtune", "transformers", "continuous")


def save_model(folder):
    """GPT-2 small with random weights and GPT-2's vocabulary."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config()).save_pretrained(folder)
    GPT2TokenizerFast.from_pretrained(Path(os.environ["LMTUNE_TEST_DATA"]) / "gpt2-tokenizer").save_pretrained(folder)


def load_prompts(folder, count, tokens):
    """Pieces of WikiText-2's test text, of so many tokens each."""
    import gzip

    tokenizer = GPT2TokenizerFast.from_pretrained(folder)
    file = Path(os.environ["LMTUNE_TEST_DATA"]) / "wikitext-2" / "test.raw.txt.gz"
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        ids = tokenizer(stream.read(12 * count * tokens), verbose=False)["input_ids"]
    return [tokenizer.decode(ids[place * tokens : (place + 1) * tokens]) for place in range(count)]


class Generate:
    """model.generate in this process, a prompt after the other."""

    def __init__(self, folder, new):
        self.model = GPT2LMHeadModel.from_pretrained(folder).eval()
        self.tokenizer = GPT2TokenizerFast.from_pretrained(folder)
        self.new = new

    def ask_all(self, prompts, apart=0.0):
        """(seconds in all, seconds of each, no first tokens): as if all had come at once."""
        begin, ends = time.perf_counter(), []
        for prompt in prompts:
            ids = torch.tensor([self.tokenizer(prompt)["input_ids"]])
            self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=self.new, do_sample=False, pad_token_id=50256
            )
            ends.append(time.perf_counter() - begin)
        return ends[-1], ends, []

    def close(self):
        """Nothing runs."""


class Server:
    """A server in a process of its own, and clients in threads."""

    def __init__(self, command, model, new, extra):
        self.port = free_port()
        self.token = secrets.token_urlsafe(32)
        self.model, self.new, self.extra = model, new, extra
        environment = {**os.environ, "LMTUNE_SERVE_TOKEN": self.token, "HF_HUB_OFFLINE": "1"}
        given = [part.format(port=self.port) for part in command]
        self.process = subprocess.Popen(given, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()

    def _wait(self):
        while self.process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5)
            except httpx.TransportError:
                time.sleep(0.5)
            else:
                return
        raise SystemExit(f"the server ended with {self.process.returncode}")

    def ask(self, prompt):
        """(seconds to the first token, seconds to the end)."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": self.new,
            "temperature": 0,
            "stream": True,
            **self.extra,
        }
        headers = {"Authorization": f"Bearer {self.token}"}
        begin, first = time.perf_counter(), None
        url = f"http://127.0.0.1:{self.port}/v1/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=600) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                if first is None and line.startswith("data:") and json.loads(line[5:])["choices"]:
                    first = time.perf_counter() - begin
        return first, time.perf_counter() - begin

    def ask_all(self, prompts, apart=0.0):
        """(seconds in all, seconds of each, seconds to the first token of each). apart: seconds between two that come."""
        found = []
        threads = [threading.Thread(target=lambda prompt=prompt: found.append(self.ask(prompt))) for prompt in prompts]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
            time.sleep(apart)
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - begin
        return seconds, [last for _, last in found], [first for first, _ in found]

    def close(self):
        """End the process."""
        self.process.terminate()
        self.process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def open_side(side, folder, new, clients):
    """A side by its name."""
    if side == "generate":
        return Generate(folder, new)
    if side == "lmtune":
        command = [
            sys.executable,
            "-m",
            "lmtune",
            "serve",
            f"ckpt={folder}",
            "serve.port={port}",
            f"serve.slots={max(clients)}",
        ]
        return Server(command, Path(folder).name, new, {})
    command = ["transformers", "serve", folder, "--device", "cpu", "--dtype", "float32", "--port", "{port}"]
    command[0] = str(Path(sys.executable).with_name("transformers"))
    if side == "continuous":
        command += [
            "--continuous-batching",
            "--cb-num-blocks",
            "256",
        ]  # by default it takes most of the memory there is
    return Server(command, folder, new, {})


def percentile(values, share):
    """The value that a share of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=32, help="of a prompt")
    parser.add_argument("--new", type=int, default=64, help="tokens of a text")
    parser.add_argument("--apart", type=float, default=0.0, help="seconds between one client and the next")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["generate", "lmtune"])
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder)
        prompts = load_prompts(folder, max(options.clients), options.tokens)
        sides = {side: open_side(side, folder, options.new, options.clients) for side in options.sides}
        try:
            measure(sides, prompts, options)
        finally:
            for side in sides.values():
                side.close()


def measure(sides, prompts, options):
    """A line for each side and number of clients: medians over the rounds."""
    for side in sides.values():
        side.ask_all(prompts[:1])
    for clients in options.clients:
        rounds = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                rounds[name].append(side.ask_all(prompts[:clients], options.apart))
        for name, measured in rounds.items():
            print_line(clients, name, measured, rounds, options.new)


def print_line(clients, name, measured, rounds, new):
    speeds = [clients * new / seconds for seconds, _, _ in measured]
    each = [seconds for _, found, _ in measured for seconds in found]
    firsts = [seconds for _, _, found in measured for seconds in found]
    line = f"{clients:3} clients  {name:12} {statistics.median(speeds):7.1f} tokens/s ({min(speeds):.1f} to {max(speeds):.1f})"
    line += f"  text p50 {percentile(each, 0.5):.2f} s p95 {percentile(each, 0.95):.2f} s"
    if firsts:
        line += f"  first token p50 {percentile(firsts, 0.5):.2f} s p95 {percentile(firsts, 0.95):.2f} s"
    if "generate" in rounds and name != "generate":
        ratios = [base / own for (base, _, _), (own, _, _) in zip(rounds["generate"], measured, strict=True)]
        line += f"  {statistics.median(ratios):.2f} x generate ({min(ratios):.2f} to {max(ratios):.2f})"
    print(line, flush=True)


if __name__ == "__main__":
    main()
