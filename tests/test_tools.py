"""Commands about the command line: what a key means, whose value is in force, others' command lines, completion."""

import json
import os
import shutil
import subprocess

import pytest

from lmtune.cli.describe import describe_key, list_below
from lmtune.cli.schemas import GROUPS, SCHEMAS, known_keys
from lmtune.cli.tools import TOOLS
from lmtune.cli.tools.completion import render_script
from lmtune.familiar.run_clm import find_launcher, move_flags, read_flags, read_json, render_command

ORIGINS = [
    ("training.learning_rate", (), 0.001, ["lmtune's conf/training/default.yaml, line 4"]),
    ("training.learning_rate", ("training.learning_rate=1e-4",), 1e-4, ["lmtune's conf/training/default.yaml, line 4", "the command line"]),
    ("data.path", ("data=bio",), "community-datasets/scielo", ["lmtune's conf/data/bio.yaml, line 10"]),
    ("data.path", ("data=bio", "data.files=x"), None, ["lmtune's conf/data/bio.yaml, line 10", "follows from the command line"]),
    ("eval.context", ("eval={context:64}",), 64, ["the command line"]),
    ("finetune.method", ("finetune=gradual",), "gradual", ["lmtune's conf/finetune/gradual.yaml, line 5"]),
    ("data.min_chars", (), 0, ["the default of lmtune"]),
    ("training.adam_beta1", (), "0.9", ["the default of transformers"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "typed", "value", "places"), ORIGINS)
def test_a_value_is_told_with_every_place_that_gives_one(lmtune, key, typed, value, places):
    answer = lmtune("explain", key, *typed, "format=json")
    assert answer.code == 0, answer.err
    assert answer.json["value"] == value
    assert [origin["place"] for origin in answer.json["origins"]] == places


def test_a_file_of_the_users_is_named_with_its_line(lmtune, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("files: notes.txt\n# shorter\nmin_chars: 5\n")
    answer = lmtune("explain", "data.min_chars", "data=mine")
    assert answer.code == 0, answer.err
    assert "data.min_chars = 5\n" in answer.out
    assert "conf/data/mine.yaml, line 3" in answer.out


def test_a_key_is_told_with_type_range_default_and_what_others_call_it(lmtune):
    answer = lmtune("explain", "data.block_size")
    lines = dict(line.split(maxsplit=1) for line in answer.out.splitlines() if line and line[0] in "tvdc")
    assert lines["type"] == "whole number or null"
    assert lines["values"] == "2 or more tokens"
    assert lines["commands"].startswith("train, check, eval, data")
    assert "--max_seq_length" in answer.out
    assert "Refused: " in lmtune("explain", "training.ignore_data_skip").out


def test_a_section_lists_its_keys(lmtune):
    answer = lmtune("explain", "eval", "format=json")
    assert {row["key"] for row in answer.json} == set(list_below("train", "eval"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explain",), "expected a key, found none"),
        (("explain", "=1"), "expected a key, found none"),
        (("explain", "seed=x"), "seed=x: expected a whole number. Give another value."),
        (
            ("explain", "training.lr_scheduler_kwargs.num_cycles=2"),
            "expected all of training.lr_scheduler_kwargs at once, found one name of it. Write "
            "training.lr_scheduler_kwargs={num_cycles:...}.",
        ),
        (("explain", "zzz"), "zzz is not a key of lmtune train."),
        (("explain", "seed", "now"), "expected a command or key=value"),
        (("explain", "data.path", "data=boi"), "data=boi: expected one of"),
        (("explain", "seed", "seed=1,2"), "several values"),
        (("explain", ""), "expected a key, found none"),
        (("explain", "seed", "+foo=1"), "foo is not a key of lmtune train"),
        (("explain", "hydra.run.dir"), "a key of Hydra's own"),
        (("config", "copy", "data/bio", "elsewhere/data/mine.yaml"), "expected conf/data/NAME.yaml"),
        (("from-run-clm", "--config_overrides", "n_layer"), "expected name=value,name=value, found 'n_layer'"),
        (("config",), "expected list, show or copy, found nothing"),
        (("config", "list", "dat"), "Did you mean data?"),
        (("config", "show", "data/bia"), "Did you mean data/bio?"),
        (("config", "copy", "data/bio", "mine.yaml"), "expected conf/data/NAME.yaml"),
        (("config", "copy", "data/bio", "conf/data/bio.yaml"), "data=bio is there already"),
        (("from-run-clm",), "found none"),
        (("from-run-clm", "--foo", "1"), "--foo: expected a flag of run_clm.py"),
        (("from-run-clm", "arguments.json"), "expected a JSON file of run_clm's arguments"),
        (("from-run-clm", "--validation_split_percentage", "some"), "expected a number"),
        (("completion",), "expected one of bash, zsh, fish, found nothing"),
        (("completion", "tcsh"), "expected one of bash, zsh, fish, found tcsh"),
    ],
)
def test_mistakes_are_told_in_one_line(lmtune, arguments, words):
    answer = lmtune(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        (["learning_rate"], "training.learning_rate"),
        (["training.warmup_ratio"], "training.warmup_steps"),
        (["data.fils"], "data.files"),
        (["lora_r"], "finetune.rank"),
        (["ckpt", "train"], "model.path"),
        (["seed"], "seed"),
        (["experiment"], "experiment"),
        (["model.config.n_layer"], "model.config.n_layer"),
        (["files"], "data.files"),
    ],
)
def test_a_key_is_explained_by_whatever_name_it_is_asked_for(lmtune, asked, key):
    answer = lmtune("explain", *asked)
    assert answer.code == 0
    first = answer.out.splitlines()[0]
    assert first == f"{asked[0]} is here {key}." if asked[0] != key else first.startswith(f"{key} = ")


@pytest.mark.parametrize(
    ("asked", "value", "said"),
    [
        (["model.config.n_layer=8"], 8, "A part of model.config: "),
        (["data.mix.bio", "data.mix={bio:0.7}"], 0.7, "A part of data.mix: "),
        (["suite.files.lambada"], None, "A part of suite.files: "),
        (["training.learning_rate=3"], 3, "The initial learning rate"),
        (["experiment=gportuguese2"], "gportuguese2", "A recipe, "),
    ],
)
def test_a_part_of_a_key_and_a_typed_value_are_explained(lmtune, asked, value, said):
    answer = lmtune("explain", *asked, "format=json")
    assert answer.code == 0, answer.err
    assert answer.json["value"] == value
    assert answer.json["text"]["text"].startswith(said)


@pytest.mark.parametrize("asked", ["lora", "finetune=lora"])
def test_a_choice_is_explained_with_its_group(lmtune, asked):
    answer = lmtune("explain", asked)
    assert answer.code == 0, answer.err
    lines = answer.out.splitlines()
    assert lines[0] == "Keys of lmtune train below finetune:"
    assert any(line.split()[:2] == ["finetune.method", "lora"] for line in lines)
    assert "finetune= takes full, gradual, lora" in lines


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        ("training.goldfish", ["type         whole number or null"]),
        ("training.use_cpu", ["training.use_cpu = false", "type         true or false"]),
        ("training.save_steps", ["training.save_steps = as training.eval_steps", "default      as training.eval_steps (lmtune)"]),
        ("training.report_to", ["type         text or list[text]", "The same setting as lmtune's own key tracker.name: set that one."]),
        ("training.lr_scheduler_kwargs", ["type         mapping or text"]),
    ],
)  # fmt: skip
def test_what_transformers_writes_of_types_is_put_in_words(lmtune, key, lines):
    assert set(lines) <= set(lmtune("explain", key).out.splitlines())


