"""The figure of the README: what a run learned, as the learning figure of its report, in one file for light and dark.

lmtune train
python benchmarks/figure.py outputs/sample-gpt2-tiny/<date> docs/learning.svg
"""

import re
import sys
from pathlib import Path

from lmtune.reporting.language import LANGUAGES
from lmtune.reporting.page import build_learning
from lmtune.reporting.record import load_record

STYLE = """
  :root { --ink: #16181d; --soft: #5c626d; --paper: #ffffff; --line: #d9dce1; --main: #0b63c5; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a2a9b4; --paper: #14161a; --line: #373c45;
    --main: #6db1ff; } }
  text { font: 12.5px system-ui, "Segoe UI", Roboto, sans-serif; fill: var(--ink); } .soft { fill: var(--soft); }
  .paper { fill: var(--paper); } .grid { stroke: var(--line); } .level { stroke: var(--soft); stroke-dasharray: 2 4; }
  .curve { fill: none; stroke: var(--soft); stroke-width: 1.4; } .curve.main { stroke: var(--main); stroke-width: 2.6; }
  .dot.main, .end.main { fill: var(--main); } .end.main { font-weight: 650; } .rate { fill: var(--line); }
  .ring { fill: none; stroke: var(--main); stroke-width: 2; }
"""
MARGIN = 14


def render(run: Path) -> str:
    """The wide figure of a run as a file of its own, on paper of its own: it is read on pages of either colour."""
    shown = build_learning(load_record(run), LANGUAGES["en"])
    if shown is None:
        raise SystemExit(f"{run}: expected a run with a curve, found none.")
    figure = shown["figure"].split("<svg")[1]
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', figure).groups())
    box = f"{-MARGIN} {-MARGIN} {width + 2 * MARGIN:g} {height + 2 * MARGIN:g}"
    opening, body = figure.split(">", 1)
    told = re.search(r'aria-label="([^"]*)"', opening)[1]
    paper = f'<rect class="paper" x="{-MARGIN}" y="{-MARGIN}" width="100%" height="100%" rx="10"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" role="img" aria-label="{told}">\n'
        f"<style>{STYLE}</style>\n{paper}\n{body}\n"
    )


if __name__ == "__main__":
    folder, file = map(Path, sys.argv[1:])
    file.write_text(render(folder), encoding="utf-8")
