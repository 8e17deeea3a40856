"""Against a local Hub, over HTTP, with the real clients: named models and data sets train and score."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.hub
SMALL = ("eval.max_tokens=2000", "data.block_size=128", "eval.context=128", "samples.show=0", "training.use_cpu=true")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A server on loopback with repositories of the real shape; yields the environment that points to it."""
    source = os.environ.get("LMTUNE_TEST_HUB")
    if not source:
        pytest.skip("LMTUNE_TEST_HUB names no local Hub")
    folder = tmp_path_factory.mktemp("hub")
    make = [sys.executable, Path(source) / "make_hub.py", "--root", folder / "root"]
    data = Path(os.environ.get("LMTUNE_TEST_DATA", ""))
    if data.name:
        make += ["--gpt2-tokenizer", data / "gpt2-tokenizer", "--bio", *sorted((data / "bio").glob("*.txt.gz"))]
        make += ["--wikitext", *(data / "wikitext-2" / f"{name}.txt.gz" for name in ("train", "validation", "test"))]
        make += ["--wikipedia", data / "pt-wiki" / "faquad.jsonl.gz"]
    made = subprocess.run(make, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "0"})
    assert made.returncode == 0, made.stderr[-3000:]
    server = subprocess.Popen(
        [sys.executable, Path(source) / "hub_server.py", "--root", folder / "root"], stdout=subprocess.PIPE, text=True
    )
    address = server.stdout.readline().strip().partition("=")[2]
    yield {
        "HF_ENDPOINT": address, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0",
    }  # fmt: skip
    server.terminate()
    server.communicate(timeout=20)


def lmtune(hub, folder, *arguments, code=0, launcher=()):
    command = [sys.executable, *launcher, "-m", "lmtune", *arguments]
    environment = {name: value for name, value in {**os.environ, **hub}.items() if value is not None}
    answer = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert answer.returncode == code, answer.stderr
    return answer


@pytest.mark.parametrize(
    ("data", "model"),
    [("bio", "gpt2-small-pt"), ("wikitext", "gpt2"), ("pt-wiki", "gpt2-small-pt")],
    ids=lambda name: name,
)
def test_named_data_and_models_train(hub, tmp_path, data, model):
    limits = ("data.max_documents=2",) if data == "bio" else ("data.max_documents=20",)
    answer = lmtune(
        hub, tmp_path, "train", f"data={data}", f"model={model}", "training.max_steps=5", "format=json", *SMALL, *limits
    )
    results = json.loads(answer.stdout)
    assert results["status"] == "completed"
    assert list(results["eval"]) == [data]
    (run,) = (tmp_path / "outputs" / f"{data}-{model}").iterdir()
    ledger = json.loads((run / "ledger.json").read_text())
    assert ledger["split_by"] == {"bio": "stretches", "wikitext": "given", "pt-wiki": "hash"}[data]
    if data == "bio":
        assert ledger["rows_per_document"] == 1000
        assert "names no articles" in ledger["documents_are"]
    measured = lmtune(hub, tmp_path, "eval", f"ckpt={run}", "format=json", "device=cpu", "eval.context=128")
    ours, theirs = json.loads(measured.stdout)["eval"][data], results["eval"][data]
    assert ours["bits_per_byte"] == pytest.approx(theirs["bits_per_byte"], rel=1e-6)


def test_a_pushed_model_comes_back_and_scores_as_its_run_did(hub, tmp_path):
    online = {**hub, "HF_TOKEN": "any-word"}
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    command = (
        "train",
        "model=gpt2-small-pt",
        "training.max_steps=2",
        "training.push_to_hub=true",
        "card.license=mit",
        "name=two",
        "format=json",
        *SMALL,
    )
    answer = lmtune(online, tmp_path, *command, launcher=launcher)
    assert answer.stderr.count("Hub: pushed") == 1
    (run,) = (tmp_path / "outputs" / "two").iterdir()
    with urllib.request.urlopen(f"{hub['HF_ENDPOINT']}/api/models/local-user/two/tree/main") as listing:
        pushed = {file["path"] for file in json.load(listing)}
    assert pushed - {".gitattributes"} == {path.name for path in (run / "model").iterdir()} - {"manifest.json"} | {
        "results.json"
    }
    load = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, tokenizer = (kind.from_pretrained('local-user/two') for kind in (AutoModelForCausalLM, AutoTokenizer))\n"
        "assert tokenizer.decode(tokenizer('O paciente')['input_ids']) == 'O paciente'\n"
        "assert model.config.eos_token_id == tokenizer.eos_token_id\n"
    )
    subprocess.run([sys.executable, "-c", load], env={**os.environ, **hub}, check=True, cwd=tmp_path)
    measured = lmtune(
        hub, tmp_path, "eval", "ckpt=local-user/two", "data=sample", "format=json", "device=cpu", "eval.context=128"
    )
    ours, theirs = json.loads(measured.stdout)["eval"]["sample"], json.loads(answer.stdout)["eval"]["sample"]
    assert ours["bits_per_byte"] == pytest.approx(theirs["bits_per_byte"], rel=1e-9)


