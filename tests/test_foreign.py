"""Nothing that comes with a model, a tokenizer, an adapter, a data set or a task file runs, and nobody is asked whether it may."""

import ast
import importlib.util
import json
import os
import pickle
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch

import lmtune
from lmtune import foreign
from lmtune.config import DataConfig, ModelConfig, ModelInit
from lmtune.data.sources import HubSource
from lmtune.errors import ConfigError, DataError, LmtuneError
from lmtune.modeling import checkpoint, generation, loading, model_config, positions
from lmtune.modeling.source import check_model_source
from lmtune.modeling.tokenizer import load_tokenizer

ROOT = Path(lmtune.__file__).parent
CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import GPT2LMHeadModel, PretrainedConfig, PreTrainedTokenizerFast
class Config(PretrainedConfig):
    model_type = "strange"
class Model(GPT2LMHeadModel): pass
class Tokenizer(PreTrainedTokenizerFast): pass
def generate(*arguments, **settings): pass
"""
AUTO_MAP = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}


pytestmark = pytest.mark.usefixtures("unasked")


@pytest.fixture
def mark(tmp_path):
    """Made by any code of the strangers that runs."""
    return tmp_path / "it-ran"


@pytest.fixture
def save(build_tiny, tokenizer, tmp_path, mark):
    """A function that saves a tiny GPT-2 whose settings are changed, with code beside it; returns its folder."""

    def write(name="model", config=None, vocabulary=None, drop=(), kind="gpt2"):
        folder = tmp_path / name
        model = build_tiny(kind)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for file, changes in (("config.json", config), ("tokenizer_config.json", vocabulary)):
            if changes is not None:
                settings = json.loads((folder / file).read_text())
                (folder / file).write_text(json.dumps({**settings, **changes}))
        for file in ("code.py", "custom_generate/generate.py"):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(CODE.format(mark=str(mark)))
        for file in drop:
            (folder / file).unlink()
        return folder

    return write


def attempt(call):
    """What a loader gives, or the one line in which it refuses."""
    try:
        return call()
    except LmtuneError as refused:
        text = str(refused)
        assert "\n" not in text
        return text


LOADERS = {
    "find_checkpoint": lambda folder: checkpoint.resolve_checkpoint(str(folder)),
    "load_tokenizer": lambda folder: load_tokenizer(str(folder)),
    "load_model": lambda folder: loading.load_model(str(folder)),
    "load_config": lambda folder: model_config.load_config(foreign.Source("model.path", str(folder))),
    "model.tokenizer": lambda folder: load_tokenizer(str(folder), key="model.tokenizer"),
    "check_model_source": lambda folder: check_model_source(ModelConfig(path=str(folder))),
    "find_context": lambda folder: positions.resolve_context(ModelConfig(path=str(folder))),
    "from scratch": lambda folder: loading.build_model(
        ModelConfig(path=str(folder), init=ModelInit.scratch), load_tokenizer(str(folder), key="model.tokenizer")
    ),
}
NEEDS_CODE = "needs code of its own (code.py), which lmtune never runs"
STRANGE = {"model_type": "strange", "auto_map": AUTO_MAP}
MODELS = {
    "an architecture of its own": ({"config": STRANGE}, "load_model", NEEDS_CODE),
    "with a word of trust": ({"config": {**STRANGE, "trust_remote_code": True}}, "load_model", NEEDS_CODE),
    "code in another repository": (
        {"config": {"model_type": "strange", "auto_map": {"AutoConfig": "owner/name--code.Config"}}},
        "find_checkpoint",
        "needs code of its own (code.py of owner/name)",
    ),
    "a head of its own": ({"config": {"model_type": "vit", "auto_map": AUTO_MAP}}, "load_model", NEEDS_CODE),
    "a list for a map": ({"config": {"model_type": "strange", "auto_map": ["code.Config"]}}, "load_model", "strange"),
    "a kernel": ({"config": {"_attn_implementation": "owner/kernel"}}, "load_model", "the kernel owner/kernel, compiled code"),
    "a kernel for a part": (
        {"config": {"attn_implementation": {"": "eager", "text_config": "owner/kernel@main:attend"}}},
        "load_config",
        "the kernel owner/kernel@main:attend",
    ),
    "a kernel for experts": ({"config": {"experts_implementation": "a|owner/kernel"}}, "find_context", "the kernel a|owner/kernel"),
    "a packing of its own": (
        {"config": {"quantization_config": {"quant_method": "strange"}}},
        "load_model",
        "its weights are packed by strange, expected a way of packing that transformers knows",
    ),
    "a tokenizer that is a model": (
        {"config": {"model_type": "clap", "auto_map": {"AutoModel": "code.Model"}}, "vocabulary": {"tokenizer_class": "AutoModel"}},
        "model.tokenizer",
        "has the tokenizer_class AutoModel, expected a tokenizer",
    ),
    "a tokenizer that is a function": ({"vocabulary": {"tokenizer_class": "pipeline"}}, "load_tokenizer", "tokenizer_class pipeline"),
    "a tokenizer that unpickles": (
        {"config": {"tokenizer_class": "RagRetriever"}},
        "load_tokenizer",
        "its config.json has the tokenizer_class RagRetriever",
    ),
    "a tokenizer of its own": (
        {
            "config": {"model_type": "mpt"},
            "vocabulary": {"tokenizer_class": "Strange", "auto_map": {"AutoTokenizer": [None, "code.Tokenizer"]}},
            "kind": "gpt_neox",
        },
        None,
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_no_loader_runs_what_comes_with_a_model(save, mark, name):
    changes, refuses, expected = MODELS[name]
    folder = save(**changes)
    answers = {loader: attempt(lambda call=call: call(folder)) for loader, call in LOADERS.items()}
    assert not mark.exists()
    assert not any(word in str(answer) for answer in answers.values() for word in ("y/N", "trust_remote_code"))
    if refuses:
        key = {"load_config": "model.path", "find_context": "model.path"}.get(
            refuses, refuses if "." in refuses else "ckpt"
        )
        assert answers[refuses].startswith(f"{key}={folder}")
        assert expected in answers[refuses]


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"auto_map": AUTO_MAP}},
        {"config": {"auto_map": {name: f"owner/name--{target}" for name, target in AUTO_MAP.items()}}},
        {"vocabulary": {"auto_map": {"AutoTokenizer": ["code.Tokenizer", "code.Tokenizer"]}}},
    ],
)
def test_what_transformers_knows_itself_loads_without_the_code_beside_it(save, build_tiny, mark, changes):
    folder = save(**changes)
    ids = torch.arange(8)[None]
    model = loading.load_model(str(folder))
    assert torch.equal(model(input_ids=ids).logits, build_tiny()(input_ids=ids).logits)
    assert type(model).__module__.startswith("transformers.")
    assert type(load_tokenizer(str(folder))).__module__.startswith("transformers.")
    texts = generation.generate(
        model, load_tokenizer(str(folder)), "O", generation.build_generation_config(model, {"max_new_tokens": 2}), 0
    )
    assert len(texts) == 1
    assert not mark.exists()


def test_the_vocabulary_of_a_strange_model_can_be_had_without_its_code(save, tokenizer, mark):
    folder = save(config=STRANGE)
    assert load_tokenizer(str(folder), key="model.tokenizer").get_vocab() == tokenizer.get_vocab()
    assert not mark.exists()


class Trap:
    def __reduce__(self):
        return os.mkdir, ("it-ran",)


def save_trap(folder):
    torch.save({"transformer.wte.weight": Trap()}, folder / "pytorch_model.bin")


def save_raw_trap(folder):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))


@pytest.mark.parametrize("trap", [save_trap, save_raw_trap])
def test_weights_that_are_a_pickle_with_something_in_it_are_refused(save, tmp_path, monkeypatch, trap):
    monkeypatch.chdir(tmp_path)
    folder = save(drop=["model.safetensors"])
    trap(folder)
    message = attempt(lambda: loading.load_model(str(folder)))
    assert message.startswith(
        f"ckpt={folder}: its weights are a pickle that holds more than tensors, which lmtune never runs"
    )
    assert not Path("it-ran").exists()


def test_weights_that_are_a_pickle_of_tensors_load(save, build_tiny):
    folder = save(drop=["model.safetensors"])
    torch.save(build_tiny().state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(loading.load_model(str(folder)).lm_head.weight, build_tiny().lm_head.weight)


def test_sealed_shuts_what_transformers_would_ask_or_allow_by_itself(save, mark):
    from transformers import AutoConfig, dynamic_module_utils
    from transformers.integrations import hub_kernels

    before = (
        dynamic_module_utils.TIME_OUT_REMOTE_CODE,
        dynamic_module_utils.get_cached_module_file,
        hub_kernels.get_kernel,
    )
    folder = save(config=STRANGE)
    with foreign.sealed():
        with pytest.raises(ValueError, match="trust_remote_code"):
            AutoConfig.from_pretrained(folder)
        with pytest.raises(ValueError, match="trust_remote_code"):
            AutoConfig.from_pretrained(folder, trust_remote_code=True)
        with pytest.raises(ValueError, match="trust_remote_code"):
            hub_kernels.get_kernel("owner/kernel", version=1)
    assert not mark.exists()
    after = (
        dynamic_module_utils.TIME_OUT_REMOTE_CODE,
        dynamic_module_utils.get_cached_module_file,
        hub_kernels.get_kernel,
    )
    assert after == before


# Adapters


@pytest.fixture
def save_adapter(save, tmp_path):
    """A function that saves a LoRA adapter on a base, its settings changed; returns its folder."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = save("base")

    def write(name="adapter", **changes):
        torch.manual_seed(0)
        settings = peft.LoraConfig(
            r=2, target_modules=["c_attn"], init_lora_weights=False, task_type="CAUSAL_LM", fan_in_fan_out=True
        )
        peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / name)
        file = tmp_path / name / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
        return tmp_path / name

    return write


