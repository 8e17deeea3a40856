"""Every way to encode gives the ids that the tokenizer has for each document alone."""

import gzip
import json
import logging
import time
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from terminal import Written
from tokenizers import Regex, normalizers, pre_tokenizers
from vocabularies import (
    SPECIAL,
    WORDS,
    build_byte_level,
    build_llama_like,
    build_split,
    build_unigram,
    build_word_piece,
)

from lmtune import console
from lmtune.data import pieces
from lmtune.data.columns import build_texts, sum_bytes
from lmtune.data.encoding import Encoder
from lmtune.data.gigatokens import Gigatoken
from lmtune.data.pieces import PieceEncoder
from lmtune.gauges import MEGABYTES
from lmtune.patience import saying
from lmtune.screen import Screen
from lmtune.vocabulary import encode_plain

DIGITS = pre_tokenizers.Digits(individual_digits=True)
LINES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QUOTED = r'"[^"]*"| ?[^ "]+| +|"'


def build_with_words():
    tokenizer = build_split(pre_tokenizers.Punctuation())
    tokenizer.add_tokens(["casa azul", "the\nriver"])
    return tokenizer


CUT = {
    "digits split": build_split(DIGITS),
    "digits split, with gaps": build_split(DIGITS, gaps=True),
    "lower-cased": build_byte_level(normalizer=normalizers.Lowercase()),
    "composed": build_byte_level(normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])),
    "ends of lines beside what is before": build_split(pre_tokenizers.Split(Regex(LINES), "isolated")),
    "added words": build_with_words(),
    "Unigram": build_unigram(),
    "Unigram with bytes": build_unigram(byte_fallback=True),
    "WordPiece": build_word_piece(),
    "Llama-like, split": build_llama_like(split=True),
}
FAMILIES = {**CUT, "Llama-like": build_llama_like()}

LETTERS = st.characters(exclude_categories=["Cs"])
OWN = [
    *SPECIAL,
    *WORDS,
    " casa azul",
    "the\nriver",
    '"',
    "1907",
    "\u00b2",
    "\U0001d7d8",
    "\u0301",
    "  ",
    "\n",
    ".\n",
    "\r\n",
]
TEXTS = st.lists(st.one_of(st.text(LETTERS, max_size=8), st.sampled_from(OWN)), max_size=12).map(" ".join)


def encode_alone(tokenizer, texts):
    """(ids, lengths) of each text alone."""
    rows = [encode_plain(tokenizer, [text])[0] for text in texts]
    return [index for row in rows for index in row], list(map(len, rows))


def as_lists(encoded):
    return [array.tolist() for array in encoded]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_pieces_have_the_ids_of_each_document_alone(name, texts):
    tokenizer = FAMILIES[name]
    told = []
    with mock.patch.multiple(pieces, PIECE=40, AT_ONCE=90, PROOF=15):
        column = build_texts(texts)
        encoded = PieceEncoder(tokenizer).encode(column, told.append)
    assert as_lists(encoded) == list(encode_alone(tokenizer, texts))
    assert sum(told) == sum_bytes(column)


@pytest.mark.parametrize("name", FAMILIES)
def test_long_texts_are_cut_only_where_words_start(name):
    text = "\n".join(WORDS) * 3 + ' "' + " ".join(WORDS * 3) + '" ' + " ".join(WORDS * 3)
    with mock.patch.multiple(pieces, PIECE=100, PROOF=50):
        encoder = PieceEncoder(FAMILIES[name])
        found = [piece.text for piece in encoder._list_pieces(build_texts([text]))]
        assert as_lists(encoder.encode(build_texts([text]))) == list(encode_alone(FAMILIES[name], [text]))
    assert "".join(found) == text
    assert (len(found) > 4) == (name in CUT)


def test_where_small_pieces_differ_from_the_whole_nothing_is_cut():
    """Of a tokenizer to which quoted text is one word, the text around a cut does not show what stands further away."""
    tokenizer = build_split(pre_tokenizers.Split(Regex(QUOTED), "isolated"), learn=True)
    quoted = " ".join(f'"{WORDS[1]} {WORDS[1]}"' for _ in range(5))
    with mock.patch.multiple(pieces, PIECE=300, PROOF=40, AROUND=20):
        encoder = PieceEncoder(tokenizer)
        assert encoder._starts_word(quoted, quoted.index(" house"))
        column = build_texts([quoted])
        assert as_lists(encoder.encode(column)) == list(encode_alone(tokenizer, [quoted]))
        assert encoder._cuts is False


