"""What is typed has an effect, or is refused; the tables are held against what the commands read."""

import re
import shlex
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from helpers import TINY_MODEL
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from lmtune import config
from lmtune.cli import composition, schemas
from lmtune.cli.effects import data_rules, rules
from lmtune.cli.effects.typed import check_sections
from lmtune.cli.effects.unread import UNREAD
from lmtune.cli.overrides import find_typed, prepare_overrides, spell_out
from lmtune.config import sharding
from lmtune.errors import ConfigError
from lmtune.versions import find_older

ROOT = schemas.find_conf().parent
LATER = {f"generation.{name}" for name in ("assistant_ensemble_weight", "max_cache_len", "speculation_type", "use_mtp")}
LATER -= set(schemas.known_keys("generate"))
"""Keys of the generation config that older versions of transformers do not have."""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A function that composes and checks a command's configuration, as the command line does, and runs nothing."""
    monkeypatch.chdir(tmp_path)

    def call(command, *given):
        composition.register(command)
        arguments = spell_out(list(given))
        typed = find_typed(arguments)
        check_sections(command, typed)
        with initialize_config_dir(str(schemas.find_conf()), version_base="1.3"):
            node = compose(command, overrides=prepare_overrides(arguments), return_hydra_config=True)
            HydraConfig.instance().set_config(node)
            with open_dict(node):
                del node["hydra"]
            return composition.build_config(node, schemas.SCHEMAS[command], typed)

    return call


def test_a_seed_that_draws_nothing_but_canaries_works(build):
    given = ("data.files=a.txt", "data.validation_files=b.txt", "data.seed=3")
    with pytest.raises(ConfigError, match=r"^data\.seed has no effect: no documents are drawn to be held out"):
        build("train", *given)
    assert build("train", *given, "audit.canaries=1").data.seed == 3


def test_what_was_typed_is_known_by_its_keys():
    typed = find_typed(
        ["-m", "data=bio", "training.optim=sgd,adamw_torch", "eval={context:64}", "data.where={lang:pt}", "+training.bf16=true",
         "training.eval_steps=null", "prompt=Em 2020, o", "model.path=choice(a,b)", "--cfg"]
    )  # fmt: skip
    assert typed.keys == {
        "data",
        "training.optim",
        "eval.context",
        "data.where",
        "training.bf16",
        "prompt",
        "model.path",
    }
    assert typed.swept == {"training.optim", "model.path"}
    assert typed.values["eval.context"] == 64
    assert typed.values["prompt"] == "Em 2020, o"


def test_what_jobs_vary_makes_no_other_key_idle(build):
    fixed = ("training.optim=sgd", "training.adam_beta1=0.8")
    with pytest.raises(ConfigError, match=r"training\.adam_beta1 has no effect"):
        build("train", *fixed)
    typed = find_typed(["-m", "training.optim=sgd,adamw_torch", "training.adam_beta1=0.8"])
    with initialize_config_dir(str(schemas.find_conf()), version_base="1.3"):
        node = compose("train", overrides=list(fixed), return_hydra_config=True)
        HydraConfig.instance().set_config(node)
        with open_dict(node):
            del node["hydra"]
        composition.build_config(node, config.TrainConfig, typed)


def test_what_stands_in_a_file_may_be_idle(build, tmp_path):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nfinetune:\n  rank: 4\ntraining:\n  optim: sgd\n  adam_beta1: 0.8\neval:\n  split: test\n"
    )
    assert build("train", "experiment=mine").training["adam_beta1"] == 0.8
    with pytest.raises(ConfigError, match=r"training\.adam_beta1 has no effect: training\.optim=sgd"):
        build("train", "experiment=mine", "training.adam_beta1=0.8")


