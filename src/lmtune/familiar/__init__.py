"""What people type who come from other programs, and what it is called here.

Spelling alone would lead most of these astray: `dataset_name` is nearer to a label than to data.path.
"""

from collections.abc import Mapping

from lmtune.familiar.huggingface import RENAMED_TRAINING_ARGUMENTS, RUN_CLM, TRAINER, find_renamed
from lmtune.familiar.loops import FACTORIES, NANOGPT
from lmtune.familiar.others import GENERATING, HYDRA
from lmtune.familiar.word import Word, nothing, use

__all__ = ["BY_COMMAND", "RENAMED_TRAINING_ARGUMENTS", "WORDS", "Word", "find_renamed", "find_word"]

WORDS: Mapping[str, Word] = {**HYDRA, **GENERATING, **FACTORIES, **NANOGPT, **TRAINER, **RUN_CLM}

PRIVATE = nothing("Leave it out: a new repository is private unless public=true.")
OF_SPLIT = use("data.seed", remark="of the split")

BY_COMMAND: Mapping[str, Mapping[str, Word]] = {
    "train": {
        "ckpt": use("model.path", remark="to begin from a checkpoint; resume=RUN goes on with a run"),
        "prompt": use("prompts"),
    },
    "data": {"seed": OF_SPLIT},
    "eval": {
        "seed": OF_SPLIT,
        "batch_size": use("eval.batch_size"),
        "per_device_eval_batch_size": use("eval.batch_size"),
        "dtype": use("eval.dtype"),
        "torch_dtype": use("eval.dtype"),
        "max_length": use("eval.context"),
        "model_name_or_path": use("ckpt"),
        "base_model": use("ckpt"),
        "use_cpu": use("device=cpu"),
        "limit": use("suite.limit"),
        "stride": use("eval.stride"),
        "split": use("eval.split"),
        "validation_file": use("data.files"),
        "test_file": use("data.files"),
        "output_path": use("output"),
    },
    "generate": {
        "max_length": use("generation.max_length"),
        "max_tokens": use("generation.max_new_tokens"),
        "model_name_or_path": use("ckpt"),
        "base_model": use("ckpt"),
        "input_file": use("prompts_file"),
        "use_cpu": use("device=cpu"),
    },
    "push": {
        "private": PRIVATE,
        "hub_private_repo": PRIVATE,
    },
    "tokenizer": {
        "seed": OF_SPLIT,
        "train_file": use("data.files"),
        "model_name_or_path": use("model.path"),
        "max_length": use("tokenizer.max_length"),
    },
}
"""Where a word means something else for one command."""


def find_word(name: str, command: str = "") -> Word | None:
    """What a name of another program is called here; dashes and upper case do not matter."""
    plain = name.replace("-", "_").lower()
    return BY_COMMAND.get(command, {}).get(plain) or WORDS.get(plain)
