"""Which weights an adapter was trained on: recorded when it is saved, compared when it is loaded.

An adapter names its base by a folder or a repository, and either may hold another model by then, perhaps one of the same shapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.foreign import Source
from lmtune.modeling.wholeness import CHECK
from lmtune.runs import MANIFEST, load_manifest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KEY = "base"
"""Key of the record in the manifest of a checkpoint, and of a model that is an adapter alone."""
SAMPLED = 4096
"""Values of each tensor that are compared, at most: all of a large model would take minutes."""
SHOWN = 8
"""Digits of a hash in a message."""


def hash_base(model: PreTrainedModel) -> str | None:
    """xxh3-128 of the shapes of all weights and of at most SAMPLED values of each, spread over it evenly.

    Neither the names nor the order of the weights count, which other versions of transformers may change; a tied head counts once.
    None for weights that are stored nowhere as they are, on which no adapter can be loaded.
    """
    import xxhash

    if not model.name_or_path:
        return None
    digests = sorted(_hash_tensor(weight.detach()) for weight in model.parameters())
    return xxhash.xxh3_128_hexdigest(b"".join(digests))


def _hash_tensor(weight: torch.Tensor) -> bytes:
    import torch
    import xxhash

    stride = weight.numel() // SAMPLED | 1  # odd, so that it does not stay in one column of a matrix
    values = weight.reshape(-1)[::stride].to("cpu", torch.float32).contiguous()
    digest = xxhash.xxh3_128(str(tuple(weight.shape)).encode())
    digest.update(values.numpy().data)
    return digest.digest()


def check_same_base(source: Source, base: Source, model: PreTrainedModel) -> None:
    """Raise the source's error if `model`, loaded from `base`, is not the one that the adapter at `source` was trained on.

    Adapters without a record of that, such as those of other programs, are accepted.
    """
    manifest = load_manifest(Path(source.path)) if source.whole and source.is_folder else None
    recorded: str | None = (manifest or {}).get(KEY)
    found = hash_base(model)
    if recorded is None or found in (None, recorded):
        return
    raise source.error(
        f"{base}: expected the weights that the adapter was trained on, {recorded[:SHOWN]} in its {MANIFEST}, found others, "
        f"{found[:SHOWN]}, so its numbers and texts would be those of another model. Put the model back that was there; "
        f"{CHECK} takes it as it is."
    )
