"""What README and tutorial show is typed here, in their order, as a reader would; the Portuguese pages show the same (test_docs.py)."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from xml.dom import minidom

import pytest
from documents import ROOT, list_blocks

TOKEN = "a-token-of-these-tests-0123456789"
DRAWN = ("lmtune generate", "curl")
"""What these answer is written by a model: another machine rounds otherwise, and may take other words."""
LMTUNE = f"""#!/bin/sh
# README trains for as long as a reader likes; a few steps show that it works.
[ "$1" = train ] && [ -n "$FEW_STEPS" ] && set -- "$@" training.max_steps=4
exec {sys.executable} -m lmtune "$@"
"""


class Reader:
    """Types commands in a folder of their own; what serves goes on until the end of the page."""

    def __init__(self, folder, few_steps):
        shim = folder / "bin" / "lmtune"
        shim.parent.mkdir()
        shim.write_text(LMTUNE)
        shim.chmod(0o755)
        self.folder = folder / "here"
        self.folder.mkdir()
        self.servers = []
        self.environment = {
            **os.environ,
            "PATH": f"{shim.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT / "src"),
            "FEW_STEPS": "yes" if few_steps else "",
            "LMTUNE_SERVE_TOKEN": TOKEN,
            "TOKEN": TOKEN,
        }

    def type(self, command):
        """What a command writes to stdout and stderr; it has to succeed."""
        if command.startswith("lmtune serve"):
            return self._serve(command)
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout + done.stderr

    def _serve(self, command):
        log = self.folder / "serve.log"
        with log.open("w") as file:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, stderr=file, stdout=file
            )
        self.servers.append(server)
        end = time.monotonic() + 300
        while time.monotonic() < end and server.poll() is None:
            if re.search(r"serving .* on http", said := log.read_text(encoding="utf-8")):
                return said
            time.sleep(0.2)
        raise AssertionError(log.read_text(encoding="utf-8"))

    def stop(self):
        """End the servers; each has to have ended well."""
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        assert [server.wait(60) for server in self.servers] == [0] * len(self.servers)


@pytest.fixture
def read(tmp_path):
    """A function that begins to read a page."""
    readers = []

    def begin(few_steps):
        readers.append(Reader(tmp_path, few_steps))
        return readers[-1]

    yield begin
    for reader in readers:
        for server in reader.servers:
            if server.poll() is None:
                server.kill()


def mask(line):
    """A line without what another run, machine or folder makes different: numbers, times, pieces of paths and blanks."""
    line = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?", "<date>", line)
    return re.sub(r"\s+", " ", re.sub(r"[-+]?\d[\d,.:]*", "0", line)).strip()


@pytest.mark.slow
def test_the_commands_of_the_readme_run(read):
    reader = read(few_steps=True)
    shutil.copytree(ROOT / "src/lmtune/data/sample", reader.folder / "texts")
    blocks = [block for block in list_blocks(ROOT / "README.md") if block.language == "bash" and block.runs]
    assert [len(block.commands) for block in blocks] == [5]
    for command in blocks[0].commands:
        reader.type(command)
    reader.type(f"{sys.executable} {ROOT / 'benchmarks' / 'figure.py'} outputs/*/2* figure.svg")
    figure = (reader.folder / "figure.svg").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in figure
    assert minidom.parseString(figure).documentElement.tagName == "svg"
    reader.stop()


@pytest.mark.slow
def test_the_site_is_built_strictly(tmp_path):
    pytest.importorskip("material", reason="the extra docs is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'href="benchmarks.html#threads-that-wait"' in (tmp_path / "troubleshooting.html").read_text(encoding="utf-8")
    page = (tmp_path / "pt-BR" / "index.html").read_text(encoding="utf-8")
    assert '<html lang="pt-BR"' in page
    assert 'href="tutorial.html"' in page
    assert 'src="../learning.svg"' in page


@pytest.mark.slow
def test_the_tutorial_runs_and_answers_what_it_shows(read):
    reader = read(few_steps=False)
    (reader.folder / "src").symlink_to(ROOT / "src")
    for block in list_blocks(ROOT / "docs" / "tutorial.md"):
        if block.language != "console" or not block.runs:
            continue
        for command, shown in block.answers:
            said = {mask(line) for line in reader.type(command).splitlines()}
            wanted = [mask(line) for line in shown if line.strip() not in ("", "...")]
            if not command.startswith(DRAWN):
                assert [line for line in wanted if line not in said] == [], f"{command}\n" + "\n".join(sorted(said))
    reader.stop()
