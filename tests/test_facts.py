"""Facts beside the keys: every key counts unless it says otherwise, and what says otherwise is listed here once more."""

import copy
import os
from datetime import datetime
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from lmtune.cli import composition, schemas
from lmtune.cli.commands import COMMANDS
from lmtune.cli.overrides import find_typed, prepare_overrides
from lmtune.config import DataConfig, DocumentRule, SplitRule, TrainConfig, UnicodeForm, render_plain
from lmtune.config.data import select_settings
from lmtune.config.keys import facts_of, walk
from lmtune.config.train import list_keys
from lmtune.config.training_arguments import HOMES, PHASED, WITHHELD
from lmtune.data.build import build_corpus
from lmtune.errors import ConfigError
from lmtune.runs import begin_below
from lmtune.runs.search import OUTPUTS
from lmtune.training.resume import find_changes, find_run, fingerprint_of, name_run
from lmtune.training.setup import render_settings

ANEW = {"resume", "resume_force", "format", "output", "objective", "groups", "job_folder", "card", "sweep"}
"""What a run that has completed may be asked about with other values, besides training.push_to_hub and its like."""
WITHOUT_WEIGHTS = ANEW | {
    *(
        "name",
        "stop_on_failed_save",
        "check_weights",
        "prompts",
        "tracker",
        "generation",
        "samples",
        "report",
        "private",
    ),
    *("data.prompts", "model.save_dtype", "training.logging_steps", "training.disable_tqdm", "training.fsdp"),
    *("training.save_total_limit", "training.dataloader_num_workers"),
    *("data.license", "data.homepage", "data.citation", "model.license", "model.citation"),
}
"""What leaves the weights as they are."""
NOT_OF_TEXT = {
    *("name", "language", "prompts", "epochs", "mix"),
    *("block_size", "packing", "stride", "isolate_documents", "shuffle_blocks", "lanes", "prepared"),
    *("license", "homepage", "citation"),
}
"""Of data=: what decides neither which text is read nor which of it is held out."""
LOCATED = {"path", "subset", "revision", "train_split", "files", "validation_files", "sources"}
LITERAL = {
    *("name", "output", "resume", "ckpt", "prompt", "prompts", "prompts_file", "model.path", "model.tokenizer"),
    *("data.path", "data.files", "data.validation_files", "data.text_column", "data.prompts", "suite.files"),
    *("serve.token_file", "run", "runs", "folder", "repo", "branch", "shard", "merge", "against"),
    *("data.license", "data.homepage", "data.citation"),
    *("model.license", "model.citation", "card.license", "card.license_name", "card.license_link", "card.summary"),
    *("card.authors", "card.contact", "card.intended_use", "card.out_of_scope", "card.limits", "card.personal_data"),
    *("card.ethics", "card.data", "card.data_license", "card.citation"),
}
SEVERAL = {
    "card.language",
    "ckpt",
    "against",
    "runs",
    "merge",
    "prompts",
    "eval_data",
    "data.prompts",
    "data.files",
    "data.validation_files",
    "data.text_column",
    "data.prepared",
}
OPEN = {"data.where", "data.mix", "model.config", "suite.files"}
OF_SOURCE = {
    *("subset", "revision", "train_split", "validation_split", "test_split"),
    *("text_column", "documents", "rows_per_document", "license", "homepage", "citation"),
}


def keys_of_data(holds):
    return {name for name, item in walk(DataConfig) if holds(facts_of(item))}


def keys_of_all(holds):
    return {name for name, item in schemas.all_keys().items() if holds(facts_of(item))}


def test_a_key_of_a_training_decides_the_weights_unless_it_is_listed_here():
    hub = {f"training.{name}" for name in WITHHELD}
    assert set(list_keys(lambda facts: not facts.weights)) == WITHOUT_WEIGHTS | hub
    assert set(list_keys(lambda facts: facts.anew)) == ANEW | hub


def test_a_key_of_data_decides_the_text_unless_it_is_listed_here():
    assert keys_of_data(lambda facts: not facts.identity) == NOT_OF_TEXT
    assert keys_of_data(lambda facts: facts.located) == LOCATED
    assert keys_of_data(lambda facts: facts.late) == {"streaming"}


