"""What readers promise: a part never passes for the whole, a text is a text, and a name that is not there is said."""

import bz2
import csv
import gzip
import io
import json
import lzma
from datetime import date

import datasets
import pyarrow as pa
import pytest
import zstandard
from helpers import write_lines
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.corpus import Corpus
from lmtune.data.file_source import FileSource
from lmtune.data.files import list_files
from lmtune.data.sources import build_source
from lmtune.errors import ConfigError, DataError

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
SENTENCES = [f"frase número {n}, com um número {n * n}" for n in range(40)]


def read(files, split="train", **settings):
    settings = (
        {"sources": files} if isinstance(files, list) and isinstance(files[0], dict) else {"files": files, **settings}
    )
    settings["files"] = (
        str(settings["files"]) if "files" in settings and not isinstance(files, list) else settings.get("files")
    )
    return rows_of(FileSource(DataConfig(**settings)), split)


def rows_of(source, split="train"):
    shards = range(source.count_shards(split))
    return [text for shard in shards for rows in source.load_rows(split, shard) for text in rows.texts.to_pylist()]


# Packed files


@pytest.mark.parametrize("suffix", PACK)
@given(data=st.binary(min_size=1, max_size=2000), members=st.integers(1, 3), cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_cut_off_is_never_read_as_the_whole(tmp_path, suffix, data, members, cut):
    from lmtune.data.unpacking import UNPACKING_ERRORS, open_unpacked

    file = tmp_path / f"a.txt{suffix}"
    packed = PACK[suffix](data)
    file.write_bytes(packed * members)
    with open_unpacked(file) as stream:
        assert stream.read() == data * members
    file.write_bytes(packed * (members - 1) + packed[: max(1, int(cut * len(packed)))])
    with pytest.raises(UNPACKING_ERRORS), open_unpacked(file) as stream:
        stream.read()


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv"])
def test_a_file_that_is_cut_off_is_one_error(tmp_path, kind, suffix):
    body = {".txt": "\n".join(SENTENCES), ".jsonl": "".join(json.dumps({"text": text}) + "\n" for text in SENTENCES)}
    body[".csv"] = "text\n" + "".join(f'"{text}"\n' for text in SENTENCES)
    file = tmp_path / f"a{kind}{suffix}"
    file.write_bytes(PACK[suffix](body[kind].encode())[:-9])
    with pytest.raises(DataError, match=r"cannot be read to its end: .* It is cut off"):
        read(file)


@pytest.mark.parametrize("suffix", PACK)
def test_nothing_but_zeros_may_follow_what_was_packed(tmp_path, suffix):
    file = tmp_path / f"a.txt{suffix}"
    packed = PACK[suffix](b"um")
    file.write_bytes(packed + bytes(1024))
    assert read(file) == ["um"]
    for rest in (b"x", b"dois\n", packed[:2]):
        file.write_bytes(packed + rest)
        with pytest.raises(DataError, match="cannot be read to its end"):
            read(file)
    file.write_bytes(b"")
    (tmp_path / "b.txt").write_text("dois")
    with pytest.raises(DataError, match="it is empty"):
        read(tmp_path)


def test_a_zst_with_a_large_window_is_read(tmp_path):
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=0)
    file = tmp_path / "a.txt.zst"
    with zstandard.ZstdCompressor(compression_params=parameters).stream_writer(file.open("wb")) as stream:
        stream.write(b"um texto")
    assert read(file) == ["um texto"]


