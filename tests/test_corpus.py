"""From documents to blocks: the ledger closes, and blocks hold exactly the ids of the trained documents."""

import itertools
import json
import os
from itertools import pairwise

import numpy as np
import pytest
from helpers import write_lines, write_texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtune.config import DataConfig, DocumentRule, SplitRule, UnicodeForm
from lmtune.data import cache
from lmtune.data.blocks import Blocks, positions_in_documents, write_blocks
from lmtune.data.columns import build_texts, hash_texts
from lmtune.data.corpus import Corpus
from lmtune.data.encoding import Encoder, hash_tokenizer
from lmtune.data.layout import unigram_bits_per_byte
from lmtune.data.ledger import Ledger
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import ConfigError, DataError, LedgerError
from lmtune.token_stream import DOCUMENT_TABLE, TokenStream

words = st.lists(
    st.sampled_from(["saúde", "médica", "exame", "a", "<|endoftext|>", "\n", "dor", "…", "🙂"]), min_size=1, max_size=30
)
documents = st.lists(words.map(" ".join), min_size=25, max_size=60)


def write_corpus(folder, texts, name="text.jsonl"):
    return str(write_texts(folder / name, texts))


def stream_of(blocks):
    """The stream that the rows hold: the first id, then every target."""
    batch = blocks.__getitems__(list(range(len(blocks))))
    targets = batch["shift_labels"].reshape(-1)
    return [int(batch["input_ids"][0, 0]), *targets[targets >= 0].tolist()]


