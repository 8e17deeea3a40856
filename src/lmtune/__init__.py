"""lmtune: from text to a fine-tuned GPT-style language model you can trust.

The house has five floors; imports go down only, and two rooms of one floor do not know each other
(tests/test_floors.py keeps it true):

    floor 4  cli, commands                               the command line; one door per command
    floor 3  training                                    the only room that knows transformers.Trainer
    floor 2  data, modeling, evaluation, reporting       text to blocks; models; numbers; pages
    floor 1  config, keys, overrides, runs, streams      what a run is told, leaves behind, and is measured on
    floor 0  errors

A datum's way: files -> documents -> split -> ids -> blocks -> batch -> loss -> sums -> metrics -> record -> report.
"""

__version__ = "0.1.0"
