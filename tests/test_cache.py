"""What can be made anew never stops a run, and nothing in the cache's folder is touched but what lmtune has made."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import write_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtune.cli import main
from lmtune.config import DataConfig
from lmtune.data import cache
from lmtune.data.corpus import Corpus
from lmtune.data.prepare import EncodedCorpus

KEY = cache.key_of({"content": "a"})

BUILDER = """
import sys, time
from lmtune import console
from lmtune.data import cache

def build(folder):
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    time.sleep(float(sys.argv[2]))
    (folder / "train.arrow").write_text("whole")
    return {}

with console.speaking() as stdout:
    stdout.write(cache.cached("key", build, lambda folder, _: (folder / "train.arrow").read_text()))
"""


@pytest.fixture(autouse=True)
def _forget():
    """What a process remembers."""
    cache._temporary.clear()
    cache._tell_once.cache_clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache of its own."""
    monkeypatch.setenv("LMTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Builds:
    """Counts how often an entry was built."""

    def __init__(self):
        self.count = 0

    def __call__(self, folder):
        self.count += 1
        (folder / "train.arrow").write_bytes(bytes(range(256)) * 40)
        np.save(folder / "validation-ids.npy", np.arange(100))
        return {"sides": ["validation"]}

    def load(self, key=KEY):
        return cache.cached(key, self, lambda folder, content: (read_all(folder), content))


def read_all(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != cache.RECORD}


def snapshot(folder):
    """Everything below a folder: bytes of files, targets of links."""
    return {
        str(path.relative_to(folder)): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def start_builder(folder, seconds):
    environment = {**os.environ, "LMTUNE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", BUILDER, str(folder / "log"), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_build_an_entry_once(tmp_path):
    builders = [start_builder(tmp_path, 1.0) for _ in range(2)]
    answers = [builder.communicate(timeout=60) for builder in builders]
    assert [out for out, _ in answers] == ["whole", "whole"]
    assert (tmp_path / "log").read_text() == "built\n"
    assert sum("another process is preparing the same text" in err for _, err in answers) == 1


def test_a_killed_build_is_built_anew_and_leaves_nothing(tmp_path):
    killed = start_builder(tmp_path, 60)
    while not (tmp_path / "log").exists():
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "cache" / "key").exists()
    assert start_builder(tmp_path, 0).communicate(timeout=60)[0] == "whole"
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["key", "key.lock"]


def test_an_entry_is_built_once_and_its_owner_alone_may_read_it(folder):
    builds = Builds()
    assert builds.load() == builds.load()
    assert builds.count == 1
    assert {path.stat().st_mode & 0o077 for path in (folder, folder / KEY, folder / f"{KEY}.lock")} == {0}


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["train.arrow", "validation-ids.npy", cache.RECORD]),
    damage=st.sampled_from(["cut", "emptied", "flipped", "longer", "gone", "a folder"]),
    place=st.floats(0, 1, exclude_max=True),
)
def test_any_damage_to_an_entry_is_noticed_and_it_is_built_anew(name, damage, place):
    builds = Builds()
    cache._temporary.clear()
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMTUNE_CACHE", root)
        whole = builds.load()
        file = Path(root) / KEY / name
        content = file.read_bytes()
        offset = int(place * len(content))
        if damage in ("gone", "a folder"):
            file.unlink()
        if damage == "a folder":
            file.mkdir()
        else:
            changed = {
                "cut": content[:offset], "emptied": b"", "longer": content + b"x", "gone": None,
                "flipped": content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :],
            }[damage]  # fmt: skip
            if changed is not None:
                file.write_bytes(changed)
        assert builds.load() == whole
        # White space in the record may change without changing what it says; a folder is not ours to take away.
        unchanged = name == cache.RECORD and damage in ("flipped", "longer", "cut")
        assert builds.count == (3 if damage == "a folder" else 2) or (unchanged and builds.count == 1)
        assert builds.load() == whole


def test_a_damaged_entry_is_named(folder, caplog):
    caplog.set_level("INFO", logger="lmtune")
    builds = Builds()
    builds.load()
    (folder / KEY / "train.arrow").write_bytes(b"")
    builds.load()
    assert caplog.messages == [f"prepared text {KEY} is damaged (train.arrow), so it is prepared anew"]


def test_a_damaged_entry_of_a_corpus_heals(folder, tmp_path, tokenizer, texts):
    file = tmp_path / "text.jsonl"
    write_texts(file, texts)
    whole = EncodedCorpus(Corpus(DataConfig(files=str(file)), 0), tokenizer).prepare(16)
    rows = list(range(len(whole.blocks)))
    ids, inputs = whole.held_out["validation"].ids.copy(), whole.blocks.__getitems__(rows)["input_ids"].clone()
    for damaged in folder.glob("*/*.arrow"):
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 64] = bytes(64)
        damaged.write_bytes(content)
    for damaged in folder.glob("*/*.npy"):
        damaged.write_bytes(damaged.read_bytes()[:20])
    for damaged in folder.glob("files/*.json"):
        damaged.write_text("{")
    healed = EncodedCorpus(Corpus(DataConfig(files=str(file)), 0), tokenizer).prepare(16)
    assert healed.ledger == whole.ledger
    assert np.array_equal(healed.held_out["validation"].ids, ids)
    assert (healed.blocks.__getitems__(rows)["input_ids"] == inputs).all()


