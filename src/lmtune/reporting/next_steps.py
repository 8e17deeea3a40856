"""Commands to suggest once a run has ended or was stopped."""

import shlex

from lmtune.paths import shorten
from lmtune.runs import Run
from lmtune.storage import Record


def render_next(run: Run, prompts: list[str]) -> list[str]:
    """Commands for a run that has completed, ready to be copied."""
    ckpt = _quote("ckpt", run)
    prompt = prompts[0] if prompts else "..."
    report = [f"  report: {shorten(run.report_file)}"] if run.report_file.exists() else []
    return [
        "next:",
        f"  lmtune generate {ckpt} {shlex.quote(f'prompt={prompt}')}",
        f"  lmtune eval {ckpt}",
        *report,
    ]


def render_shortfall(results: Record) -> list[str]:
    """A remark on a model that predicts the first held-out set no better than the frequencies of its tokens do; [] for others."""
    name = next(iter(results["eval"]), "")
    measures: Record = results["eval"].get(name, {})
    found, unigram = measures.get("bits_per_byte"), measures.get("unigram_bits_per_byte")
    if found is None or unigram is None or found < unigram:
        return []
    return [
        f"{name}: {found:.4f} bits per byte, where the frequencies of single tokens alone give {unigram:.4f} (unigram): the model "
        "has not learned yet how tokens follow each other. Train for longer: training.num_train_epochs= or training.max_steps= "
        "with more."
    ]


def render_resumption(run: Run) -> list[str]:
    """Commands for a run that was stopped and has a checkpoint to continue from."""
    return [
        "to go on, or to see what it has learned so far:",
        f"  lmtune train {_quote('resume', run)}",
        f"  lmtune generate {_quote('ckpt', run)} prompt=...",
    ]


def _quote(key: str, run: Run) -> str:
    return shlex.quote(f"{key}={shorten(run.folder)}")
