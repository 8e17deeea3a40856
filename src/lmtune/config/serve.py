"""`lmtune serve`: where it listens, who may use it, and within which limits."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Any

from lmtune.config.checks import CommandConfig, check_checkpoints, list_checkpoints
from lmtune.config.commands import OutputFormat
from lmtune.config.keys import DEVICES, count, key, number
from lmtune.config.ranges import check_ranges


class LongPrompt(Enum):
    """What happens to a prompt that does not fit the context together with the requested text."""

    cut = "cut"
    """Its end is kept, and the answer says so."""
    refuse = "refuse"
    """Status 400."""


class ServePrecision(Enum):
    """The precision that a model is served in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(kw_only=True, slots=True)
class ServeSettings:
    """The server."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address requires a token of your own."""
    port: int = count(8000, most=65535, zero="any that is free")
    """Port to listen on; 0 for any that is free."""
    token_file: str | None = key(None, literal=True)
    """File with the token that requests must send. By default that of `LMTUNE_SERVE_TOKEN`, or one that is generated and shown."""
    device: str = key("auto", words=DEVICES)
    """Device to run on: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    dtype: ServePrecision = ServePrecision.float32
    """Precision of weights and activations."""
    slots: int = count(16, least=1, largest=1024)
    """Texts of each checkpoint that are written at the same time. Each needs memory for its keys and values."""
    queue: int = count(64, zero="none waits")
    """Texts that may wait for a slot; a request that would exceed this gets status 429."""
    context: int | None = count(None, least=2, unit="tokens")
    """Largest number of tokens in a prompt and its text together; by default the positions of the model, at most 4096."""
    long_prompt: LongPrompt = LongPrompt.cut
    """What happens to a prompt that does not fit: `cut` keeps its end and says so in the answer, `refuse` answers with status
    400."""
    max_new_tokens: int = count(1024, least=1, unit="tokens")
    """Longest text that a request may ask for."""
    max_sequences: int = count(16, least=1)
    """Largest number of texts that one request may ask for: prompts x n x the larger of beams and num_return_sequences."""
    max_body: int = count(1_000_000, least=1000, unit="bytes")
    """Largest body of a request; a larger one gets status 413."""
    max_seconds: float = number(300.0, above=0, unit="seconds")
    """Time limit of a request; its text ends there."""
    drain_seconds: int = count(30, least=1, unit="seconds")
    """Time that running requests have to finish after a signal to stop."""
    log_prompts: bool = False
    """Write prompts to the log. By default no text of a request is written anywhere."""

    def __post_init__(self) -> None:
        check_ranges(self, "serve.")

    @property
    def is_loopback(self) -> bool:
        """True if nothing outside this machine reaches the server."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


@dataclass(kw_only=True, slots=True)
class ServeConfig(CommandConfig):
    """`lmtune serve`."""

    ckpt: Any = key(None, literal=True, several=True, names_run="model")
    """Model to serve: a run (its folder, `last` or part of its name), a `checkpoint-<step>`, a model folder or a Hub id. Of
    several, `ckpt=[A,B]`, requests choose one by `model`."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout when the server has stopped: a line for people, or one JSON document."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, contain weights that its config does not describe, or have changed since they were
    saved."""
    serve: ServeSettings = key(ServeSettings)

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints that `ckpt` names."""
        return list_checkpoints(self.ckpt)

    def check_settings(self) -> None:
        """Raise ConfigError for mistakes that can be found before anything is loaded."""
        check_checkpoints(self.checkpoints, "lmtune serve")
