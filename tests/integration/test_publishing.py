"""`training.push_to_hub=true`: the Hub's own client against a small Hub of this process, over HTTP on loopback."""

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lmtune.cli import main
from lmtune.commands import lr_find
from lmtune.config import CardConfig, FinetuneConfig, LrFindConfig, ModelConfig, ModelInit, TrainConfig
from lmtune.errors import LmtuneError
from lmtune.exporting import hub as exporting
from lmtune.training import publishing

TOKENS = {"ana-writes": ("ana", "write"), "ana-reads": ("ana", "read"), "ana-fine": ("ana", "fineGrained")}
SCRATCH = ModelConfig(init=ModelInit.scratch, config={"model_type": "gpt2"}, tokenizer="learn")
SHORT = ("training.max_steps=1", "training.use_cpu=true", "samples.show=0", "card.license=cc-by-4.0")
PUSH = "training.push_to_hub=true"
UPLOADED = {
    "README.md", "config.json", "generation_config.json", "model.safetensors", "results.json", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


class Hub:
    """Repositories in memory: what `create_repo`, `auth_check`, `create_branch` and `create_commit` of the client need."""

    def __init__(self):
        self.repos, self.objects, self.requests = {}, {}, []
        self.writers = {"ana"}  # owners whose repositories the tokens may write to
        self.answers = {}  # a part of a path -> (status, message) that is answered instead
        self.hanging, self.on_hanging = (
            None,
            lambda: None,
        )  # a part of a path that is never answered, and what happens then
        self.ignored = set()  # files that a .gitignore keeps out

    def add(self, repo, files=(), private=True):
        self.repos[repo] = {"private": private, "branches": {"main": {name: b"old" for name in files}}}

    def files(self, repo, branch="main"):
        return self.repos[repo]["branches"][branch]

    def respond(self, method, path, token, body):
        self.requests.append((method, path))
        for part, answer in self.answers.items():
            if part in path:
                return answer
        if self.hanging and self.hanging in path:
            self.on_hanging()
            time.sleep(20)
        if path.startswith("/lfs/"):
            self.objects[path.removeprefix("/lfs/")] = body
            return 200, {}
        if token not in TOKENS:
            return 401, "Invalid username or password."
        for pattern, act in ROUTES:
            if match := re.fullmatch(pattern, f"{method} {path}"):
                return act(self, token, body, **match.groupdict())
        return 404, f"nothing at {method} {path}"

    def whoami(self, token, _):
        name, role = TOKENS[token]
        return 200, {"type": "user", "name": name, "orgs": [], "auth": {"accessToken": {"role": role}}}

    def create(self, _, body):
        asked = json.loads(body)
        repo = f"{asked['organization'] or 'ana'}/{asked['name']}"
        if repo.split("/")[0] not in self.writers:
            return 403, f"You don't have the rights to create a model under the namespace {asked['organization']}"
        if repo in self.repos:
            return 409, "You already created this model repo"
        # huggingface_hub before 2.0 says `private` instead.
        self.add(repo, private=asked["visibility"] == "private" if "visibility" in asked else asked["private"])
        return 200, {"url": f"{self.address}/{repo}"}

    def may_write(self, _token, _body, repo):
        if repo not in self.repos:
            return 404, "Repository not found"
        return (200, {}) if repo.split("/")[0] in self.writers else (403, "no write access")

    def branch(self, _token, _body, repo, name):
        self.repos[repo]["branches"].setdefault(name.replace("%2F", "/"), dict(self.files(repo)))
        return 200, {}

    def tree(self, _token, _body, repo, name):
        files = next(
            b for key, b in self.repos[repo]["branches"].items() if name in (key.replace("/", "%2F"), commit_of(b))
        )
        return 200, [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files.items()]

    def card(self, _token, _body, repo, name):
        return 200, self.files(repo, name.replace("%2F", "/"))["README.md"]

    def info(self, _token, _body, repo, name=None):
        branch = self.files(repo, (name or "main").replace("%2F", "/"))
        return 200, {
            "id": repo,
            "private": self.repos[repo]["private"],
            "sha": commit_of(branch),
            "tags": [],
            "siblings": [],
        }

    def preupload(self, _token, body, repo, name):
        files = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in files}
        present = self.files(repo, name.replace("%2F", "/"))
        oids = {path: blob_of(present[path], modes[path]) for path in files if path in present}
        return 200, {
            "files": [{"path": p, "uploadMode": m, "shouldIgnore": False, "oid": oids.get(p)} for p, m in modes.items()]
        }

    def batch(self, _token, body, repo):
        objects = json.loads(body)["objects"]
        for item in (each for each in objects if each["oid"] not in self.objects):
            item["actions"] = {"upload": {"href": f"{self.address}/lfs/{item['oid']}"}}
        return 200, {"transfer": "basic", "objects": objects}

    def commit(self, _token, body, repo, name):
        files = self.files(repo, name.replace("%2F", "/"))
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        for ignored in self.ignored:
            del files[ignored]
        return 200, {"commitOid": commit_of(files), "commitUrl": f"{self.address}/{repo}/commit/{commit_of(files)}"}


