"""The identity of a run's text: recorded when the run starts, compared when its split is scored again."""

import logging
from typing import Any

from lmtune.config import EvalSplit
from lmtune.data.build import describe_stream
from lmtune.data.corpus import Corpus
from lmtune.data.prepared import Facts, StreamFacts
from lmtune.errors import CheckpointError
from lmtune.runs import Run
from lmtune.token_stream import TokenStream

logger = logging.getLogger(__name__)

FACTS = ("corpus", "held_out")


def describe_text(facts: Facts) -> dict[str, Any]:
    """The facts of a prepared text that identify it, as results.json has them."""
    return {name: value for name, value in facts.items() if name in FACTS}


def load_facts(run: Run) -> dict[str, Any]:
    """What a run recorded of its text, {} where no record of it is left."""
    try:
        found = run.find_results().get("text") or {}
    except CheckpointError:
        found = {}
    if "corpus" not in found:
        found = next((manifest["facts"] for _, manifest in run.manifests() if "facts" in manifest), {})
    return dict(found)


ELSEWHERE = "score other text with data.files=, "
"""What else there is to do about a changed text, for the commands that score any text."""


def resolve_change(
    run: Run, corpus: Corpus, split: EvalSplit, whole: TokenStream | None, accepted: bool, elsewhere: str = ELSEWHERE
) -> bool:
    """True where the text of a run has changed since its training, and that is accepted.

    whole: the split as it is now, None for the training split, of which no more than the text as a whole is recorded.
    accepted: `changed_text=true`. elsewhere: what else there is to do about it. Raises CheckpointError for a change that is not
    accepted.
    """
    change = find_change(load_facts(run), corpus, split, whole)
    if change is None:
        return False
    if not accepted:
        raise CheckpointError(
            f"{run.folder}: its text has changed since it was trained: {change}. What is held out now may be what the model has "
            f"learned. Put the text back as it was, {elsewhere}or say changed_text=true to take this one."
        )
    logger.info("%s: its text has changed since it was trained: %s; it may have learned some of it", run.folder, change)
    return True


def find_change(facts: dict[str, Any], corpus: Corpus, split: EvalSplit, whole: TokenStream | None) -> str | None:
    """How the split differs from the one that was recorded in `facts`, in words; None where it does not."""
    before = facts.get("held_out", {}).get(split.value)
    if before is not None and whole is not None:
        now = describe_stream(whole)
        return (
            None if now["text"] == before["text"] else f"{split.value} was {_render(before)}, and is {_render(now)} now"
        )
    if "corpus" not in facts:
        logger.info("which text the run was trained with is recorded nowhere, so whether it has changed is not known")
        return None
    if facts["corpus"] == corpus.key:
        return None
    return "its content, or how it is read, is another"


def _render(held: StreamFacts) -> str:
    return f"{held['documents']:,} documents of {held['bytes']:,} bytes ({held['text'][:8]})"
