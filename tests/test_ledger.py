"""Counts of a split: what is added in pieces is what is counted at once."""

import numpy as np

from lmtune.data.ledger import Counts, Ledger
from lmtune.reporting.language import EN, PT
from lmtune.reporting.text_flow import describe_lengths
from lmtune.token_stream import DOCUMENT_TABLE

LENGTHS = [1, 2, 3, 4, 7, 8, 1023, 1024]


def count(lengths):
    table = np.zeros(len(lengths), DOCUMENT_TABLE)
    table["tokens"] = lengths
    counts = Counts()
    counts.add(table)
    return counts


def test_lengths_are_counted_by_powers_of_two_and_add_up():
    whole = count(LENGTHS)
    assert whole.lengths == [1, 2, 2, 1, 0, 0, 0, 0, 0, 1, 1]
    joined = count(LENGTHS[:3])
    joined.join(count(LENGTHS[3:]))
    assert joined == whole
    assert count([]).lengths == []


def test_the_page_says_how_long_documents_are():
    ledger = {"sides": {"train": {"lengths": count(LENGTHS).lengths}}}
    assert describe_lengths(ledger, EN) == (
        "Half of the 8 training documents have fewer than 8 tokens, nine in ten fewer than 2,048; none has 2,048 or more."
    )
    assert "nenhum chega a 2.048" in describe_lengths(ledger, PT)
    alike = {"sides": {"train": {"lengths": [0, 0, 19, 1]}}}
    assert describe_lengths(alike, EN) == (
        "Nine in ten of the 20 training documents have fewer than 8 tokens; none has 16 or more."
    )
    assert describe_lengths({"sides": {"train": {}}}, EN) is None


def test_old_text_of_a_run_stays_where_its_reading_begins_anew():
    ledger = Ledger()
    before = ledger.as_dict()
    ledger.rows_read, ledger.replay = 3, {"source": "old", "blocks": 2}
    ledger.restore(before)
    assert (ledger.rows_read, ledger.replay) == (0, {"source": "old", "blocks": 2})
