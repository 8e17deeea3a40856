"""Files of many kinds, and the one clear error for each that cannot be read."""

import bz2
import gzip
import json
import lzma
import os
import re

import datasets
import pytest
import zstandard

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.files import kind_of, list_files
from lmtune.data.rendering import render_rows
from lmtune.data.sources import FileSource
from lmtune.data.tables import wrap_dataset
from lmtune.errors import DataError

ROWS = [
    {"text": "olá", "title": "T", "inner": {"pt": "dentro"}, "messages": [{"content": "oi"}]},
    {"text": "ação", "title": "U", "inner": {"pt": None}, "messages": []},
]


def read(files, **settings):
    return rows_of(FileSource(DataConfig(files=files if isinstance(files, list) else str(files), **settings)))


def rows_of(source):
    shards = range(source.count_shards("train"))
    return [text for shard in shards for rows in source.load_rows("train", shard) for text in rows.texts.to_pylist()]


def render(table, column):
    return [text for rows in render_rows(wrap_dataset(table, "rows"), column, {}) for text in rows.texts.to_pylist()]


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_compressed_files_read_as_plain_ones(tmp_path, kind, suffix, pack):
    body = "olá\nação" if kind == ".txt" else "".join(json.dumps(row) + "\n" for row in ROWS)
    file = tmp_path / f"a{kind}{suffix}"
    file.write_bytes(pack(body.encode()))
    assert read(file) == (["olá\nação"] if kind == ".txt" else ["olá", "ação"])


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet", "folder"])
def test_tables_of_every_kind_give_their_texts(tmp_path, kind):
    table = datasets.Dataset.from_list([{"text": "olá"}, {"text": "a, b"}])
    file = tmp_path / f"a.{kind}"
    writers = {
        "jsonl": lambda: table.to_json(file),
        "json": lambda: file.write_text(json.dumps(table.to_list())),
        "csv": lambda: table.to_csv(file),
        "tsv": lambda: table.to_csv(file, sep="\t"),
        "parquet": lambda: table.to_parquet(file),
        "folder": lambda: table.save_to_disk(str(file)),
    }
    writers[kind]()
    assert read(file) == ["olá", "a, b"]


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ("text", ["olá", "ação"]),
        ("inner.pt", ["dentro", ""]),
        ("messages.0.content", ["oi", ""]),
        ("{title}\n\n{text}", ["T\n\nolá", "U\n\nação"]),
        ("{inner.pt}: {text}", ["dentro: olá", ": ação"]),
    ],
)
def test_a_text_column_is_a_name_a_path_or_a_template(column, texts):
    assert render(datasets.Dataset.from_list(ROWS), column) == texts


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ("body", "rows has no column 'body'; it has inner, messages, text, title. Name one of those with data.text_column=."),
        ("{titel} {text}", "rows has no column 'titel'; it has inner, messages, text, title. Name one of those with data.text_column=."),
        ("messages", "Reach inside with data.text_column=messages.<name or number>, several in a template: 'data.text_column={messages.0.content}\\n{messages.1.content}'. It is row 1."),
        ("inner", "rows: 'inner' holds no text but dict (pt). Reach inside with data.text_column=inner.<name or number>."),
    ],
)  # fmt: skip
def test_a_column_that_is_not_there_is_named_with_those_that_are(column, complaint):
    table = datasets.Dataset.from_list([{name: row[name] for name in sorted(row)} for row in ROWS])
    with pytest.raises(DataError, match=re.escape(complaint)):
        render(table, column)


def test_line_ends_and_tabs_of_a_template_are_written_as_a_shell_passes_them_on(tmp_path):
    (tmp_path / "a.csv").write_text("title;body\nT;olá\n", encoding="utf-8")
    typed, meant = r"{title}\n\n\t{body}", "T\n\n\tolá"
    assert read(tmp_path / "a.csv", text_column=typed) == [meant]
    assert read(tmp_path / "a.csv", text_column=["text", typed]) == [meant]
    part = {"files": str(tmp_path / "a.csv"), "text_column": typed}
    assert rows_of(FileSource(DataConfig(sources=[part]))) == [meant]
    (tmp_path / "b.csv").write_text("a\\name\nolá\n", encoding="utf-8")
    assert read(tmp_path / "b.csv", text_column=r"a\name") == ["olá"]


@pytest.mark.parametrize(
    ("table", "texts"),
    [
        ("n;title, authors;text\n1;A, b;olá\n2;C;ação, não\n", ["olá", "ação, não"]),
        ('n;"title\nof it";text\n1;A;"olá\n"\n', ["olá\n"]),
        ("n;text;;\n1;olá;;\n;;;\n", ["olá", ""]),
        ("n,text\n1,a;b\n2,c;d\n", ["a;b", "c;d"]),
        ("text,keys\nolá,a;b;c\n", ["olá"]),
        ("n;text\n" + "1;olá\n" * 60 + '2;"a\nb"\n', ["olá"] * 60 + ["a\nb"]),
    ],
)
def test_a_table_of_a_spreadsheet_is_read_whatever_separates_its_columns(tmp_path, table, texts):
    (tmp_path / "a.csv").write_bytes(table.replace("\n", "\r\n").encode("utf-8-sig"))
    assert read(tmp_path / "a.csv") == texts


