"""What each family of vocabularies makes of a text: special strings, openings, gaps, and what is lost."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from vocabularies import SPECIAL, WORDS, build_byte_level, build_unigram, build_word_level, build_word_piece

from lmtune.data.columns import build_texts
from lmtune.data.encoding import Encoder
from lmtune.data.losses import LossMeter, assess_losses, check_any_tokens, count_lost
from lmtune.errors import DataError
from lmtune.token_stream import MEASURED_TABLE
from lmtune.vocabulary import (
    count_entries,
    count_ids,
    encode_document_opening,
    encode_opening,
    encode_plain,
    find_difference,
    find_unknown,
    hash_tokenizer,
)

FAMILIES = {
    "byte-level": build_byte_level,
    "byte-level NFC": lambda bos=False: build_byte_level(bos, normalizers.NFC()),
    "byte-level lower-cased": lambda bos=False: build_byte_level(bos, normalizers.Lowercase()),
    "Unigram": build_unigram,
    "Unigram with bytes": lambda bos=False: build_unigram(bos, byte_fallback=True),
    "WordLevel": build_word_level,
    "WordPiece": build_word_piece,
}
BUILT = {(name, bos): build(bos) for name, build in FAMILIES.items() for bos in (False, True)}
LETTERS = st.characters(exclude_categories=["Cs"])
PIECES = st.one_of(
    st.text(LETTERS, max_size=8), st.sampled_from([*SPECIAL, *WORDS, "<|endoftext|>", "\u0301", "  ", "\n"])
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)


def measure(tokenizer, *texts):
    column = build_texts(texts)
    ids, lengths = Encoder(tokenizer, []).encode(column)
    return LossMeter(tokenizer).measure(column, ids, lengths)


@pytest.mark.parametrize(("name", "bos"), BUILT)
@settings(max_examples=25, deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_special_strings_are_text_and_what_is_lost_is_found(name, bos, texts):
    tokenizer = BUILT[name, bos]
    rows = encode_plain(tokenizer, texts)
    unknown = find_unknown(tokenizer)
    special = set(tokenizer.convert_tokens_to_ids(SPECIAL)) - {unknown}
    assert not special & {index for row in rows for index in row}
    ids = np.array([index for row in rows for index in row], np.uint32)
    lengths = np.array([len(row) for row in rows], np.int64)
    losses = LossMeter(tokenizer).measure(build_texts(texts), ids, lengths)
    for text, row, loss in zip(texts, rows, losses, strict=True):
        known = [index for index in row if index != unknown]
        back = tokenizer.backend_tokenizer.decode(known, skip_special_tokens=False)
        equal = back in (text, " " + text)
        if name != "byte-level NFC":
            assert (loss["lost"] == 0) == equal
        elif loss["lost"] == 0:
            assert back == unicodedata.normalize("NFC", text)
        assert loss["lost"] <= len(text.encode())
        assert loss["unknown"] == (0 if unknown is None else row.count(unknown))
    if name in ("byte-level", "Unigram with bytes") and not any("\u2581" in text for text in texts):
        assert not losses["unknown"].any()
    if name == "byte-level":
        assert not losses["lost"].any()


@pytest.mark.parametrize(("name", "bos"), BUILT)
def test_the_opening_is_what_the_tokenizer_puts_there(name, bos):
    tokenizer = BUILT[name, bos]
    assert encode_opening(tokenizer) == ((tokenizer.bos_token_id,) if bos else ())
    assert encode_document_opening(tokenizer) == encode_opening(tokenizer)
    assert (hash_tokenizer(tokenizer) == hash_tokenizer(BUILT[name, not bos])) is False
    assert find_difference(tokenizer, FAMILIES[name](bos)) is None
    assert find_difference(tokenizer, BUILT[name, not bos]) == "what it puts before a text"


def test_a_separator_that_opens_texts_stands_once():
    tokenizer = build_byte_level()
    from tokenizers import processors

    post = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", tokenizer.eos_token_id)])
    tokenizer.backend_tokenizer.post_processor = post
    assert encode_opening(tokenizer) == (tokenizer.eos_token_id,)
    assert encode_document_opening(tokenizer) == ()


def test_lost_bytes_are_those_of_the_characters_that_differ():
    assert count_lost("Casa", "Casa") == count_lost("Casa", " Casa") == 0
    assert count_lost("Casa", "casa") == 1
    assert count_lost("ação", "acao") == 4
    assert count_lost("a\nb", "a b") == 1
    assert count_lost("a, b", "a , b") == 1
    assert count_lost("漢字", "") == 6
    assert count_lost("ab", "ba") == 1


def test_what_each_family_loses():
    text = "The old house"
    assert measure(BUILT["byte-level", False], text)["lost"].tolist() == [0]
    assert measure(BUILT["byte-level lower-cased", False], text)["lost"].tolist() == [1]
    assert measure(BUILT["Unigram", False], "漢字", text).tolist() == [(1, 6), (0, 0)]
    assert measure(BUILT["WordLevel", False], "The new house").tolist() == [(1, 4)]
    assert measure(BUILT["WordPiece", False], "casa", "é", "a\nb")["lost"].tolist() == [0, 2, 1]


def test_losses_above_a_share_are_refused_and_others_said():
    table = np.zeros(2, MEASURED_TABLE)
    table["bytes"], table["lost"], table["unknown"] = [600, 400], [7, 3], [2, 0]
    said = assess_losses("notes", table, 0.01)
    assert said == (
        "notes: the vocabulary does not hold all of this text: 2 unknown tokens; 10 of 1,000 bytes (1.00%) are not given back by the ids"
    )
    table["lost"][0] += 1
    with pytest.raises(DataError, match=r"11 of 1,000 bytes .* Expected at most 1.00%. .*eval.max_lost="):
        assess_losses("notes", table, 0.01)
    assert assess_losses("notes", np.zeros(2, MEASURED_TABLE), 0.0) is None
    check_any_tokens("notes", 0, 0)
    with pytest.raises(DataError, match="its 5 bytes become no tokens"):
        check_any_tokens("notes", 0, 5)


def test_added_words_are_encoded_as_the_tokenizer_does():
    tokenizer = build_byte_level()
    tokenizer.add_tokens(["zebra", "casa azul"])
    texts = ["a zebra", "azebrab zebra,zebra", "uma casa azul e </s>", "casa  azul"]
    ids, lengths = Encoder(tokenizer, []).encode(build_texts(texts))
    assert Encoder(tokenizer, []).name == "gigatoken"
    own = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert np.split(ids, np.cumsum(lengths)[:-1])[0].tolist() == own[0]
    assert ids.tolist() == [index for row in own for index in row]
    assert not LossMeter(tokenizer).measure(build_texts(texts), ids, lengths)["lost"].any()


def test_a_text_that_becomes_the_separator_is_an_error_of_the_user():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from vocabularies import wrap

    backend = Tokenizer(models.WordLevel({"</s>": 0, "casa": 1}, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = wrap(backend, unk_token="</s>")
    with pytest.raises(DataError, match="'casa nova' has a token '</s>' inside"):
        Encoder(tokenizer, []).encode(build_texts(["casa", "casa nova"]))


def test_ids_may_have_gaps():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from vocabularies import wrap

    backend = Tokenizer(models.WordLevel({"</s>": 0, "casa": 70_000}, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert count_ids(wrap(backend)) >= 70_001
    assert count_entries(wrap(backend)) == 1
