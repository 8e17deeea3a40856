"""lmtune: from text to a fine-tuned GPT-style language model you can trust.

The house has five floors; imports go down only. Rooms of one floor do not know each other, except that in `a < b` the
right one knows the left one (tests/test_floors.py keeps all of this true):

    floor 4  composition < commands < cli               how Hydra composes a command; one door each; the command line
    floor 3  training                                   the only room that knows transformers.Trainer
    floor 2  data, modeling, evaluation, reporting      text to blocks; models; numbers; pages
    floor 1  familiar < keys < config, overrides        names that others use, that transformers accepts; what a run is told
    floor 1  records < runs, streams, hub, secrets      what it leaves behind, is measured on, fetches, and keeps to itself
    floor 0  errors                                     what can go wrong, and whose turn it is

A datum's way: files -> documents -> split -> ids -> blocks -> batch -> loss -> sums -> metrics -> record -> report.
"""

__version__ = "0.1.0"