def test_a_table_without_names_of_columns_is_told_so(tmp_path):
    (tmp_path / "a.csv").write_text(f"1,{'olá ' * 40}\n2,ação\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"has no column 'text'; it has 1, olá .{56}\.\.\.\. Its first line looks like text"
    ):
        read(tmp_path / "a.csv")


def test_cp1252_that_is_read_as_latin_1_is_remarked(tmp_path):
    (tmp_path / "a.txt").write_bytes("“olá” – ".encode("cp1252") * 3)
    source = FileSource(DataConfig(files=str(tmp_path / "a.txt"), encoding="latin-1"))
    rows_of(source)
    assert "9 times control characters such as '\\x93' stand where '“' may be meant" in " ".join(source.remarks)


def test_paths_globs_folders_and_lists(tmp_path):
    folder = tmp_path / "João e Ana"
    folder.mkdir()
    for name in ("a(1).txt", "b.txt", "c.md"):
        (folder / name).write_text(name, encoding="utf-8")
    assert read(folder / "a(1).txt") == ["a(1).txt"]
    assert read(folder / "*.txt") == ["a(1).txt", "b.txt"]
    assert read(folder) == ["a(1).txt", "b.txt"]
    assert read([str(folder / "b.txt"), str(folder / "a(1).txt")]) == ["b.txt", "a(1).txt"]


def test_a_file_named_twice_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("um", encoding="utf-8")
    assert read([str(tmp_path / "a.txt"), str(tmp_path / "*.txt"), str(tmp_path)]) == ["um"]


def test_a_link_to_nothing_is_an_error(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(DataError, match=r"a\.txt is a link to .*gone\.txt, which is not there"):
        list_files("data.files", str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("name", "body", "texts"),
    [
        ("a.csv", 'text\n007\nNone\n"a, b"\n2020-01-25\n', ["007", "None", "a, b", "2020-01-25"]),
        ("a.tsv", "text\tid\n007\t1\ntrue\t2\n", ["007", "true"]),
        ("a.jsonl", '{"text": "2020-01-25"}\n\n{"text": 7}\n{"other": 1}\n', ["2020-01-25", "7", ""]),
    ],
)
def test_text_in_tables_is_never_guessed_to_be_something_else(tmp_path, name, body, texts):
    (tmp_path / name).write_text(body, encoding="utf-8")
    assert read(tmp_path / name) == texts


def test_tables_have_encodings_too(tmp_path):
    (tmp_path / "a.csv").write_bytes("text\nação\n".encode("latin-1"))
    assert read(tmp_path / "a.csv", encoding="latin-1") == ["ação"]
    with pytest.raises(DataError, match=r"a\.csv is not utf-8: byte 0xe7 at offset 6 \(line 2\)"):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "body", "complaint"),
    [
        ("a.csv", "id,text\n0,um texto, com vírgula\n", r"a\.csv does not read as csv: .*Expected 2 columns, got 3"),
        ("a.jsonl", '{"text": "um"}\n{"text": \n', r"a\.jsonl, line 2, is not JSON"),
        ("a.jsonl", '{"text": "um"}\n"dois"\n', r"a\.jsonl, row 2: expected an object"),
        (
            "a.jsonl",
            '{"text": "um \\ud83d"}\n',
            r"a\.jsonl: a text holds half a character, '\\ud83d' without.*after 'um '",
        ),
        ("a.json", "[]", r"a\.json: expected rows, found none"),
        (
            "a.json",
            '{"data": [], "version": 1}',
            r"a\.json holds one object with data, version; expected a list of objects",
        ),
        ("a.parquet", "no parquet", r"a\.parquet does not read as parquet"),
        ("a.txt.gz", "no gzip", r"a\.txt\.gz cannot be read to its end: Not a gzipped file"),
    ],
)
def test_a_table_that_does_not_read_is_an_error_with_the_place(tmp_path, name, body, complaint):
    (tmp_path / name).write_text(body, encoding="utf-8")
    with pytest.raises(DataError, match=complaint):
        read(tmp_path / name)


def test_what_matches_nothing_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"data.files=.*none/\*\.txt: expected files that end in \.txt"):
        list_files("data.files", str(tmp_path / "none/*.txt"))
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=r"a\.pdf ends in \.pdf, expected one of"):
        list_files("data.files", str(tmp_path / "a.pdf"))


def test_text_beside_a_table_is_still_a_document(tmp_path):
    (tmp_path / "a.txt").write_text("um\ndois", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "três"}\n', encoding="utf-8")
    source = FileSource(DataConfig(files=str(tmp_path)))
    assert rows_of(source) == ["um\ndois", "três"]
    assert source.rules == (DocumentRule.file, DocumentRule.row)


