"""The way from the built-in text to a served model, command by command; run where no network is, or where sockets are closed.

unshare -rn python tests/closed_walk.py FOLDER tracker=tensorboard
"""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

LMTUNE = [sys.executable, "-m", "lmtune"]
SMALL = ("model.config.n_layer=1", "model.config.n_embd=32", "model.config.n_head=2", "training.use_cpu=true",
         "training.max_steps=3", "eval.max_tokens=2000", "samples.show=0")  # fmt: skip
SET_FLAGS, UP = 0x8914, 0x1 | 0x40
"""SIOCSIFFLAGS; IFF_UP and IFF_RUNNING."""


def main(folder, *more):
    """Train, score, continue a prompt, write the page, serve; write what came of each as JSON."""
    raise_loopback()
    os.chdir(folder)
    run("train", "output=run", "format=json", *SMALL, *more)
    scored = json.loads(run("eval", "ckpt=run", "format=json", "device=cpu"))
    text = run("generate", "ckpt=run", "prompt=Era uma vez", "generation.max_new_tokens=5", "device=cpu")
    Path("run/report.html").unlink()
    run("report", "run")
    served = serve("ckpt=run", "serve.device=cpu")
    found = {
        "eval": list(scored["eval"]),
        "generate": text,
        "report": Path("run/report.html").stat().st_size,
        "serve": served,
    }
    sys.stdout.write(json.dumps(found) + "\n")


def run(*arguments):
    """stdout of a command that has to end well."""
    return subprocess.run([*LMTUNE, *arguments], stdout=subprocess.PIPE, check=True, text=True).stdout


def serve(*arguments):
    """The text that a server on loopback answers with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "LMTUNE_SERVE_TOKEN": "a-token-of-the-test"}
    server = subprocess.Popen([*LMTUNE, "serve", *arguments, f"serve.port={port}"], env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/completions",
            data=json.dumps({"prompt": "Era uma vez", "max_tokens": 5}).encode(),
            headers={"Authorization": "Bearer a-token-of-the-test", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["choices"][0]["text"]
    finally:
        server.terminate()
        server.wait(60)


def wait_for(address, server):
    """Return once the server answers."""
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def raise_loopback():
    """Let a network namespace of its own have loopback; elsewhere it is there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", b"lo", UP))
        except PermissionError:
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
