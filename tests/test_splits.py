"""Held out means held out: sides are disjoint, complete, seeded, and never empty."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtune.config import SplitRule
from lmtune.data import splits
from lmtune.data.columns import build_texts
from lmtune.data.ledger import SPLITS
from lmtune.errors import DataError

DOCUMENTS = [f"Documento número {number}, com algumas palavras.\nE outra linha." for number in range(400)]


def split(texts, rule, validation, test, seed, batch=7):
    """Texts of each side, dealt out in small batches."""
    shares = splits.Shares(validation, test)
    columns = [build_texts(texts[begin : begin + batch]) for begin in range(0, len(texts), batch)]
    chars = np.array([len(text) for text in texts])
    if rule is SplitRule.hash:
        dealt = [splits.assign_by_hash(column, shares, seed) for column in columns]
    else:
        dealt = list(splits.assign_by_stretches(columns, chars, shares, seed))
    sides = {side: [text for deal in dealt for text in deal.get(side, build_texts([])).to_pylist()] for side in SPLITS}
    splits.check_splits({side: len(found) for side, found in sides.items()}, chars, shares)
    return sides


fractions = st.sampled_from([0.02, 0.05, 0.2, 0.5])
seeds = st.integers(0, 2**31)


def pieces(sides):
    return [text for side in sides.values() for text in side]


@given(
    texts=st.lists(st.text(min_size=1, max_size=30), min_size=40, max_size=80, unique=True),
    validation=fractions,
    seed=seeds,
)
@settings(max_examples=60, deadline=None)
def test_hash_split_deals_out_every_document_once(texts, validation, seed):
    try:
        sides = split(texts, SplitRule.hash, validation, 0.2, seed)
    except DataError:
        return  # an empty side is refused; the other examples hold
    assert Counter(pieces(sides)) == Counter(texts)


def test_hash_split_meets_its_fractions():
    sides = split(DOCUMENTS, SplitRule.hash, 0.1, 0.2, 1)
    assert 20 <= len(sides["validation"]) <= 60
    assert 55 <= len(sides["test"]) <= 105


def test_a_document_keeps_its_side_when_others_are_added():
    before = split(DOCUMENTS[:200], SplitRule.hash, 0.1, 0.0, 1)
    after = split(DOCUMENTS, SplitRule.hash, 0.1, 0.0, 1)
    assert set(before["validation"]) <= set(after["validation"])
    assert set(before["train"]) <= set(after["train"])


def test_equal_documents_fall_on_one_side():
    sides = split(DOCUMENTS + DOCUMENTS, SplitRule.hash, 0.1, 0.0, 1)
    assert not set(sides["train"]) & set(sides["validation"])


def test_another_seed_holds_out_other_documents():
    one, two = (split(DOCUMENTS, SplitRule.hash, 0.1, 0.0, seed)["validation"] for seed in (1, 2))
    assert set(one) != set(two)


@given(
    lines=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=200),
        min_size=30,
        max_size=200,
    ),
    documents=st.integers(1, 5),
    seed=seeds,
)
@settings(max_examples=60, deadline=None)
def test_stretches_cut_every_character_out_once(lines, documents, seed):
    step = -(-len(lines) // documents)
    texts = ["\n".join(lines[start : start + step]) for start in range(0, len(lines), step)]
    try:
        sides = split(texts, SplitRule.stretches, 0.1, 0.1, seed)
    except DataError:
        return
    assert Counter("".join(pieces(sides))) == Counter("".join(texts))
    for piece in sides["validation"]:
        assert any(piece in text for text in texts)


def test_stretches_end_at_line_ends_and_are_long():
    text = "\n".join(f"Linha {number} de um romance muito comprido, com palavras." for number in range(40_000))
    sides = split([text], SplitRule.stretches, 0.05, 0.0, 3)
    assert sum(map(len, sides["validation"])) == pytest.approx(0.05 * len(text), rel=0.1)
    assert all(len(piece) >= 0.9 * splits.STRETCH_CHARS for piece in sides["validation"])
    assert all(piece.startswith("Linha") for piece in sides["train"] + sides["validation"])


def test_text_without_white_space_is_cut_all_the_same():
    text = "医" * 20_000
    sides = split([text], SplitRule.stretches, 0.05, 0.0, 3)
    assert len("".join(pieces(sides))) == len(text)
    assert 900 <= len("".join(sides["validation"])) <= 1100


def test_one_enormous_line_is_cut_between_words():
    text = "palavra " * 200_000
    sides = split([text], SplitRule.stretches, 0.05, 0.0, 3)
    assert "".join(sorted(pieces(sides))) == text
    assert all(piece.startswith("palavra") for piece in pieces(sides))


@pytest.mark.parametrize(
    ("texts", "rule"),
    [
        (DOCUMENTS, SplitRule.hash),
        (DOCUMENTS[:19], SplitRule.stretches),
        ([*DOCUMENTS[:100], "x" * 100_000], SplitRule.stretches),
    ],
)
def test_few_or_uneven_documents_are_held_out_in_stretches(texts, rule):
    chars = np.array([len(text) for text in texts])
    assert splits.choose_rule(chars, None) is rule
    assert splits.choose_rule(chars, SplitRule.hash) is SplitRule.hash


def test_an_empty_side_is_refused_with_sizes_and_remedy():
    with pytest.raises(
        DataError, match=r"validation side is empty: 2 documents of 2 characters.*Raise data.validation_fraction"
    ):
        split(["a", "b"], SplitRule.hash, 0.0001, 0.0, 1)
    with pytest.raises(DataError, match="Nothing is left to train on"):
        split(["a b"], SplitRule.stretches, 0.9999, 0.0, 1)
