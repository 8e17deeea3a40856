"""Run folders: their content, and the rules for starting, locking, sealing and resuming a run.

outputs/<name>/<date>/
    run.json             the mark: which run made this folder, and which names in it belong to the run
    config.yaml  .hydra/  ledger.json  past.npz  transplant.json  metrics.jsonl  samples.jsonl  samples.md  train.log
    checkpoint-<step>/   with manifest.json, written last
    model/               with manifest.json
    results.json  report.html  scores.npz

Nothing is deleted, replaced or appended to by its name alone: the mark or a manifest has to say that the run made it.
"""

from lmtune.runs.files import STATE, step_of
from lmtune.runs.folder import Run
from lmtune.runs.lock import Place
from lmtune.runs.manifest import MANIFEST, find_damage, find_fault, load_manifest, seal
from lmtune.runs.mark import MARK, Mark
from lmtune.runs.search import begin_at, begin_below, find_newest, find_resumed

__all__ = [
    "MANIFEST",
    "MARK",
    "STATE",
    "Mark",
    "Place",
    "Run",
    "begin_at",
    "begin_below",
    "find_damage",
    "find_fault",
    "find_newest",
    "find_resumed",
    "load_manifest",
    "seal",
    "step_of",
]
