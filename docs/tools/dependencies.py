"""The table of docs/dependencies.md: what an installation of lmtune brings, with licences, from the metadata of what is installed.

python docs/tools/dependencies.py docs/dependencies.md
"""

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("lora", "serve", "export", "audit")
START = "<!-- packages -->\n"
WORDS = {
    "Apache Software License": "Apache-2.0", "MIT License": "MIT", "BSD License": "BSD", "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "Python Software Foundation License": "PSF-2.0",
    "Apache License 2.0": "Apache-2.0", "Apache 2.0 License": "Apache-2.0", "Apache 2.0": "Apache-2.0", "Apache": "Apache-2.0",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.1-or-later",
    "BSD-3": "BSD-3-Clause", "Apache Software": "Apache-2.0", "3-Clause BSD License": "BSD-3-Clause", "new BSD": "BSD-3-Clause",
}  # fmt: skip


def list_required(name: str, extras: set[str]) -> list[Requirement]:
    """What a package requires here, with these of its extras."""
    wanted = map(Requirement, metadata.requires(name) or [])
    environments = [{"extra": extra} for extra in ("", *extras)]
    return [each for each in wanted if each.marker is None or any(map(each.marker.evaluate, environments))]


def collect(name: str, extras: set[str], found: dict[str, metadata.Distribution]) -> None:
    """Add all that a package requires, at any depth, as far as it is installed."""
    for wanted in list_required(name, extras):
        key = canonicalize_name(wanted.name)
        if key not in found:
            try:
                found[key] = metadata.distribution(wanted.name)
            except metadata.PackageNotFoundError:
                continue
            collect(wanted.name, set(wanted.extras), found)


def find_licence(package: metadata.Distribution) -> str:
    """As the package states it: an SPDX expression, a classifier, or a short text."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return expression
    classifiers = [
        line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    classifiers = [word for word in classifiers if word != "OSI Approved"]
    short = (about.get("License") or "").splitlines()[:1]
    stated = [*classifiers, *short, "not stated"]
    return " or ".join(WORDS.get(word, word) for word in classifiers) or WORDS.get(stated[0], stated[0])


def render() -> str:
    """The table, direct dependencies first."""
    found: dict[str, metadata.Distribution] = {}
    collect("lmtune", set(EXTRAS), found)
    direct = {canonicalize_name(wanted.name) for wanted in list_required("lmtune", set(EXTRAS))}
    ours = {
        canonicalize_name(wanted.name): extra or "lmtune"
        for extra in (*EXTRAS, "")
        for wanted in list_required("lmtune", {extra} if extra else set())
    }
    rows = [
        f"| {package.metadata['Name']} | {package.version} | {find_licence(package)} | {ours.get(name, '')} |"
        for name, package in sorted(found.items(), key=lambda item: (item[0] not in direct, item[0]))
    ]
    return "\n".join(("| package | version | licence | required by |", "|---|---|---|---|", *rows, ""))


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(page.read_text(encoding="utf-8").partition(START)[0] + START + render(), encoding="utf-8")