def blob_of(data, mode):
    """What identifies a file: as git does, of a large one its SHA-256."""
    return (
        hashlib.sha256(data).hexdigest() if mode == "lfs" else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    )


def commit_of(files):
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


REPO, NAME = r"(?P<repo>[^/]+/[^/]+)", r"(?P<name>[^/?]+)"
ROUTES = [
    (r"GET /api/whoami-v2", Hub.whoami),
    (r"POST /api/repos/create", Hub.create),
    (r"POST /api/validate-yaml", lambda *_: (200, {"errors": [], "warnings": []})),
    (rf"GET /api/models/{REPO}/auth-check/write", Hub.may_write),
    (rf"POST /api/models/{REPO}/branch/{NAME}", Hub.branch),
    (rf"GET /api/models/{REPO}/tree/{NAME}\?.*", Hub.tree),
    (rf"GET /api/models/{REPO}(?:/revision/{NAME})?", Hub.info),
    (rf"GET /{REPO}/resolve/{NAME}/README.md", Hub.card),
    (rf"POST /api/models/{REPO}/preupload/{NAME}", Hub.preupload),
    (rf"POST /{REPO}\.git/info/lfs/objects/batch", Hub.batch),
    (rf"POST /api/models/{REPO}/commit/{NAME}", Hub.commit),
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub, with the environment that points to it and a token that may write."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(iter(self.read_chunk, b""))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, content = hub.respond(self.command, self.path, token, body)
            answer = {"error": content} if status >= 400 else content
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if status == 404 and content == "Repository not found":
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data)

        def read_chunk(self):
            data = self.rfile.read(int(self.rfile.readline(), 16))
            self.rfile.readline()
            return data

        def log_message(self, *_):
            """Nothing: stderr belongs to lmtune."""

        do_GET = do_POST = do_PUT = answer  # noqa: N815 (http.server calls them so)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    home = {"HF_ENDPOINT": hub.address, "HF_HOME": tmp_path / ".hf", "HF_TOKEN": "ana-writes", "NO_PROXY": "127.0.0.1"}
    for name, value in {**home, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, str(value))
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def completed(tmp_path_factory):
    """outputs/ with one run of a step that was not pushed, made once; tests work on copies."""
    folder = tmp_path_factory.mktemp("completed")
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        assert main.run(["train", *SHORT, "name=bio"]) == 0
    return folder / "outputs"


@pytest.fixture
def run(lmtune, completed, tmp_path):
    """A copy of the completed run, in the folder where `lmtune` stands."""
    shutil.copytree(completed, tmp_path / "outputs")
    return next((tmp_path / "outputs").glob("*/*"))


