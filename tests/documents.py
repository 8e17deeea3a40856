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


def _cut(page):
    """The fenced blocks of a page and the texts between them, in order."""
    text, end = page.read_text(encoding="utf-8"), 0
    for found in _FENCE.finditer(text):
        between, end = text[end : found.start()], found.end()
        yield between
        yield Block(found[1], found[2], not between.rstrip("\n").rpartition("\n")[2].startswith(NOT_RUN))
    yield text[end:]


def _list_indented(text):
    """The code of a text between blocks: lines that are indented by four and not part of a list."""
    code, in_list = [], False
    for line in text.splitlines():
        if re.match(r" {0,2}\S", line):
            in_list = re.match(r" {0,2}([-*]|\d+\.) ", line) is not None or (in_list and line.startswith(" "))
        elif line.startswith("    ") and not in_list:
            code.append(line)
    return _join_lines("\n".join(code))


def _join_lines(body):
    """Its lines; one that ends in a backslash goes on in the next."""
    return [line.strip() for line in body.replace("\\\n", " ").splitlines()]


def list_blocks(page):
    """The fenced blocks of a page."""
    return [piece for piece in _cut(page) if isinstance(piece, Block)]


def list_code(page):
    """Lines of code of a page, those of fenced blocks and indented ones."""
    pieces = [_join_lines(piece.body) if isinstance(piece, Block) else _list_indented(piece) for piece in _cut(page)]
    return [line for piece in pieces for line in piece]


def list_shown(page):
    """What a page shows to be typed or copied, in its order, without what differs between languages.

    That is the remark behind a line, and the language of a report.
    """
    pieces = [piece.commands if isinstance(piece, Block) else _list_indented(piece) for piece in _cut(page)]
    lines = [re.split(r" {3,}| +# ", line)[0] for piece in pieces for line in piece]
    return [line.replace(" report.language=pt", "") for line in lines]


def list_messages(page):
    """What a page shows as said by the program: code in bold."""
    return re.findall(r"\*\*`([^`]+)`\*\*", page.read_text(encoding="utf-8"))


def find_sources(page):
    """(the English pages of a Portuguese one, whether it has all that they show), from the line below its heading."""
    told = re.match(r"# .+\n\n\*(In English: |O essencial de )([^*]+)\*\n", page.read_text(encoding="utf-8"))
    assert told, (
        f"{page}: expected *In English: [...](...).* or *O essencial de [...](...), em inglês.* below the heading"
    )
    return [(page.parent / name).resolve() for name in re.findall(r"\]\(([^)]+)\)", told[2])], told[1] == "In English: "


def list_links(page):
    """Targets of the links and images of a page that lead to files or headings, not to the web."""
    text = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]


def list_anchors(page):
    """Names of the headings of a page, as GitHub and mkdocs make them."""
    lines = _FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    heads = [line.lstrip("#").strip().lower() for line in lines if re.match(r"#{1,6} ", line)]
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head)) for head in heads}
