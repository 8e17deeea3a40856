"""Which files of a run go to the Hub and which stay, each with the reason."""

from fnmatch import fnmatchcase
from pathlib import Path

from lmtune.exporting.contents import CARD, RESULTS, SETTINGS, VOCABULARIES, WEIGHTS, Package
from lmtune.runs import MANIFEST
from lmtune.storage import Record

GOES = (
    ((CARD,), "the model card, written from the run"),
    ((RESULTS,), "the numbers with their protocol, without what names the run folder"),
    (WEIGHTS, "weights, or what tells how they are loaded"),
    (VOCABULARIES, "vocabulary of the tokenizer"),
    (SETTINGS, "settings that transformers reads"),
)

STAYS = (
    (f"model/{MANIFEST}", "seals the folder here"),
    (f"model/{CARD}", "the card as it was at the end of the run; the one that goes is written anew"),
    ("model/*", "not on the list of what may go"),
    ("checkpoint-*", "weights and states of optimizers, to resume from here"),
    ("config.yaml", "all settings, with paths of this machine; the card tells them in words"),
    (".hydra", "the settings as they were typed"),
    ("ledger.json", "names of the files of the text; the card has sizes and checksums"),
    ("results.json", "the one that goes is without what names the run folder"),
    ("samples.*", "all that was written while learning; the card has the last samples"),
    ("metrics.jsonl", "every step; the card has the table by evaluation"),
    ("report.html", "all settings, and paths of this machine"),
    ("train.log", "what was said, with paths of this machine"),
    ("*", "of this run alone"),
)


def list_going(package: Package) -> list[Record]:
    """The files that go, by name, with bytes and reason."""
    sizes = {name: file.stat().st_size for name, file in package.files.items()}
    sizes |= {name: len(text.encode()) for name, text in package.texts.items()}
    return [{"name": name, "bytes": size, "why": _find_reason(name)} for name, size in sorted(sizes.items())]


def list_staying(run: Path, package: Package) -> list[Record]:
    """The other files in the run folder, by name, with the reason."""
    beside = [path.name for path in run.iterdir() if path.name != "model"]
    inside = [f"model/{name}" for name in (*package.left_out, MANIFEST, CARD) if (run / "model" / name).exists()]
    return [
        {"name": name, "why": next(why for pattern, why in STAYS if fnmatchcase(name, pattern))}
        for name in sorted([*inside, *beside])
    ]


def _find_reason(name: str) -> str:
    return next(why for patterns, why in GOES if any(fnmatchcase(name, pattern) for pattern in patterns))