def test_a_completed_run_is_on_the_hub_and_nothing_of_the_machine_is(lmtune, hub, tmp_path):
    answer = lmtune("train", *SHORT, PUSH, "name=bio", "format=json")
    assert answer.code == 0, answer.err
    files = hub.files("ana/bio")
    assert set(files) == UPLOADED
    assert hub.repos["ana/bio"]["private"]
    (run,) = (tmp_path / "outputs" / "bio").iterdir()
    assert files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    assert b'model="ana/bio"' in files["README.md"]
    assert json.loads(files["results.json"])["status"] == "completed"
    assert json.loads(files["results.json"])["eval"] == answer.json["eval"]
    texts = b"".join(data for name, data in files.items() if not name.endswith(".safetensors"))
    assert not [
        word for word in (str(tmp_path), str(Path.home()) + "/", "ana-writes", run.name) if word.encode() in texts
    ]
    assert f"Hub: {hub.address}/ana/bio, new and private, takes the model when the run has completed" in answer.err
    assert f"Hub: pushed 7 files, 3.9 MB, to {hub.address}/ana/bio/commit/{commit_of(files)}\n" in answer.err


def test_the_pushed_copy_loads_and_scores_as_the_run_did(lmtune, hub, run, tmp_path):
    assert lmtune("train", f"resume={run}", PUSH).code == 0
    (tmp_path / "fetched").mkdir()
    for name, data in hub.files("ana/bio").items():
        (tmp_path / "fetched" / name).write_bytes(data)
    answer = lmtune("eval", "ckpt=fetched", "data=sample", "device=cpu", "format=json")
    assert answer.code == 0, answer.err
    ours, theirs = answer.json["eval"]["sample"], json.loads((run / "results.json").read_text())["eval"]["sample"]
    assert ours["bits_per_byte"] == theirs["bits_per_byte"]


def test_a_completed_run_is_pushed_later_where_one_wants_it(lmtune, hub, run):
    wanted = ("training.hub_model_id=ana/other", "training.hub_revision=run/2", "training.hub_private_repo=false")
    answer = lmtune("train", f"resume={run}", PUSH, *wanted)
    assert answer.code == 0, answer.err
    assert "this run has completed; here are its results" in answer.err
    assert set(hub.files("ana/other", "run/2")) == UPLOADED
    assert set(hub.files("ana/other")) == set(), "the other branch stays as it was"
    assert not hub.repos["ana/other"]["private"]
    again = lmtune("train", f"resume={run}", PUSH, *wanted)
    assert f"Hub: {hub.address}/ana/other holds this model already" in again.err


def test_a_model_replaces_the_one_before_it_and_leaves_the_rest(lmtune, hub, run):
    hub.add("ana/bio", ["README.md", "pytorch_model.bin", "vocab.json", "LICENSE", "images/curve.png"], private=False)
    answer = lmtune("train", f"resume={run}", PUSH, "card.overwrite=true")
    assert answer.code == 0, answer.err
    assert "there already and PUBLIC (to be replaced: README.md, pytorch_model.bin, vocab.json)" in answer.err
    assert set(hub.files("ana/bio")) == UPLOADED | {"LICENSE", "images/curve.png"}
    assert "removed there: pytorch_model.bin, vocab.json" in answer.err


def make_foreign(hub):
    hub.add("eva/bio")


def make_readable(hub):
    hub.answers["/api/repos/create"] = (409, "You already created this model repo")
    hub.add("eva/bio")


def make_busy(hub):
    hub.answers["/api/"] = (503, "Service Unavailable")


def make_stranger(hub):
    hub.answers["/api/whoami"] = (404, "no Hub")


def keep(hub):
    """Nothing is wrong with the Hub."""


