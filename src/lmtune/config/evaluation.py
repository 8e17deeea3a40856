"""`eval` and `suite=`: how numbers are measured."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from lmtune import upstream
from lmtune.config.checks import require
from lmtune.config.keys import count, key, number
from lmtune.config.ranges import check_ranges
from lmtune.errors import ConfigError


class EvalSplit(Enum):
    """Which documents `lmtune eval` scores."""

    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


WHILE_TRAINING = 250_000
"""Held-out tokens that an evaluation while training scores, unless eval.max_tokens= says otherwise."""


class EvalPrecision(Enum):
    """In which precision a model is evaluated. The softmax is at least float32, the sums are float64."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """How held-out text is scored."""

    context: int | None = count(None, least=1, unit="tokens")
    """Tokens of a window; by default the positions of the model, at most 1024."""
    stride: int | None = count(None, least=1, unit="tokens")
    """Tokens from one window to the next; by default the whole window. Less gives each token more context, at more cost."""
    dtype: EvalPrecision = EvalPrecision.float32
    """Precision of weights and activations while scoring."""
    batch_size: int = count(8, least=1)
    """Windows scored at once by `lmtune eval` (while training: `training.per_device_eval_batch_size`)."""
    max_tokens: int | None = count(None, zero="all", largest=2**53)
    """Tokens scored, the same ones each time; 0 for all. While training 250,000 by default, in `lmtune eval` all."""
    final_max_tokens: int = count(0, zero="all", largest=2**53)
    """Held-out tokens scored by the final evaluation of a training; by default all."""
    max_lost: float = number(0.01, least=0, most=1)
    """Share of a scored text's bytes that the vocabulary may lose (unknown words, case, accents, blanks); more is an error."""
    split: EvalSplit | None = None
    """Which documents `lmtune eval` scores; by default `validation`, and `all` for `data.files`."""
    per_document: bool = False
    """`lmtune eval` lists every document with its bits per byte, the worst first: in the JSON, or in a .csv file
    below `output=`."""

    def __post_init__(self) -> None:
        check_ranges(self, "eval.")

    @property
    def selection(self) -> int:
        """Tokens that an evaluation while training scores; 0 for all."""
        return WHILE_TRAINING if self.max_tokens is None else self.max_tokens


class SuiteProfile(Enum):
    """Whose protocol the tasks of `suite=gpt2-zeroshot` follow."""

    paper = "paper"
    hf_docs = "hf_docs"
    lm_eval = "lm_eval"


@dataclass(kw_only=True, slots=True)
class SuiteConfig:
    """Benchmarks that `lmtune eval` runs instead of scoring text."""

    name: str = "gpt2-zeroshot"
    """Name of the group. A label: it chooses nothing."""
    harness: bool = False
    """True for tasks of EleutherAI's harness (the extra `bench`), false for GPT-2's zero-shot table."""
    profile: SuiteProfile = SuiteProfile.paper
    """Protocol of gpt2-zeroshot: that of the paper, of transformers' documentation (a strided loop) or of lm-eval."""
    tasks: list[str] = key(list)
    """Names of tasks; by default all of gpt2-zeroshot."""
    files: dict[str, Any] = key(dict, open=True, literal=True)
    """Local copies by task: `suite.files.lambada=lambada.jsonl`; otherwise the Hub."""
    include: str | None = None
    """Folder with your own task files for the harness."""
    limit: int | None = count(None, least=1, unit="examples")
    """Only this many examples (lines of running text) of each task, from the first; for a try."""

    def __post_init__(self) -> None:
        check_ranges(self, "suite.")

    def check_settings(self) -> None:
        """Raise ConfigError for tasks that the suite does not have."""
        if self.harness:
            require(
                bool(self.tasks), "suite.tasks", self.tasks, "names of the harness's tasks, such as [lambada_openai]"
            )
            return
        for own, names in (("tasks", self.tasks), ("files", list(self.files))):
            for name in names:
                if name not in ZEROSHOT_TASKS:
                    raise ConfigError(
                        f"suite.{own}={name}: expected some of {', '.join(ZEROSHOT_TASKS)}."
                        f"{upstream.render_suggestion(name, ZEROSHOT_TASKS)}"
                    )


ZEROSHOT_TASKS = ("lambada", "cbt-cn", "cbt-ne", "wikitext-2", "ptb", "enwik8", "text8", "wikitext-103", "lm1b")
"""The sets of GPT-2's zero-shot table."""
