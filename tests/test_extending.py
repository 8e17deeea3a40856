"""Vocabularies that are extended: what was there stays, what is new is what learning would have found next."""

import errno
import gzip
import json
import os
from collections import Counter
from itertools import pairwise

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2TokenizerFast, PreTrainedTokenizerFast

from lmtune.commands import tokenizer as command
from lmtune.errors import ModelError
from lmtune.modeling.continued_bpe import continue_merges
from lmtune.modeling.extending import check_extensible, extend_tokenizer
from lmtune.modeling.tokenizer import complete, learn_tokenizer

OTHER = [f"Os médicos {verb} que a criança {part} amanhã, às {n} horas." for verb in ("dizem", "acham") for part in ("volta", "dorme") for n in range(9)]  # fmt: skip


def merges_of(tokenizer):
    return json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]


def ends_of(tokenizer, text):
    """Where the tokens of a text end, in characters."""
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return {end for _, end in offsets}


def continue_plainly(words, names, first, entries, least):
    """The same merges with everything counted anew for each of them."""
    words, names, merges = {word: seen for word, seen in words.items()}, dict(names), []
    while len(merges) < entries:
        counts = Counter()
        for word, seen in words.items():
            for pair in pairwise(word):
                counts[pair] += seen
        known = set(names.values())
        open_pairs = [
            (-n, pair) for pair, n in counts.items() if n >= least and names[pair[0]] + names[pair[1]] not in known
        ]
        if not open_pairs:
            break
        _, pair = min(open_pairs)
        made = first + len(merges)
        names[made] = names[pair[0]] + names[pair[1]]
        merges.append(pair)
        merged = Counter()
        for word, seen in words.items():
            cut, place = [], 0
            while place < len(word):
                whole = word[place : place + 2] == pair
                cut.append(made if whole else word[place])
                place += 2 if whole else 1
            merged[tuple(cut)] += seen
        words = merged
    return merges


def test_merges_are_those_of_counting_anew():
    letters = {0: "a", 1: "b", 2: "c", 3: "ab"}
    words = {(0, 1, 2, 0, 1): 3, (0, 0, 0, 0, 2): 5, (1, 2, 2, 1): 4, (2,): 9, (3, 2, 0, 0): 2, (1, 0, 1, 0, 2): 2}
    found = continue_merges(words, letters, 4, 20)
    assert found.merges == continue_plainly(words, letters, 4, 20, 2)
    assert len(found.merges) > 5
    assert (0, 1) not in found.merges, "its string is an entry already"


def test_going_on_is_learning_more_at_once(texts):
    some, more = (learn_tokenizer(texts, size, 64) for size in (300, 345))
    extended = extend_tokenizer(some, texts, 45)
    assert extended.added == 45
    assert merges_of(extended.tokenizer) == merges_of(more)
    assert extended.tokenizer.get_vocab() == more.get_vocab()


def test_old_entries_keep_ids_and_merges_and_texts_are_cut_at_fewer_places(tokenizer, texts):
    extended, added, _ = extend_tokenizer(tokenizer, OTHER, 40)
    assert added == 40
    old, new = tokenizer.get_vocab(), extended.get_vocab()
    assert {token: new[token] for token in old} == old
    assert sorted(new.values()) == list(range(len(old) + 40))
    assert merges_of(extended)[: len(merges_of(tokenizer))] == merges_of(tokenizer)
    for text in (*OTHER, *texts[:5], "漢字 \x00 ação", "dizem\n\n  que"):
        assert extended.decode(extended(text)["input_ids"]) == text
        assert ends_of(extended, text) <= ends_of(tokenizer, text)
    count = [sum(len(ids) for ids in each(OTHER)["input_ids"]) for each in (extended, tokenizer)]
    assert count[0] < 0.7 * count[1]
    assert extended.eos_token_id == tokenizer.eos_token_id
    assert extended.model_max_length == tokenizer.model_max_length


