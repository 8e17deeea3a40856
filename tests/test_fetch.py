"""A folder of models and data sets that is carried to a machine without a network."""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

from lmtune import carried, hub
from lmtune.carried import Expected
from lmtune.data.hub_source import find_cause
from lmtune.environment import CARRIED, set_environment
from lmtune.errors import ConfigError, DataError, ModelError
from lmtune.foreign import explain_refusal
from lmtune.modeling import fetching

TEXT = b"O paciente chegou no hospital.\n"
SHA256 = hashlib.sha256(TEXT).hexdigest()


def fill(folder, name, content=TEXT):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # what is linked to it stays
    file.write_bytes(content)
    return file


def fetch_by_hand(folder):
    """A model as huggingface_hub leaves it, with links, and a data set as datasets does, with locks."""
    blob = fill(folder, f"hub/models--me--x/blobs/{SHA256}")
    snapshot = folder / "hub" / "models--me--x" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "copy.json"):
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    fill(folder, "hub/models--me--x/refs/main", b"c0ffee")
    fill(folder, "hub/.locks/models--me--x/a.lock", b"")
    fill(folder, "datasets/me___set/pt/0.0.0/c0ffee/set-train.arrow")
    fill(folder, "datasets/me___set/pt/0.0.0/c0ffee/dataset_info.json", b"{}")
    fill(folder, "datasets/_home_me_fetched.lock", b"")


def test_a_sealed_folder_holds_plain_files_with_their_checksums(tmp_path):
    folder = carried.open_folder(str(tmp_path / "out"))
    fetch_by_hand(folder)
    files = carried.seal(folder)
    assert files["hub/models--me--x/snapshots/c0ffee/config.json"] == {"bytes": len(TEXT), "sha256": SHA256}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {*files, CARRIED}
    assert not [path for path in folder.rglob("*") if path.is_symlink()]
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", "--strict", CARRIED], cwd=moved, check=True)


def test_what_was_damaged_is_removed_to_be_fetched_again(tmp_path, caplog):
    folder = carried.open_folder(str(tmp_path))
    fetch_by_hand(folder)
    carried.seal(folder)
    fill(folder, "hub/models--me--x/snapshots/c0ffee/config.json", b"cut")
    fill(folder, "datasets/me___set/pt/0.0.0/c0ffee/set-train.arrow", b"cut")
    assert carried.open_folder(str(tmp_path)) == folder
    assert caplog.text.count("is not as it was fetched") == 2
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert left == {CARRIED, "copy.json", "main"}, "what a data set was prepared to goes as a whole"


