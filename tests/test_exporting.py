"""What goes to the Hub: an allow-list, no trace of the machine, and words for whatever is in the way."""

import getpass
import json
import platform
from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError
from hypothesis import given
from hypothesis import strategies as st

from lmtune.errors import ConfigError, PushError
from lmtune.exporting import client, contents, hub, listing
from lmtune.exporting.card_seal import is_own_card, seal_card

NEEDED = {"config.json": "{}", "model.safetensors": "", "tokenizer.json": "{}", "tokenizer_config.json": "{}"}
FOREIGN = (
    "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "manifest.json", "samples.jsonl",
    "metrics.jsonl", "ledger.json", "config.yaml", ".lock", ".lock.json", ".hydra/overrides.yaml", "checkpoint-3/model.safetensors",
    "pytorch_model.bin", "modeling_mine.py", "notes.txt",
)  # fmt: skip
RESULTS = {
    "run": "2026-01-01_00-00-00", "name": "bio", "status": "completed", "fingerprint": "abc", "train": {"steps": 2}, "eval": {}, "epochs": [],
}  # fmt: skip


def make_model(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@given(
    foreign=st.sets(
        st.sampled_from(FOREIGN) | st.text("abc._-", min_size=1, max_size=12).filter(lambda t: t.strip("."))
    )
)
def test_only_what_is_on_the_list_is_packed(tmp_path_factory, foreign):
    folder = make_model(tmp_path_factory.mktemp("model"), {**dict.fromkeys(foreign, "x"), **NEEDED})
    package = contents.pack(folder, "card", RESULTS)
    assert set(package.files) == set(NEEDED)
    assert set(package.texts) == {"README.md", "results.json"}
    assert set(package.left_out) == foreign - set(NEEDED) - {"README.md", "manifest.json"}


def test_a_sharded_model_and_an_adapter_are_packed_whole(tmp_path):
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    index, template = "model.safetensors.index.json", "additional_chat_templates/tool.jinja"
    sharded = make_model(tmp_path / "sharded", dict.fromkeys([*shards, index, "config.json", template], "{}"))
    assert set(contents.pack(sharded, "", RESULTS).files) == {*shards, index, "config.json", template}
    adapter = make_model(
        tmp_path / "adapter", dict.fromkeys(["adapter_model.safetensors", "adapter_config.json"], "{}")
    )
    assert set(contents.pack(adapter, "", RESULTS).files) == {"adapter_model.safetensors", "adapter_config.json"}


def test_a_folder_without_weights_is_no_model(tmp_path):
    with pytest.raises(PushError, match="expected the weights of a finished model"):
        contents.pack(make_model(tmp_path, {"config.json": "{}"}), "", RESULTS)


def test_results_for_the_hub_name_no_run_folder(tmp_path):
    written = json.loads(contents.pack(make_model(tmp_path, NEEDED), "", RESULTS).texts["results.json"])
    assert written == {key: RESULTS[key] for key in ("name", "status", "train", "eval", "epochs")}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of a known name, user and folders; returns its traces."""
    home, here = tmp_path / "home" / "joão", tmp_path / "project"
    for folder in (home, here):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    monkeypatch.setattr(getpass, "getuser", lambda: "user")
    monkeypatch.setattr(platform, "node", lambda: "gpu-07.example.org")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    return contents.build_traces(here / "outputs" / "run", "me/bio-gpt2 bio sample")


LEAKS = {
    "the home folder": "{home}/corpus.txt",
    "the working folder": "read from {here}",
    "the run folder": "{here}/outputs/run/model",
    "the user name": "user",
    "the host name": "trained on gpu-07 for an hour",
    "the value of WANDB_API_KEY": "key 0123456789abcdef",
    "a token of the Hub": "hf_abcdefghijklmnopqrstuvwxyz",
    "a path of this machine": "{other}",
}


PROSE = "README.md"  # in which a path may be anybody's
TEXTS = (PROSE, "results.json", "config.json", "tokenizer_config.json")


@pytest.mark.parametrize(
    ("file", "what"),
    [(file, what) for file in TEXTS for what in LEAKS if (file, what) != (PROSE, "a path of this machine")],
)
def test_a_trace_of_the_machine_is_found_in_any_text(machine, tmp_path, file, what):
    (tmp_path / "elsewhere").mkdir()
    text = LEAKS[what].format(home=Path.home(), here=Path.cwd(), other=tmp_path / "elsewhere")
    if file.endswith(".json"):
        text = json.dumps({"a": [1, {"b": text}]})  # with escapes, as transformers writes it
    assert contents.find_trace(file, text, machine) == what


@given(before=st.text('{}[]", \n', max_size=20), after=st.sampled_from(["", "/x", '"', " ", ",", "'"]))
def test_a_folder_is_found_wherever_it_stands(before, after):
    traces = [contents.Trace("a folder", contents._pattern_of_path("/home/ana"), is_word=False)]
    assert contents.find_trace("README.md", f"{before}/home/ana{after}", traces) == "a folder"
    assert contents.find_trace("README.md", f"{before}/home/anabela{after}", traces) is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tokenizer.json", '{"model": {"vocab": {"user": 5, "gpu-07": 6}}}'),
        ("vocab.json", '{"user": 5}'),
        ("merges.txt", "u ser\nuser name\nuser"),
        ("chat_template.jinja", '{% if message["role"] == "user" %}'),
        ("README.md", "> the user asked; see /usr/share/dict or write to a/user/b"),
        ("README.md", 'pipeline("text-generation", model="me/bio-gpt2")'),
        ("README.md", "https://huggingface.co/user/bio"),
        ("config.json", '{"activation": "gelu", "path": "/nowhere/at/all", "ratio": "3/4"}'),
    ],
)
def test_words_are_no_traces(machine, file, text):
    assert contents.find_trace(file, text, machine) is None


def test_a_name_that_the_card_says_anyway_is_no_trace(monkeypatch, tmp_path):
    monkeypatch.setattr(getpass, "getuser", lambda: "me")
    monkeypatch.setattr(platform, "node", lambda: "bio-gpt2")
    traces = contents.build_traces(tmp_path, "me/bio-gpt2 sample")
    assert contents.find_trace("results.json", '{"name": "bio-gpt2", "user": "me"}', traces) is None


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("tokenizer.json", '{"model": {"vocab": {"/root": 7}}}', None),
        ("README.md", "> the /root of it; cd /root/ and", None),
        ("README.md", "> saved in /root/corpus", "the home folder"),
        ("config.json", '{"path": "/root"}', "the home folder"),
    ],
)
def test_a_home_with_a_short_name_is_found_where_it_is_meant(monkeypatch, tmp_path, file, text, found):
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setattr(getpass, "getuser", lambda: "ana")
    assert contents.find_trace(file, text, contents.build_traces(tmp_path, "")) == found


def test_the_root_of_all_is_no_trace(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/")
    traces = contents.build_traces(tmp_path, "")
    assert contents.find_trace("README.md", "one / two", traces) is None


def test_a_package_with_a_trace_is_refused_by_the_name_of_its_file(machine, tmp_path):
    leaking = {**NEEDED, "config.json": json.dumps({"_name_or_path": f"{Path.home()}/base"})}
    package = contents.pack(make_model(tmp_path / "model", leaking), "card", RESULTS)
    with pytest.raises(PushError, match=r"config\.json holds the home folder"):
        contents.check_traces(package, machine)
    sound = contents.pack(make_model(tmp_path / "sound", NEEDED), "card", RESULTS)
    contents.check_traces(sound, machine)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"hub_model_id": "me/x"}, "training.hub_model_id has no effect without training.push_to_hub=true"),
        ({"hub_private_repo": False}, "training.hub_private_repo has no effect without"),
        (
            {"push_to_hub": True, "hub_strategy": "every_save"},
            "training.hub_strategy=every_save: expected a push at the end",
        ),
        (
            {"push_to_hub": True, "hub_strategy": "checkpoint"},
            "training.hub_strategy=checkpoint: expected a push at the end",
        ),
        ({"push_to_hub": True, "hub_always_push": True}, "training.hub_always_push=True: expected a push at the end"),
        ({"push_to_hub": True, "hub_revision": "0" * 40}, "expected the name of a branch"),
        ({"push_to_hub": True, "hub_revision": "refs/pr/1"}, "expected the name of a branch"),
        ({"push_to_hub": True, "hub_revision": "a..b"}, "expected the name of a branch"),
        ({"push_to_hub": True}, "and HF_HUB_OFFLINE is set"),
    ],
)
def test_a_push_that_cannot_be_is_refused(training, message):
    with pytest.raises(ConfigError, match=message):
        hub.check_settings(training)


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"hub_token": None},
        {"push_to_hub": False, "hub_model_id": "me/x"},  # of a run that is looked at again
        {
            "push_to_hub": True,
            "hub_strategy": "end",
            "hub_always_push": False,
            "hub_revision": "run/2",
            "hub_private_repo": True,
        },
    ],
)
def test_a_push_that_can_be_is_not_refused(monkeypatch, training):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub.check_settings(training)


@pytest.mark.parametrize(
    "repo",
    [
        "",
        "a/b/c",
        "me/",
        "/x",
        "me/a--b",
        "me/a..b",
        "me/-a",
        "a.",
        "saúde",
        "me/x.git",
        "a b",
        "https://hf.co/me/x",
        "n" * 97,
    ],
)
def test_what_is_no_repository_is_refused(repo):
    with pytest.raises(ConfigError, match="expected what the Hub takes for a repository"):
        hub.check_repository("training.hub_model_id", repo)


@pytest.mark.parametrize("repo", ["me/x", "x", "Me-1/gpt2.small_pt", "n" * 96])
def test_what_is_a_repository_is_taken(repo):
    hub.check_repository("training.hub_model_id", repo)


def test_repositories_are_judged_as_the_client_judges_them():
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    @given(st.text("a-._/é ", min_size=1, max_size=8))
    def judge(repo):
        try:
            validate_repo_id(repo)
        except HFValidationError:
            with pytest.raises(ConfigError):
                hub.check_repository("x", repo)

    judge()


def test_what_would_be_loaded_of_an_earlier_model_is_taken_away():
    present = [
        "README.md", "model.safetensors", "pytorch_model.bin", "adapter_config.json", "vocab.json", ".gitattributes", "LICENSE", "images/a.png",
        "gpt2.Q4_K_M.gguf", "training_args.bin",
    ]  # fmt: skip
    coming = {"README.md", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"}
    stale = client.find_stale(present, coming, list(hub.REPLACED))
    assert stale == ["model.safetensors", "pytorch_model.bin", "adapter_config.json", "vocab.json"]


def refuse(status, message):
    request = client.http.Request("POST", "http://hub/api/repos/create")
    return HfHubHTTPError(message, response=client.http.Response(status, request=request), server_message=message)


@pytest.mark.parametrize(
    ("error", "fault", "detail"),
    [
        (refuse(401, "expired"), "refused", "401: expired"),
        (refuse(403, "no\n rights."), "forbidden", "403: no rights"),
        (refuse(503, "busy"), "silent", "503: busy"),
        (refuse(400, "bad"), "other", "400: bad"),
        (client.http.ConnectTimeout("timed out"), "silent", "timed out"),
        (KeyError(), "other", "KeyError"),
        (
            RuntimeError("Network error: domain: http://hub/api/models/me/x/xet-write-token/main"),
            "xet",
            "Network error: domain: http://hub/api/models/me/x/xet-write-token/main",
        ),
    ],
)
def test_an_error_of_the_client_has_a_name_and_a_line(error, fault, detail):
    assert client.explain(error) == {"fault": fault, "detail": detail}
    wrapped = RuntimeError("Error while uploading")
    wrapped.__cause__ = error
    assert client.explain(wrapped)["fault"] == fault


def test_many_names_are_cut_short():
    assert hub.list_names(list("abc")) == "a, b, c"
    assert hub.list_names(list("abcdefghij")) == "a, b, c, d, e, f, g, h and 2 more"


@pytest.mark.parametrize("fault", hub.FAULTS)
def test_every_fault_is_told_with_what_to_do(fault):
    found, remedy = hub.explain(
        {"fault": fault, "detail": "why", "repo": "me/x", "user": "me", "endpoint": "http://hub"}
    )
    assert "{" not in found + remedy
    assert remedy[0].isupper()
    assert not remedy.endswith(".")


@pytest.mark.parametrize(("task", "tried"), [("push", 3), ("open", 1)])
def test_a_push_alone_is_tried_again_where_the_hub_does_not_answer(monkeypatch, task, tried):
    asked = []

    def fail(request):
        asked.append(request)
        raise refuse(503, "busy")

    monkeypatch.setattr(client, "PAUSES", (0, 0))
    monkeypatch.setitem(client.TASKS, task, fail)
    assert client.respond({"task": task}) == {"fault": "silent", "detail": "503: busy"}
    assert len(asked) == tried


def test_a_card_is_known_by_its_seal():
    card = seal_card("---\nlanguage: pt\n---\n\n# bio\n")
    assert is_own_card(card)
    assert is_own_card(card.replace("\n", "\r\n")), "git may change line ends"
    assert not is_own_card(card.replace("bio", "mine"))
    assert not is_own_card(card + "More.\n")
    assert not is_own_card("# bio\n")


class Api:
    """A repository with a card."""

    def __init__(self, card):
        self.card, self.commits = card, []

    def model_info(self, repo, revision):
        return type("Info", (), {"sha": "a"})

    def list_repo_files(self, repo, revision):
        return ["README.md", "config.json"]

    def create_commit(self, *_, **about):
        self.commits.append(about)
        return type("Commit", (), {"oid": "b", "commit_url": "http://hub/b"})


@pytest.mark.parametrize(
    ("found", "expected", "fault"),
    [
        ("old", {"card": "old"}, None),
        ("new", {"card": "old"}, None),  # it went through, and the answer was lost
        ("edited", {"card": "old"}, "edited"),
        ("edited", {"card": None}, "edited"),
        ("edited", {}, None),  # card.overwrite=true
    ],
)
def test_a_card_that_was_edited_meanwhile_is_not_replaced(monkeypatch, found, expected, fault):
    api = Api(found)
    monkeypatch.setattr(client, "_build_api", lambda _: api)
    monkeypatch.setattr(client, "load_card", lambda *_: found)
    asked = {
        "repo": "me/x",
        "revision": "main",
        "files": {},
        "texts": {"README.md": "new"},
        "replaces": [],
        "message": "x",
    }
    answer = client.push(asked | expected)
    assert answer.get("fault") == fault
    assert bool(api.commits) == (fault is None)


def test_every_file_has_a_reason(tmp_path):
    run = tmp_path / "run"
    make_model(run / "model", {**NEEDED, "README.md": "card", "notes.txt": "x", "manifest.json": "{}"})
    make_model(run, {"config.yaml": "", "checkpoint-3/model.safetensors": "", "mine.csv": ""})
    package = contents.pack(run / "model", "card", RESULTS)
    going = {file["name"]: file for file in listing.list_going(package)}
    assert set(going) == {*NEEDED, "README.md", "results.json"}
    assert going["config.json"]["bytes"] == 2
    staying = {file["name"]: file["why"] for file in listing.list_staying(run, package)}
    assert staying["model/notes.txt"] == "not on the list of what may go"
    assert set(staying) == {
        "config.yaml",
        "checkpoint-3",
        "mine.csv",
        "model/notes.txt",
        "model/README.md",
        "model/manifest.json",
    }
