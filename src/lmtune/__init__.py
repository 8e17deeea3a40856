"""lmtune: from text to a fine-tuned GPT-style language model you can trust.

The house has six floors; imports go down only. Rooms of one floor do not know each other, except that in `a < b` the
right one knows the left one (tests/test_floors.py keeps all of this true):

    floor 5  resumption, sweeps, commands < cli                      the commands, one run again, many runs; the door
    floor 4  user_conf, schemas, effects < explain < composition     what a command may be told, and how Hydra composes it
    floor 3  training                                                the only room that knows transformers.Trainer
    floor 2  data, modeling, evaluation                              text to blocks; models; numbers
    floor 2  reporting, exporting                                    pages; what leaves the machine
    floor 1  familiar < keys < config, overrides                     others' names, transformers' names; what a run is told
    floor 1  records < runs, streams < vocabulary, hub, foreign      what it leaves behind, is measured on, fetches, never runs
    floor 1  options, secrets                                        what stands beside keys; what is kept to itself
    floor 0  errors < console, stopping, patience                    what can go wrong; what is said, also of long work; signals
    floor 0  errors < plain_yaml, paths                              YAML that anyone wrote; paths that people type

A datum's way: files -> documents -> split -> ids -> blocks -> batch -> loss -> sums -> metrics -> record -> report.
"""

__version__ = "0.1.0"
