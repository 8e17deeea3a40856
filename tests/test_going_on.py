"""Add text and go on: what a run held out is not trained on by one that starts from it, what it learned is not held out."""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from lmtune.config import DataConfig, DocumentRule, SplitRule
from lmtune.data.build import _build_others
from lmtune.data.corpus import Corpus
from lmtune.data.ledger import Ledger
from lmtune.data.past import build_past

WORDS = [
    "casa",
    "rio",
    "mar",
    "sol",
    "lua",
    "gato",
    "porto",
    "navio",
    "barco",
    "vento",
    "chuva",
    "pedra",
    "livro",
    "carta",
    "porta",
    "janela",
    "mesa",
    "pão",
    "vinho",
]


@pytest.fixture
def stories(tmp_path):
    """Thirty texts of a hundred lines, no line twice."""
    draw = random.Random(1)
    files = []
    for number in range(30):
        lines = (f"texto {number}, linha {line}: " + " ".join(draw.choices(WORDS, k=12)) for line in range(100))
        file = tmp_path / f"{number:02}.txt"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files.append(str(file))
    return files


def corpus(files, past=None, **settings):
    chosen = {"documents": DocumentRule.file, "validation_fraction": 0.1, **settings}
    return Corpus(DataConfig(files=files, **chosen), 42, past=past)


def lines(found, split):
    return {line for text in found.texts(split) for line in text.splitlines() if line.strip()}


@pytest.fixture
def parent(stories):
    """A run on twelve of them, few enough for stretches to be held out."""
    found = corpus(stories[:12])
    assert found.split.rule is SplitRule.stretches
    return found


def past_of(found):
    return build_past(found.batches("train"), found.batches("validation"))


CHILDREN = {
    "more files, whole ones": {},
    "another seed": {"seed": 7},
    "lines": {"documents": DocumentRule.line},
    "stretches": {"split_by": SplitRule.stretches},
}


@pytest.mark.parametrize("settings", CHILDREN.values(), ids=CHILDREN)
def test_what_was_held_out_is_not_learned_from_more_text(stories, parent, settings):
    held, learned = lines(parent, "validation"), lines(parent, "train")
    child = corpus(stories, past_of(parent), **settings)
    now, out = lines(child, "train"), lines(child, "validation")
    assert held
    assert not held & now
    assert len(learned & out) <= 1, "one may lie across the cut"
    assert learned - out <= now


def test_what_was_held_out_is_not_learned_beside_text_that_is_given(stories, parent, tmp_path):
    own = tmp_path / "own.txt"
    own.write_text("Um texto que ninguém leu, sobre outra coisa.\n" * 3, encoding="utf-8")
    child = corpus(stories, past_of(parent), validation_files=[str(own)])
    ledger = Ledger()
    text = "\n".join(text for batch in child.batches("train", ledger) for text in batch.to_pylist())
    assert not lines(parent, "validation") & set(text.splitlines())
    assert ledger.bytes_copied > 0
    assert lines(child, "validation") == {"Um texto que ninguém leu, sobre outra coisa."}


def test_whole_documents_that_were_held_out_are_left_out_beside_text_that_is_given(stories, tmp_path):
    parent = corpus(stories)
    own = tmp_path / "own.txt"
    own.write_text("Um texto que ninguém leu, sobre outra coisa.\n", encoding="utf-8")
    child, ledger = corpus(stories, past_of(parent), validation_files=[str(own)]), Ledger()
    taken = sum(len(batch) for batch in child.batches("train", ledger))
    held = len(list(parent.texts("validation")))
    assert (ledger.documents_held_elsewhere, taken) == (held, 30 - held)
    assert ledger.left_out["held_elsewhere"] == sum(len(text.encode()) for text in parent.texts("validation"))


def test_nothing_is_withheld_where_nothing_is_to_be_held_out(stories, parent):
    child = corpus(stories, past_of(parent), validation_fraction=0.0)
    assert lines(parent, "validation") <= lines(child, "train")


def test_what_was_held_out_is_not_learned_from_text_that_is_mixed_in(stories, parent):
    child = corpus(stories[20:], past_of(parent))
    (other,) = _build_others(
        child, SimpleNamespace(held_out={}), {"old": DataConfig(files=stories[:12], documents=DocumentRule.file)}
    ).values()
    now = lines(other, "train")
    assert not lines(parent, "validation") & now
    assert len(lines(parent, "train") & now) > 0.8 * len(lines(parent, "train")), (
        "what was learned may be learned again"
    )


def test_the_ledger_of_such_a_run_closes(stories, parent, tokenizer):
    from lmtune.data.prepare import EncodedCorpus

    child = corpus(stories, past_of(parent))
    prepared = EncodedCorpus(child, tokenizer).prepare(32)
    assert prepared.ledger.bytes_copied > 0
    prepared.ledger.check()
    kept = sum(int(np.sum(side.bytes)) for side in prepared.ledger.sides.values())
    assert kept == prepared.ledger.bytes_kept