@pytest.mark.parametrize(
    ("flag", "typed"),
    [
        (["--warmup_ratio", "0.05"], "training.warmup_steps=0.05"),
        (["--evaluation_strategy", "no"], "training.eval_strategy=no"),
        (["--no_cuda"], "training.use_cpu=true"),
        (["--adafactor"], "training.optim=adafactor"),
        (["--adafactor", "false"], ""),
        (["--logging_dir", "runs"], ""),
        (["--group_by_length"], ""),
        (["--split_batches"], ""),
    ],
)
def test_flags_of_older_transformers_are_translated(lmtune, flag, typed):
    answer = lmtune("from-run-clm", "--model_name_or_path", "gpt2", "--train_file", "a.txt", *flag)
    assert answer.code == 0
    command = answer.out.splitlines()[0]
    assert typed in command
    assert command.count("training.warmup_steps") == 1, "the flag's own, or run_clm's default: never both"
    assert flag[0].removeprefix("--") not in command.replace("optim=adafactor", "")


@pytest.mark.parametrize("command", SCHEMAS)
def test_every_key_of_a_command_can_be_described(command):
    for section in ("", "data", "model", "training", "generation", "eval", "finetune", "samples"):
        for key in list_below(command, section) if section else []:
            assert describe_key(command, key).kind, key


def test_help_names_every_tool_and_each_says_how_it_is_called(lmtune):
    general = lmtune("--help").out
    for name in TOOLS:
        assert f"  {name} " in general
        answer = lmtune(name, "--help")
        assert answer.code == 0
        assert answer.out.startswith(f"`lmtune {name}")