ADAPTERS = {
    "its base needs code": ({"base_model_name_or_path": "strange"}, "an adapter on strange needs code of its own (code.py)"),
    "its base is gone": ({"base_model_name_or_path": "./gone"}, "an adapter on ./gone: expected a folder with that model, found nothing"),
    "its base is on the Hub": ({"base_model_name_or_path": "owner/name"}, "an adapter on owner/name: owner/name is not in the Hugging"),
    "its base is an adapter": ({"base_model_name_or_path": "other"}, "an adapter on other, which is an adapter itself"),
    "it names no base": ({"base_model_name_or_path": None}, "base_model_name_or_path in its adapter_config.json, found none"),
    "it names further adapters": ({"peft_type": "XLORA", "adapters": {"a": "strange"}}, "is an adapter of the kind XLORA; expected one"),
    "it names a further model": ({"peft_type": "SHADOW", "shadow_model": "strange"}, "is an adapter of the kind SHADOW; expected one"),
    "it is a prompt": ({"peft_type": "PROMPT_TUNING"}, "is an adapter of the kind PROMPT_TUNING; expected one"),
    "its kind is unknown": ({"peft_type": "EVIL"}, "is an adapter of the kind EVIL; expected one"),
    "its kind is not said": ({"peft_type": None}, "is an adapter of the kind None; expected one"),
}  # fmt: skip


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_that_cannot_be_used_says_why(save, save_adapter, tmp_path, monkeypatch, mark, name):
    monkeypatch.chdir(tmp_path)
    save("strange", config=STRANGE)
    save_adapter("other")
    changes, expected = ADAPTERS[name]
    folder = save_adapter(**changes)
    for call in (checkpoint.resolve_checkpoint, lambda path: check_model_source(ModelConfig(path=path))):
        assert expected in attempt(lambda call=call: call(str(folder)))
    attempt(lambda: load_tokenizer(str(folder)))
    attempt(lambda: loading.load_model(str(folder)))
    assert not mark.exists()


