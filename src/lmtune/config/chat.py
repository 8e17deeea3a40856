"""`lmtune chat`: what is kept loaded, and how texts are written until something else is said."""

from dataclasses import dataclass
from typing import Any

from lmtune.config.checks import CommandConfig, check_checkpoints, list_checkpoints
from lmtune.config.commands import OutputFormat
from lmtune.config.generation import check_generation, settle_generation
from lmtune.config.keys import count, key, seed
from lmtune.config.ranges import check_ranges


@dataclass(kw_only=True, slots=True)
class ChatConfig(CommandConfig):
    """`lmtune chat`."""

    ckpt: Any = key(None, literal=True, several=True, names_run="model")
    """Run (folder, `last` or part of its name), `checkpoint-<step>`, model folder or Hub id; several, `ckpt=[A,B]`, answer
    side by side."""
    top: int = count(0, zero="off")
    """Show this many likeliest next tokens with their probabilities, instead of a text."""
    seed: int = seed(42)
    """Seed of sampling; set again for each text. `/again` takes the next one."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: each text as it comes, or one JSON document at the end."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, hold others than its config describes, or are not as they were sealed."""
    generation: dict[str, Any] = key(dict, names="generation")

    @property
    def checkpoints(self) -> list[str]:
        """What `ckpt` names, one or several."""
        return list_checkpoints(self.ckpt)

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_checkpoints(self.checkpoints, "lmtune chat")
        check_ranges(self, "")
        check_generation(self.generation)

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Settle the length of a text. typed: keys of the command line."""
        settle_generation(self.generation, typed)