def test_what_is_typed_is_read_by_the_facts_of_its_key():
    assert keys_of_all(lambda facts: facts.literal) == LITERAL
    assert keys_of_all(lambda facts: facts.several) == SEVERAL
    assert keys_of_all(lambda facts: facts.open) == OPEN
    assert keys_of_all(lambda facts: facts.chooses) == {"data.files", "data.sources", "data.path", "model.path"}
    assert keys_of_data(lambda facts: set(facts.yields_to) == {"files", "sources", "path"}) == OF_SOURCE


def test_training_arguments_have_one_home_and_one_master():
    assert HOMES == {
        "seed": "seed", "resume_from_checkpoint": "resume", "report_to": "tracker.name", "run_name": "name",
        "output_dir": "output", "project": "tracker.project",
    }  # fmt: skip
    assert set(HOMES.values()) <= schemas.known_keys("train")
    assert set(PHASED) == {
        "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps",
    }  # fmt: skip


OTHERS = {
    "text_column": "body", "documents": DocumentRule.line, "rows_per_document": 2, "deduplicate": True, "where": {"lang": "pt"},
    "unicode": UnicodeForm.nfc, "min_chars": 3, "max_documents": 40, "max_bytes": 10_000, "encoding": "cp1252",
    "validation_fraction": 0.2, "test_fraction": 0.1, "split_by": SplitRule.hash, "seed": 7, "streaming": True,
    "validation_split": "dev", "test_split": "dev",
}  # fmt: skip