def test_a_folder_of_others_is_not_touched(tmp_path):
    fill(tmp_path, "thesis.txt")
    with pytest.raises(ConfigError, match=r"output=.* expected a new folder, .*thesis\.txt.*Nothing of it was touched"):
        carried.open_folder(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def git_checksum(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.mark.parametrize("checksum", [SHA256, git_checksum(TEXT)], ids=["sha256", "git"])
def test_a_file_that_is_not_as_the_hub_says_is_fetched_once_more(tmp_path, checksum):
    wanted = {"a/config.json": Expected(len(TEXT), checksum)}
    fill(tmp_path, "a/config.json", TEXT[:-1])
    asked = []
    carried.check_files(tmp_path, wanted, lambda name: asked.append(name) or fill(tmp_path, name))
    carried.check_files(tmp_path, wanted, asked.append)
    assert asked == ["a/config.json"]
    fill(tmp_path, "a/config.json", b"x")
    with pytest.raises(ConfigError, match=rf"config\.json.* came twice as 1 bytes .* with {checksum}, as the Hub says"):
        carried.check_files(tmp_path, wanted, asked.append)


def test_an_adapter_is_fetched_with_the_model_that_it_lies_on(tmp_path, monkeypatch):
    def download(wanted, cache):
        place = f"models--{wanted.repository.replace('/', '--')}/snapshots/c0ffee"
        on = '{"base_model_name_or_path": "me/base", "revision": "v2"}'
        name, text = ("adapter_config.json", on) if wanted.repository == "me/adapter" else ("config.json", "{}")
        return fill(cache, f"{place}/{name}", text.encode()).parent

    monkeypatch.setattr(fetching, "_download", download)
    monkeypatch.setattr(fetching, "check_available", lambda *asked: None)
    wanted = fetching.HubModel("model.path", "me/adapter")
    found = [(each["repository"], each["revision"]) for each in fetching.fetch_model(wanted, tmp_path)]
    assert found == [("me/adapter", None), ("me/base", "v2")]


WHOLE = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.mark.parametrize(
    ("names", "wanted", "lacks"),
    [
        (WHOLE, {}, None),
        (("adapter_config.json", "adapter_model.safetensors"), {}, None),
        (("config.json", "pytorch_model.bin", "vocab.txt"), {}, None),
        (("config.json", "tokenizer.json"), {"weights": False}, None),
        (("config.json", "model.safetensors"), {"vocabulary": False}, None),
        (("config.json", "tokenizer.json"), {}, "expected weights"),
        (("config.json", "generation_config.json", "model.safetensors"), {}, "a tokenizer .* model.tokenizer="),
        (("README.txt",), {}, "expected config.json and weights .* and a tokenizer"),
    ],
)
def test_a_repository_that_is_no_whole_model_is_refused_before_it_is_carried(names, wanted, lacks):
    model = fetching.HubModel("model.path", "me/x", **wanted)
    if lacks is None:
        fetching.check_parts(model, list(names))
        return
    with pytest.raises(ModelError, match=f"model.path=me/x is no whole model: .*{lacks}"):
        fetching.check_parts(model, list(names))


def test_a_shard_that_is_not_there_is_named(tmp_path):
    listed = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    fill(tmp_path, "model.safetensors.index.json", json.dumps(listed).encode())
    names = ["model.safetensors.index.json", "model-1.safetensors"]
    model = fetching.HubModel("model.path", "me/x")
    fetching.check_shards(model, tmp_path, [*names, "model-2.safetensors"])
    with pytest.raises(ModelError, match=r"lists 1 file that it does not have \(model-2.safetensors\)"):
        fetching.check_shards(model, tmp_path, names)


def test_a_gated_repository_is_told_as_such_whatever_its_error_comes_through():
    fault = OSError("You are trying to access a gated repo.\nMake sure to have access to it")
    wrapped = RuntimeError("it does not load")
    wrapped.__cause__ = fault
    for each in (fault, wrapped, ValueError("403 Client Error. (Request ID: x)")):
        assert explain_refusal("ckpt=me/x", each).startswith("ckpt=me/x is gated")
    assert explain_refusal("ckpt=me/x", ValueError("404 Client Error")) is None


def test_a_model_that_was_fetched_at_a_revision_is_there_at_that_one_alone(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for kind in ("model", "dataset"):
        fill(tmp_path, f"hub/{kind}s--me--x/snapshots/c0ffee/config.json")
    asked = [("model", "c0ffee"), ("model", None), ("model", "v2"), ("dataset", None)]
    assert [hub.is_cached(kind, "me/x", revision) for kind, revision in asked] == [True, False, False, True]
    fill(tmp_path, "hub/models--me--x/refs/main", b"c0ffee")
    assert hub.is_cached("model", "me/x")


def test_a_data_set_of_several_configurations_lists_them():
    fault = ValueError("Config name is missing.\nPlease pick one among the available configs: ['pt', 'en']\nExample:")
    told = str(find_cause("me/x", fault))
    assert told == (
        "data.path=me/x has several configurations (pt, en), expected which of them is meant. Name one, data.subset=pt."
    )
    assert "needs code of its own (x.py)" in str(
        find_cause("me/x", RuntimeError("scripts are no longer supported, found x.py"))
    )
    assert find_cause("me/x", ValueError("another")) is None


@pytest.fixture
def carried_home(tmp_path, monkeypatch):
    """A sealed folder that HF_HOME names, in the environment of a command."""
    folder = carried.open_folder(str(tmp_path / "fetched"))
    fetch_by_hand(folder)
    carried.seal(folder)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(socket, "socket", None)  # nobody is asked
    os.environ["HF_HOME"] = str(folder)
    set_environment()
    return folder


def test_a_carried_folder_is_used_without_a_network(carried_home):
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    hub.check_available("model", "me/x", None)
    hub.check_available("model", "me/x", "main")
    said = re.escape(f"{carried_home}. On a machine with a network fetch it into the same folder: lmtune fetch ")
    with pytest.raises(
        ModelError, match=rf"^me/x \(revision v2\) is not in the folder that HF_HOME names.*{said}model\.path=me/x"
    ):
        hub.check_available("model", "me/x", "v2")
    with pytest.raises(DataError, match=rf"^me/other is not in .*{said}data\.path=me/other"):
        hub.check_available("dataset", "me/other", None, DataError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs what to fetch, found none"),
        (("data=sample",), "data=sample reads files, which are carried as they are"),
        (("data.files=a.txt",), "expected a data set of the Hub"),
        (("data.path=here",), "is a folder here"),
        (("model=gpt2-tiny",), "names a model from scratch, of which nothing is on the Hub"),
        (("model.path=here",), "of which nothing is on the Hub"),
        (("suite=portuguese",), "whose tasks load their data themselves"),
        (("data=bio", "data.max_documents=2"), "data.max_documents has no effect"),
        (("model=gpt2", "model.transplant=mean"), "model.transplant"),
        (("data=bio", "data.subste=en-pt"), "data.subset"),
    ],
)
def test_what_cannot_be_fetched_is_refused(lmtune, tmp_path, monkeypatch, arguments, said):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (tmp_path / "here").mkdir()
    (tmp_path / "a.txt").write_text("a")
    answer = lmtune("fetch", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert not (tmp_path / "fetched").exists()


def test_fetching_needs_the_network(lmtune, carried_home, monkeypatch):
    answer = lmtune("fetch", "model=gpt2")
    assert (answer.code, "Unset HF_HOME, and give the folder as output=" in answer.err) == (2, True)
    monkeypatch.setenv("HF_HOME", str(carried_home.parent))
    assert "and HF_HUB_OFFLINE is set" in lmtune("fetch", "model=gpt2").err


def test_a_name_server_that_does_not_answer_costs_no_more_than_any_other(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "TIMEOUT", 0.1)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *asked, **settings: time.sleep(5))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"did not answer \(within 0\.1 s\)"):
        hub.check_available("model", "me/x", None)
    assert time.monotonic() - began < 3
