"""Vocabularies: learned as the tokenizers library learns them, saved for from_pretrained, measured."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from lmtune.modeling.tokenizer import learn_tokenizer, measure_fit


def merges_of(tokenizer):
    return json.loads(tokenizer.to_str())["model"]["merges"]


def learn_plainly(texts, vocab_size, min_frequency, special_tokens):
    """The same vocabulary from the parts of the tokenizers library, put together by hand."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=special_tokens,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return plain


def test_merges_are_those_of_the_tokenizers_library(texts):
    ours = learn_tokenizer(texts, 400, 64, min_frequency=3, special_tokens=["<|end|>", "<|sep|>"], max_chars=None)
    plain = learn_plainly(texts, 400, 3, ["<|end|>", "<|sep|>"])
    assert merges_of(ours.backend_tokenizer) == merges_of(plain)
    assert ours.get_vocab() == plain.get_vocab()
    assert (ours.eos_token_id, ours.convert_tokens_to_ids("<|sep|>")) == (0, 1)


def test_rare_pairs_are_not_merged(texts):
    assert len(learn_tokenizer(texts, 5000, 64, min_frequency=50)) < len(learn_tokenizer(texts, 5000, 64))


def test_fit_counts_tokens_words_and_parts_of_characters(tokenizer):
    fit = measure_fit(tokenizer, ["O paciente", "漢"])
    whole = tokenizer("O paciente")["input_ids"]
    assert fit.tokens_per_word == (len(whole) + 3) / 3
    assert fit.bytes_per_token == 13 / (len(whole) + 3)
    assert fit.byte_fallback == 3 / (len(whole) + 3), "a character that was never seen becomes its three bytes"


def test_the_command_saves_a_tokenizer_and_compares_it(lmtune, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "other")
    asked = ("tokenizer", "tokenizer.vocab_size=600", "output=mine", "format=json")
    account = lmtune(*asked, "model.path=other").json
    learned = AutoTokenizer.from_pretrained(tmp_path / "mine")
    assert len(learned) == account["entries"] == 600
    assert (learned.eos_token_id, learned.model_max_length) == (0, 1024)
    assert learned.decode(learned("Ações e exames, já!")["input_ids"]) == "Ações e exames, já!"
    assert account["fit"]["tokens_per_word"] < account["source"]["fit"]["tokens_per_word"]
    taken = lmtune(*asked)
    assert taken.code == 2
    assert "expected a new folder or an empty one" in taken.err


def test_only_the_training_side_is_read_unless_told_otherwise(lmtune, tmp_path):
    words = [f"zut{one}{other}o" for one in "abcde" for other in "fghijklm"]
    (tmp_path / "text.txt").write_text("\n\n".join(f"{word} {word} {word}" for word in words))
    shared = ("tokenizer", "data.files=text.txt", "data.documents=blank_line", "data.validation_fraction=0.3")
    whole = {}
    for text in ("train", "all"):
        assert lmtune(*shared, f"tokenizer.text={text}", f"output={text}").code == 0
        vocabulary = AutoTokenizer.from_pretrained(tmp_path / text).get_vocab()
        whole[text] = sum(f"Ġ{word}" in vocabulary for word in words)
    assert whole["all"] == len(words)
    assert 0 < whole["train"] < len(words)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tokenizer.vocab_size=100", "tokenizer.vocab_size=100: expected 257 or more"),
        ("tokenizer.min_frequency=0", "tokenizer.min_frequency=0: expected 1 or more"),
        ("tokenizer.text=validation", "tokenizer.text"),
    ],
)
def test_settings_that_cannot_work_are_refused(lmtune, setting, message):
    answer = lmtune("tokenizer", setting)
    assert answer.code == 2
    assert message in answer.err


def test_merges_on_real_text_are_those_of_the_tokenizers_library(real_data):
    import gzip

    with gzip.open(real_data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for _, line in zip(range(12), lines, strict=False)]
    ours = learn_tokenizer(texts, 8000, 1024, max_chars=None)
    assert merges_of(ours.backend_tokenizer) == merges_of(learn_plainly(texts, 8000, 2, ["<|endoftext|>"]))