# Configs


def test_a_config_is_copied_and_chosen(lmtune, tmp_path):
    answer = lmtune("config", "copy", "data/bio", "conf/data/mine.yaml", "format=json")
    assert answer.json["typed"] == "data=mine"
    assert (tmp_path / "conf/data/mine.yaml").read_text() == lmtune("config", "show", "data/bio").out
    rows = {row["typed"]: row["note"] for row in lmtune("config", "list", "data", "format=json").json}
    assert rows["data=mine"] == "  (conf/data/mine.yaml)"
    assert rows["data=bio"] == ""
    assert lmtune("explain", "data.path", "data=mine", "format=json").json["value"] == "community-datasets/scielo"


def test_every_choice_of_every_group_has_a_line(lmtune):
    rows = lmtune("config", "list", "format=json").json
    assert {row["typed"].partition("=")[0] for row in rows} == set(GROUPS)
    assert all(row["summary"] for row in rows)


# run_clm


COMMAND_LINE = (
    "torchrun --nproc_per_node 2 run_clm.py --model_type gpt2 --tokenizer_name gpt2 --train_file a.txt --validation_file b.txt "
    "--config_overrides n_embd=32,n_layer=2 --block-size=128 --bf16 --seed 42 --report_to wandb --learning_rate=5e-4 "
    "--max_steps 100 --save_strategy no --remove_unused_columns false --overwrite_output_dir --ignore_data_skip"
)


def test_each_flag_of_run_clm_is_answered(lmtune):
    answer = lmtune("from-run-clm", *COMMAND_LINE.split(), "format=json")
    assert answer.code == 0, answer.err
    outcomes = {row["flag"].split()[0].lstrip("-"): row["outcome"] for row in answer.json["flags"]}
    assert outcomes == {
        "model_type": "moved", "tokenizer_name": "moved", "train_file": "moved", "validation_file": "moved",
        "config_overrides": "moved", "block_size": "moved", "bf16": "moved", "seed": "default", "report_to": "moved",
        "learning_rate": "moved", "max_steps": "moved", "save_strategy": "moved", "remove_unused_columns": "dropped",
        "overwrite_output_dir": "dropped", "ignore_data_skip": "dropped", "lr_scheduler_type": "added",
        "warmup_steps": "added", "load_best_model_at_end": "added",
    }  # fmt: skip
    assert answer.json["command"] == (
        "torchrun --nproc_per_node 2 -m lmtune train model.init=scratch model.config.model_type=gpt2 model.tokenizer=gpt2 "
        "data.files=a.txt data.validation_files=b.txt model.config.n_embd=32 model.config.n_layer=2 data.block_size=128 training.bf16=true "
        "tracker=wandb training.learning_rate=5e-4 training.max_steps=100 training.save_strategy=no "
        "training.lr_scheduler_type=linear training.warmup_steps=0 training.load_best_model_at_end=false"
    )


def test_the_new_command_is_one_that_lmtune_takes(lmtune, tmp_path, texts):
    (tmp_path / "notes.txt").write_text("\n\n".join(texts))
    flags = "--model_type gpt2 --config_overrides n_layer=1,n_embd=32,n_head=2 --tokenizer_name learn --train_file notes.txt"
    rest = "--max_steps 2 --eval_strategy steps --eval_steps 1 --use_cpu --output_dir out"
    answer = lmtune("from-run-clm", *flags.split(), *rest.split(), "format=json")
    assert answer.json["refused"] is None
    done = lmtune(*answer.json["command"].split()[1:], "data.documents=blank_line", "samples.enabled=false")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(
    ("typed", "head"),
    [
        ("python run_clm.py", "lmtune train "),
        ("run_clm.py", "lmtune train "),
        ("", "lmtune train "),
        ("accelerate launch --num_processes 2 run_clm.py", "accelerate launch --num_processes 2 -m lmtune train "),
        ("python -m torch.distributed.run --nproc_per_node=2 x/run_clm.py", "python -m torch.distributed.run --nproc_per_node=2 -m lmtune "),
    ],
)  # fmt: skip
def test_what_starts_several_processes_starts_lmtune_too(typed, head):
    assert render_command([("seed", "1")], find_launcher([*typed.split(), "--seed", "1"])).startswith(head)


def test_values_that_lmtune_would_derive_by_itself_are_written_although_transformers_has_them_as_defaults(lmtune):
    answer = lmtune(
        "from-run-clm", "--train_file", "a.txt", "--save_steps", "500", "--per_device_train_batch_size", "8"
    )
    command = answer.out.splitlines()[0]
    assert "training.save_steps=500 training.per_device_train_batch_size=8" in command