def test_an_adapter_imports_no_module_that_its_settings_name(save_adapter, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("strangers.py").write_text("from pathlib import Path\nPath('it-ran').touch()\nclass Model: pass\n")
    mapping = {"base_model_class": "Model", "parent_library": "strangers"}
    folder = save_adapter(auto_mapping=mapping, task_type=None)
    assert type(loading.load_model(str(folder))).__name__ == "GPT2LMHeadModel"
    folder = save_adapter("other", megatron_config={"a": 1}, megatron_core="strangers")
    assert "does not load" in attempt(lambda: loading.load_model(str(folder)))
    assert not Path("it-ran").exists()
    assert "strangers" not in sys.modules


def test_an_adapter_has_the_vocabulary_of_its_base_and_is_trained_on_as_one_model(save_adapter, tokenizer):
    folder = save_adapter()
    assert load_tokenizer(str(folder)).get_vocab() == tokenizer.get_vocab()
    assert positions.resolve_context(ModelConfig(path=str(folder))) == 64
    ids = torch.arange(8)[None]
    apart = loading.load_model(str(folder))
    merged, remarks = loading.build_model(ModelConfig(path=str(folder)), tokenizer)
    torch.testing.assert_close(merged(input_ids=ids).logits, apart(input_ids=ids).logits)
    assert all(parameter.requires_grad for parameter in merged.parameters())
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert remarks[0].startswith(f"the adapter {folder} is added into the weights that it lies on")


def test_an_old_adapter_loads_from_a_pickle_of_tensors_and_from_no_other(save_adapter, tmp_path, monkeypatch):
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    new, old = save_adapter("new"), save_adapter("old")
    torch.save(load_file(old / "adapter_model.safetensors"), old / "adapter_model.bin")
    (old / "adapter_model.safetensors").unlink()
    ids = torch.arange(8)[None]
    logits = [loading.load_model(str(folder))(input_ids=ids).logits for folder in (new, old)]
    torch.testing.assert_close(*logits)
    torch.save({"a": Trap()}, old / "adapter_model.bin")
    assert "its weights are a pickle that holds more than tensors" in attempt(lambda: loading.load_model(str(old)))
    assert not Path("it-ran").exists()
    (old / "adapter_model.bin").unlink()
    assert "is an adapter without its weights" in attempt(lambda: checkpoint.resolve_checkpoint(str(old)))


def test_an_adapter_without_peft_says_what_reads_it(save_adapter, monkeypatch):
    folder = save_adapter()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    assert "is an adapter, which the package peft reads, and that is not installed" in attempt(
        lambda: load_tokenizer(str(folder))
    )


def test_an_adapter_beside_a_whole_model_is_not_trained_on(save, save_adapter, tokenizer):
    folder = save("both")
    shutil.copytree(save_adapter(), folder, dirs_exist_ok=True)
    message = attempt(lambda: loading.build_model(ModelConfig(path=str(folder)), tokenizer))
    assert message.startswith(f"model.path={folder} holds an adapter beside a whole model, expected one of the two.")


# Words


@pytest.mark.parametrize("content", ["model: gpt2\n", "- a\n", "a: [\n", "\udcff"])
def test_a_config_yaml_of_another_program_makes_no_run(save, tmp_path, content):
    folder = save()
    for place in (tmp_path, folder):
        (place / "config.yaml").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert checkpoint.resolve_checkpoint(str(folder)) == checkpoint.Checkpoint(str(folder), None)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ['{"model_type": ', "[]", "[" * 100_000, "\udcff"])