@pytest.mark.parametrize(
    "arguments",
    [
        ("training.load_best_model_at_end=false", "training.eval_strategy=no", "training.metric_for_best_model=null"),
        ("samples.enabled=false", "samples.show=0"),
        ("data.files=x.jsonl", "data.text_column=body", "data.where={lang:pt}"),
        ("data.files=texts", "data.encoding=latin-1"),
        ("data=wikitext", "data.validation_split=null", "data.validation_fraction=0.1"),
        ("data.path=me/data", "data.subset=pt", "data.revision=main", "data.validation_split=dev"),
        ("data.files=x.txt", "data.name=mine"),
        ("model.path=gpt2", "model.revision=main", "model.name=mine"),
        ("finetune=gradual", "training.adam_beta2=0.9", "finetune.momentum=[0.9,0.8]"),
        ("finetune=lora", "finetune.rank=4", "finetune.merge=false", "model.path=gpt2"),
        ("seed=3", "training.seed=3", "tracker=none", "training.report_to=[none]"),
        ("generation.num_beams=4", "generation.length_penalty=2", "generation.max_length=20"),
        ("experiment=wikitext2-tutorial", "training.max_steps=5", "generation.max_new_tokens=5"),
        ("data.epochs=2", "model.learning_rate=1e-4"),
        ("resume=auto", "resume_force=true"),
    ],
)
def test_what_works_together_passes(build, arguments):
    build("train", *arguments)


def test_the_length_that_was_typed_takes_the_place_of_our_own(build):
    assert "max_new_tokens" not in build("generate", "ckpt=x", "prompt=a", "generation.max_length=8").generation
    assert build("generate", "ckpt=x", "prompt=a").generation["max_new_tokens"] == 60


def list_examples():
    """Command lines of README, docs and the helps of the commands, without their explanations."""
    files = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "conf").rglob("*.yaml"))]
    pattern = re.compile(rf"(torchrun [^`\n]*)?lmtune ({'|'.join(schemas.SCHEMAS)}) ([^`\n#]*)")
    for file in files:
        for launcher, command, rest in pattern.findall(file.read_text(encoding="utf-8")):
            line = re.split(r" {2,}|\s+\|", rest)[0].rstrip(" :;,.)")
            if "=" in line and not re.search(r"-m\b|[\[<]key|=choice|\.\.\.$|^--|=[,`]|=$|=NAME|^format=", line):
                yield f"{'torchrun ' if launcher else ''}{command} {line}"


@pytest.mark.parametrize("line", sorted(set(list_examples())))
def test_our_own_examples_pass(build, line, monkeypatch):
    try:
        words = shlex.split(line)
    except ValueError:
        pytest.skip("prose, not a command line")
    if words[0] == "torchrun":
        monkeypatch.setenv("WORLD_SIZE", "2")
        words = words[1:]
    if "training.fsdp=true" in words and find_older("transformers", sharding.TRANSFORMERS):
        pytest.skip("refused with this transformers")
    command, *arguments = [word for word in words if word != "..."]
    if all("=" in argument for argument in arguments):
        build(command, *arguments)


