"""The commands."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A command: the module whose `run` takes its config and returns a Result, and a line of help."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("lmtune.commands.train", "fine-tune a model; checkpoints, perplexity, samples, report"),
    "eval": Command("lmtune.commands.evaluate", "perplexity, bits per byte and accuracy of a checkpoint"),
    "data": Command("lmtune.commands.data", "where every document and token goes; nothing is trained"),
    "generate": Command("lmtune.commands.generate", "continue a prompt with a checkpoint"),
    "lr-find": Command("lmtune.commands.lr_find", "which learning rates suit a training: an LR range test"),
    "tokenizer": Command("lmtune.commands.tokenizer", "learn a byte-level BPE vocabulary from text"),
}