def ask(hub, path):
    with urllib.request.urlopen(f"{hub['HF_ENDPOINT']}{path}") as answer:
        return answer.read()


def test_a_run_is_pushed_pulled_into_an_empty_cache_and_pushed_again(hub, tmp_path):
    online = {**hub, "HF_TOKEN": "any-word"}
    trained = lmtune(hub, tmp_path, "train", "data=wikitext", "data.max_documents=9", "model=gpt2", "training.max_steps=2",
                     "format=json", "name=pushed", *SMALL)  # fmt: skip
    (run,) = (tmp_path / "outputs" / "pushed").iterdir()
    command = ("push", f"ckpt={run}", "repo=local-user/pushed", "card.license=mit", "format=json")
    first = json.loads(lmtune(online, tmp_path, *command).stdout)
    listed = {file["path"]: file for file in json.loads(ask(hub, "/api/models/local-user/pushed/tree/main"))}
    assert listed.keys() - {".gitattributes"} == {file["name"] for file in first["files"]}
    texts = b"".join(
        ask(hub, f"/local-user/pushed/resolve/main/{name}") for name in listed if not name.endswith(".safetensors")
    )
    assert not [
        word for word in (str(tmp_path), str(Path.home()) + "/", "any-word", run.name) if word.encode() in texts
    ]
    empty = {**online, "HF_HOME": str(tmp_path / "empty")}
    check = (
        "from huggingface_hub import ModelCard\n"
        "card = ModelCard.load('local-user/pushed')\n"
        "card.validate()\n"
        "assert (card.data.license, card.data.base_model, card.data.datasets) == "
        "('mit', 'openai-community/gpt2', ['Salesforce/wikitext'])\n"
    )
    subprocess.run([sys.executable, "-c", check], env={**os.environ, **empty}, check=True, cwd=tmp_path)
    measured = lmtune(
        empty, tmp_path, "eval", "ckpt=local-user/pushed", "data=wikitext", "data.max_documents=9", "format=json", "device=cpu",
        "eval.context=128",
    )  # fmt: skip
    ours, theirs = json.loads(measured.stdout)["eval"]["wikitext"], json.loads(trained.stdout)["eval"]["wikitext"]
    assert ours["bits_per_byte"] == pytest.approx(theirs["bits_per_byte"], rel=1e-9)
    again = json.loads(lmtune(online, tmp_path, *command).stdout)
    assert (again["commit"], again["changed"]) == (first["commit"], False)
    told = json.loads(lmtune(online, tmp_path, *command, "card.contact=board@example.org").stdout)
    assert told["changed"]
    assert b"| contact | board@example.org |" in ask(hub, "/local-user/pushed/resolve/main/README.md")


def test_a_pushed_adapter_finds_its_base(hub, tmp_path):
    pytest.importorskip("peft")
    online = {**hub, "HF_TOKEN": "any-word"}
    adapter = (
        "finetune=lora",
        "finetune.merge=false",
        "model=gpt2-small-pt",
        "name=adapter",
        "training.max_steps=2",
        *SMALL,
    )
    answer = lmtune(online, tmp_path, "train", *adapter, "training.push_to_hub=true", "card.license=mit", "format=json")
    measured = lmtune(
        hub, tmp_path, "eval", "ckpt=local-user/adapter", "data=sample", "format=json", "device=cpu", "eval.context=128"
    )
    ours, theirs = json.loads(measured.stdout)["eval"]["sample"], json.loads(answer.stdout)["eval"]["sample"]
    assert ours["bits_per_byte"] == pytest.approx(theirs["bits_per_byte"], rel=1e-9)
    (run,) = (tmp_path / "outputs" / "adapter").iterdir()
    card = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "library_name: peft" in card
    assert "base_model: pierreguillou/gpt2-small-portuguese" in card