def test_broken_settings_are_called_what_they_are(save, name, content):
    folder = save()
    (folder / name).write_bytes(content.encode("utf-8", "surrogateescape"))
    for loader in ("find_checkpoint", "load_tokenizer", "load_model", "model.tokenizer", "check_model_source"):
        message = attempt(lambda loader=loader: LOADERS[loader](folder))
        assert f"={folder}: its {name} " in message
        assert len(message) < 400


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("ckpt", "Put the files of its tokenizer beside the model"),
        ("model.path", "Name another with model.tokenizer=."),
        ("model.tokenizer", "Name another folder or Hub id."),
    ],
)
def test_what_is_wrong_with_a_tokenizer_is_said_with_the_key_that_asked(save, tmp_path, key, remedy):
    folder = save(drop=["tokenizer.json", "tokenizer_config.json"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / "bare" / name).write_text("{}")
    (folder / "tokenizer.json").write_text("{")
    for where, expected in (
        (folder, "does not load as a tokenizer"),
        (
            tmp_path / "empty",
            "expected a tokenizer (tokenizer.json, or vocabulary files with a tokenizer_config.json), found an empty",
        ),
    ):
        message = attempt(lambda where=where: load_tokenizer(str(where), key=key))
        assert message.startswith(f"{key}={where}")
        assert expected in message
        assert message.endswith(remedy) or remedy in message
        assert ("model.tokenizer=" in message) == (key != "ckpt")
    message = attempt(lambda: load_tokenizer(str(tmp_path / "bare"), key=key))
    assert (
        "expected a tokenizer_config.json that says what kind of vocabulary vocab.json and merges.txt hold" in message
    )


def test_a_vocabulary_without_an_end_is_refused_with_the_key_that_asked(tokenizer, tmp_path):
    import copy

    plain = copy.deepcopy(tokenizer)
    plain.eos_token = None
    plain.save_pretrained(tmp_path / "plain")
    message = attempt(lambda: load_tokenizer(str(tmp_path / "plain"), key="model.tokenizer"))
    assert message.startswith(f"model.tokenizer={tmp_path / 'plain'}: its tokenizer has no end-of-text token")
    assert load_tokenizer(str(tmp_path / "plain"), separates=False).eos_token is None


def test_weights_that_are_not_there_or_do_not_fit_are_said_with_the_key(save):
    folder = save(config={"n_embd": 64})
    assert attempt(lambda: loading.load_model(str(folder), key="model.path")).startswith(
        f"model.path={folder} does not load as a causal"
    )
    (folder / "model.safetensors").unlink()
    assert "no file named model.safetensors" in attempt(lambda: loading.load_model(str(folder)))


def test_a_python_without_docstrings_is_blamed_and_not_the_model(save, monkeypatch):
    folder = save()
    monkeypatch.setattr(sys, "flags", types.SimpleNamespace(optimize=2))
    for call in LOADERS.values():
        with pytest.raises(ConfigError, match="PYTHONOPTIMIZE=2 or -OO"):
            call(folder)


# Data sets


def test_a_data_set_with_a_script_is_refused(tmp_path, mark):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "corpus.py").write_text(CODE.format(mark=str(mark)))
    source = HubSource(DataConfig(path=str(tmp_path / "corpus")))
    with pytest.raises(DataError, match=r"needs code of its own \(corpus\.py\), which lmtune never runs"):
        source.fingerprint()
    assert not mark.exists()