OBSTACLES = {
    "no token": (keep, {"HF_TOKEN": ""}, (), "but no token was found, in HF_TOKEN or left by `hf auth login`."),
    "a wrong token": (keep, {"HF_TOKEN": "worn-out"}, (), "does not take the token (401: Unauthorized)."),
    "a token that reads": (keep, {"HF_TOKEN": "ana-reads"}, (), "but the token of ana can only read."),
    "offline": (keep, {"HF_HUB_OFFLINE": "1"}, (), "and HF_HUB_OFFLINE is set."),
    "offline too": (keep, {"TRANSFORMERS_OFFLINE": "1", "HF_HUB_OFFLINE": ""}, (), "TRANSFORMERS_OFFLINE is set. Unset it"),
    "nobody there": (keep, {"HF_ENDPOINT": "http://127.0.0.1:9"}, (), "did not answer as the Hub does ([Errno"),
    "no address": (keep, {"HF_ENDPOINT": "nonsense"}, (), "nonsense did not answer as the Hub does ("),
    "a busy Hub": (make_busy, {}, (), "did not answer as the Hub does (503"),
    "no Hub": (make_stranger, {}, (), "did not answer as the Hub does (404"),
    "an owner that one is not": (
        keep, {}, ("training.hub_model_id=eva/bio",),
        "the token of ana may not write to eva/bio at {hub} (403: You don't have the rights to create a model under the namespace eva). "
        "Name a repository of yours, training.hub_model_id=ana/bio",
    ),
    "somebody else's": (make_foreign, {}, ("training.hub_model_id=eva/bio",), "may not write to eva/bio"),
    "one that can only be read": (make_readable, {"HF_TOKEN": "ana-fine"}, ("training.hub_model_id=eva/bio",), "may not write to eva/bio"),
    "no name": (keep, {}, ("name=saúde",), "name=saúde: expected what the Hub takes for a repository"),
    "a bad id": (keep, {}, ("training.hub_model_id=a/b/c",), "training.hub_model_id=a/b/c: expected what the Hub takes"),
    "checkpoints": (keep, {}, ("training.hub_strategy=every_save",), "training.hub_strategy=every_save: expected a push at the end"),
}  # fmt: skip


def settle(config):
    publishing.check_push(config)
    publishing.open_target(config)


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_what_is_in_the_way_is_told(hub, monkeypatch, obstacle):
    arrange, environment, arguments, words = OBSTACLES[obstacle]
    arrange(hub)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    typed = dict(argument.split("=") for argument in ("name=bio", *arguments))
    training = {"push_to_hub": True, **{key.removeprefix("training."): typed[key] for key in typed if "." in key}}
    config = TrainConfig(name=typed["name"], training=training, model=SCRATCH, finetune=FinetuneConfig())
    with pytest.raises(LmtuneError) as told:
        settle(config)
    assert words.format(hub=hub.address) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("obstacle", ["no token", "offline", "an owner that one is not"])
