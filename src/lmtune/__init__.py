"""lmtune: from text to a fine-tuned GPT-style language model you can trust.

The house has six floors; imports go down only. Rooms of one floor do not know each other, except that in `a < b` the
right one knows the left one (tests/test_floors.py keeps all of this true):

    floor 4  commands < cli < api                             one file for each command; all that knows Hydra and the terminal
    floor 3  training                                         the only room that knows transformers.Trainer
    floor 3  serving                                          a model behind a token, over HTTP
    floor 3  chat                                             models that answer a prompt line
    floor 2  data, modeling < evaluation < reporting          text to blocks; models; numbers; pages and tables
    floor 2  modeling < exporting                             what leaves the machine: to the Hub, to other programs
    floor 1  versions, familiar < upstream < upstream_docs < config   libraries; others' names and words; what a command is told
    floor 1  storage < runs, token_stream < vocabulary, hub, carried, foreign    what a run leaves behind; ids; what others made
    floor 1  secrets                                          what must not be written down
    floor 0  environment, launcher                            variables that libraries read; processes that torchrun starts
    floor 0  errors, gauges < screen, stopping < console < patience   what can go wrong; signals; what is said, also of long work
    floor 0  errors < plain_yaml, paths, urls                 YAML that anyone wrote; paths and addresses that people type
    floor 0  notebook                                         what a notebook shows below a cell
    floor 0  measures, units                                  what is measured: names, labels, where shown; amounts in words

A datum's way: files -> documents -> split -> ids -> blocks -> batch -> loss -> sums -> metrics -> record -> report.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtune.api import evaluate, generate, load_config, show, train

__all__ = ["__version__", "evaluate", "generate", "load_config", "show", "train"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The Python API, imported when it is first asked for (PEP 562): the command line starts faster without."""
    if name not in __all__:
        raise AttributeError(f"module 'lmtune' has no attribute {name!r}")
    from lmtune import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