def test_a_stream_of_arrow_without_its_end_is_cut_off(tmp_path):
    table = pa.table({"text": SENTENCES})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    (tmp_path / "a.arrow").write_bytes(sink.getvalue())
    assert read(tmp_path / "a.arrow") == SENTENCES
    for cut in (8, 9, len(sink.getvalue()) // 2):
        (tmp_path / "a.arrow").write_bytes(sink.getvalue()[:-cut])
        with pytest.raises(DataError, match=r"a\.arrow (cannot be read to its end|does not read)"):
            read(tmp_path / "a.arrow")


def test_arrow_files_are_read_as_streams_are(tmp_path):
    table = pa.table({"text": pa.array(SENTENCES).dictionary_encode(), "n": range(40)})
    with pa.ipc.new_file(str(tmp_path / "a.feather"), table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "a.feather") == SENTENCES
    (tmp_path / "a.feather").write_bytes((tmp_path / "a.feather").read_bytes()[:-20])
    with pytest.raises(DataError, match="does not read as arrow"):
        read(tmp_path / "a.feather")


# Encodings

LETTERS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), max_size=200)
MARKED = {"utf-8-sig": b"", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff", "utf-32-le": b"\xff\xfe\0\0", "utf-32-be": b"\0\0\xfe\xff"}  # fmt: skip


@given(text=LETTERS, encoding=st.sampled_from(sorted(MARKED)), piece=st.integers(1, 9))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_text_with_a_mark_is_read_in_its_encoding_however_it_falls_into_pieces(
    tmp_path, monkeypatch, text, encoding, piece
):
    from lmtune.data import decoding

    monkeypatch.setattr(decoding, "PIECE_BYTES", max(4, piece))
    file = tmp_path / "a.txt"
    file.write_bytes(MARKED[encoding] + text.encode(encoding))
    reading = decoding.Reading(file, "utf-8")
    assert "".join(decoding.load_pieces(reading)) == text
    assert reading.content == file.stat().st_size == len(text.encode()) + sum(reading.left.values())


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_what_has_no_mark_is_not_decoded_by_guess(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("Um texto que se lê.".encode(encoding))
    with pytest.raises(DataError, match=r"NULs among|is not utf-8"):
        read(tmp_path / "a.txt")
    with pytest.raises(
        DataError, match=f"begins without a byte-order mark.*Say {encoding[:6]}-le or {encoding[:6]}-be"
    ):
        read(tmp_path / "a.txt", encoding=encoding[:6])
    assert read(tmp_path / "a.txt", encoding=encoding) == ["Um texto que se lê."]


@pytest.mark.parametrize(
    "encoding", ["rot13", "base64", "hex", "zlib", "idna", "undefined", "no such", "a\0b", "punycode"]
)
def test_what_is_no_encoding_of_text_is_refused(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("não\n".encode() * 100)
    with pytest.raises(DataError):
        read(tmp_path / "a.txt", encoding=encoding)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--4d7a.txt\n", "git annex get"),
        (gzip.compress(b"um", mtime=0), r"found the begin of a gzip file \(\.gz\), whatever its name says"),
        (b"%PDF-1.7\n", "found the begin of a PDF"),
        (b"PK\x03\x04" + bytes(20), "a zip file"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_what_is_no_text_is_refused(tmp_path, name, body, complaint):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.txt.gz"])
def test_pointers_are_known_in_every_kind_of_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(DataError, match="is a pointer of Git LFS"):
        read(tmp_path / name)


def test_utf8_read_as_latin1_is_told(tmp_path):
    text = "A saúde não é só ausência de doença, é também atenção à população. " * 5
    (tmp_path / "right.txt").write_text(text, encoding="utf-8")
    (tmp_path / "twice.txt").write_text(text.encode().decode("latin-1"), encoding="utf-8")
    source = FileSource(DataConfig(files=str(tmp_path)))
    rows_of(source)
    (remark,) = source.remarks
    assert "twice.txt" in remark
    assert "'Ãº' stand where 'ú' may be meant" in remark


# Separated values

CELLS = st.text(st.sampled_from('ab,;"\n\t é'), max_size=8)


@given(
    rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_csv_reads_back_as_it_was_written(tmp_path, rows, quoting):
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=quoting)
        writer.writerows([("id", "text"), *rows])
    assert read(tmp_path / "a.csv") == [text for _, text in rows]


@given(
    rows=st.lists(st.tuples(st.text("ab é\"'", max_size=8), st.text("ab é\"',;", max_size=8)), min_size=1, max_size=8)
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_quotes_in_a_tsv_are_letters_unless_they_pair_around_a_value(tmp_path, rows):
    body = "id\ttext\n" + "".join(f"x{key}\t{text}\n" for key, text in rows)
    (tmp_path / "a.tsv").write_text(body, encoding="utf-8")
    try:
        found = read(tmp_path / "a.tsv")
    except DataError as error:
        assert "a quote opens that may be a letter" in str(error)  # noqa: PT017  where both readings make sense
        return
    for (_, text), read_back in zip(rows, found, strict=True):
        is_pair = len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1].replace('""', "")
        assert read_back == (text[1:-1].replace('""', '"') if is_pair else text)


@pytest.mark.parametrize(
    ("name", "body", "complaint"),
    [
        ("a.csv", 'text,id\n"um,1\ndois,2\n', "line 2: a quote opens that is never closed"),
        ("a.csv", 'text,id\num,1\n"Sim" disse,2\n', "line 3: ',' expected after '\"'"),
        ("a.csv", "text,id\num,1,x\n", "line 2: Expected 2 columns, got 3"),
        ("a.csv", "text,text\num,1\n", "has several columns 'text'"),
        ("a.tsv", 'text\n"um\ndois"\n', "line 2: a quote opens that may be a letter, or go on to line 3"),
    ],
)
def test_separated_values_that_are_none_are_refused_with_the_line(tmp_path, name, body, complaint):
    (tmp_path / name).write_text(body, encoding="utf-8")
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / name)


def test_an_open_quote_in_a_tsv_does_not_swallow_the_rows_behind_it(tmp_path):
    rows = [f"{n}\t{chr(34) if n % 3 == 0 else ''}polegadas {n}" for n in range(40)]
    (tmp_path / "a.tsv").write_text("id\ttext\n" + "\n".join(rows), encoding="utf-8")
    assert read(tmp_path / "a.tsv") == [row.split("\t")[1] for row in rows]
    (tmp_path / "a.tsv").write_text('id\ttext\n1\t"um\ndois"\n2\ttrês\n', encoding="utf-8")
    assert read(tmp_path / "a.tsv") == ["um\ndois", "três"], "as pandas writes a text of several lines"


@pytest.mark.parametrize("body", ["id;text\n1;a, b\n2;c\n", "id|text\n1|a, b\n2|c\n", "id\ttext\n1\ta, b\n2\tc\n", "sep=;\nid;text\n1;a, b\n2;c\n"])  # fmt: skip
def test_other_delimiters_are_found_in_the_header_and_told(tmp_path, body):
    (tmp_path / "a.csv").write_text(body, encoding="utf-8")
    source = FileSource(DataConfig(files=str(tmp_path / "a.csv")))
    assert rows_of(source) == ["a, b", "c"]
    assert bool(source.remarks) != body.startswith("sep=")


def test_csv_of_any_encoding_and_length_is_read(tmp_path):
    long = "palavra " * 5_000_000
    (tmp_path / "long.csv").write_text(f"id,text\n1,{long}\n2,curta\n", encoding="utf-8")
    assert [len(text) for text in read(tmp_path / "long.csv")] == [len(long), 5]
    (tmp_path / "a.csv").write_text("id,text\n1,não\n", encoding="utf-16")
    assert read(tmp_path / "a.csv") == ["não"]


# Values


def test_numbers_and_words_stand_as_they_are_written(tmp_path):
    body = '{"text": 1e5}\n{"text": 1.0}\n{"text": true}\n{"text": 12345678901234567890123}\n{"text": null}\n{"text": NaN}\n{"text": "007"}\n'
    (tmp_path / "a.jsonl").write_text(body, encoding="utf-8")
    assert read(tmp_path / "a.jsonl") == ["1e5", "1.0", "true", "12345678901234567890123", "", "", "007"]
    (tmp_path / "b.csv").write_text("text\n1e5\n1.0\nTrue\nNaN\n007\n", encoding="utf-8")
    assert read(tmp_path / "b.csv") == ["1e5", "1.0", "True", "NaN", "007"]


def test_a_column_of_bytes_is_decoded_or_refused(tmp_path):
    parquet.write_table(pa.table({"text": [text.encode() for text in SENTENCES]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == SENTENCES
    parquet.write_table(pa.table({"text": [b"um", "não".encode("latin-1")]}), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"a\.parquet, row 2: 'text' holds bytes, which data.encoding=utf-8 does not decode"
    ):
        read(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", encoding="latin-1") == ["um", "não"]


def test_values_of_typed_tables_are_what_they_are_written_as_or_refused(tmp_path):
    table = pa.table({
        "small": pa.array([0.1, None], pa.float32()), "flag": [True, False], "day": [date(2020, 1, 25), None],
        "span": pa.array([1, 2], pa.duration("s")), "nan": [float("nan"), 1.5],
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", text_column="{small}|{flag}|{day}|{nan}") == [
        "0.1|true|2020-01-25|",
        "|false||1.5",
    ]
    with pytest.raises(DataError, match="row 1: expected text in 'span', found timedelta"):
        read(tmp_path / "a.parquet", text_column="span")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("where", "count"),
    [
        ({"year": 2001}, 13),
        ({"year": [2000, 2001]}, 27),
        ({"ok": True}, 20),
        ({"lang": "pt"}, 40),
        ({"year": 2001, "ok": True}, 6),
    ],
)
def test_wanted_values_are_found_by_whichever_door_they_come(tmp_path, kind, where, count):
    rows = [{"text": text, "year": 2000 + n % 3, "ok": n % 2 == 0, "lang": "pt"} for n, text in enumerate(SENTENCES)]
    table = datasets.Dataset.from_list(rows)
    file = tmp_path / f"a.{kind}"
    {"csv": table.to_csv, "jsonl": table.to_json, "parquet": table.to_parquet}[kind](file)
    assert len(read(file, where=where)) == count


def test_values_that_no_row_has_are_told_with_those_that_there_are(tmp_path):
    file = write_lines(tmp_path / "a.jsonl", [{"text": text, "year": 2000 + n % 2} for n, text in enumerate(SENTENCES)])
    with pytest.raises(
        DataError, match=r"no row has year=1999: it has '2000' \(20\), '2001' \(20\)\. Correct data\.where="
    ):
        _ = Corpus(DataConfig(files=str(file), where={"year": 1999}), 0).split
    with pytest.raises(
        DataError, match=r"has no column 'yaer'; it has text, year\. Name one of those with data\.where="
    ):
        _ = Corpus(DataConfig(files=str(file), where={"yaer": 1999}), 0).split


# Names


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ("{meta.titel}: {messages.0.content}", "expected 'meta.titel'.*'meta' has title"),
        ("messages.0.contnt", "expected 'messages.0.contnt'.*'messages.0' has content"),
        ("messages.7.content", "expected 'messages.7.content'.*'messages' has 1 items"),
        ("body", "has no column 'body'; it has meta, messages"),
        (["body", "meta.titel"], "has no column 'body'|expected 'meta.titel'"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_name_that_no_row_has_is_refused_with_those_that_are_there(tmp_path, kind, column, complaint):
    table = datasets.Dataset.from_list(
        [{"meta": {"title": "T"}, "messages": [{"content": text}]} for text in SENTENCES]
    )
    file = tmp_path / f"a.{kind}"
    {"jsonl": table.to_json, "parquet": table.to_parquet}[kind](file)
    with pytest.raises(DataError, match=complaint):
        read(file, text_column=column)
    assert read(file, text_column=["body", "messages.0.content"]) == SENTENCES


def test_a_key_that_comes_late_is_there(tmp_path):
    rows = [{"title": "T"}] * 2500 + [{"title": "T", "text": text} for text in SENTENCES]
    file = write_lines(tmp_path / "a.jsonl", rows)
    assert read(file) == [""] * 2500 + SENTENCES
    assert read(file, where={"text": SENTENCES}) == SENTENCES


def test_alternatives_that_no_row_has_are_all_named(tmp_path):
    (tmp_path / "b.csv").write_text("title\num\n", encoding="utf-8")
    for file in (write_lines(tmp_path / "a.jsonl", [{"title": "um"}]), tmp_path / "b.csv"):
        with pytest.raises(DataError, match=r"has no column 'text' or 'body'; it has title\."):
            read(file, text_column=["text", "body"])


def test_alternatives_are_taken_row_by_row_and_file_by_file(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"text": "um"}, {"body": "dois"}, {"text": "três", "body": "x"}])
    (tmp_path / "b.csv").write_text("body\nquatro\n", encoding="utf-8")
    assert read(tmp_path, text_column=["text", "body"]) == ["um", "dois", "três", "quatro"]


# Readable files


def test_parts_without_rows_are_read(tmp_path):
    parquet.write_table(pa.table({"text": SENTENCES}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "b.parquet")
    for name, body in (
        ("c.jsonl", ""),
        ("d.json", "[]"),
        ("e.csv", ""),
        ("f.csv", "text\n"),
        ("g.txt", ""),
        ("h.tsv", ""),
    ):
        (tmp_path / name).write_text(body)
    assert [text for text in read(tmp_path) if text] == SENTENCES


def test_json_that_is_nested_too_deep_is_an_error_with_the_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "um"}\n{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2, is nested too deep"):
        read(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(DataError, match=r"a\.json is nested too deep"):
        read(tmp_path / "a.json")


def test_saved_datasets_give_their_splits_whichever_key_names_them(tmp_path):
    parts = {"train": SENTENCES[:30], "test": SENTENCES[30:], "extra": ["x"]}
    saved = datasets.DatasetDict({name: datasets.Dataset.from_dict({"text": texts}) for name, texts in parts.items()})
    saved.save_to_disk(str(tmp_path / "saved"))
    source = FileSource(DataConfig(files=str(tmp_path / "saved")))
    assert source.splits() == ("train", "test")
    assert (rows_of(source), rows_of(source, "test")) == (SENTENCES[:30], SENTENCES[30:])
    assert any("its split 'extra' is not read" in remark for remark in source.remarks)
    assert read(tmp_path / "saved" / "test") == read(tmp_path / "saved" / "test") == SENTENCES[30:]
    hub = build_source(DataConfig(path=str(tmp_path / "saved"), test_split="test"))
    assert (rows_of(hub), rows_of(hub, "test")) == (SENTENCES[:30], SENTENCES[30:])
    with pytest.raises(DataError, match="expected a split 'held', found train, test, extra"):
        rows_of(build_source(DataConfig(path=str(tmp_path / "saved"), train_split="held")))
    assert read(tmp_path) == SENTENCES[:30], "one thing, in a folder"


def test_a_local_data_set_is_not_read_by_guessing_types(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "train.csv").write_text("text\n007\nNone\n2020-01-25\n")
    assert rows_of(build_source(DataConfig(path=str(tmp_path / "corpus")))) == ["007", "None", "2020-01-25"]


# Folders


def test_a_folder_means_what_its_pattern_means_and_says_what_it_passes_over(tmp_path):
    texts = tmp_path / "texts"
    for name in ("a.txt", "b/c.txt", ".git/x.txt", ".ipynb_checkpoints/a.txt", "._a.txt", "notes.md", "b/d.html"):
        (texts / name).parent.mkdir(parents=True, exist_ok=True)
        (texts / name).write_text(name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.txt").write_text("e")
    (texts / "link").symlink_to(tmp_path / "elsewhere")
    (texts / "gone.txt").symlink_to(tmp_path / "gone")
    source = FileSource(DataConfig(files=str(texts)))
    assert source.files["train"] == list_files("data.files", str(texts / "**"))
    assert [file.name for file in source.files["train"]] == ["a.txt", "c.txt", "e.txt"]
    assert source.passed_over == {"hidden": 3, "of other kinds": 2, "links to nothing": 1}
    assert any(
        "3 hidden (._a.txt, .git, .ipynb_checkpoints); 2 of other kinds (d.html, notes.md)" in each
        for each in source.remarks
    )


@pytest.mark.parametrize(("name", "remedy"), [("a.md", "Its marks"), ("a.xlsx", r"Save its sheet as \.csv"), ("a.pdf", "Take the text"), ("a.zip", "Unpack it")])  # fmt: skip
def test_kinds_that_are_not_read_get_a_remedy_of_their_own(tmp_path, name, remedy):
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=remedy):
        read(tmp_path / name)


# Several kinds of files


def test_files_of_several_kinds_have_settings_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text("body\num\ndois\n", encoding="utf-8")
    (tmp_path / "b.txt").write_bytes("não\nsim\n".encode("cp1252"))
    parts = [
        {"files": str(tmp_path / "a.csv"), "text_column": "body"},
        {"files": str(tmp_path / "b.txt"), "documents": "line", "encoding": "cp1252"},
    ]
    assert [text for text in read(parts) if text] == ["um", "dois", "não", "sim"]
    config = DataConfig(sources=parts)
    assert FileSource(config).rules == (DocumentRule.line, DocumentRule.row)
    other = DataConfig(sources=[parts[0], {**parts[1], "documents": "file"}])
    assert FileSource(config).fingerprint() != FileSource(other).fingerprint()
    with pytest.raises(DataError, match="stands in two entries"):
        FileSource(DataConfig(sources=[parts[1], parts[1]]))


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ({"files": "a"}, "expected a list"),
        ([], "expected a list"),
        (["a.txt"], r"data\.sources\.0=a\.txt: expected an entry"),
        ([{"text_column": "a"}], r"data\.sources\.0\.files"),
        ([{"files": "a", "column": "x"}], r"data\.sources\.0\.column"),
        ([{"files": "a", "documents": "page"}], "expected one of file, blank_line"),
        ([{"files": 3}], r"data\.sources\.0\.files"),
        ([{"files": "a", "text_column": []}], "expected a column"),
    ],
)
def test_sources_that_are_none_are_refused(sources, complaint):
    with pytest.raises(ConfigError, match=complaint):
        DataConfig(sources=sources)


def test_sources_and_alternatives_are_said_on_the_command_line(lmtune, tmp_path):
    (tmp_path / "a.csv").write_text(
        "body\n" + "".join(f"{text.replace(',', '')}\n" for text in SENTENCES), encoding="utf-8"
    )
    (tmp_path / "b.txt").write_text("\n".join(f"outra {text}" for text in SENTENCES), encoding="utf-8")
    answer = lmtune("data", "data.sources=[{files:a.csv,text_column:body},{files:b.txt,documents:line}]", "format=json", "data.block_size=32")  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["ledger"]["rows_read"] == 80
    answer = lmtune("data", "data.files=a.csv", "data.text_column=[text,body]", "format=json", "data.block_size=32")
    assert answer.json["ledger"]["rows_read"] == 40


@pytest.mark.parametrize(
    "name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.arrow", "a.txt.gz", "a.csv.zst"]
)
@given(body=st.binary(max_size=60))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_words_that_name_the_file(tmp_path, name, body):
    (tmp_path / name).write_bytes(body)
    try:
        read(tmp_path / name)
    except DataError as error:
        assert name in str(error) or "an empty file" in str(error)  # noqa: PT017