def test_it_is_told_before_there_is_a_run_folder(lmtune, hub, tmp_path, monkeypatch, obstacle):
    _, environment, arguments, words = OBSTACLES[obstacle]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    answer = lmtune("train", *SHORT, PUSH, *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words.format(hub=hub.address) in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_hub_that_says_nothing_is_not_waited_for(lmtune, hub, tmp_path):
    hub.hanging = "/api/whoami"
    began = time.monotonic()
    answer = lmtune("train", *SHORT, PUSH)
    assert (answer.code, answer.out) == (2, "")
    assert "did not answer as the Hub does (timed out)" in answer.err
    assert time.monotonic() - began < 10
    assert not (tmp_path / "outputs").exists()


def test_a_hub_that_falls_silent_ends_no_completed_run(lmtune, hub, run, monkeypatch):
    monkeypatch.setattr(exporting, "PUSH_LIMIT", 2)
    monkeypatch.setattr(exporting, "SLOWEST", 10**9)
    hub.hanging = "/preupload/"
    answer = lmtune("train", f"resume={run}", PUSH)
    assert answer.code == 2
    assert "was not done after 2 s. Check the network. Then push it: lmtune train resume=" in answer.err
    assert json.loads((run / "results.json").read_text())["status"] == "completed"


def test_a_signal_ends_the_push_and_leaves_a_completed_run(lmtune, hub, run):
    hub.hanging = "/preupload/"
    hub.on_hanging = lambda: os.kill(os.getpid(), signal.SIGTERM)
    answer = lmtune("train", f"resume={run}", PUSH)
    assert answer.code == 128 + signal.SIGTERM
    assert answer.err.endswith(f"({hub.address}/ana/bio). To push it: lmtune train resume={run} {PUSH}\n")
    assert json.loads((run / "results.json").read_text())["status"] == "completed"


def test_a_push_that_fails_leaves_a_completed_run_that_is_pushed_later(lmtune, hub, run):
    hub.answers["/commit/main"] = (403, "Private repository storage limit reached")
    answer = lmtune(
        "train", f"resume={run}", PUSH, "training.hub_model_id=ana/other", "training.hub_private_repo=false"
    )
    assert answer.code == 2
    assert answer.run == run
    assert json.loads((run / "results.json").read_text())["status"] == "completed"
    (error,) = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert f"{run} has completed and is saved, but its model is not on the Hub ({hub.address}/ana/other)" in error
    assert "(403: Private repository storage limit reached)" in error
    assert "Traceback" not in answer.err
    hub.answers.clear()
    (later,) = re.findall(r"Then push it: lmtune (train resume=.*)$", error)
    again = lmtune(*later.split())
    assert again.code == 0, again.err
    assert set(hub.files("ana/other")) == UPLOADED
    assert not hub.repos["ana/other"]["private"]


def test_a_text_that_tells_of_the_machine_is_not_pushed(lmtune, hub, run):
    settings = json.loads((run / "model" / "config.json").read_text())
    (run / "model" / "config.json").write_text(json.dumps({**settings, "trained_on": f"{run}/corpus.txt"}))
    answer = lmtune("train", f"resume={run}", PUSH)
    assert answer.code == 2
    assert (
        f"config.json holds the run folder, which is nobody else's business. Take it out of {run}/model/config.json. Then"
        in answer.err
    )
    assert hub.files("ana/bio") == {}


def test_weights_that_are_not_those_that_were_saved_are_not_pushed(lmtune, hub, run):
    weights = run / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    answer = lmtune("train", f"resume={run}", PUSH)
    assert answer.code == 2
    assert "model.safetensors does not have the checksum it was saved with. Delete" in answer.err
    assert hub.files("ana/bio") == {}
    shutil.rmtree(run / "model")
    (run / "results.json").unlink()
    assert lmtune("train", f"resume={run}", PUSH).code == 0, "as it was told"
    assert weights.read_bytes() == whole
    assert set(hub.files("ana/bio")) == UPLOADED


def test_files_that_the_hub_leaves_out_are_noticed(lmtune, hub, run):
    hub.ignored = {"config.json"}
    answer = lmtune("train", f"resume={run}", PUSH)
    assert answer.code == 2
    assert "the commit lacks config.json: look for a .gitignore there" in answer.err


def test_jobs_of_a_sweep_push_to_repositories_of_their_own(lmtune, hub):
    hub.answers["/ana/bio-0/commit/"] = (403, "no more")
    small = (*SHORT[:2], "model.config.n_layer=1", "samples.enabled=false", "card.license=mit")
    answer = lmtune("train", "-m", "hydra/launcher=basic", *small, PUSH, "training.hub_model_id=ana/bio", "seed=1,2")
    assert answer.code == 2, "one job was not pushed"
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert {json.loads((sweep / number / "results.json").read_text())["status"] for number in "01"} == {"completed"}
    assert (set(hub.files("ana/bio-0")), set(hub.files("ana/bio-1"))) == (set(), UPLOADED)
    resumed = TrainConfig(name="bio", resume=str(sweep / "0"))
    assert publishing.name_repository(resumed) == "bio-0", "it goes where it went, or should have gone"


def test_one_process_of_several_pushes(hub, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert publishing.open_target(TrainConfig(training={"push_to_hub": True})) is None
    assert hub.requests == []


def test_a_test_of_learning_rates_pushes_nothing(hub):
    config = LrFindConfig(
        training={"push_to_hub": True, "hub_model_id": "ana/bio"}, model=SCRATCH, finetune=FinetuneConfig()
    )
    lr_find.settle(config)
    publishing.check_push(config)
    assert publishing.open_target(config) is None
    assert hub.requests == []


def test_an_adapter_alone_wants_a_base_on_the_hub(lmtune, hub, run):
    pytest.importorskip("peft")
    answer = lmtune("train", *SHORT, PUSH, f"model.path={run / 'model'}", "finetune=lora", "finetune.merge=false")
    assert (answer.code, answer.out) == (2, "")
    assert "a folder that nobody else has. Expected a base on the Hub." in answer.err
    assert hub.requests == []


def push(lmtune, run, *arguments):
    return lmtune("push", f"ckpt={run}", "repo=ana/bio", "format=json", *arguments)


def test_a_dry_run_lists_every_file_and_asks_nobody(lmtune, hub, run):
    answer = push(lmtune, run, "dry_run=true")
    assert answer.code == 0, answer.err
    assert {file["name"] for file in answer.json["files"]} == UPLOADED
    stays = {file["name"] for file in answer.json["stays"]}
    assert stays == {f.name for f in run.iterdir()} - {"model"} | {"model/README.md", "model/manifest.json"}
    assert all(each["why"] for each in answer.json["files"] + answer.json["stays"])
    assert "card.contact" in answer.json["unstated"]
    assert "card.license" not in answer.json["unstated"]
    assert hub.requests == []
    table = lmtune("push", f"ckpt={run}", "repo=ana/bio", "dry_run=true").out
    assert "repository    ana/bio, nothing was sent" in table
    assert "model.safetensors                 3.8 MB  weights" in table


def test_a_push_says_where_the_model_is_and_a_second_one_sends_what_is_new(lmtune, hub, run):
    first = push(lmtune, run)
    assert first.code == 0, first.err
    files = hub.files("ana/bio")
    assert set(files) == UPLOADED
    assert hub.repos["ana/bio"]["private"]
    assert (first.json["commit"], first.json["changed"]) == (commit_of(files), True)
    assert first.json["url"] == f"{hub.address}/ana/bio/commit/{commit_of(files)}"
    assert files["README.md"].decode() == first.json["card"]
    assert b"license: cc-by-4.0" in files["README.md"], "as it was recorded with the run"

    again = push(lmtune, run)
    assert (again.json["commit"], again.json["changed"]) == (first.json["commit"], False)
    hub.requests.clear()
    third = lmtune("push", f"ckpt={run}", "repo=ana/bio", "card.contact=ana@example.org")
    assert third.code == 0, third.err
    assert (
        "repository    " + hub.address + "/ana/bio, there already and private (to be replaced: README.md" in third.out
    )
    assert b"| contact | ana@example.org |" in hub.files("ana/bio")["README.md"]
    assert [path for _, path in hub.requests if "/commit/" in path] == ["/api/models/ana/bio/commit/main"]
    assert not [path for _, path in hub.requests if path.startswith("/lfs/")], "the weights are there"


def test_a_card_that_was_edited_there_is_not_replaced_silently(lmtune, hub, run):
    assert push(lmtune, run).code == 0
    edited = hub.files("ana/bio")["README.md"].replace(b"# bio", b"# My bio")
    hub.files("ana/bio")["README.md"] = edited
    for command in (("push", f"ckpt={run}", "repo=ana/bio"), ("train", f"resume={run}", PUSH)):
        answer = lmtune(*command)
        assert (answer.code, answer.out) == (2, "")
        assert f"README.md in {hub.address}/ana/bio was written or edited by hand" in answer.err
        assert "add card.overwrite=true" in answer.err
        assert hub.files("ana/bio")["README.md"] == edited
    assert push(lmtune, run, "card.overwrite=true").code == 0
    assert b"# bio\n" in hub.files("ana/bio")["README.md"]


def test_a_card_that_was_edited_here_stays_here(lmtune, hub, run):
    with (run / "model" / "README.md").open("a") as card:
        card.write("More.\n")
    answer = push(lmtune, run)
    assert "README.md has been edited since it was written. It stays here" in answer.err
    assert b"More." not in hub.files("ana/bio")["README.md"]


@pytest.mark.parametrize(
    "obstacle", ["no token", "a wrong token", "a token that reads", "offline", "nobody there", "a busy Hub"]
)
def test_what_is_in_the_way_of_a_push_is_told_in_one_paragraph(lmtune, hub, run, monkeypatch, obstacle):
    arrange, environment, _, _ = OBSTACLES[obstacle]
    arrange(hub)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    answer = push(lmtune, run)
    assert (answer.code, answer.out) == (2, "")
    (error,) = answer.err.splitlines()
    assert error.startswith("error: lmtune push needs a repository of the Hub that can be written to, but ")
    assert "training." not in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("repo=a/b/c",), "repo=a/b/c: expected what the Hub takes for a repository"),
        (("repo=eva/bio",), "Name a repository of yours, repo=ana/bio, or set HF_TOKEN"),
        (("repo=ana/bio", "branch=a..b"), "branch=a..b: expected the name of a branch"),
        (("repo=ana/bio", "card.license=MIT"), "card.license=MIT: expected a licence as the Hub writes it"),
        (("repo=ana/bio", "card.license=other"), "Give card.license_name="),
        (("repo=ana/bio", "card.license_link=x"), "card.license_link has no effect"),
        (("repo=ana/bio", "card.language=Portuguese"), "card.language=Portuguese: expected codes of languages"),
        (("repo=ana/bio", "dry_run=true", "public=true"), "public has no effect: dry_run=true asks nobody"),
        ((), "lmtune push needs repo=, found none"),
    ],
)
def test_what_cannot_be_pushed_is_refused(lmtune, hub, run, arguments, words):
    answer = lmtune("push", f"ckpt={run}", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert hub.repos == {}


def test_a_model_whose_licence_nobody_has_stated_is_not_pushed(lmtune, hub, tmp_path):
    answer = lmtune("train", *SHORT[:3], PUSH)
    assert (answer.code, answer.out) == (2, "")
    assert (
        "found no card.license=. Give for instance card.license=cc-by-sa-4.0, or card.allow_unstated=true" in answer.err
    )
    assert hub.requests == []
    assert not (tmp_path / "outputs").exists()
    lack = publishing.find_lack(CardConfig(), {"data": {"language": None}})
    assert "found no card.license= and no card.language=" in lack
    assert publishing.find_lack(CardConfig(allow_unstated=True), {"data": {"language": None}}) is None
    assert publishing.find_lack(CardConfig(license="mit", language=["pt"]), {"data": {"language": None}}) is None


def test_another_model_than_that_of_a_finished_run_is_not_pushed(lmtune, hub, run):
    answer = lmtune("push", f"ckpt={run / 'checkpoint-1'}", "repo=ana/bio")
    assert (answer.code, answer.out) == (2, "")
    assert "expected the folder of a run that has completed" in answer.err
    assert hub.requests == []


def test_a_private_run_is_not_pushed(lmtune, hub):
    assert lmtune("train", *SHORT, "private=true", "output=kept").code == 0
    for more in ((), ("dry_run=true",)):
        answer = lmtune("push", "ckpt=kept", "repo=ana/bio", *more)
        assert (answer.code, answer.out) == (2, "")
        assert "was trained with private=true, of which nothing is pushed" in answer.err
    assert hub.requests == []
