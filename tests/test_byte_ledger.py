"""The ledger closes to the byte: what a source holds is what was kept and each kind that was left out."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtune.config import DataConfig, DocumentRule, UnicodeForm
from lmtune.data import columns, decoding
from lmtune.data.boundaries import split_text
from lmtune.data.corpus import Corpus
from lmtune.data.ledger import LEFT_OUT, Ledger
from lmtune.data.prepare import EncodedCorpus
from lmtune.data.unpacking import open_unpacked
from lmtune.errors import DataError, LedgerError
from lmtune.storage import checksum

LINES = st.lists(
    st.sampled_from(["um", " dois", "ac\u0327a\u0303o", "", "  ", "\t", " = Título = ", "日本", "um", "três três"]),
    max_size=12,
)
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": b"\xff\xfe",
    "utf-16-be": b"\xfe\xff",
    "utf-32-le": b"\xff\xfe\0\0",
}


def account_of(config):
    """The ledger of a corpus that has been read once, whatever becomes of it."""
    corpus = Corpus(config, 0)
    ledger = corpus.open_ledger()
    for split in corpus.source.splits():
        for _ in corpus.load_documents(split, ledger):
            continue
    return ledger


def check_closed(ledger, content):
    """content: bytes of each source, compression undone."""
    assert ledger.bytes_read == sum(content) == ledger.bytes_kept + sum(ledger.left_out.values())
    assert set(ledger.left_out) <= set(LEFT_OUT)
    for source, size in zip(ledger.sources, content, strict=True):
        assert source["content_bytes"] == size == source["bytes_kept"] + sum(source["left_out"].values())
    assert sum(source["rows"] for source in ledger.sources) == ledger.rows_read


@given(
    files=st.lists(st.tuples(LINES, ENDS, st.sampled_from(sorted(ENCODINGS))), min_size=1, max_size=3),
    rule=st.sampled_from([None, *(rule for rule in DocumentRule if rule is not DocumentRule.row)]),
    many=st.sampled_from([1, 3]),
    deduplicate=st.booleans(),
    min_chars=st.sampled_from([0, 4]),
    limit=st.sampled_from([{}, {"max_documents": 2}, {"max_bytes": 9}]),
    form=st.sampled_from(list(UnicodeForm)),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_byte_of_a_text_is_kept_or_left_out_by_its_kind(
    tmp_path_factory, files, rule, many, deduplicate, min_chars, limit, form
):
    folder = tmp_path_factory.mktemp("texts")
    content = []
    for number, (lines, end, encoding) in enumerate(files):
        body = ENCODINGS[encoding] + end.join(lines).encode(encoding)
        (folder / f"{number}.txt").write_bytes(body)
        content.append(len(body))
    settings = {
        "documents": rule,
        "rows_per_document": many,
        "deduplicate": deduplicate,
        "min_chars": min_chars,
        **limit,
    }
    try:
        ledger = account_of(DataConfig(files=str(folder), unicode=form, **settings))
    except DataError as error:
        assert "expected text, found" in str(error)  # noqa: PT017  no file holds anything
        return
    check_closed(ledger, content)


@given(
    rows=st.lists(
        st.fixed_dictionaries({"text": st.text(max_size=20), "lang": st.sampled_from(["pt", "en"])}),
        min_size=1,
        max_size=20,
    ),
    kind=st.sampled_from(["jsonl", "json"]),
    where=st.sampled_from([{}, {"lang": "pt"}]),
    rule=st.sampled_from([None, DocumentRule.line, DocumentRule.blank_line]),
    escaped=st.booleans(),
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_byte_of_a_table_is_kept_or_left_out_by_its_kind(tmp_path, rows, kind, where, rule, escaped):
    file = tmp_path / f"a.{kind}"
    dumped = [json.dumps(row, ensure_ascii=escaped) for row in rows]
    body = "\r\n".join(dumped) if kind == "jsonl" else "[" + ",\n".join(dumped) + "]"
    file.write_bytes(body.encode("utf-8", "surrogatepass"))
    check_closed(account_of(DataConfig(files=str(file), where=where, documents=rule)), [file.stat().st_size])


@given(
    text=st.text(st.sampled_from("ab \t\n=é\u2028"), max_size=80),
    rule=st.sampled_from(list(DocumentRule)),
    cut=st.integers(1, 9),
)
@settings(max_examples=200, deadline=None)
def test_documents_and_what_is_around_them_make_up_the_text(text, rule, cut):
    from collections import Counter

    pieces = [text[begin : begin + cut] for begin in range(0, len(text), cut)]
    left = Counter()
    documents = list(split_text(pieces, rule, left))
    assert sum(len(document.encode()) for document in documents) + sum(left.values()) == len(text.encode())
    assert min(left.values(), default=0) >= 0


def find_text_files():
    folder = os.environ.get("LMTUNE_TEST_DATA")
    return sorted(Path(folder).rglob("*")) if folder else []


SETTINGS = {"cp1252-pt.txt": {"encoding": "cp1252"}, "latin1-real-udhr-pt.txt": {"encoding": "latin-1"},
            "nested-messages.jsonl": {"text_column": "messages.0.content.0.value"}}  # fmt: skip


@pytest.mark.parametrize("rule", [None, DocumentRule.line, DocumentRule.blank_line, DocumentRule.wikitext])
def test_the_ledger_of_every_real_file_closes_to_its_size(real_data, rule):
    closed, refused = 0, set()
    for file in find_text_files():
        if not file.is_file() or not {".txt", ".jsonl", ".json"} & set(file.suffixes):
            continue
        if rule and file.stat().st_size > 2_000_000:
            continue  # the whole of these is read once, without a rule
        try:
            ledger = account_of(DataConfig(files=str(file), documents=rule, **SETTINGS.get(file.name, {})))
        except DataError:
            refused.add(file.name)
            continue
        with open_unpacked(file) as stream:
            size = len(stream.read())
        check_closed(ledger, [size])
        assert ledger.sources[0]["bytes"] == file.stat().st_size
        assert ledger.sources[0]["xxh3_128"] == checksum(file)
        closed += 1
    assert refused == {
        "empty.txt",
        "mixed-utf8-then-cp1252-pt.txt",
        "nested-squad-pt.json",
        "truncated.txt.gz",
        "vocab.json",
    }
    assert closed >= (21 if rule else 25), real_data


def test_a_run_of_several_files_closes_down_to_its_sides(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_bytes("\ufeffuma linha\r\n\r\n\r\noutra linha\r\n".encode())
    rows = [{"id": n, "text": f"frase {n % 50}"} for n in range(80)]
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    held = tmp_path / "held"
    held.mkdir()
    (held / "c.jsonl").write_text('{"text": "frase 3"}\n{"text": "nova"}\n{"text": "nova frase"}\n', encoding="utf-8")
    files = [str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl.gz")]
    config = DataConfig(files=files, validation_files=str(held), deduplicate=True, min_chars=5)
    ledger = EncodedCorpus(Corpus(config, 0), tokenizer).prepare(16).ledger
    ledger.check()
    check_closed(ledger, [31, sum(len(json.dumps(row)) + 1 for row in rows), 60])
    a, b, c = ledger.sources
    assert a["left_out"] == {"marks": 3, "carriage_returns": 4, "line_ends": 1}
    assert b["left_out"]["repeated"] == sum(len(row["text"]) for row in rows[50:])
    assert c["left_out"] == {"table": 39, "short": 4, "in_training": 7}
    assert {"name", "split", "bytes", "modified", "xxh3_128", "rows"} <= a.keys()
    again = EncodedCorpus(Corpus(config, 0), tokenizer).prepare(16).ledger
    assert again == ledger, "from the cache"


def test_text_held_out_elsewhere_is_an_account_of_its_own(tmp_path):
    from lmtune.data.columns import build_texts, hash_texts

    (tmp_path / "a.txt").write_text("um\ndois\n", encoding="utf-8")
    config = DataConfig(files=str(tmp_path / "a.txt"), documents=DocumentRule.line)
    corpus = Corpus(config, 0, left_out=hash_texts(build_texts(["dois"]), 0))
    ledger = corpus.open_ledger()
    list(corpus.load_documents("train", ledger))
    check_closed(ledger, [8])
    assert ledger.left_out == {"line_ends": 2, "held_elsewhere": 4}


def test_a_byte_that_is_missing_stops_the_run():
    ledger = Ledger(bytes_read=3, bytes_kept=2)
    with pytest.raises(LedgerError, match="bytes read is 3, its parts add up to 2"):
        ledger.check()
    ledger = Ledger(sources=[{"name": "a", "split": "train"}])
    before = ledger.tally()
    ledger.bytes_read = 3
    with pytest.raises(LedgerError, match="bytes of a is 3, its parts add up to 0"):
        ledger.settle("train", 0, before)


def test_the_account_of_bytes_is_shown_as_a_column_that_adds_up(lmtune, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"".join(b"uma linha, a %d\r\n\r\n" % number for number in range(40)))
    answer = lmtune("data", "data.files=a.txt", "data.documents=line", "data.block_size=32")
    column = [
        line.split()[-1].replace(",", "") for line in answer.out.splitlines()[: answer.out.splitlines().index("")]
    ]
    assert int(column[0]) + sum(map(int, column[1:-1])) == int(column[-1])
    assert int(np.sum([int(number) for number in column[1:-1]])) < 0


@pytest.mark.parametrize("limit", [{"max_bytes": 40}, {"max_documents": 3}])
def test_a_packed_file_is_read_only_as_far_as_a_limit_asks(tmp_path, monkeypatch, limit):
    file = tmp_path / "a.txt.gz"
    lines = "".join(f"frase {number}\n" for number in range(10_000))
    file.write_bytes(gzip.compress(lines.encode()))
    monkeypatch.setattr(decoding, "PIECE_BYTES", 1000)
    monkeypatch.setattr(columns.batch_strings, "__defaults__", (1000,))
    settings = {"files": str(file), "documents": DocumentRule.line}
    ledger = account_of(DataConfig(**settings, **limit))
    assert 0 < ledger.bytes_kept < 60
    assert ledger.bytes_read == ledger.bytes_kept + sum(ledger.left_out.values()) < 10_000
    assert ledger.sources[0]["content_bytes"] == ledger.bytes_read
    assert account_of(DataConfig(**settings)).bytes_read == len(lines)
