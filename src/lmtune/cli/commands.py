"""The commands: the configuration, module and summary of each. Importing this imports no command."""

from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    module: str
    """The module whose `run` does the work."""
    schema: str
    """Name of its configuration class in lmtune.config."""
    summary: str
    trains: bool = False
    """Takes the keys of a training."""
    resumes: bool = False
    """Takes resume=RUN."""
    words: str = ""
    """The key that takes words without a key, as in `lmtune compare RUN RUN`."""

    def load_schema(self) -> type:
        """Its configuration class."""
        schema: type = getattr(import_module("lmtune.config"), self.schema)
        return schema


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "train",
            "lmtune.commands.train",
            "TrainConfig",
            "fine-tune a model; checkpoints, perplexity, samples, report",
            trains=True,
            resumes=True,
        ),
        Command(
            "check",
            "lmtune.commands.check",
            "CheckConfig",
            "what a training would do: tokens, steps, memory, disk, time; nothing is trained",
            trains=True,
            resumes=True,
        ),
        Command(
            "eval",
            "lmtune.commands.evaluate",
            "EvalCommandConfig",
            "perplexity, bits per byte and accuracy of a checkpoint",
        ),
        Command(
            "data",
            "lmtune.commands.data",
            "DataCommandConfig",
            "where every document and token goes; nothing is trained",
        ),
        Command("generate", "lmtune.commands.generate", "GenerateConfig", "continue a prompt with a checkpoint"),
        Command("chat", "lmtune.commands.chat", "ChatConfig", "a prompt line that keeps checkpoints loaded"),
        Command(
            "lr-find",
            "lmtune.commands.lr_find",
            "LrFindConfig",
            "which learning rates suit a training: an LR range test",
            trains=True,
        ),
        Command(
            "tokenizer",
            "lmtune.commands.tokenizer",
            "TokenizerCommandConfig",
            "learn a byte-level BPE vocabulary from text, or extend that of a model",
        ),
        Command(
            "export",
            "lmtune.commands.export",
            "ExportConfig",
            "a checkpoint as a GGUF file for llama.cpp, or as a folder for transformers and vLLM",
        ),
        Command(
            "fetch",
            "lmtune.commands.fetch",
            "FetchConfig",
            "models and data sets of the Hub in a folder for a machine without a network",
        ),
        Command(
            "push",
            "lmtune.commands.push",
            "PushConfig",
            "a finished model to the Hub, with its card",
        ),
        Command(
            "runs",
            "lmtune.commands.runs",
            "RunsConfig",
            "the runs there are: name, date, steps, bits per byte, status",
            words="folder",
        ),
        Command(
            "compare",
            "lmtune.commands.compare",
            "CompareConfig",
            "runs side by side: what differed, and which is best on the same text",
            words="runs",
        ),
        Command(
            "report",
            "lmtune.commands.report",
            "ReportCommandConfig",
            "one page for a run or a sweep, written anew from its folder",
            words="run",
        ),
        Command(
            "audit",
            "lmtune.commands.audit",
            "AuditCommandConfig",
            "what a model has memorised: canaries, passages and identifiers of its training text",
        ),
        Command(
            "serve",
            "lmtune.commands.serve",
            "ServeConfig",
            "an HTTP API with a token, and a page to play with prompts",
        ),
    )
}
