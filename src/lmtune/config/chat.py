"""`lmtune chat`: the checkpoints that stay loaded, and the settings that texts are first written with."""

from dataclasses import dataclass
from typing import Any

from lmtune.config.checks import CommandConfig, check_checkpoints, list_checkpoints
from lmtune.config.commands import OutputFormat
from lmtune.config.generation import check_generation, settle_generation
from lmtune.config.keys import DEVICES, count, key, seed
from lmtune.config.ranges import check_ranges


@dataclass(kw_only=True, slots=True)
class ChatConfig(CommandConfig):
    """`lmtune chat`."""

    ckpt: Any = key(None, literal=True, several=True, names_run="model")
    """Model to use: a run (its folder, `last` or part of its name), a `checkpoint-<step>`, a model folder or a Hub id. Several,
    `ckpt=[A,B]`, answer side by side."""
    top: int = count(0, zero="off")
    """Show this many of the likeliest next tokens with their probabilities, instead of a text."""
    seed: int = seed(42)
    """Seed of sampling, set again for each text. `/again` takes the next one."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout: each text as it comes, or one JSON document at the end."""
    device: str = key("auto", words=DEVICES)
    """Device to run on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""
    generation: dict[str, Any] = key(dict, names="generation")

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints that `ckpt` names."""
        return list_checkpoints(self.ckpt)

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before anything is loaded."""
        check_checkpoints(self.checkpoints, "lmtune chat")
        check_ranges(self, "")
        check_generation(self.generation)

    def resolve(self, typed: frozenset[str] = frozenset()) -> None:
        """Resolve the length of a text. typed: keys given on the command line."""
        settle_generation(self.generation, typed)