def test_text_without_an_edge_stays_whole():
    encoder = PieceEncoder(CUT["digits split"])
    with mock.patch.multiple(pieces, PIECE=1000, PROOF=100):
        for text in ("ACGT" * 5000, " " * 20_000, "\n\n" * 10_000):
            assert [piece.text for piece in encoder._list_pieces(build_texts([text]))] == [text]


@pytest.mark.parametrize("name", ["digits split", "digits split, with gaps"])
@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.one_of(TEXTS, st.text(LETTERS), st.sampled_from(["a\x02b", "7", "177 \x03"])), max_size=4))
def test_split_digits_and_bytes_without_entries_go_through_gigatoken(name, texts):
    encoder = ENCODERS[name]
    assert encoder.name == "gigatoken"
    column = build_texts(["0 cut off", *texts, "\x02"])[1:-1]
    assert as_lists(encoder.encode(column)) == list(encode_alone(CUT[name], texts))


ENCODERS = {name: Encoder(CUT[name], []) for name in ("digits split", "digits split, with gaps")}


@pytest.mark.parametrize("name", FAMILIES)
def test_what_gigatoken_does_not_read_goes_in_pieces(name, caplog):
    encoder = Encoder(FAMILIES[name], WORDS)
    read = name.startswith(("Llama-like", "digits split"))
    assert encoder.name == ("gigatoken" if read else "tokenizers")
    assert isinstance(encoder._encode.__self__, Gigatoken if read else PieceEncoder)
    assert ("gigatoken does not read this tokenizer" in caplog.text) == (not read)


def test_a_library_that_differs_from_its_tokenizer_is_not_asked(caplog, monkeypatch):
    monkeypatch.setattr(PieceEncoder, "_encode", lambda _, texts: [np.zeros(1, np.uint32)] * len(texts))
    encoder = Encoder(CUT["WordPiece"], [])
    assert as_lists(encoder.encode(build_texts(WORDS))) == list(encode_alone(CUT["WordPiece"], WORDS))
    assert "its own library and this tokenizer disagree" in caplog.text


def test_one_long_document_is_shown_while_it_is_encoded(monkeypatch, caplog):
    """A bar on a terminal, else lines, both told of each part of a document."""
    written = Written()
    monkeypatch.setattr(console, "find_screen", lambda: Screen(written))
    column = build_texts([" ".join(WORDS * 200)])
    encoder = Encoder(CUT["WordPiece"], WORDS)
    with (
        mock.patch.multiple(pieces, PIECE=1000, AT_ONCE=4000),
        saying("encoding", sum_bytes(column), MEGABYTES) as work,
    ):
        encoder.encode(column, work.advance)
        time.sleep(1.3)
    assert "encoding" in written.getvalue()
    assert "/s" in written.getvalue()
    caplog.set_level(logging.INFO, "lmtune")
    monkeypatch.setattr(console, "find_screen", lambda: None)
    monkeypatch.setattr("lmtune.patience.SILENCE", 0.0)
    with saying("encoding", sum_bytes(column), MEGABYTES) as work:
        encoder.encode(column, work.advance)
        time.sleep(0.3)
    assert f"encoding: 0.0 of {sum_bytes(column) / 1e6:,.1f} MB" in caplog.text


@pytest.mark.real
def test_a_real_vocabulary_with_gaps_is_fast_and_the_same(real_model, real_data):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(real_model)
    with gzip.open(real_data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"][:150_000] for line, _ in zip(lines, range(6), strict=False)]
    texts += ["a\x04b", "em 1881 e \u00b2"]
    expected = list(encode_alone(tokenizer, texts))
    encoder, slow = Encoder(tokenizer, texts), PieceEncoder(tokenizer)
    assert encoder.name == "gigatoken"
    assert as_lists(encoder.encode(build_texts(texts))) == expected
    assert as_lists(slow.encode(build_texts(texts))) == expected
    assert slow._cuts
