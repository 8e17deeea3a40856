"""A name of another program, and remarks that several of them share."""

from typing import NamedTuple


class Word(NamedTuple):
    """A name of another program."""

    keys: tuple[str, ...] = ()
    """What to type instead, the likeliest first: a key, or a group with its choice (`tracker=wandb`)."""
    remark: str = ""
    """What is different here, or why there is nothing of the kind."""


def use(*keys: str, remark: str = "") -> Word:
    """There is a counterpart."""
    return Word(keys, remark)


def nothing(remark: str) -> Word:
    """There is none."""
    return Word((), remark)


FLOAT32 = nothing(
    "Weights are float32 while they learn; training.bf16=true computes in bfloat16, model.save_dtype=bfloat16 saves in it."
)
OWN_CODE = nothing("Not needed: code that comes with a model or a data set is never run.")
QUANTIZED = nothing("Weights are not quantized; finetune=lora and training.optim=adafactor take less memory.")
ATTENTION = nothing("Not needed: torch chooses the fastest attention of the device.")
WORKERS = nothing("Not needed: text is encoded by all cores, once, and kept.")
NEW_FOLDER = nothing("Not needed: each run gets a folder of its own, and none is overwritten.")
CACHE = use("cache", remark="lmtune data cache=prune empties the cache; LMTUNE_CACHE says where it lies")
REPORT = nothing("Not needed: report.html is written at each evaluation.")
SHARE = "a share: 0.05 for 5 percent"
