"""The pages of the project as text: their code blocks, links and headings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
NOT_RUN = "<!-- not run:"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    body: str
    runs: bool
    """False below a line `<!-- not run: why -->`."""

    @property
    def commands(self):
        """What is typed: every line of bash, of a console those behind `$ `; a line that ends in a backslash goes on."""
        lines = self.body.replace("\\\n", " ").splitlines()
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]

    @property
    def answers(self):
        """Of a console: (what is typed, the lines below it)."""
        found = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            elif found:
                found[-1][1].append(line)
        return found


def list_blocks(page):
    """The fenced blocks of a page."""
    text, blocks = page.read_text(encoding="utf-8"), []
    for found in _FENCE.finditer(text):
        before = text[: found.start()].rstrip("\n").rpartition("\n")[2]
        blocks.append(Block(found[1], found[2], not before.startswith(NOT_RUN)))
    return blocks


def list_code(page):
    """Lines of code of a page: those of fenced blocks, and those that are indented by four and not part of a list."""
    text = page.read_text(encoding="utf-8")
    code, in_list = [found[2] for found in _FENCE.finditer(text)], False
    for line in _FENCE.sub("", text).splitlines():
        if re.match(r" {0,2}\S", line):
            in_list = re.match(r" {0,2}([-*]|\d+\.) ", line) is not None or (in_list and line.startswith(" "))
        elif line.startswith("    ") and not in_list:
            code.append(line)
    return [line.strip() for block in code for line in block.replace("\\\n", " ").splitlines()]


def list_links(page):
    """Targets of the links and images of a page that lead to files or headings, not to the web."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]


def list_anchors(page):
    """Names of the headings of a page, as GitHub and mkdocs make them."""
    lines = _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    heads = [line.lstrip("#").strip().lower() for line in lines if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head)) for head in heads}