def refuse(number):
    def fail(*_arguments, **_settings):
        raise OSError(number, os.strerror(number))

    return fail


def test_a_cache_without_locks_is_used_without_them(folder, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", refuse(errno.ENOLCK))
    builds = Builds()
    assert builds.load() == builds.load()
    assert builds.count == 1
    assert (folder / KEY / cache.RECORD).exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EIO])
def test_a_cache_that_cannot_be_written_is_done_without_and_that_is_said_once(folder, monkeypatch, caplog, number):
    caplog.set_level("INFO", logger="lmtune")
    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse_below(folder, number, tempfile.mkdtemp))
    builds = Builds()
    first = builds.load()
    assert first[1] == {"sides": ["validation"]}
    assert builds.load() == first
    assert builds.count == 1, "the same process takes it again"
    assert builds.load(cache.key_of({"content": number}))[0] == first[0]
    assert [os.strerror(number) in message for message in caplog.messages] == [True]


def refuse_below(folder, number, make):
    def made(*arguments, **settings):
        if str(settings.get("dir")) == str(folder):
            raise OSError(number, os.strerror(number))
        return make(*arguments, **settings)

    return made


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_an_entry_of_a_read_only_cache_is_read(folder, tmp_path):
    builds = Builds()
    whole = builds.load()
    mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        assert builds.load() == whole
        assert builds.count == 1
        assert builds.load(cache.key_of({"content": "new"})) == whole, "done without"
        file = tmp_path / "text.txt"
        file.write_text("um")
        os.utime(file, (10**9, 10**9))
        assert cache.checksum_file(file) == cache.checksum_file(file)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_text_that_finds_no_place_at_all_is_one_paragraph(folder, monkeypatch):
    monkeypatch.setattr(cache.tempfile, "mkdtemp", refuse(errno.ENOSPC))
    with pytest.raises(cache.DataError, match=r"finds no place: .*No space left on device.*Make room.*LMTUNE_CACHE"):
        Builds().load()


def test_a_user_without_a_home_has_no_cache(monkeypatch):
    for name in ("LMTUNE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory."))
    )
    assert cache.find_folder() is None
    assert cache.list_entries() == []
    builds = Builds()
    assert builds.load() == builds.load()


NAMES = st.sampled_from(
    [
        *(
            "photos/me.jpg",
            "photos/record.json",
            "notes.txt",
            "files/letter.json",
            ".hidden/train.arrow",
            f"{KEY}/mine.txt",
        ),
        *("0123456789abcdef0123456789abcdef/record.json", "0123456789abcdef0123456789abcdef/train.arrow"),
        *(f"{KEY}/sub/record.json", f"{KEY}.txt", f".{KEY}-abcd1234/mine.txt", "train.arrow", "record.json"),
    ]
)


@settings(max_examples=40, deadline=None)
@given(
    foreign=st.dictionaries(NAMES, st.binary(max_size=30), max_size=6),
    ends=st.lists(st.sampled_from(["build", "damage", "prune", "fail"]), min_size=1, max_size=4),
)
def test_nothing_foreign_in_the_folder_of_the_cache_changes(foreign, ends):
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMTUNE_CACHE", root)
        for name, content in foreign.items():
            (Path(root) / name).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / name).write_bytes(content)
        for end in ends:
            play(end, Path(root))
        after = snapshot(Path(root))
        assert {name: after.get(name) for name in foreign} == foreign


def play(end, root):
    if end == "prune":
        assert main.run(["data", "cache=prune"]) == 0
    elif end == "fail":
        with pytest.raises(KeyboardInterrupt):
            cache.cached(
                cache.key_of({"content": "b"}), lambda _: (_ for _ in ()).throw(KeyboardInterrupt), lambda *_: None
            )
    else:
        builds = Builds()
        assert builds.load()[1] == {"sides": ["validation"]}
        if end == "damage" and (root / KEY / "train.arrow").exists():
            (root / KEY / "train.arrow").write_bytes(b"")


def test_a_link_with_the_name_of_an_entry_is_not_followed(folder, tmp_path):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "train.arrow").write_text("mine")
    folder.mkdir()
    (folder / KEY).symlink_to(target)
    before = snapshot(tmp_path)
    assert Builds().load()[1] == {"sides": ["validation"]}
    for entry in cache.list_entries():
        cache.remove_entry(entry.folder)
    after = snapshot(tmp_path)
    assert {name: after[name] for name in before} == before


def test_pruning_removes_what_was_prepared(folder):
    Builds().load()
    for entry in cache.list_entries():
        cache.remove_entry(entry.folder)
    assert cache.list_entries() == []
    assert not (folder / KEY).exists()
    shutil.rmtree(folder)