@given(texts=documents, block_size=st.integers(2, 40), fraction=st.sampled_from([0.1, 0.3]), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_reproduce_the_ids_of_all_trained_documents(
    tmp_path_factory, tokenizer, texts, block_size, fraction, seed
):
    folder = tmp_path_factory.mktemp("corpus")
    corpus = Corpus(DataConfig(files=write_corpus(folder, texts), validation_fraction=fraction), seed)
    try:
        prepared = EncodedCorpus(corpus, tokenizer).prepare(block_size)
    except DataError as error:
        assert "empty" in str(error) or "Nothing" in str(error)  # noqa: PT017  a split may be impossible, then it says so
        return
    own = tokenizer(list(corpus.texts("train")), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    expected = [token for ids in own for token in [*ids, tokenizer.eos_token_id]]
    assert stream_of(prepared.blocks) == expected
    prepared.ledger.check()
    assert prepared.ledger.targets == len(expected) - 1
    held = prepared.held_out["validation"]
    assert len(held.ids) == prepared.ledger.sides["validation"].tokens
    assert (
        not set(list(corpus.texts("train"))) & set(list(corpus.texts("validation")))
        or corpus.ledger.split_by == "stretches"
    )


@pytest.mark.parametrize("length", [2, 3, 8, 9, 10, 16, 17, 100])
def test_every_token_but_the_first_is_a_target_once(tmp_path, length):
    ids = np.arange(length, dtype=np.uint32)
    pieces = np.array_split(ids, min(3, length))
    rows, targets = write_blocks(tmp_path / "x.arrow", pieces, block_size=8, dtype=np.dtype(np.uint16), fill=0)
    blocks = Blocks.load(tmp_path / "x.arrow", 8, targets)
    assert (rows, targets) == (-(-(length - 1) // 8), length - 1)
    assert stream_of(blocks) == list(range(length))


def test_inputs_and_targets_are_neighbours_across_rows(tmp_path):
    _, targets = write_blocks(tmp_path / "x.arrow", [np.arange(30, dtype=np.uint32)], 8, np.dtype(np.uint16), fill=0)
    batch = Blocks.load(tmp_path / "x.arrow", 8, targets).__getitems__([2, 0])
    assert batch["input_ids"].tolist() == [list(range(16, 24)), list(range(8))]
    assert batch["shift_labels"].tolist() == [list(range(17, 25)), list(range(1, 9))]
    assert batch["labels"].tolist() == batch["input_ids"].tolist()


def test_empty_rows_make_up_a_multiple_and_hold_no_target(tmp_path):
    _, targets = write_blocks(tmp_path / "x.arrow", [np.arange(30, dtype=np.uint32)], 8, np.dtype(np.uint16), fill=0)
    blocks = Blocks.load(tmp_path / "x.arrow", 8, targets)
    blocks.set_batch_shape(6, -1)
    assert len(blocks) == 6
    assert stream_of(blocks) == list(range(30))
    assert (blocks.__getitems__([4, 5])["shift_labels"] == -100).all()


def test_rows_take_two_bytes_a_token(tmp_path):
    ids = np.random.default_rng(0).integers(0, 50_000, 1_000_000, dtype=np.uint32)
    write_blocks(tmp_path / "x.arrow", [ids], 1024, np.dtype(np.uint16), fill=0)
    assert (tmp_path / "x.arrow").stat().st_size / len(ids) < 2.1


def test_special_tokens_typed_in_a_text_are_text(tokenizer):
    encoder = Encoder(tokenizer, ["a"])
    ids, _lengths = encoder.encode(build_texts(["fim <|endoftext|> início"]))
    assert encoder.name == "gigatoken"
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == "fim <|endoftext|> início"


def test_gigatoken_and_the_tokenizer_agree_on_real_text(tokenizer, texts):
    fast = Encoder(tokenizer, texts)
    slow = Encoder(tokenizer, texts)
    slow._encode = slow._encode_reference
    column = build_texts(["cut off", *texts, "cut off"])[1:-1]
    for ours, theirs in zip(fast.encode(column), slow.encode(column), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_tokenizer_that_gigatoken_reads_differently_is_used_itself(tokenizer, texts, monkeypatch, caplog):
    from lmtune.data import encoding

    other = lambda column: (np.zeros(len(column), np.uint32), np.ones(len(column), np.int64))  # noqa: E731
    monkeypatch.setattr(encoding, "_build_gigatoken", lambda _: other)
    encoder = Encoder(tokenizer, texts)
    assert encoder.name == "tokenizers"
    assert "disagree" in caplog.text


def test_the_ledger_counts_what_is_dropped(tmp_path, tokenizer):
    rows = [
        "",
        "  ",
        "curta",
        *(f"uma linha bem mais longa, número {n}" for n in range(60)),
        "uma linha bem mais longa, número 3",
    ]
    config = DataConfig(files=write_corpus(tmp_path, rows), deduplicate=True, min_chars=10, max_documents=50)
    ledger = EncodedCorpus(Corpus(config, 0), tokenizer).prepare(16).ledger
    assert (ledger.rows_read, ledger.rows_empty, ledger.rows_repeated) == (64, 2, 1)
    assert (ledger.documents_read, ledger.documents_short, ledger.documents_over_limit, ledger.documents_kept) == (
        61,
        1,
        10,
        50,
    )


def test_rows_with_other_values_are_passed_over_and_counted(tmp_path, tokenizer):
    file = tmp_path / "text.jsonl"
    rows = [{"text": f"frase {n}", "lang": ["pt", "en"][n % 2], "good": n % 3 > 0} for n in range(120)]
    write_lines(file, rows)
    corpus = Corpus(DataConfig(files=str(file), where={"lang": "pt", "good": True}), 0)
    ledger = EncodedCorpus(corpus, tokenizer).prepare(16).ledger
    assert (ledger.rows_read, ledger.rows_unwanted, ledger.rows_used) == (120, 80, 40)
    assert set(corpus.texts("all")) == {f"frase {n}" for n in range(0, 120, 2) if n % 3}
    with pytest.raises(
        DataError, match=r"has no column 'langue'; it has text, lang, good. Name one of those with data\.where="
    ):
        _ = Corpus(DataConfig(files=str(file), where={"langue": "pt"}), 0).split


def test_accents_are_composed_where_asked_and_counted(tmp_path, tokenizer):
    texts = [f"ac\u0327a\u0303o {n}" for n in range(30)] + [f"ação {n}" for n in range(30, 60)]
    file = write_corpus(tmp_path, texts)
    composed = Corpus(DataConfig(files=file, unicode=UnicodeForm.nfc), 0)
    assert EncodedCorpus(composed, tokenizer).prepare(16).ledger.rows_normalized == 30
    assert sorted(composed.texts("all")) == sorted(f"ação {n}" for n in range(60))
    assert sorted(Corpus(DataConfig(files=file), 0).texts("all")) == sorted(texts)


def test_positions_begin_anew_at_each_document():
    ids = np.array([[5, 6, 0, 7, 8, 0, 0, 9], [1, 2, 3, 4, 5, 6, 7, 0]])
    assert positions_in_documents(ids, separator=0).tolist() == [[0, 1, 2, 0, 1, 2, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_isolated_documents_do_not_see_each_other(tmp_path, build_tiny, kind):
    import torch

    model = build_tiny(kind)
    pieces = [[5, 6, 7, 0], [8, 9, 0], [10, 11, 12, 13, 0]]
    stream = [np.array([*itertools.chain(*pieces), 14], np.uint32)]
    _, targets = write_blocks(tmp_path / "x.arrow", stream, 12, np.dtype(np.uint16), fill=0)
    batch = Blocks.load(tmp_path / "x.arrow", 12, targets, separator=0).__getitems__([0])
    with torch.no_grad():
        together = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[0]
        alone = torch.cat([model(input_ids=torch.tensor([piece]), use_cache=False).logits[0] for piece in pieces])
        mixed = model(input_ids=batch["input_ids"], use_cache=False).logits[0]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert (mixed - alone).abs().max() > 1e-3


def test_a_hash_that_leaves_a_side_empty_gives_way_to_stretches(tmp_path):
    texts = [f"{n} " + "".join(f"palavra {n} {m}\n" for m in range(50)) for n in range(25)]
    file = write_corpus(tmp_path, texts)
    corpora = [Corpus(DataConfig(files=file), seed) for seed in range(40)]
    assert all(list(corpus.texts("validation")) for corpus in corpora)
    assert {corpus.split.note for corpus in corpora} == {"hash", "stretches"}
    for corpus in corpora:
        sides = [*corpus.texts("train"), *corpus.texts("validation")]
        assert sorted(sides) == sorted(texts), "short documents among many stay whole"


def test_all_of_a_text_is_neither_cut_nor_reordered(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("".join(f"linha {n}\n" for n in range(9000)), encoding="utf-8")
    corpus = Corpus(DataConfig(files=str(tmp_path / "a.txt")), 0)
    assert len(list(corpus.texts("train"))) > 1
    whole = EncodedCorpus(corpus, tokenizer).encode_stream("all")
    assert len(whole.documents) == 1
    (tmp_path / "b.txt").write_text("palavra", encoding="utf-8")
    word = EncodedCorpus(Corpus(DataConfig(files=str(tmp_path / "b.txt")), 0), tokenizer).encode_stream("all")
    assert tokenizer.decode(word.ids[:-1]) == "palavra"


def test_held_out_text_is_encoded_without_the_training_text(tmp_path, tokenizer, texts, monkeypatch):
    corpus = Corpus(DataConfig(files=write_corpus(tmp_path, [*texts, "ainda outra"])), 0)
    monkeypatch.setattr(EncodedCorpus, "_build", lambda *_: pytest.fail("the training side was encoded"))
    held = EncodedCorpus(corpus, tokenizer).load_held_out()
    assert held.split_by == "hash"
    assert len(held.streams["validation"].documents) == len(list(corpus.texts("validation")))


def test_rows_join_into_documents(tmp_path, tokenizer):
    config = DataConfig(files=write_corpus(tmp_path, [f"frase {n}" for n in range(250)]), rows_per_document=10)
    corpus = Corpus(config, 0)
    assert EncodedCorpus(corpus, tokenizer).prepare(16).ledger.documents_kept == 25
    assert "runs of 10 consecutive rows" in corpus.ledger.documents_are
    first = next(text for text in corpus.texts("all") if text.startswith("frase 0\n"))
    assert first.split("\n") == [f"frase {n}" for n in range(10)]


def test_given_files_are_held_out_without_what_is_trained_on(tmp_path, tokenizer):
    train = write_corpus(tmp_path, [f"frase {n}" for n in range(50)])
    held = write_corpus(tmp_path, ["frase 3", "outra frase"], "held.jsonl")
    corpus = Corpus(DataConfig(files=train, validation_files=held), 0)
    ledger = EncodedCorpus(corpus, tokenizer).prepare(16).ledger
    assert list(corpus.texts("validation")) == ["outra frase"]
    by_name = Corpus(DataConfig(files=train, validation_files=held, test_fraction=0.2, split_by=SplitRule.given), 0)
    assert list(by_name.texts("test")) == []
    assert (ledger.documents_in_training, ledger.split_by) == (1, "given")


def test_stretches_for_testing_beside_files_for_validation_are_not_trained_on(tmp_path, tokenizer):
    train, held = (tmp_path / "a.txt", tmp_path / "b.txt")
    train.write_text("\n".join(f"A paciente {number} voltou para casa." for number in range(400)), encoding="utf-8")
    held.write_text("outra frase", encoding="utf-8")
    corpus = Corpus(DataConfig(files=str(train), validation_files=str(held), test_fraction=0.1), 0)
    prepared = EncodedCorpus(corpus, tokenizer).prepare(16)
    assert prepared.ledger.split_by == "given and stretches"
    assert sorted(prepared.held_out) == ["test", "validation"]
    lines = {split: set("".join(corpus.texts(split)).splitlines()) for split in ("train", "test")}
    assert lines["train"]
    assert lines["test"]
    assert not lines["train"] & lines["test"]


def test_held_out_files_that_are_all_trained_on_are_refused(tmp_path):
    train = write_corpus(tmp_path, [f"frase {n}" for n in range(50)])
    with pytest.raises(DataError, match="Every held-out document also stands in the training text"):
        _ = Corpus(DataConfig(files=train, validation_files=train), 0).split


def test_a_ledger_that_does_not_close_stops_the_run():
    ledger = Ledger(rows_read=3, rows_used=2)
    with pytest.raises(LedgerError, match="rows read is 3, its parts add up to 2"):
        ledger.check()


def test_the_ledger_survives_being_written_down(tmp_path, tokenizer, texts):
    ledger = EncodedCorpus(Corpus(DataConfig(files=write_corpus(tmp_path, texts)), 0), tokenizer).prepare(16).ledger
    assert Ledger.from_dict(json.loads(json.dumps(ledger.as_dict()))) == ledger


def test_prepared_text_is_built_once_and_again_when_anything_changes(tmp_path, tokenizer, texts, monkeypatch):
    built = []
    build = EncodedCorpus._build
    monkeypatch.setattr(EncodedCorpus, "_build", lambda self, *args: (built.append(1), build(self, *args))[1])
    file = write_corpus(tmp_path, texts)

    def prepare(seed=5, block_size=16, **settings):
        before = len(built)
        EncodedCorpus(Corpus(DataConfig(files=file, **settings), seed), tokenizer).prepare(block_size)
        return len(built) - before

    assert [prepare(), prepare()] == [1, 0]
    assert [prepare(seed=6), prepare(block_size=17), prepare(min_chars=3), prepare(validation_fraction=0.2)] == [
        1,
        1,
        1,
        1,
    ]
    write_corpus(tmp_path, [*texts, "mais uma frase"])
    assert [prepare(), prepare()] == [1, 0]


def test_an_unchanged_file_is_not_read_again(tmp_path, monkeypatch):
    file = tmp_path / "a.txt"
    file.write_text("um", encoding="utf-8")
    os.utime(file, (10**9, 10**9))
    first = cache.checksum_file(file)
    monkeypatch.setattr(cache, "checksum", lambda _: pytest.fail("the file was read again"))
    assert cache.checksum_file(file) == first
    monkeypatch.undo()
    file.write_text("do", encoding="utf-8")
    assert cache.checksum_file(file) != first, "of the same size, but changed"
    os.utime(file, (10**9, 10**9))
    assert cache.checksum_file(file) != first, "of the same size and date, but another content"


def test_an_interrupted_build_leaves_no_entry(tmp_path, tokenizer, texts, monkeypatch):
    corpus = Corpus(DataConfig(files=write_corpus(tmp_path, [*texts, "só aqui"])), 0)
    monkeypatch.setattr(Ledger, "check", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        EncodedCorpus(corpus, tokenizer).prepare(16)
    monkeypatch.undo()
    assert not list(cache.find_folder().glob(".*-*"))
    assert EncodedCorpus(Corpus(corpus.config, 0), tokenizer).prepare(16).ledger.targets > 0


def test_a_tokenizer_is_known_by_what_decides_its_ids(tmp_path, tokenizer):
    from lmtune.modeling.tokenizer import learn_tokenizer, load_tokenizer

    tokenizer.save_pretrained(tmp_path)
    assert hash_tokenizer(load_tokenizer(str(tmp_path))) == hash_tokenizer(tokenizer)
    assert hash_tokenizer(learn_tokenizer(["outro texto"], 300, 64)) != hash_tokenizer(tokenizer)


def test_a_word_added_to_a_tokenizer_changes_its_hash(tmp_path, tokenizer):
    from lmtune.modeling.tokenizer import load_tokenizer

    tokenizer.save_pretrained(tmp_path)
    other = load_tokenizer(str(tmp_path))
    other.add_tokens(["paciente"])
    assert hash_tokenizer(other) != hash_tokenizer(tokenizer)


def test_unigram_bits_by_hand():
    table = np.array([(3, 4, 4, 2, 0)], dtype=DOCUMENT_TABLE)
    bits = unigram_bits_per_byte(np.array([2, 0, 4]), TokenStream(np.array([1, 2, 0], np.uint16), table, separator=0))
    assert bits == pytest.approx((np.log2(9 / 1) + np.log2(9 / 5)) / 4)


def no_text(ids):
    """Of a vocabulary whose ids cannot be read piece by piece."""
    return str(len(ids))


def build_stream(encode, documents, end):
    """A stream of texts, drawn in their order."""
    rows = [[*encode(text), end] for text in documents]
    table = [(len(ids), len(text.encode()), len(text), len(text.split()), number)
             for number, (ids, text) in enumerate(zip(rows, documents, strict=True))]  # fmt: skip
    return TokenStream(np.concatenate(rows).astype(np.uint16), np.array(table, dtype=DOCUMENT_TABLE), end)


@pytest.mark.parametrize("limit", [40, 41, 42, 43, 44, 45, 60, 200])
def test_a_document_that_is_too_long_is_represented_by_its_end(tokenizer, limit):
    long = "São João, coração e pão; o ação não é fácil: 🙂 naïve façade. " * 40
    stream = build_stream(lambda text: tokenizer(text)["input_ids"], ["Era uma vez.", long], tokenizer.eos_token_id)
    sample = stream.select(limit, lambda ids: tokenizer.decode(ids.tolist()))
    whole, cut = sample.documents
    assert whole == stream.documents[0]
    assert limit - 64 < len(sample.ids) <= limit
    np.testing.assert_array_equal(sample.ids[whole["tokens"] :], stream.ids[-cut["tokens"] :])
    end = tokenizer.decode(sample.ids[whole["tokens"] : -1].tolist())
    assert long.endswith(end)
    assert (cut["bytes"], cut["characters"], cut["words"]) == (len(end.encode()), len(end), len(end.split()))
    assert list(np.flatnonzero(sample.is_separator())) == [whole["tokens"] - 1, len(sample.ids) - 1]


def test_no_part_is_taken_where_whole_documents_do(tokenizer):
    texts = ["Era uma vez um rei. " * 4, "O paciente chegou. " * 30]
    stream = build_stream(lambda text: tokenizer(text)["input_ids"], texts, tokenizer.eos_token_id)
    first = int(stream.documents["tokens"][0])
    assert len(stream.select(2 * first, lambda ids: tokenizer.decode(ids.tolist())).documents) == 1
    assert len(stream.select(2 * first + 1, lambda ids: tokenizer.decode(ids.tolist())).documents) == 2


def test_a_vocabulary_that_cannot_be_read_in_parts_leaves_documents_whole(tokenizer):
    stream = build_stream(lambda text: tokenizer(text)["input_ids"], ["Era uma vez. " * 50], tokenizer.eos_token_id)
    other = TokenStream(np.concatenate([stream.ids, stream.ids]), np.repeat(stream.documents, 2), stream.separator)
    np.testing.assert_array_equal(other.select(50, no_text).ids, stream.ids)


def test_subsets_are_whole_documents_and_always_the_same(tmp_path, tokenizer, texts):
    corpus = Corpus(DataConfig(files=write_corpus(tmp_path, texts), validation_fraction=0.5), 0)
    stream = EncodedCorpus(corpus, tokenizer).prepare(16).held_out["validation"]
    limits = [60, 120, 400, 10**6]
    subsets = [stream.select(limit, no_text) for limit in limits]
    assert all(
        len(subset.ids) <= max(limit, stream.documents["tokens"].max())
        for subset, limit in zip(subsets, limits, strict=True)
    )
    assert all(len(a.documents) <= len(b.documents) for a, b in pairwise(subsets))
    assert subsets[-1] is stream is stream.select(0, no_text)
    np.testing.assert_array_equal(stream.select(120, no_text).ids, subsets[1].ids)
    assert subsets[1].is_separator().sum() == len(subsets[1].documents)
    assert (subsets[1].ids[subsets[1].is_separator()] == stream.separator).all()


def test_documents_of_a_file_follow_the_rule(tmp_path):
    text = "\n = Title = \n\nFirst line.\n\n = = Section = = \n\nMore.\n = Other (2) = \nEnd.\n"
    file = tmp_path / "wiki.txt"
    file.write_text(text, encoding="utf-8")

    def read(rule):
        return list(Corpus(DataConfig(files=str(file), documents=rule, validation_fraction=0), 0).texts("train"))

    assert [d.split("\n")[0] for d in read(DocumentRule.wikitext)] == [" = Title = ", " = Other (2) = "]
    assert len(read(DocumentRule.line)) == 6
    assert len(read(DocumentRule.blank_line)) == 4
    assert len(read(DocumentRule.file)) == 1


def test_what_one_source_holds_out_is_not_learned_from_another(tmp_path, tokenizer):
    from dataclasses import replace

    from lmtune.data.build import build_corpus, prepare_training

    texts = [f"um documento, número {n}, com algumas palavras" for n in range(200)]
    own = DataConfig(
        name="new",
        files=write_corpus(tmp_path, texts, "new.jsonl"),
        mix={"new": 0.5, "old": 0.5},
        validation_fraction=0.3,
    )
    old = DataConfig(name="old", files=write_corpus(tmp_path, texts, "old.jsonl"), validation_fraction=0.05)
    corpus = build_corpus(own, 0)
    ledger = prepare_training(corpus, {"old": old}, tokenizer, 16).ledger
    held = set(corpus.texts("validation"))
    assert ledger.mix["old"]["documents_held_elsewhere"] == len(held) > 30
    left = Corpus(
        replace(old), 0, left_out=np.concatenate([hash_texts(part, 0) for part in corpus.split.held_out["validation"]])
    )
    assert held.isdisjoint(left.texts("train"))
    EncodedCorpus(left, tokenizer).prepare(16).ledger.check()


@pytest.mark.parametrize("streaming", [False, True])
def test_text_that_is_not_scored_may_have_all_that_it_keeps_apart_held_out_elsewhere(tmp_path, tokenizer, streaming):
    texts = [f"um documento, número {n}, com algumas palavras" for n in range(60)]
    apart = [f"outro documento, número {n}" for n in range(5)]
    files = {"files": write_corpus(tmp_path, texts), "validation_files": write_corpus(tmp_path, apart, "apart.jsonl")}
    config = DataConfig(name="old", streaming=streaming, test_fraction=0, **files)
    hashes = np.concatenate([hash_texts(part, 0) for part in Corpus(config, 0).batches("validation")])
    replayed = Corpus(config, 0, left_out=hashes, withholds=True)
    assert sorted(replayed.texts("train")) == sorted(texts)
    assert list(replayed.texts("validation")) == []
    assert replayed.ledger.documents_held_elsewhere == len(apart)
    if not streaming:
        EncodedCorpus(replayed, tokenizer).prepare(16).ledger.check()


@pytest.mark.parametrize("count", [22, 60])
@pytest.mark.parametrize("share", [0.05, 0.4])
def test_text_without_what_is_held_out_elsewhere_is_its_whole_training_part(tmp_path, count, share):
    texts = [f"{'uma palavra ' * 9} no documento {n}.\nE mais uma linha, a {n}." for n in range(count)]
    config = DataConfig(name="old", files=write_corpus(tmp_path, texts), validation_fraction=share, test_fraction=0)
    watched = Corpus(config, 0)
    hashes = np.concatenate([hash_texts(part, 0) for part in watched.batches("validation")])
    replayed = Corpus(config, 0, left_out=hashes, withholds=True)
    assert list(replayed.texts("train")) == list(watched.texts("train"))


@pytest.mark.parametrize(
    ("least", "words"), [(0, "model comes from."), (25, "others are shorter than data.min_chars.")]
)
def test_text_that_is_all_held_out_elsewhere_is_told_as_such(tmp_path, least, words):
    file = write_corpus(
        tmp_path, [f"um documento, número {n}, com palavras" for n in range(30)] + ["curto"] * (least > 0)
    )
    held = np.concatenate([hash_texts(part, 0) for part in Corpus(DataConfig(files=file), 0).batches("all")])
    config = DataConfig(files=file, min_chars=least)
    with pytest.raises(DataError, match=rf"Nothing is left of 3\d documents \(train\): 30 are held out .*{words}"):
        Corpus(config, 0, left_out=held, withholds=True).first_pass  # noqa: B018


@pytest.mark.parametrize("block_size", [3, 8, 64])
def test_padded_rows_hold_one_document_each_and_learn_all_of_it(tmp_path, tokenizer, block_size):
    texts = [f"documento {n}" + ", com mais palavras" * (n % 5) for n in range(60)]
    corpus = Corpus(DataConfig(files=write_corpus(tmp_path, texts), packing=False), 0)
    prepared = EncodedCorpus(corpus, tokenizer).prepare(block_size)
    prepared.ledger.check()
    assert prepared.ledger.targets == prepared.ledger.sides["train"].tokens
    batch = prepared.blocks.__getitems__(list(range(len(prepared.blocks))))
    learned = batch["shift_labels"]
    assert learned[learned >= 0].tolist() == EncodedCorpus(corpus, tokenizer).encode_stream("train").ids.tolist()
    begins = batch["input_ids"][:, 0] == tokenizer.eos_token_id
    assert int(begins.sum()) == prepared.ledger.sides["train"].documents
    ends = (learned == tokenizer.eos_token_id).sum(dim=1)
    assert int(ends.max()) == 1, "no row holds two documents"
    prepared.blocks.set_batch_shape(7, -1)
    assert len(prepared.blocks) % 7 == 0
    assert (prepared.blocks[len(prepared.blocks) - 1]["shift_labels"] >= 0).sum() in range(block_size + 1)


def test_padded_rows_do_not_go_with_text_end_to_end():
    with pytest.raises(
        ConfigError, match=r"data\.packing=false gives each document rows of its own; found data\.stride"
    ):
        DataConfig(files="a", packing=False, stride=2)
