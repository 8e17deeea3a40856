"""What the pages show is there: links, headings, commands, keys, extras; pages of both languages show the same commands."""

import re
import shlex
import tomllib

import pytest
import yaml
from documents import (
    NOT_RUN,
    PAGES,
    ROOT,
    find_sources,
    list_anchors,
    list_blocks,
    list_code,
    list_links,
    list_messages,
    list_shown,
)

import lmtune as package
from lmtune.cli.schemas import GROUPS, SCHEMAS, find_open, known_keys
from lmtune.cli.tools import TOOLS
from lmtune.config.training_arguments import HOMES

FREE = ("hydra", "model.config", "experiment")
"""What has no list of keys."""
TYPED = re.compile(
    r"(?:\$ |[A-Z_]+=\S* |unshare -rn |srun |torchrun .* -m |python -m |\S*/bin/)*lmtune (?P<command>[a-z-]+)(?P<rest>(?: .*)?)$"
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
PORTUGUESE = sorted((ROOT / "docs" / "pt-BR").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    for target in list_links(page):
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if heading:
            assert heading in list_anchors(file), target


def test_every_page_has_its_place_in_the_site():
    def walk(entry):
        below = entry.values() if isinstance(entry, dict) else entry
        return [entry] if isinstance(entry, str) else [page for each in below for page in walk(each)]

    placed = walk(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    of_root = {"index.md", "pt-BR/index.md", "contributing.md", "security.md", "changelog.md"}
    pages = {file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")}
    assert sorted(placed) == sorted(pages | of_root)


def test_both_readmes_show_the_same_commands():
    english, portuguese = (list_blocks(ROOT / name) for name in ("README.md", "README.pt-BR.md"))
    assert english == portuguese


def test_both_readmes_have_the_same_sections():
    sections = [(ROOT / name).read_text(encoding="utf-8").split("\n## ") for name in ("README.md", "README.pt-BR.md")]
    english, portuguese = ([(part.count("```"), "\n| " in part) for part in parts] for parts in sections)
    assert english == portuguese


@pytest.mark.parametrize("page", PORTUGUESE, ids=lambda page: page.name)
def test_a_portuguese_page_shows_the_commands_of_its_english_ones(page):
    sources, whole = find_sources(page)
    english = [line for source in sources for line in list_shown(source)]
    if whole:
        assert list_shown(page) == english
    else:
        assert [line for line in list_shown(page) if line not in english] == []


@pytest.mark.parametrize("page", PORTUGUESE, ids=lambda page: page.name)
def test_a_portuguese_page_shows_the_messages_of_its_english_ones(page):
    sources, whole = find_sources(page)
    english = [message for source in sources for message in list_messages(source)]
    if whole:
        assert list_messages(page) == english
    else:
        assert set(list_messages(page)) <= set(english)


def test_the_pages_of_both_languages_lead_to_each_other():
    for page in PORTUGUESE:
        for source in find_sources(page)[0]:
            assert f"pt-BR/{page.name}" in list_links(source), source.name


def list_typed(page):
    """(command, words behind it) of each line of code that types a command of lmtune."""
    for line in list_code(page):
        line = line.replace("lmtune check lr-find ", "lmtune lr-find ")  # which takes its keys
        if found := TYPED.match(line):
            yield found["command"], re.split(r" {3,}| #|\s\|", found["rest"])[0]


def is_known(command, key):
    if command not in SCHEMAS:
        return command in TOOLS
    bare = key.lstrip("+~")
    known = known_keys(command)
    parts = bare.split(".")
    return (
        bare in known
        or bare in GROUPS
        or bare.removeprefix("training.") in HOMES
        or any(".".join(parts[:count]) in FREE for count in range(1, len(parts) + 1))
        or find_open(bare) is not None
        or bare.partition("/")[0] == "hydra"
    )


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_keys_that_are_shown_exist(page):
    for command, words in list_typed(page):
        assert command in SCHEMAS or command in TOOLS, command
        for key in re.findall(r"(?:^|\s)['\"]?([a-z][\w./-]*)=", words):
            assert is_known(command, key), f"{command} {key}"


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    files = [*CURRENT, *(ROOT / "conf").rglob("*.yaml"), *(ROOT / "notebooks").glob("*.ipynb")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "install lmtune" not in text, f"{file}: lmtune is on no index"
        assert not re.search(r"install (?!.*--no-index).*'lmtune\[", text), f"{file}: name the extra as '.[extra]'"
        for named in re.findall(r"pip install [^\n`]*'[./\w]*\[([\w,-]+)\]'", text):
            assert set(named.split(",")) <= set(extras), named
    table = re.findall(
        r"^\| ((?:`[\w-]+`(?:, )?)+) \|", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert set(extras) <= {name for row in table for name in re.findall(r"[\w-]+", row)}


def test_what_is_not_run_says_why():
    for page in CURRENT:
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith(NOT_RUN):
                assert re.fullmatch(re.escape(NOT_RUN) + r" \S.* -->", line), line


def test_commands_of_blocks_can_be_read_by_a_shell():
    for page in CURRENT:
        for block in list_blocks(page):
            if block.language in ("bash", "console") and "#SBATCH" not in block.body:
                for command in block.commands:
                    assert shlex.split(command)


def test_the_version_to_cite_is_that_of_the_package():
    assert f"\nversion: {package.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_figure_is_that_of_the_numbers():
    told = re.search(r'aria-label="([^"]+)"', (ROOT / "docs" / "learning.svg").read_text(encoding="utf-8"))[1]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first, last = re.search(r"^bits per byte +([\d.]+) +([\d.]+)$", text, re.MULTILINE).groups()
    for number in (first, last):
        assert f"{float(number):.2f}" in told
        assert f"{float(number):.2f}" in re.search(r"!\[([^\]]+)\]\(docs/learning.svg\)", text)[1]


def test_every_dependency_stands_in_its_table_with_a_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for name in ("lora", "serve", "export") for line in project["optional-dependencies"][name]),
    ]
    rows = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower().replace("-", "_")
    for line in wanted:
        name = re.match(r"[\w-]+", line)[0].lower().replace("-", "_")
        assert f"| {name} |" in rows
    assert "not stated" not in rows
