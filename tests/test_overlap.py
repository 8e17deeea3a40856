"""Word sequences on ids against plain Python."""

import math
import random

import numpy as np
import pytest

from lmtune.data.overlap import find_word_starts, hash_sequences, share_seen
from lmtune.data.tokens import Encoder


def encode(texts, tokenizer):
    batches = Encoder(tokenizer, texts).encode_batches(texts)
    return np.concatenate([np.insert(ids, np.cumsum(lengths), tokenizer.eos_token_id) for ids, lengths, _ in batches])


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
    opens = find_word_starts(tokenizer)
    ours = [
        hash_sequences(encode(texts, tokenizer), opens, tokenizer.eos_token_id, words) for texts in (held, training)
    ]
    assert [len(hashes) for hashes in ours] == [len(sequences(texts, words)) for texts in (held, training)]
    known = set(sequences(training, words))
    expected = np.mean([sequence in known for sequence in sequences(held, words)])
    assert share_seen(*ours) == pytest.approx(expected)


def test_sequences_do_not_cross_documents(tokenizer):
    opens = find_word_starts(tokenizer)
    ids = encode([" a dor", " o exame"], tokenizer)
    assert len(hash_sequences(ids, opens, tokenizer.eos_token_id, 2)) == 2
    assert len(hash_sequences(ids, opens, tokenizer.eos_token_id, 3)) == 0


def test_text_too_short_for_a_sequence_has_no_share(tokenizer):
    opens = find_word_starts(tokenizer)
    none = hash_sequences(encode([" a dor"], tokenizer), opens, tokenizer.eos_token_id)
    assert math.isnan(share_seen(none, none))
    assert len(hash_sequences(np.empty(0, np.uint16), opens, tokenizer.eos_token_id)) == 0
