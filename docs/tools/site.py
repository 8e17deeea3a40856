"""What mkdocs does besides: pages at the root of the repository have their place in the site, and links between both lead there."""

import re
from pathlib import Path

from markdown.extensions.toc import slugify_unicode
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = {
    "README.md": "index.md",
    "README.pt-BR.md": "pt-BR/index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository, and the pages that they are."""
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
_TO_TREE = re.compile(r"\[([^\]]+)\]\((?:\.\./)*(?:notebooks|tests|benchmarks|src|conf)(?:/[^)]*)?\)")


def move_links(text: str, place: str) -> str:
    """Markdown of a file at the root as that of the page `place`."""
    above = "../" * place.count("/")

    def move(found: re.Match[str]) -> str:
        target = found[1]
        return above + (ROOT.get(target) or target.removeprefix("docs/"))

    return _LINK.sub(move, drop_tree(text))


def drop_tree(text: str) -> str:
    """Text without links to what is in the repository and not in the site."""
    return _TO_TREE.sub(r"\1", text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Headings are called as on GitHub, with their accents, so that links to them hold in both places."""
    config.mdx_configs["toc"]["slugify"] = slugify_unicode
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that stand at the root."""
    root = Path(config.config_file_path).parent
    for name, place in ROOT.items():
        text = move_links((root / name).read_text(encoding="utf-8"), place)
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links from the docs to the root and to the tree."""
    above = "../" * page.file.src_uri.count("/")
    for name, place in ROOT.items():
        markdown = markdown.replace(f"]({above}../{name}", f"]({above}{place}")
    return drop_tree(markdown)


def on_post_page(output: str, page: Page, **_: object) -> str:
    """Say of a Portuguese page that it is one, to browsers and to what reads aloud."""
    return (
        output.replace('<html lang="en"', '<html lang="pt-BR"', 1) if page.file.src_uri.startswith("pt-BR/") else output
    )
