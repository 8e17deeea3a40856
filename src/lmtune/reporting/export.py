"""Descriptions of an exported model: on the terminal, and in the card of its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmtune import __version__
from lmtune.hub import is_hub_id
from lmtune.paths import shorten
from lmtune.reporting.card import render_card, render_use
from lmtune.reporting.samples import load_final
from lmtune.storage import Record
from lmtune.units import render_size

if TYPE_CHECKING:
    from lmtune.runs import Run

LABEL = 14
"""Characters of the column with names."""


def render_export(account: Record) -> list[str]:
    """Results of `lmtune export`: the files, their contents, and how close they are to the model."""
    types = ", ".join(f"{count:,} in {kind}" for kind, count in account["types"].items())
    rows = {
        "model": f"{account['ckpt']} ({account['architecture']}, {account['parameters']:,} parameters)",
        "weights": types,
        "vocabulary": _render_vocabulary(account.get("vocabulary")),
        "read back": _render_proof(account["proof"]),
        "files": ", ".join(f"{name} ({render_size(size)})" for name, size in account["files"].items()),
        "folder": str(shorten(Path(account["folder"]))),
    }
    return [f"{label:<{LABEL}}{text}" for label, text in rows.items() if text]


def _render_vocabulary(vocabulary: Record | None) -> str:
    if vocabulary is None:
        return ""
    unused = f", {vocabulary['unused']:,} of them without a token" if vocabulary["unused"] else ""
    missing = (
        f"; {vocabulary['missing_bytes']} bytes have none, and are left out of a text"
        if vocabulary["missing_bytes"]
        else ""
    )
    return f"{vocabulary['tokens']:,} rows{unused}, split as {vocabulary['splitter']}{missing}"


def _render_proof(proof: Record) -> str:
    if proof["largest"] == 0:
        return f"the same logits on {proof['tokens']} tokens, bit for bit"
    return (
        f"on {proof['tokens']} tokens {proof['divergence']:.1e} nats from the model in float32, the same likeliest token at "
        f"{proof['agreement']:.1%}"
    )


def render_export_card(path: str, name: str, run: Run | None, dtype: str, proof: Record) -> str:
    """The card of an exported folder: the run's card if it is the finished model of a run, else the known facts.

    path: what was exported. run: None unless its results belong to these weights. dtype: of the weights in the folder.
    """
    note = _render_note(dtype, proof)
    if run is None:
        return _render_plain(path, name, note)
    config = run.load_config()
    config["finetune"] = {**config["finetune"], "merge": True}  # an adapter is merged by now
    results = run.load_results()
    card = render_card(name, results, config, load_final(run, results, config))
    return f"{card}\n{note} Numbers above are of the weights before.\n" if note else card


def _render_plain(path: str, name: str, note: str) -> str:
    from huggingface_hub import ModelCardData

    base = path if is_hub_id(path) else None
    data = ModelCardData(base_model=base, library_name="transformers", pipeline_tag="text-generation", tags=["lmtune"])
    said = f"A causal language model{f', {base}' if base else ''}, exported with lmtune {__version__}."
    lines = [
        f"---\n{data.to_yaml()}\n---",
        "",
        f"# {name}",
        "",
        said,
        "",
        *([note, ""] if note else []),
        *render_use(),
    ]
    return "\n".join(lines) + "\n"


def _render_note(dtype: str, proof: Record) -> str:
    if proof["largest"] == 0:
        return ""
    return (
        f"Its weights were rounded to {dtype} for this folder: on {proof['tokens']} tokens its distributions are "
        f"{proof['divergence']:.1e} nats from those in float32, and the likeliest token is the same at {proof['agreement']:.1%}."
    )