def test_what_lmtune_would_refuse_is_said_with_the_command(lmtune):
    answer = lmtune("from-run-clm", "--train_file", "a.txt", "--eval_strategy", "steps", "--eval_steps", "-3")
    assert "lmtune train would not take it yet: training.eval_steps" in answer.out


def test_a_json_file_of_arguments_is_read_as_the_flags_are(lmtune, tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps({"train_file": "a.txt", "do_train": True, "max_steps": 3, "bf16": None})
    )
    assert read_json((tmp_path / "a.json").read_text()) == read_flags(
        ["--train_file", "a.txt", "--do_train", "--max_steps", "3"]
    )
    assert "training.max_steps=3" in lmtune("from-run-clm", "a.json").out


@pytest.mark.parametrize(
    ("flags", "typed"),
    [
        (["--do_eval", "false"], (("training.eval_strategy", "no"),)),
        (["--do_train", "False"], ()),
        (["--do_eval"], ()),
    ],
)
def test_a_switch_that_is_off_is_answered_as_such(flags, typed):
    (moved, *_) = move_flags(read_flags(flags))
    assert moved.typed == typed


@pytest.mark.parametrize(("flags", "added"), [([], True), (["--fp16"], False), (["--bf16", "false"], False)])
def test_a_precision_that_lmtune_would_choose_is_said(lmtune, flags, added):
    rows = {row["flag"]: row for row in lmtune("from-run-clm", "--do_train", *flags, "format=json").json["flags"]}
    assert ("--bf16 false" in rows and rows["--bf16 false"]["outcome"] == "added") is added
    assert all(row["outcome"] != "default" for flag, row in rows.items() if flag.startswith(("--bf16", "--fp16")))


def test_percent_become_a_share():
    (moved, *_) = move_flags(read_flags(["--validation_split_percentage", "7"]))
    assert moved.typed == (("data.validation_fraction", "0.07"),)


# Completion


LINES = {
    "lmtune tr": {"train"},
    "lmtune train data=pt": {"pt-wiki"},
    "lmtune train data=m": {"mine"},
    "lmtune train -m model=gpt2,gpt2-l": {"gpt2,gpt2-large"},
    "lmtune train training.lr_scheduler_t": {"training.lr_scheduler_type="},
    "lmtune train training.lr_scheduler_type=cosine_with_r": {"cosine_with_restarts"},
    "lmtune train training.bf16=f": {"false"},
    "lmtune eval ckpt=outputs/a/": {"outputs/a/b"},
    "lmtune eval format=j": {"json"},
}
DRIVER = r"""
source completion.bash
COMP_LINE="$1" COMP_POINT=${#1} COMP_WORDBREAKS="$2"
read -ra COMP_WORDS <<<"$1"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_lmtune
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def there(tmp_path):
    """A folder with a config of one's own and a run, and the scripts of all shells."""
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("files: notes.txt\n")
    (tmp_path / "outputs" / "a" / "b").mkdir(parents=True)
    for shell in ("bash", "zsh", "fish"):
        (tmp_path / f"completion.{shell}").write_text(render_script(shell))
    return tmp_path


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("breaks", [" =", " "])
def test_bash_completes(there, line, breaks):
    done = subprocess.run(
        ["bash", "-c", DRIVER, "-", line, breaks], cwd=there, text=True, capture_output=True, check=True
    )
    key = line.split()[-1].partition("=")[0] + "="
    whole = "=" in line.split()[-1] and breaks == " "
    assert set(done.stdout.split()) == {key + word if whole else word for word in LINES[line]}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(there, line):
    command = f"source completion.fish; complete -C '{line}'"
    environment = {**os.environ, "HOME": str(there)}
    done = subprocess.run(
        ["fish", "-c", command], cwd=there, text=True, capture_output=True, check=True, env=environment
    )
    key = line.split()[-1].partition("=")[0] + "=" if "=" in line.split()[-1] else ""
    assert {word.rstrip("/") for word in done.stdout.split()} == {key + word for word in LINES[line]}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script(there):
    subprocess.run(["zsh", "-n", "completion.zsh"], cwd=there, check=True)


def test_every_key_is_completed():
    script = render_script("bash")
    for command in SCHEMAS:
        line = next(line for line in script.splitlines() if line.startswith(f"{command} "))
        named = set(line.split()[1:])
        assert {key for key in known_keys(command) if key.count(".") and not key.startswith("finetune.phases.")} - named <= {
            "data.where", "model.config"
        }  # fmt: skip
