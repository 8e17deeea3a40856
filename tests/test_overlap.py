"""Word sequences on ids against plain Python."""

import math
import random

import numpy as np
import pytest

from lmtune.data.columns import build_texts
from lmtune.data.encoding import Encoder
from lmtune.data.overlap import Overlap, hash_sequences, mark_word_starts
from lmtune.token_stream import DOCUMENT_TABLE, TokenStream


def encode(texts, tokenizer):
    ids, lengths = Encoder(tokenizer, texts).encode(build_texts(texts))
    return np.insert(ids, np.cumsum(lengths), tokenizer.eos_token_id)


def stream(texts, tokenizer):
    ids = encode(texts, tokenizer)
    table = np.zeros(1, DOCUMENT_TABLE)
    table["tokens"] = len(ids)
    return TokenStream(ids, table, tokenizer.eos_token_id)


def sequences(texts, words):
    return [tuple(text.split()[i : i + words]) for text in texts for i in range(len(text.split()) - words + 1)]


@pytest.mark.parametrize("words", [1, 3, 13])
@pytest.mark.parametrize("seed", range(3))
def test_shares_equal_those_of_plain_python(tokenizer, words, seed):
    draw = random.Random(seed)
    vocabulary = ["saúde", "a", "exame", "dor", "médica", "hospital", "é", "não"]
    training, held = (
        [" " + " ".join(draw.choices(vocabulary, k=draw.randint(1, 60))) for _ in range(30)] for _ in range(2)
    )
    held[:5] = training[:5]
    opens = mark_word_starts(tokenizer)
    hashes = [
        hash_sequences(encode(texts, tokenizer), opens, tokenizer.eos_token_id, words) for texts in (held, training)
    ]
    assert [len(each) for each in hashes] == [len(sequences(texts, words)) for texts in (held, training)]
    known = set(sequences(training, words))
    expected = np.mean([sequence in known for sequence in sequences(held, words)])
    overlap = Overlap(tokenizer, {"validation": stream(held, tokenizer)}, words)
    for begin in range(0, 30, 7):
        overlap.add(encode(training[begin : begin + 7], tokenizer))
    assert overlap.shares() == {"validation": pytest.approx(expected)}


def test_sequences_do_not_cross_documents(tokenizer):
    opens = mark_word_starts(tokenizer)
    ids = encode([" a dor", " o exame"], tokenizer)
    assert len(hash_sequences(ids, opens, tokenizer.eos_token_id, 2)) == 2
    assert len(hash_sequences(ids, opens, tokenizer.eos_token_id, 3)) == 0


def test_text_too_short_for_a_sequence_has_no_share(tokenizer):
    opens = mark_word_starts(tokenizer)
    overlap = Overlap(tokenizer, {"test": stream([" a dor"], tokenizer)})
    overlap.add(encode([" a dor"], tokenizer))
    assert math.isnan(overlap.shares()["test"])
    assert len(hash_sequences(np.empty(0, np.uint16), opens, tokenizer.eos_token_id)) == 0