def test_a_hub_data_set_streams(hub, tmp_path):
    command = ("train", "data=pt-wiki", "model=gpt2-small-pt", "training.max_steps=2", "samples.enabled=false", *SMALL)
    answer = lmtune(hub, tmp_path, *command, "data.streaming=true")
    assert "data: streamed in blocks of 128; held out by hash, among the first" in answer.stderr
    (run,) = (tmp_path / "outputs").glob("*/*")
    ledger = json.loads((run / "ledger.json").read_text())
    whole = json.loads(lmtune(hub, tmp_path, "data", "data=pt-wiki", "model=gpt2-small-pt", "format=json").stdout)[
        "ledger"
    ]
    assert {side: ledger["sides"][side]["tokens"] for side in ledger["sides"]} == {
        side: whole["sides"][side]["tokens"] for side in whole["sides"]
    }


def test_a_hub_model_is_scored_on_named_data(hub, tmp_path):
    answer = lmtune(
        hub, tmp_path, "eval", "ckpt=pierreguillou/gpt2-small-portuguese", "data=bio", "data.max_documents=2", "format=json", "device=cpu",
        "eval.context=128",
    )  # fmt: skip
    assert json.loads(answer.stdout)["eval"]["bio"]["tokens"] > 1000


def test_a_hub_model_without_text_is_an_error(hub, tmp_path):
    answer = lmtune(hub, tmp_path, "eval", "ckpt=openai-community/gpt2", code=2)
    assert "comes from no run, so it has no held-out text of its own" in answer.stderr


def test_an_unknown_id_is_refused_before_anything_heavy(hub, tmp_path):
    answer = lmtune(hub, tmp_path, "train", "model.path=openai-community/gtp2", code=2)
    assert "as a Hub model it cannot be had" in answer.stderr
    assert "does not know it" in answer.stderr


def test_a_cached_model_is_used_when_the_endpoint_is_gone(hub, tmp_path):
    command = ("generate", "ckpt=openai-community/gpt2", "prompt=Once", "generation.max_new_tokens=3", "device=cpu")
    online = lmtune(hub, tmp_path, *command)
    offline = lmtune({**hub, "HF_ENDPOINT": "http://127.0.0.1:9"}, tmp_path, *command)
    assert offline.stdout == online.stdout
    assert "going on with the cached copy of openai-community/gpt2" in offline.stderr


def test_files_of_a_data_set_are_read_behind_their_addresses(hub, tmp_path):
    whole, pattern = (
        json.loads(
            lmtune(hub, tmp_path, "data", *where, "model=gpt2", "data.validation_split=null", "format=json").stdout
        )
        for where in (
            ("data=hub", "data.path=Salesforce/wikitext", "data.subset=wikitext-2-raw-v1"),
            ("data.files=hf://datasets/Salesforce/wikitext/wikitext-2-raw-v1/train-*.parquet", "data.text_column=text"),
        )
    )
    assert pattern["ledger"]["sides"] == whole["ledger"]["sides"]
    (source,) = pattern["ledger"]["sources"]
    assert source["name"].startswith("hf://datasets/Salesforce/wikitext")
    assert source["etag"]


NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": None}
"""Nobody listens there, and only HF_HOME says that the network is not needed."""


def list_commands(folder):
    """What is done with the models and data sets that were fetched."""
    small = ("training.max_steps=2", "data.max_documents=2", *SMALL)
    return [
        ("train", "data=bio", "model=gpt2-small-pt", "format=json", f"output={folder}/run", *small),
        ("eval", "ckpt=pierreguillou/gpt2-small-portuguese", "data=bio", "data.max_documents=2", "format=json", "device=cpu",
         "eval.context=128"),
        ("eval", "ckpt=pierreguillou/gpt2-small-portuguese", "suite=gpt2-zeroshot", "suite.tasks=[wikitext-2]", "suite.limit=9",
         "format=json", "device=cpu"),
        ("generate", "ckpt=pierreguillou/gpt2-small-portuguese", "prompt=Era", "generation.max_new_tokens=3", "device=cpu"),
    ]  # fmt: skip


