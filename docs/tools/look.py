"""Every page of the site in a browser, at 1280 and 390 pixels, light and dark; pictures of those that are named.

make site
pip install playwright
python docs/tools/look.py site PICTURES index.html tutorial.html

Exits 1 where a page reports an error, asks for anything outside, or is wider than the screen. CHROMIUM names the
browser, by default /usr/bin/chromium.
"""

import os
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from playwright.sync_api import Page, sync_playwright

WIDTHS = (1280, 390)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def look(page: Page, address: str) -> list[str]:
    """Faults of a page."""
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(address[:20]) else faults.append(asked.url))
    page.goto(address, wait_until="load")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*faults, f"{wide} pixels too wide"] if wide > 0 else faults


def main(site: Path, pictures: Path, shown: list[str]) -> int:
    """Look at all pages; return how many have faults."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    pictures.mkdir(parents=True, exist_ok=True)
    names, bad = [str(file.relative_to(site)) for file in sorted(site.rglob("*.html"))], 0
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                window = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                for name in names:
                    page = window.new_page()
                    if faults := look(page, f"http://127.0.0.1:{server.server_port}/{name}"):
                        bad += 1
                        sys.stderr.write(f"{name} {width} {scheme}: {'; '.join(faults)}\n")
                    if name in shown:
                        page.screenshot(path=pictures / f"{name.replace('/', '-')}-{width}-{scheme}.png")
                    page.close()
                window.close()
    server.shutdown()
    return bad


if __name__ == "__main__":
    sys.exit(min(1, main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])))