def test_the_same_bytes_of_another_kind_are_another_source(tmp_path):
    for name in ("a.txt", "a.jsonl"):
        (tmp_path / name).write_text('{"text": "três"}\n', encoding="utf-8")
    prints = {FileSource(DataConfig(files=str(tmp_path / name))).fingerprint() for name in ("a.txt", "a.jsonl")}
    assert len(prints) == 2


def test_kinds_look_through_compression(tmp_path):
    assert [kind_of(tmp_path / name) for name in ("a.txt", "a.b.JSONL.gz", "a.gz", "a", "a.txt.zst")] == [
        ".txt",
        ".jsonl",
        "",
        "",
        ".txt",
    ]


def test_a_fingerprint_follows_the_content(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("um")
    before = FileSource(DataConfig(files=str(file))).fingerprint()
    file.write_text("dois")
    after = FileSource(DataConfig(files=str(file))).fingerprint()
    file.write_text("um")
    assert FileSource(DataConfig(files=str(file))).fingerprint() == before != after


AWKWARD = {
    "cp1252-pt.txt": r"cp1252-pt\.txt is not utf-8: byte 0x\w\w at offset [\d,]+ \(line [\d,]+\)\. Say what it is, for instance data\.encoding=cp1252",
    "latin1-real-udhr-pt.txt": r"is not utf-8: byte 0x",
    "mixed-utf8-then-cp1252-pt.txt": r"is not utf-8: byte 0x\w\w at offset 1\d,\d{3}",
    "truncated.txt.gz": r"truncated\.txt\.gz cannot be read to its end",
    "nested-messages.jsonl": r"has no column 'text'; it has messages",
    "nested-squad-pt.json": r"nested-squad-pt\.json",
}
READABLE = {
    "crlf-pt.txt": 400_000, "nfd-pt.txt": 30_000, "no-final-newline-blank-lines-pt.txt": 30_000, "one-line-1.5MB-pt.txt": 1_500_000,
    "plain.txt.gz": 350_000, "plain.txt.zst": 350_000, "utf16-pt.txt": 30_000, "utf8-bom-pt.txt": 370_000,
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_an_awkward_file_gives_one_clear_error(real_data, name):
    with pytest.raises(DataError, match=AWKWARD[name]):
        read(real_data / "awkward" / name)


@pytest.mark.parametrize("name", sorted(READABLE))
def test_an_awkward_file_is_read_right(real_data, name):
    (text,) = read(real_data / "awkward" / name)
    assert len(text) > READABLE[name]
    assert "\r" not in text
    assert "\ufeff" not in text
    assert "\ufffd" not in text


def test_a_file_among_others_of_another_encoding_is_told_how_each_has_its_own(tmp_path):
    (tmp_path / "old.txt").write_bytes("não".encode("cp1252"))
    (tmp_path / "new.txt").write_bytes("Ásia".encode())
    with pytest.raises(
        DataError, match=r"old\.txt is not utf-8.*data\.encoding=cp1252.*Where files differ.*data\.sources="
    ):
        read(tmp_path)
    with pytest.raises(DataError, match=r"new\.txt is not cp1252: byte 0x81.*Where files differ.*data\.sources="):
        read(tmp_path, encoding="cp1252")


def test_encodings_are_read_when_named(real_data):
    (text,) = read(real_data / "awkward" / "cp1252-pt.txt", encoding="cp1252")
    assert "não" in text
    texts = read(real_data / "awkward" / "nested-messages.jsonl", text_column="messages.0.content.0.value")
    assert len(texts) == 500


def test_wikitext_falls_into_articles(real_data):
    articles = read(real_data / "wikitext-2" / "test.txt.gz", documents=DocumentRule.wikitext)
    assert 60 <= len(articles) <= 65
    assert all(article.startswith(" = ") for article in articles)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda file: file.write_text("olá e mais"), "5 bytes that are 11 now"),
        (lambda file: file.write_text(""), "5 bytes that are 0 now"),
        (lambda file: file.unlink(), "expected a file, found nothing"),
    ],
    ids=["grown", "emptied", "gone"],
)
def test_a_file_that_changes_after_it_was_found_is_refused(tmp_path, streaming, change, found):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("olá\n")
    source = FileSource(DataConfig(files=f"{tmp_path}/*.txt", streaming=streaming))
    change(tmp_path / "b.txt")
    assert list(source.load_rows("train", 0))
    with pytest.raises(DataError, match=found):
        list(source.load_rows("train", 1))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "um"}\n' * 5000)
    rows = FileSource(DataConfig(files=str(file))).load_rows("train", 0)
    next(rows)
    file.write_text('{"text": "um"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: expected a file that stays as it is while it is read"):
        list(rows)


def test_a_new_date_alone_ends_no_stream_and_is_told(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("olá")
    streamed, prepared = (FileSource(DataConfig(files=str(file), streaming=each)) for each in (True, False))
    os.utime(file, (1, 1))
    assert rows_of(streamed) == ["olá"]
    (remark,) = streamed.remarks
    assert "a.txt has another date than when it was found, and as many bytes" in remark
    with pytest.raises(DataError, match="found another date now"):
        rows_of(prepared)
