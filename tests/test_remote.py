"""Text behind addresses is read as text on a disk, known by what its server says of it, and never half."""

import gzip
import http.server
import json
import threading
from importlib.util import find_spec

import fsspec
import pyarrow as pa
import pytest
from helpers import write_texts
from pyarrow import parquet

from lmtune.config import DataConfig
from lmtune.config.parts import Shard
from lmtune.data import cache, remote
from lmtune.data.corpus import Corpus
from lmtune.data.file_source import FileSource
from lmtune.data.files import list_files
from lmtune.data.merging import join_parts
from lmtune.data.part_files import load_parts
from lmtune.data.parts import prepare_part
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import CheckpointError, ConfigError, DataError
from lmtune.paths import GivenPath


@pytest.fixture
def bucket():
    """An object store in this process."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def lines_of(texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def read(files, **settings):
    source = FileSource(DataConfig(files=files, **settings))
    shards = range(source.count_shards("train"))
    return [text for shard in shards for rows in source.load_rows("train", shard) for text in rows.texts.to_pylist()]


def test_every_kind_reads_as_from_a_disk(bucket):
    column = pa.table({"text": ["um", "dois"]})
    bucket.pipe("/b/plain.txt", b"um\n\ndois\n")
    bucket.pipe("/b/packed.jsonl.gz", gzip.compress(lines_of(["um", "dois"])))
    bucket.pipe("/b/table.csv", b"text,n\num,1\ndois,2\n")
    with bucket.open("/b/table.parquet", "wb") as stream:
        parquet.write_table(column, stream)
    with bucket.open("/b/file.arrow", "wb") as stream, pa.ipc.new_file(stream, column.schema) as writer:
        writer.write_table(column)
    with bucket.open("/b/stream.arrow", "wb") as stream, pa.ipc.new_stream(stream, column.schema) as writer:
        writer.write_table(column)
    for name in ("packed.jsonl.gz", "table.csv", "table.parquet", "file.arrow", "stream.arrow"):
        assert read(f"memory://b/{name}") == ["um", "dois"], name
    assert read("memory://b/plain.txt") == ["um\n\ndois"]


def test_addresses_patterns_and_folders(bucket, caplog):
    for name in ("b/1.txt", "b/sub/2.txt", "b/.hidden.txt", "b/notes.md", "c/3.txt"):
        bucket.pipe(f"/{name}", name.encode())
    assert list(map(str, list_files("data.files", "memory://b/1.txt"))) == ["memory:///b/1.txt"]
    assert read("memory://b/*.txt") == ["b/1.txt"]
    assert read("memory://b/**/*.txt") == ["b/1.txt", "b/sub/2.txt"]
    assert read("memory://b") == ["b/1.txt", "b/sub/2.txt"]
    assert "passed over: 1 hidden (.hidden.txt); 1 of other kinds (notes.md)" in caplog.text
    assert read(["memory://c/3.txt", "memory://b/1.txt", "memory://c/*"]) == ["c/3.txt", "b/1.txt"]


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("memory://b/none.txt", "memory://b/none.txt: expected text there, found nothing"),
        ("memory://none/*.txt", r"memory://none/\*.txt: expected files that end in"),
        ("memory://b/notes.md", "expected"),
        ("nothing://b/1.txt", "Protocol not known: nothing. Expected a path, or an address"),
        ("s3://b/1.txt", r"s3:// is read by a package that is not installed .* pip install '?s3fs"),
        ("gs://b/1.txt", r"gs:// is read by a package that is not installed .* pip install '?gcsfs"),
        ("http://127.0.0.1:9/1.txt", "127.0.0.1:9/1.txt"),
    ],
)
def test_what_is_not_there_is_an_error_in_words(bucket, address, complaint):
    package = {"s3": "s3fs", "gs": "gcsfs"}.get(address[:2])
    if package is not None and find_spec(package):
        pytest.skip(f"{package} is installed")
    bucket.pipe("/b/1.txt", b"um")
    with pytest.raises(DataError, match=complaint):
        read(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://AKIAXXXXXXXXXXXXXXXX:geheim@bucket/a.txt",
        "https://me:geheim@host/a.txt",
        "https://host/a.txt?X-Amz-Signature=geheim",
        "https://host/a.txt?n=1&sig=geheim",
        "https://host/a.txt?X-Goog-Credential=geheim",
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address):
    with pytest.raises(ConfigError, match="expected an address without a password or a signature") as caught:
        DataConfig(files=address)
    assert "geheim" not in str(caught.value)


def test_addresses_are_anchored_nowhere():
    config = DataConfig(files=["memory://b/*.txt", "here.txt"], validation_files="hf://datasets/a/b@main/c.parquet")
    config.anchor()
    assert config.files[0] == "memory://b/*.txt"
    assert config.files[1].startswith("/")
    assert config.validation_files == "hf://datasets/a/b@main/c.parquet"


def test_prepared_text_is_that_of_the_same_text_on_a_disk(bucket, tmp_path, tokenizer, texts):
    for number in range(3):
        part = texts[number * 30 : number * 30 + 30]
        write_texts(tmp_path / f"{number}.jsonl", part)
        bucket.pipe(f"/b/{number}.jsonl.gz", gzip.compress(lines_of(part)))
    near, far = (
        EncodedCorpus(Corpus(DataConfig(files=files), 42), tokenizer).prepare(16)
        for files in (str(tmp_path / "*.jsonl"), "memory://b/*.jsonl.gz")
    )
    assert (
        far.blocks.__getitems__([0, 1, 2])["input_ids"].tolist()
        == near.blocks.__getitems__([0, 1, 2])["input_ids"].tolist()
    )
    assert far.held_out["validation"].identify() == near.held_out["validation"].identify()
    assert far.ledger.sides == near.ledger.sides
    source = far.ledger.sources[0]
    assert source["name"] == "memory:///b/0.jsonl.gz"
    assert source["modified"]
    assert "xxh3_128" not in source, "its content was not read for a checksum"


def test_a_file_that_changes_is_another_text(bucket):
    bucket.pipe("/b/1.txt", b"um")
    config = DataConfig(files="memory://b/*.txt")
    before = FileSource(config)
    assert FileSource(config).fingerprint() == before.fingerprint()
    bucket.pipe("/b/1.txt", b"an")
    assert FileSource(config).fingerprint() != before.fingerprint()
    assert FileSource(config).describe() != before.describe(), "while streaming, this tells one text from another"


def test_a_file_that_its_server_says_too_little_of_is_read_for_its_checksum(bucket, monkeypatch):
    monkeypatch.setattr(remote, "DATES", ())
    bucket.pipe("/b/1.txt", b"um")
    (before,) = list_files("data.files", "memory://b/1.txt")
    assert before.facts[0][0] == "xxh3_128"
    bucket.pipe("/b/1.txt", b"an")
    (after,) = list_files("data.files", "memory://b/1.txt")
    assert cache.checksum_file(after) != cache.checksum_file(before)


def test_a_part_of_a_file_never_passes_for_the_whole(bucket):
    bucket.pipe("/b/1.txt", b"um texto que foi cortado")
    source = FileSource(DataConfig(files="memory://b/1.txt"))
    bucket.pipe("/b/1.txt", b"um texto")
    with pytest.raises(DataError, match="cannot be read to its end: 8 of its 24 bytes came"):
        list(source.load_rows("train", 0))


def test_parts_are_made_of_files_behind_addresses_too(bucket, tmp_path, tokenizer, texts):
    for number in range(3):
        bucket.pipe(f"/b/{number}.jsonl", lines_of(texts[number * 30 : number * 30 + 30]))
    config = DataConfig(files="memory://b/*.jsonl")
    for number in (1, 2):
        given = GivenPath("output", str(tmp_path / "parts" / str(number)), CheckpointError)
        prepare_part(config, Shard(number, 2), given, tokenizer, None)
    parts = load_parts(str(tmp_path / "parts"))
    merged = join_parts(config, parts, tokenizer, None).prepare(16)
    assert merged.ledger.documents_kept == 90
    bucket.pipe("/b/1.jsonl", lines_of(texts[30:60]).replace(b"Ana", b"Eva"))
    with pytest.raises(DataError, match=r"b/1\.jsonl has changed since part"):
        join_parts(config, parts, tokenizer, None)


class Handler(http.server.SimpleHTTPRequestHandler):
    """A web server that cannot give a part of a file."""

    def log_message(self, *_):
        """Nothing is said."""


@pytest.fixture
def server(tmp_path):
    """The address of a web server on loopback, and its folder."""
    folder = tmp_path / "www"
    folder.mkdir()
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Handler(*given, directory=str(folder)))
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", folder
    running.shutdown()
    running.server_close()
    thread.join()


def test_text_is_read_from_a_web_server(server, lmtune, tokenizer, texts):
    address, folder = server
    for number in range(2):
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress(lines_of(texts[number * 48 : number * 48 + 48])))
    assert read(f"{address}/0.jsonl.gz") == texts[:48]
    assert read(f"{address}/*.gz") == texts
    with pytest.raises(DataError, match="expected text there, found nothing"):
        read(f"{address}/2.jsonl.gz")
    tokenizer.save_pretrained(folder.parent / "tok")
    answer = lmtune(
        "data",
        f"data.files=[{address}/0.jsonl.gz,{address}/1.jsonl.gz]",
        "model.tokenizer=tok",
        "data.block_size=16",
        "format=json",
    )
    assert answer.code == 0, answer.err
    sources = answer.json["ledger"]["sources"]
    assert [source["name"] for source in sources] == [f"{address}/0.jsonl.gz", f"{address}/1.jsonl.gz"]
    assert sources[0]["bytes"] == (folder / "0.jsonl.gz").stat().st_size
    assert sources[0]["rows"] == 48


@pytest.mark.slow
def test_text_is_read_from_an_object_store(monkeypatch, texts):
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*store.get_host_and_port()))
    try:
        files = fsspec.filesystem("s3")
        files.mkdir("corpus")
        for number in range(2):
            files.pipe(f"corpus/a/{number}.jsonl.gz", gzip.compress(lines_of(texts[number * 48 : number * 48 + 48])))
        files.invalidate_cache()
        assert read("s3://corpus/a/*.jsonl.gz") == read("s3://corpus") == texts
        described = FileSource(DataConfig(files="s3://corpus/a/1.jsonl.gz")).describe()[0]
        assert {"etag", "modified", "identity"} <= set(described)
        with pytest.raises(DataError, match="expected text there, found nothing"):
            read("s3://corpus/none.txt")
    finally:
        store.stop()
