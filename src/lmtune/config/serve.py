"""`lmtune serve`: where it listens, who may ask, and how much."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from typing import Any

from lmtune.config.checks import CommandConfig, check_checkpoints, list_checkpoints
from lmtune.config.commands import OutputFormat
from lmtune.config.keys import count, key, number
from lmtune.config.ranges import check_ranges


class LongPrompt(Enum):
    """What becomes of a prompt that does not fit the context together with the text that is asked for."""

    cut = "cut"
    """Its end is kept, and the answer says so."""
    refuse = "refuse"
    """Status 400."""


class ServePrecision(Enum):
    """In which precision a model is served."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@dataclass(kw_only=True, slots=True)
class ServeSettings:
    """The server."""

    host: str = "127.0.0.1"
    """Address to listen on; another than a loopback address needs a token of your own."""
    port: int = count(8000, most=65535, zero="any that is free")
    """Port to listen on; 0 for any that is free."""
    token_file: str | None = key(None, literal=True)
    """File whose text is the token that requests have to bring. Without it `LMTUNE_SERVE_TOKEN`, else one is made and shown."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    dtype: ServePrecision = ServePrecision.float32
    """Precision of weights and activations."""
    slots: int = count(16, least=1, largest=1024)
    """Texts of each checkpoint that are written at the same time. Each takes memory for its keys and values."""
    queue: int = count(64, zero="none waits")
    """Texts that may wait for a slot; a request that would make them more gets status 429."""
    context: int | None = count(None, least=2, unit="tokens")
    """Tokens that a prompt and its text have together; by default the positions of the model, at most 4096."""
    long_prompt: LongPrompt = LongPrompt.cut
    """A prompt that does not fit: its end is kept and the answer says so, or it is refused."""
    max_new_tokens: int = count(1024, least=1, unit="tokens")
    """The longest text that a request may ask for."""
    max_sequences: int = count(16, least=1)
    """Texts that one request may ask for: prompts x n x the larger of beams and num_return_sequences."""
    max_body: int = count(1_000_000, least=1000, unit="bytes")
    """The largest body of a request; a larger one gets status 413."""
    max_seconds: float = number(300.0, above=0, unit="seconds")
    """The longest that a request may take; its text ends there."""
    drain_seconds: int = count(30, least=1, unit="seconds")
    """How long running requests may go on after a signal to stop."""
    log_prompts: bool = False
    """Write prompts into the log. Otherwise no text of a request is written anywhere."""

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
    """Run (folder, `last` or part of its name), `checkpoint-<step>`, model folder or Hub id; of several,
    `ckpt=[A,B]`, requests choose one by `model`."""
    format: OutputFormat = OutputFormat.table
    """What is written to stdout when the server has stopped: a line for people, or one JSON document."""
    check_weights: bool = True
    """Refuse a model whose files lack weights, hold others than its config describes, or are not as they were sealed."""
    serve: ServeSettings = key(ServeSettings)

    @property
    def checkpoints(self) -> list[str]:
        """What `ckpt` names, one or several."""
        return list_checkpoints(self.ckpt)

    def check_settings(self) -> None:
        """Raise ConfigError for what can be known before anything is loaded."""
        check_checkpoints(self.checkpoints, "lmtune serve")