def write_text(folder):
    file = folder / "a.txt"
    file.write_text("um dois\n\ntres\n", encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("name", sorted({name for name, _ in walk(DataConfig)} - LOCATED))
def test_prepared_text_is_that_of_its_settings(tmp_path, name):
    """A key that is new fails here until it is said which of the two it is."""
    assert (name in OTHERS) != (name in NOT_OF_TEXT)
    usual = DataConfig(files=write_text(tmp_path))
    if name in OTHERS:
        other = DataConfig(files=usual.files, **{name: OTHERS[name]})
        assert build_corpus(usual).key != build_corpus(other).key


def test_prepared_text_from_before_is_found_again(tmp_path):
    """Keys of prepared text, and the fingerprint of a run, as 0.1 wrote them first: a file of this content has this name."""
    file = write_text(tmp_path)
    settings = {"documents": DocumentRule.blank_line, "unicode": UnicodeForm.nfc, "seed": 7, "block_size": 64}
    assert build_corpus(DataConfig(files=file)).key == "d56f4182f9ca922e424b4f1422494657"
    assert build_corpus(DataConfig(files=file, **settings)).key == "cd18d53ef9a42c9c89af1dd947da02fb"


def test_where_text_is_found_counts_only_for_whom_its_content_does_not():
    one, other = DataConfig(path="me/set"), DataConfig(path="me/set", train_split="other")
    assert select_settings(one) == select_settings(other)
    assert select_settings(one, located=True) != select_settings(other, located=True)


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A function that composes a command's finished configuration."""
    monkeypatch.chdir(tmp_path)

    def call(command, *arguments):
        composition.register(command)
        with initialize_config_dir(str(schemas.find_conf()), version_base="1.3"):
            node = compose(command, overrides=prepare_overrides(list(arguments)), return_hydra_config=True)
            HydraConfig.instance().set_config(node)
            with open_dict(node):
                del node["hydra"]
            return composition.build_config(node, schemas.SCHEMAS[command], find_typed(list(arguments)))

    return call


NEEDED = {
    "compare": ("runs=[a,b]",),
    "generate": ("ckpt=x", "prompt=a"), "eval": ("ckpt=x",), "export": ("ckpt=x", "to=gguf"), "serve": ("ckpt=x",),
    "audit": ("ckpt=x",), "chat": ("ckpt=x",), "push": ("ckpt=x", "repo=me/x"), "report": ("run=x",),
    "fetch": ("data=bio",),
}  # fmt: skip
CONF = schemas.find_conf()
SHIPPED = [
    *((command, ()) for command in COMMANDS),
    *(
        ("train", (f"{file.parent.name}={file.stem}", *(("data.path=a",) if file.stem == "hub" else ())))
        for group in ("experiment", "data", "finetune", "tracker", "training", "generation")
        for file in sorted((CONF / group).glob("*.yaml"))
        if (group, file.stem) != ("data", "files")
    ),
    *(("train", (f"model={file.stem}",)) for file in sorted((CONF / "model").glob("*.yaml")) if file.stem != "hub"),
    *(("eval", (f"suite={file.stem}",)) for file in sorted((CONF / "suite").glob("*.yaml")) if file.stem != "lm_eval"),
    ("train", ("data=bio", "data.mix={bio:1,pt-wiki:1}", "eval_data=wikitext", "training.seed=3")),
    ("lr-find", ("data=bio", "data.streaming=true")),
]


@pytest.mark.parametrize(("command", "arguments"), SHIPPED, ids=lambda each: "+".join(each) if each else "plain")
def test_checking_changes_nothing_and_what_is_settled_stays_so(build, command, arguments):
    config = build(command, *NEEDED.get(command, ()), *arguments)
    before = copy.deepcopy(render_plain(config))
    for settle in (config.check_settings, config.check_settings, config.resolve, config.resolve, config.check_settings):
        settle()
        assert render_plain(config) == before


def test_a_configuration_is_finished_when_it_is_composed(build):
    config = build(
        "train", "data=bio", "data.mix={bio:1,pt-wiki:1}", "eval_data=wikitext", "data.seed=5", "training.seed=3"
    )
    assert (list(config.eval_sets), list(config.mixed_sets)) == (["wikitext"], ["pt-wiki"])
    assert config.eval_sets["wikitext"].seed == config.mixed_sets["pt-wiki"].seed == 5, (
        "one split for all sets of a run"
    )
    assert (config.groups["data"], config.data.name, config.seed) == ("bio", "bio", 3)
    assert not HOMES.keys() & config.training.keys()
    assert build("eval", "ckpt=x", "data=bio").data.name == "bio"
    gradual = build("train", "finetune=gradual", "model=gpt2")
    assert gradual.training["num_train_epochs"] == sum(phase.epochs for phase in gradual.finetune.phases)


def test_paths_are_settled_from_where_the_user_stands(build, tmp_path):
    Path("a.txt").write_text("a")
    assert build("train", "data.files=a.txt").data.files == os.path.join(tmp_path, "a.txt")  # noqa: PTH118


def test_two_names_of_one_setting_that_differ_are_refused(build):
    with pytest.raises(ConfigError, match=r"^seed=3 and training\.seed=4 differ; they mean the same\. Keep seed=\.$"):
        build("train", "seed=3", "training.seed=4")


def test_a_run_is_known_by_what_decides_its_weights(build):
    usual = fingerprint_of(render_plain(build("train")))
    assert fingerprint_of(render_plain(build("train", "name=other", "samples.show=3", "prompts=Era"))) == usual
    assert fingerprint_of(render_plain(build("train", "seed=3"))) != usual


def test_a_run_that_goes_on_with_the_weights_of_another_is_named_after_it(build):
    run = begin_below(OUTPUTS, "first", datetime.now())
    run.write_results({"name": "first"})
    for path in (run.folder, run.folder / "model", run.folder / "checkpoint-3"):
        path.mkdir(exist_ok=True)
        assert name_run(build("train", f"model.path={path}")) == "sample-first"
    assert name_run(build("train", "model.path=owner/name")) == "sample-name"


def test_a_run_of_a_version_that_knew_fewer_keys_is_found_by_its_settings(build):
    config = build("train", "resume=auto")
    plain = render_settings(config)
    run = begin_below(OUTPUTS, name_run(config), datetime.now())
    run.write_results({"fingerprint": "of fewer keys"})
    run.write_config({key: value for key, value in plain.items() if key != "audit"})
    assert find_run(config, plain).folder.resolve() == run.folder.resolve()
    assert find_run(config, render_settings(build("train", "resume=auto", "seed=3"))) is None
    run.write_config(plain | {"unknown_now": 1})
    assert find_run(config, plain) is None


def test_every_command_is_listed_once_and_its_configuration_can_be_checked_and_settled():
    for name, command in COMMANDS.items():
        schema = command.load_schema()
        assert (command.name, schema) == (name, schemas.SCHEMAS[name])
        assert callable(schema.check_settings)
        assert callable(schema.resolve)
    assert issubclass(schemas.SCHEMAS["lr-find"], TrainConfig)


def test_a_key_that_a_record_does_not_know_had_its_default():
    then = {"data": {"files": "a"}, "eval_sets": {"old": {"files": "b"}}}
    now = {
        "data": {"files": "a", "lanes": 1},
        "audit": {"canaries": None},
        "eval_sets": {"old": {"files": "b", "lanes": 1}},
    }
    assert find_changes(then, now, []) == {}
    now["data"]["lanes"] = 2
    assert list(find_changes(then, now, [])) == ["data.lanes"]
    assert list(find_changes(now, then, ["eval_sets"])) == ["data.lanes"]
