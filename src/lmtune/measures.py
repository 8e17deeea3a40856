"""The measures of a scored text: what each is called, and where it is shown.

evaluation/metrics.py computes them. This table is all that configuration, tables and pages need to know of them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a scored text."""

    name: str
    """Its key in results.json."""
    label: str
    """Its name in a terminal and in the report."""
    card_label: str
    """Its name on a model card, which is read without these pages."""
    per_token: bool = False
    """True where it compares only between models of one vocabulary."""
    greater_is_better: bool = False


LOSS = Measure("loss", "loss", "loss (nats per token)", per_token=True)
PERPLEXITY = Measure("perplexity", "perplexity", "perplexity per token", per_token=True)
ACCURACY = Measure("accuracy", "accuracy", "next-token accuracy", per_token=True, greater_is_better=True)
BITS_PER_BYTE = Measure("bits_per_byte", "bits per byte", "bits per byte")
BITS_PER_CHARACTER = Measure("bits_per_character", "bits per character", "bits per character")
WORD_PERPLEXITY = Measure("word_perplexity", "word perplexity", "perplexity per word")
SEPARATOR_LOSS = Measure("separator_loss", "separator loss", "loss of separators (nats)")

MEASURES = {
    measure.name: measure
    for measure in (
        LOSS,
        PERPLEXITY,
        ACCURACY,
        BITS_PER_BYTE,
        BITS_PER_CHARACTER,
        WORD_PERPLEXITY,
        SEPARATOR_LOSS,
    )
}
"""All of them by name, in the order of results.json."""

AMOUNTS = ("tokens", "words", "bytes")
"""Counts that stand beside them in results.json."""

SHOWN = (BITS_PER_BYTE, PERPLEXITY, WORD_PERPLEXITY, LOSS, ACCURACY)
"""Those of a table in a terminal or on a model card, from top to bottom."""

REPORTED = (*SHOWN, SEPARATOR_LOSS)
"""Measures of the report."""

BY_EVALUATION = (LOSS, ACCURACY, PERPLEXITY, BITS_PER_BYTE)
"""Those of each evaluation during training: the columns of GPorTuguese-2's card, then bits per byte."""

PUBLISHED = (BITS_PER_BYTE, PERPLEXITY, WORD_PERPLEXITY)
"""Those in the metadata of a model card, which the Hub reads."""
