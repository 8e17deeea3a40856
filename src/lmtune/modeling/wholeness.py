"""Checks that a loaded model is what its files hold: every weight, no other, unchanged since they were sealed.

transformers initialises missing weights at random, ignores surplus ones, and only warns of both.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.foreign import CONFIG, Source
from lmtune.modeling.layers import embedding_weight
from lmtune.runs import MANIFEST, find_damage

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

CHECK = "check_weights=false"
SHOWN_NAMES = 3
"""Weights named in a message, at most."""
PREFIXES = {
    "_orig_mod.": "torch.compile puts it there. Save the model below it (model._orig_mod), or take it off the names.",
    "module.": "DistributedDataParallel puts it there. Save the model below it (model.module), or take it off the names.",
}
"""Prefixes that wrappers add to the names of weights, with remedies."""
MASKS = re.compile(
    r"(^|\.)(attn|attention)\.(attention\.|self\.)?(masked_bias|bias)$|rotary_emb\.inv_freq$|(^|\.)position_ids$"
)
"""Names of causal masks, frequencies and positions that older versions saved with the weights; models recompute them."""


REPORT, REPORTER = "LOAD REPORT", "transformers.modeling_utils"
"""Title of transformers' own table of such weights, and the logger that prints it."""


@contextmanager
def speaking_for_transformers(source: Source) -> Iterator[None]:
    """Suppress transformers' own table, which calls surplus weights harmless, if check_complete will report them."""

    def wanted(record: logging.LogRecord) -> bool:
        return not source.whole or REPORT not in record.getMessage()

    logger = logging.getLogger(REPORTER)
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


def check_sealed(source: Source) -> None:
    """Raise the source's error if its folder was sealed and has changed; folders without a seal are accepted."""
    if not source.whole or not source.is_folder:
        return
    fault = find_damage(Path(source.path))
    if fault is not None:
        raise source.error(
            f"{source}: {fault}, so it was damaged or changed since it was saved; expected every file as {MANIFEST} seals it. Copy "
            f"it again or take another checkpoint; where you changed it yourself, remove {MANIFEST}, or say {CHECK}."
        )


def check_complete(
    source: Source, model: PreTrainedModel, info: Mapping[str, Iterable[str]], described: str = CONFIG
) -> None:
    """Raise the source's error if the files lack weights of the model, or hold weights that it has no place for.

    info: what from_pretrained returns with output_loading_info=True. Tied heads are not missing, buffers are no weights.
    described: the file that determines which weights are needed.
    """
    if not source.whole:
        return
    missing, surplus = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    buffers = {name for name, _ in model.named_buffers()}
    surplus = [name for name in surplus if name not in buffers and not MASKS.search(name)]
    for prefix, remedy in PREFIXES.items():
        if any(name.startswith(prefix) or f".{prefix}" in name for name in surplus):
            raise source.error(
                f"{source}: the names of its weights carry the prefix {prefix}, so none of them is found; expected the names that "
                f"{type(model).__name__} has. {remedy}"
            )
    if missing or surplus:
        found = [f"it lacks {_list(missing)}"] if missing else []
        found += [f"it holds {_list(surplus)}, for which the model has no place"] if surplus else []
        raise source.error(
            f"{source}: its files are not those of the {type(model).__name__} that its {described} describes: {'; '.join(found)}. "
            "Missing weights would be drawn at random, and the others left out. Fetch all of it again, or mend its "
            f"{described}; {CHECK} takes it as it is."
        )
    _check_tied(source, model)


def _check_tied(source: Source, model: PreTrainedModel) -> None:
    """Raise if the config ties the head to the embedding, but the files hold a head that differs.

    A copy does no harm: peft stores an embedding that was trained whole and its head in two places.
    """
    import torch

    tied = getattr(model.config, "tie_word_embeddings", False) and getattr(model, "_tied_weights_keys", None)
    head, weight = getattr(model.get_output_embeddings(), "weight", None), embedding_weight(model)
    if tied and head is not None and head.shape == weight.shape and not torch.equal(head, weight):
        raise source.error(
            f"{source}: its {CONFIG} ties the head to the embedding, and its files hold two that differ. Set "
            f"tie_word_embeddings to false in its {CONFIG} where the head is meant; {CHECK} takes it as it is."
        )


def check_adapter_complete(
    source: Source, stored: Mapping[str, torch.Tensor], held: Mapping[str, torch.Tensor]
) -> None:
    """Raise the source's error if an adapter's file and the model with the adapter do not hold the same weights.

    stored, held: tensors by name, of the file and of the model.
    """
    import torch

    if not source.whole:
        return
    missing, surplus = sorted(held.keys() - stored.keys()), sorted(stored.keys() - held.keys())
    other = [name for name in stored.keys() & held.keys() if not torch.equal(stored[name].to(held[name]), held[name])]
    if missing or surplus or other:
        found = [f"it lacks {_list(missing)}"] if missing else []
        found += [f"it holds {_list(surplus)}, for which there is no place"] if surplus else []
        found += [f"{_list(other)} did not get into the model"] if other else []
        raise source.error(
            f"{source}: the weights of the adapter are not those that its settings describe: {'; '.join(found)}. Fetch it again, "
            f"and check that it belongs to its base; {CHECK} takes it as it is."
        )


def _list(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES:,} more"