def read_numbers(text):
    """What was measured, and on which text; what was written, where nothing was measured."""
    if not text.startswith("{"):
        return text
    found = json.loads(text)
    if "eval" in found:
        return {name: (each["loss"], each["protocol"]["text"]) for name, each in found["eval"].items()}
    return {name: each["perplexity"] for name, each in found["tasks"].items()}


def test_what_was_fetched_is_all_that_is_needed_elsewhere(hub, tmp_path):
    online = {**hub, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_any-word-that-is-found"}
    lmtune(online, tmp_path, "fetch", "data=bio", "model=gpt2-small-pt")
    told = json.loads(
        lmtune(online, tmp_path, "fetch", "suite=gpt2-zeroshot", "suite.tasks=[wikitext-2,lm1b]", "format=json").stdout
    )
    assert [each["subset"] for each in told["fetched"]] == ["wikitext-2-raw-v1"]
    assert told["left_out"] == ["billion-word-benchmark/lm1b/plain_text/test"]
    for file in (tmp_path / "fetched").rglob("*"):
        assert not file.is_symlink()
        assert not file.is_file() or b"any-word-that-is-found" not in file.read_bytes()
    (tmp_path / "fetched").rename(tmp_path / "carried")
    there = {**hub, **NOWHERE, "HF_HOME": str(tmp_path / "carried"), "LMTUNE_CACHE": str(tmp_path / "cache")}
    here, away = list_commands(tmp_path / "here"), list_commands(tmp_path / "away")
    for ours, theirs in zip(here, away, strict=True):
        assert read_numbers(lmtune(there, tmp_path, *theirs).stdout) == read_numbers(
            lmtune(hub, tmp_path, *ours).stdout
        )
    refused = lmtune(there, tmp_path, "train", "data=pt-wiki", "model=gpt2-small-pt", code=2)
    assert "lmtune fetch data.path=wikimedia/wikipedia" in refused.stderr


def test_what_was_damaged_is_fetched_again_and_the_rest_is_not(hub, tmp_path):
    online = {**hub, "HF_HOME": str(tmp_path / "home")}
    command = ("fetch", "data=wikitext", "model=gpt2", "format=json")
    first = json.loads(lmtune(online, tmp_path, *command).stdout)
    weights = next((tmp_path / "fetched").rglob("model.safetensors"))
    text = next((tmp_path / "fetched").rglob("*-train.arrow"))
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "fetched" / "hub").rglob("*.json")}
    weights.write_bytes(weights.read_bytes()[:-1])
    text.unlink()
    second = lmtune(online, tmp_path, *command)
    assert second.stderr.count("is not as it was fetched") == 2
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    named = ("repository", "commit", "bytes")
    assert [[each[name] for name in named] for each in json.loads(second.stdout)["fetched"]] == [
        [each[name] for name in named] for each in first["fetched"]
    ]


def test_an_adapter_is_fetched_with_its_base(hub, tmp_path):
    pytest.importorskip("peft")
    online = {**hub, "HF_TOKEN": "any-word"}
    lmtune(online, tmp_path, "train", "finetune=lora", "finetune.merge=false", "model=gpt2-small-pt", "name=carried",
           "training.max_steps=2", "training.push_to_hub=true", "card.license=mit", *SMALL)  # fmt: skip
    fetched = json.loads(lmtune(online, tmp_path, "fetch", "model.path=local-user/carried", "format=json").stdout)
    assert [each["repository"] for each in fetched["fetched"]] == [
        "local-user/carried", "pierreguillou/gpt2-small-portuguese",
    ]  # fmt: skip
    there = {**hub, **NOWHERE, "HF_HOME": str(tmp_path / "fetched")}
    command = ("generate", "ckpt=local-user/carried", "prompt=Era", "generation.max_new_tokens=3", "device=cpu")
    assert lmtune(there, tmp_path, *command).stdout == lmtune(hub, tmp_path, *command).stdout