# The source itself

LOADERS_OF_LIBRARIES = {
    "from_pretrained", "from_config", "load_dataset", "load_dataset_builder", "load_from_disk", "from_file", "read_pickle", "import_module", "spec_from_file_location",
    "TaskManager", "HFLM", "simple_evaluate",
}  # fmt: skip
BUILTINS = {"eval", "exec", "compile", "__import__", "input"}
MODULES = {"torch", "np", "numpy", "pickle", "joblib", "yaml", "dill", "marshal", "shelve", "evaluate", "cloudpickle"}
"""Whose load and loads are looked at; json.loads makes plain values."""
SAFE = {"trust_remote_code": False, "weights_only": True, "allow_pickle": False}
"""What says at a call that nothing runs."""
REASONS = {
    ("cli/commands.py", "import_module"): "of this package's own configuration classes",
    ("cli/dispatch.py", "import_module"): "of this package's own table of commands",
    ("cli/main.py", "import_module"): "of a command about the command line, from a fixed list",
    ("cli/reference_pages.py", "import_module"): "of the same list, for the page that make docs writes",
    ("exporting/client.py", "import_module"): "of what huggingface_hub speaks HTTP with, one of two",
    ("cli/job.py", "loads"): "of what the process of the sweep has pickled, which has started this one",
    ("training/distributed.py", "loads"): "of what this process has pickled itself",
    ("runs/entry.py", "load"): "yaml with its safe loader",
    ("chat/screen.py", "input"): "Python 3's, which evaluates nothing",
    ("modeling/adapters.py", "from_pretrained"): "peft takes no such argument: open_source refuses kinds that name further models, and "
    "peft reads pickles with weights_only=True",
    ("data/hub_source.py", "load_dataset"): "datasets 5 refuses scripts and has no way to allow them",
    ("data/hub_source.py", "load_dataset_builder"): "datasets 5 refuses scripts and has no way to allow them",
    ("data/fetching.py", "load_dataset_builder"): "datasets 5 refuses scripts and has no way to allow them",
    ("evaluation/suites/sources.py", "load_dataset"): "datasets 5 refuses scripts and has no way to allow them",
    ("data/tables.py", "load_from_disk"): "Arrow files and JSON",
    ("data/blocks.py", "from_file"): "an Arrow file that lmtune has written",
    ("training/sharding.py", "loads"): "what rank 0 of the same run has built, from the processes' own group",
    ("training/vocabulary.py", "from_file"): "a vocabulary in JSON that lmtune has written, with its checksum",
    ("evaluation/suites/harness.py", "load"): "yaml with a SafeLoader that refuses the harness's !function",
    ("evaluation/suites/harness.py", "TaskManager"): "resolve_task_folder has read the files before",
    ("evaluation/suites/harness.py", "simple_evaluate"): "confirm_run_unsafe_code=False, inside sealed() and a sandbox for templates",
}  # fmt: skip


def is_watched(function):
    if isinstance(function, ast.Name):
        return function.id in LOADERS_OF_LIBRARIES | BUILTINS
    if not isinstance(function, ast.Attribute):
        return False
    owner = getattr(function.value, "id", None)
    return function.attr in LOADERS_OF_LIBRARIES or (
        "load" in function.attr and owner in MODULES and function.attr != "safe_load"
    )


def watched_calls():
    """(file, name, safe) of each call that could load more than plain values."""
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and is_watched(node.func):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                safe = any(SAFE.get(word.arg, word) is getattr(word.value, "value", None) for word in node.keywords)
                yield file.relative_to(ROOT).as_posix(), name, safe


def test_each_call_that_could_run_something_says_why_it_does_not():
    assert {(file, name) for file, name, safe in watched_calls() if not safe} == set(REASONS)


def test_the_calls_that_load_models_say_that_they_trust_none():
    found = [(file, name) for file, name, safe in watched_calls() if safe]
    assert [found.count((f"modeling/{file}.py", "from_pretrained")) for file in ("loading", "model_config")] == [1, 1]
    assert {("modeling/loading.py", "from_config"), ("modeling/tokenizer.py", "from_pretrained")} <= set(found)