def test_each_system_has_commands_among_them():
    for page in (ROOT / "docs" / "systems").glob("*.md"):
        typed = re.findall(r"^    (?:[A-Z_]+=\S+ )?lmtune (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(typed) <= set(list_examples()), page.name
        assert typed, page.name


SECTIONS = {
    "data": config.DataConfig, "model": config.ModelConfig, "finetune": config.FinetuneConfig, "tracker": config.TrackerConfig,
    "batch": config.BatchConfig, "early_stopping": config.EarlyStoppingConfig, "samples": config.SamplesConfig,
    "average": config.AverageConfig,
    "eval": config.EvalConfig, "grid": config.GridConfig, "range": config.RangeConfig, "tokenizer": config.TokenizerConfig,
}  # fmt: skip
BESIDES = ("/lmtune/config/", "/dataclasses.py", "/omegaconf/", "/hydra/", "/lmtune/training/resume.py")
"""Where reading a key says nothing about its effect: checks, and the record of the run."""


@pytest.fixture
def reads(monkeypatch):
    """The keys that commands read while this fixture is there."""
    found = set()

    def watch(section, kind):
        names, get = {item.name for item in fields(kind)}, kind.__getattribute__

        def spy(self, name):
            if name in names:
                frame = sys._getframe(1)
                while frame.f_code.co_name in ("holds_out", "evaluates", "settings"):
                    frame = frame.f_back
                if not any(place in frame.f_code.co_filename for place in BESIDES):
                    found.add(f"{section}.{name}")
            return get(self, name)

        monkeypatch.setattr(kind, "__getattribute__", spy, raising=False)

    for section, kind in SECTIONS.items():
        watch(section, kind)
    return found


TINY = (*TINY_MODEL, "training.use_cpu=true")
RUNS = {
    "train": [("train", *TINY, "training.max_steps=2", "output=run")],
    "lr-find": [("lr-find", *TINY, "range.steps=10", "output=found")],
    "eval": [
        ("eval", "ckpt=run"),
        ("eval", "ckpt=run", "data.files=t.txt", "data.documents=line", "eval.per_document=true"),
    ],
    "data": [("data",), ("data", "cache=list")],
    "tokenizer": [
        ("tokenizer", "tokenizer.vocab_size=300", "data.files=t.txt", "model.path=run/model", "output=words")
    ],
    "generate": [("generate", "ckpt=run", "prompt=a", "grid.top_k=[1,2]")],
}
RECORDED = {
    *("data.language", "data.license", "data.homepage", "data.citation", "model.name", "tracker.name"),
}
"""Read from config.yaml, by the model card and the names of folders."""


def test_what_no_command_reads_is_in_the_tables(lmtune, tmp_path, reads, monkeypatch):
    """Every key of a section is read, or refused as never read, or has a rule that says beside what it works."""
    (tmp_path / "t.txt").write_text(
        "".join(f"O paciente {number} voltou para casa às {number % 12} horas.\n" for number in range(60))
    )
    for command, lines in RUNS.items():
        reads.clear()
        monkeypatch.setenv(
            "LMTUNE_CACHE", str(tmp_path / f"cache of {command}")
        )  # or what was prepared would not be read
        for line in lines:
            answer = lmtune(*line)
            assert answer.code == 0, answer.err
        known = {
            key for key in schemas.known_keys(command) if key.partition(".")[0] in SECTIONS and key.count(".") == 1
        }
        explained = {*UNREAD[command], *rules.RULES[command], *data_rules.DATA_RULES, *RECORDED}
        sections = {key for key in UNREAD[command] if "." not in key}
        idle = {key for key in known - reads - explained if key.partition(".")[0] not in sections}
        assert idle == set(), command
        assert {key for key in UNREAD[command] if key in reads} <= READ_WITHOUT_EFFECT.get(command, set()), command


READ_WITHOUT_EFFECT = {
    "eval": {"data.name"},
    "tokenizer": {"data.name"},
    "data": {"data.isolate_documents", "data.streaming", "data.name"},
    "lr-find": {"model.legacy_ids"},
}
"""Looked at on the way, and seen in no result."""


def test_every_table_names_keys_that_are_there():
    for command, table in UNREAD.items():
        for key in {*table, *rules.RULES[command]} - LATER:
            assert key in schemas.known_keys(command), key


def test_a_folder_of_plain_text_has_no_columns(build, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    with pytest.raises(ConfigError, match=r"data\.text_column has no effect: the files are plain text"):
        build("data", "data.files=texts", "data.text_column=body")
    Path("texts/b.jsonl").touch()
    build("data", "data.files=texts", "data.text_column=body")


def test_what_follows_from_the_metric_is_recorded(build):
    assert build("train").training["greater_is_better"] is False
    assert build("train", "training.metric_for_best_model=accuracy").training["greater_is_better"] is True
    assert build("train", "training.adam_beta1=0").training["adam_beta1"] == 0.0