def test_unused_entries_are_those_that_encode_nothing_of_the_text(tokenizer):
    extended, _, unused = extend_tokenizer(tokenizer, OTHER, 40)
    used = {index for ids in extended(OTHER)["input_ids"] for index in ids}
    special = set(tokenizer.all_special_ids)
    assert unused.keys() == set(tokenizer.get_vocab().values()) - used - special
    assert all(tokenizer.get_vocab()[token] == index for index, token in unused.items())


def test_fewer_entries_where_pairs_are_rare(tokenizer):
    assert extend_tokenizer(tokenizer, OTHER, 5000, min_frequency=10).added < 200


def test_added_tokens_beyond_the_model_keep_their_ids(tokenizer, tmp_path):
    """As in Llama 3, whose special tokens are no entries of its BPE."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_special_tokens(["<|begin|>", "<|turn|>"])
    beyond = complete(
        PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|endoftext|>")
    )
    extend_tokenizer(beyond, OTHER, 30).tokenizer.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    for name in ("<|begin|>", "<|turn|>", "<|endoftext|>"):
        assert read.convert_tokens_to_ids(name) == beyond.convert_tokens_to_ids(name)
    assert (read.bos_token, len(read)) == ("<|begin|>", len(beyond) + 30)


def test_what_a_tokenizer_says_beside_its_vocabulary_stays(tokenizer, tmp_path):
    """A chat model pads on the left, and the marks of its turns are special tokens."""
    marks = ["<|im_start|>", "<|im_end|>"]
    chat = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|endoftext|>", extra_special_tokens=marks,
        padding_side="left", truncation_side="left", chat_template="{{ messages[0]['content'] }}",
        model_input_names=["input_ids"],
    )  # fmt: skip
    extend_tokenizer(chat, OTHER, 30).tokenizer.save_pretrained(tmp_path)
    extended = AutoTokenizer.from_pretrained(tmp_path)
    assert extended.all_special_tokens == chat.all_special_tokens
    assert extended.convert_tokens_to_ids(marks) == chat.convert_tokens_to_ids(marks)
    for name in ("padding_side", "truncation_side", "chat_template", "model_input_names"):
        assert getattr(extended, name) == getattr(chat, name)


@pytest.mark.parametrize(
    ("model", "decoder", "found"),
    [
        (models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0), decoders.Metaspace(), "found a Unigram vocabulary"),
        (models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), decoders.WordPiece(), "found a WordPiece vocabulary"),
        (models.BPE({"a": 0, "▁a": 1}, []), decoders.Metaspace(), "found a BPE over characters"),
        (models.BPE({"a": 0, "b</w>": 1}, [], end_of_word_suffix="</w>"), decoders.ByteLevel(), "found a BPE that marks"),
    ],
)  # fmt: skip
def test_other_vocabularies_are_refused_by_name(model, decoder, found):
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel()
    backend.decoder = decoder
    with pytest.raises(ModelError, match=f"model.path=x: extend= continues a byte-level BPE.*{found}"):
        check_extensible(PreTrainedTokenizerFast(tokenizer_object=backend), "model.path=x")


def test_the_command_extends_and_lists_what_is_unused(lmtune, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "old")
    (tmp_path / "text.txt").write_text("\n".join(OTHER * 3))
    asked = ("tokenizer", "data.files=text.txt", "data.documents=line", "model.path=old")
    answer = lmtune(*asked, "extend=40", "output=new", "format=json")
    assert answer.code == 0, answer.err
    account, read = answer.json, AutoTokenizer.from_pretrained(tmp_path / "new")
    unused = json.loads((tmp_path / "new/unused.json").read_text())
    assert account["extends"] == {"kept": len(tokenizer), "added": 40, "unused": len(unused)}
    assert account["asked"] == account["entries"]
    assert len(read) == account["entries"] == len(tokenizer) + 40
    assert unused.items() < tokenizer.get_vocab().items()
    assert account["fit"]["tokens_per_word"] < account["source"]["fit"]["tokens_per_word"]


def test_the_command_says_where_a_text_gives_fewer_entries_than_asked_for(lmtune, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "old")
    (tmp_path / "text.txt").write_text("\n".join(OTHER))
    answer = lmtune("tokenizer", "data.files=text.txt", "data.documents=line", "model.path=old", "extend=5000")
    assert f"{len(tokenizer) + 5000:,} entries were asked for: no other pair occurs 2 times in the text" in answer.out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["extend=40"], "extend=40 adds to the vocabulary of a model, found no model"),
        (["extend=-1"], "extend=-1: expected 0 or more"),
        (
            ["extend=40", "model=gpt2-tiny"],
            "learns its vocabulary, so there is none to extend yet. Name another model.",
        ),
        (
            ["extend=40", "model.path=old", "tokenizer.vocab_size=500"],
            "tokenizer.vocab_size has no effect: the vocabulary of model= is",
        ),
    ],
)
def test_settings_that_do_not_go_with_extending_are_refused(lmtune, tokenizer, tmp_path, settings, message):
    tokenizer.save_pretrained(tmp_path / "old")
    answer = lmtune("tokenizer", *settings)
    assert answer.code == 2
    assert message in answer.err


def test_a_vocabulary_that_does_not_fit_on_the_disk_leaves_nothing_and_the_same_command_again_is_whole(
    lmtune, tokenizer, tmp_path, monkeypatch
):
    tokenizer.save_pretrained(tmp_path / "old")
    (tmp_path / "text.txt").write_text("\n".join(OTHER * 3))
    asked = ("tokenizer", "data.files=text.txt", "data.documents=line", "model.path=old", "extend=40", "output=new")

    def fill_up(file, value):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    write = command.write_json
    monkeypatch.setattr(
        command, "write_json", lambda file, value: (fill_up if "unused" not in file.name else write)(file, value)
    )
    answer = lmtune(*asked)
    assert answer.code == 2
    assert "could not be written: [Errno 28] No space left on device" in answer.err
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(command, "write_json", write)
    answer = lmtune(*asked)
    assert answer.code == 0, answer.err
    assert {"tokenizer.json", "tokenizer_config.json", "unused.json", "lmtune.json"} <= {
        file.name for file in (tmp_path / "new").iterdir()
    }


@pytest.mark.slow
def test_a_model_moves_to_its_extended_vocabulary(lmtune, build_tiny, tokenizer, tmp_path):
    build_tiny("gpt2").save_pretrained(tmp_path / "old")
    tokenizer.save_pretrained(tmp_path / "old")
    (tmp_path / "text.txt").write_text("\n".join(OTHER * 3))
    asked = ("data.files=text.txt", "data.documents=line", "model.path=old")
    assert lmtune("tokenizer", *asked, "extend=40", "output=new").code == 0
    steps = ("training.max_steps=1", "samples.enabled=false", "data.block_size=32", "output=run")
    answer = lmtune("train", *asked, "model.tokenizer=new", "model.transplant=fvt", *steps)
    assert answer.code == 0, answer.err
    report = json.loads((tmp_path / "run/transplant.json").read_text())
    assert (report["shared"], report["same_id"]) == (len(tokenizer), len(tokenizer))
    assert (report["initialised"], report["lost"]) == (40, 0)


@pytest.mark.slow
def test_gpt2_extended_by_portuguese(real_data):
    """On real files: ids as they were, every text back, and an independent count of what is saved."""
    english = complete(GPT2TokenizerFast.from_pretrained(real_data / "gpt2-tokenizer"))
    with gzip.open(real_data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines][:24]
    extended, added, unused = extend_tokenizer(english, texts[:20], 3000)
    assert added == 3000
    old, new = english.get_vocab(), extended.get_vocab()
    assert all(new[token] == index for token, index in old.items())
    counts = [sum(len(each(text, verbose=False)["input_ids"]) for text in texts[20:]) for each in (extended, english)]
    assert counts[0] < 0.8 * counts[1]
    ids = extended(texts[20], verbose=False)["input_ids"]
    assert extended.decode(ids, clean_up_tokenization_spaces=False) == texts[20]
    assert not unused.keys() & {index for text in texts[:20] for index in extended(text, verbose=False)["input_ids"]}
