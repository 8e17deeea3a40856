"""Copies of held-out text are found wherever they begin, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtune.config import DataConfig, SplitRule
from lmtune.data.columns import build_texts
from lmtune.data.corpus import Corpus
from lmtune.data.passages import Copies, cut_passages
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import DataError

words = st.text("ab .!?\n\t。éu", max_size=60)


@settings(deadline=None)  # the first call imports
@given(st.lists(words, max_size=6))
def test_passages_cover_all_that_is_not_blank(texts):
    cut = cut_passages(build_texts(texts))
    inked = [sum(byte > 0x20 for byte in text.encode()) for text in texts]
    assert np.bincount(cut.documents, weights=cut.sizes, minlength=len(texts)).tolist() == inked
    assert (cut.sizes > 0).all()


@given(st.lists(words, min_size=1, max_size=6), st.integers(0, 5))
def test_a_passage_has_its_hash_wherever_it_stands(texts, place):
    together = cut_passages(build_texts(texts))
    alone = cut_passages(build_texts([texts[place % len(texts)]]))
    assert together.hashes[together.documents == place % len(texts)].tolist() == alone.hashes.tolist()


@given(st.lists(words, max_size=4), st.lists(words, max_size=4))
def test_what_is_left_and_what_is_left_out_add_up(texts, held):
    left, copied = Copies([build_texts(held)]).leave_out(build_texts(texts))
    assert sum(len(text.encode()) for text in left.to_pylist()) + copied == sum(len(text.encode()) for text in texts)


PIECE = "".join(f"O conto número {n} fala de uma casa e de {n * n} gatos.\n" for n in range(4))


@pytest.mark.parametrize(
    "around", [("", ""), ("Antes vem isto.\n", ""), ("", "Depois, o fim.\n"), ("Um.\n", "Dois.\n")]
)
@pytest.mark.parametrize(
    "change", [str, lambda text: text.replace("\n", "\r\n"), lambda text: text.replace(" ", "   ")]
)
def test_a_copy_is_cut_out_of_its_surroundings(around, change):
    copies = Copies([build_texts([PIECE])])
    left, copied = copies.leave_out(build_texts(["Outra coisa.\n", around[0] + change(PIECE) + around[1]]))
    assert left.to_pylist() == ["Outra coisa.\n", *(piece for piece in around if piece)]
    assert copied == len(change(PIECE).encode())


def test_sentences_in_another_order_or_alone_are_no_copy():
    copies = Copies([build_texts([PIECE])])
    lines = PIECE.splitlines(keepends=True)
    other = [lines[2] + lines[0], "Era assim.\n" + lines[1] + "E foi.\n", lines[3] + "Nada mais.\n"]
    assert copies.leave_out(build_texts(other)) == (build_texts(other), 0)


def prepare(tmp_path, tokenizer, texts, **settings):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    corpus = Corpus(DataConfig(files=str(folder), **settings), seed=42)
    return corpus, EncodedCorpus(corpus, tokenizer).prepare(16)


STORY = "".join(
    f"No dia {n}, a Maria viu {n * 7 % 31} barcos e {n * 5 % 23} gaivotas no porto de Olhão.\n" for n in range(200)
)


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("rule", [None, SplitRule.stretches])
@pytest.mark.parametrize("seed", range(3))
def test_copies_of_a_text_never_stand_on_both_sides(tmp_path, tokenizer, copies, rule, seed):
    settings = {"split_by": rule, "seed": seed, "validation_fraction": 0.1, "test_fraction": 0.05}
    corpus, prepared = prepare(tmp_path, tokenizer, [STORY] * copies, **settings)
    assert prepared.ledger.split_by == "stretches"
    learned = {line for text in corpus.texts("train") for line in text.splitlines()}
    for side in ("validation", "test"):
        held = {line for text in corpus.texts(side) for line in text.splitlines()}
        assert held
        assert not held & learned
    ledger = prepared.ledger
    assert ledger.bytes_copied > 0
    sides = sum(counts.bytes for counts in ledger.sides.values())
    assert sides + ledger.bytes_copied == len(STORY.strip().encode()) * copies


@pytest.mark.parametrize("lines", [20, 400])
@pytest.mark.parametrize("line", ["Bom dia.\n", "A médica examinou o braço e pediu um exame para amanhã.\n"])
def test_one_line_many_times_leaves_nothing_to_train_on(tmp_path, tokenizer, line, lines):
    with pytest.raises(DataError, match=r"Nothing is left to train on: .* are copies of it\."):
        prepare(tmp_path, tokenizer, [line * lines])


def test_a_text_without_copies_is_all_learned(tmp_path, tokenizer):
    _, prepared = prepare(tmp_path, tokenizer, [STORY])
    assert prepared.ledger.bytes_copied == 0
    assert sum(counts.bytes for counts in prepared.ledger.sides.values()) == len(STORY.strip().encode())
