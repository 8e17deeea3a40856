"""lmtune: from text to a fine-tuned GPT-style language model you can trust.

The packages lie on five floors; imports go down only. Packages of one floor do not import each other, except that in
`a < b` the right one imports the left one (tests/test_floors.py checks all of this):

    floor 4  commands < cli < api                             one file per command; the only code that knows Hydra and the terminal
    floor 3  training                                         the only package that uses transformers.Trainer
    floor 3  serving                                          a model over HTTP, behind an access token
    floor 3  chat                                             models that answer prompts in a terminal
    floor 2  data, modeling < evaluation < reporting          text to blocks; models; numbers; pages and tables
    floor 2  modeling < exporting                             models for the Hub and for other programs
    floor 1  versions, familiar < upstream < upstream_docs < config   library versions; names in other libraries; configuration
    floor 1  storage < runs, token_stream < vocabulary, hub, carried, foreign    run folders; token ids; models and data of others
    floor 1  secrets                                          credentials, which no record may hold
    floor 0  environment, launcher                            variables that libraries read; processes that torchrun starts
    floor 0  errors, gauges < screen, stopping < console < patience   errors; signals; messages and progress
    floor 0  errors < plain_yaml, paths, urls                 untrusted YAML; paths and URLs that users type
    floor 0  notebook                                         output below a notebook cell
    floor 0  measures, units                                  names and labels of measures; amounts in words

Data flow: files -> documents -> split -> ids -> blocks -> batch -> loss -> sums -> metrics -> record -> report.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtune.api import evaluate, generate, load_config, show, train

__all__ = ["__version__", "evaluate", "generate", "load_config", "show", "train"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the Python API on first access (PEP 562), so that the command line starts faster."""
    if name not in __all__:
        raise AttributeError(f"module 'lmtune' has no attribute {name!r}")
    from lmtune import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
