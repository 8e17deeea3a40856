"""A sweep is checked before its first job, and its folder is settled once; options stand anywhere among the keys."""

import itertools
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import TINY_MODEL

from lmtune.cli.commands import COMMANDS
from lmtune.cli.options import CFG, Options, take_options
from lmtune.cli.overrides import prepare_overrides
from lmtune.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
STEPS = (
    *("training.use_cpu=true", "training.max_steps=1", "samples.enabled=false", "eval.max_tokens=200"),
    *TINY_MODEL,
)
REFUSED = {
    ("train", "-m", "data.block_size=32,1000"): "job 1 of the sweep (data.block_size=1000): data.block_size=1000: the model has 256",
    ("train", "-m", "seed=1,-1"): "job 1 of the sweep (seed=-1): seed=-1: expected a whole number",
    ("train", "data.validation_fraction=0.1,2", "-m"): "job 1 of the sweep (data.validation_fraction=2)",
    ("train", "-m", "model.path=choice(./a,./b)"): "job 0 of the sweep (model=hub, model.path=./a): model.path=./a: expected a folder",
    ("train", "-m", "data.files=choice(a.txt,b.txt)"): "job 1 of the sweep",
    ("train", "-m", "seed=1,2", "output=here"): "output='here' names one folder for 2 jobs",
    ("tokenizer", "-m", "data.seed=1,2", "output=here"): "output='here' names one folder for 2 jobs",
    ("train", "-m", "data=glob(x*)"): "names no value, so the sweep has no jobs",
    ("train", "-m", "seed=glob(*)"): "glob stands for the choices of a group",
    ("train", "-m", "seed=1,2", "training.lerning_rate=1"): "Did you mean training.learning_rate?",
    ("train", "-m", "seed=1,2", "hydra.sweep.dir=mine"): "hydra.sweep.dir=",
    ("train", "-m", "seed=1,2", "hydra.sweep.dir=${data.name}"): "expected a folder that is the same for all jobs",
    ("train", "seed=1,2"): "seed=1,2: several values, which -m tries one after the other",
    ("train", "--cfg", "seed=1"): "--cfg seed=1: expected one of job, hydra, all.",
    ("train", "--cfg"): "expected one argument",
    ("train", "--info", "nope"): "'nope' is not key=value",
    ("train", "-cn", "mine"): "--config-name is not taken by lmtune",
    ("train", "seed=1", "--multi-run"): "--multi-run is no option",
}  # fmt: skip


@pytest.mark.parametrize("command", REFUSED, ids=" ".join)
def test_what_a_sweep_cannot_do_is_said_before_its_first_job(lmtune, tmp_path, command):
    (tmp_path / "a.txt").write_text("O paciente chegou.\n\n" * 40)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "multirun.yaml").write_text("mine")
    answer = lmtune(*command)
    assert (answer.code, answer.out) == (2, "")
    assert REFUSED[command] in answer.err
    assert answer.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "mine"}
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]


def test_a_sweep_over_ones_own_text_works_wherever_its_option_stands(lmtune, tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"Documento {n} sobre saúde e exames." for n in range(60)))
    text = ("data.files=a.txt", "data.documents=blank_line", "data.block_size=32", "hydra/launcher=basic")
    answer = lmtune("train", *text, "-m", "training.learning_rate=1e-4,1e-3", *STEPS, "hydra.sweep.dir=here/${now:%Y}")
    assert answer.code == 0, answer.err
    table = answer.out.rpartition("\n\n")[2].splitlines()
    assert table[1].split()[:2] == ["run", "learning_rate"]
    assert {tuple(line.split()[:2]) for line in table[2:4]} == {("0", "0.0001"), ("1", "0.001")}
    (sweep,) = (tmp_path / "here").iterdir()
    assert re.fullmatch(r"\d{4}", sweep.name)
    assert {path.name for path in sweep.iterdir()} == {"0", "1", "multirun.yaml", "sweep.json"}
    again = lmtune("train", "-m", *text, "training.learning_rate=1e-4,1e-3", *STEPS, f"hydra.sweep.dir={sweep}")
    assert again.code == 2
    assert "already holds a run" in again.err, "a job does not go into the folder of another"
    resumed = lmtune(
        "train", "-m", *text, "training.learning_rate=1e-4,1e-3", *STEPS, f"hydra.sweep.dir={sweep}", "resume=auto"
    )
    assert resumed.code == 0, resumed.err
    assert resumed.err.count("this run has completed") == 2


def test_the_ranks_of_a_launcher_share_one_folder(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, "-m", "lmtune", "train", *STEPS, "training.learning_rate=1e-3,2e-3", "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert {path.name for path in sweep.iterdir()} == {"0", "1", "multirun.yaml", "sweep.json"}
    rates = [yaml.safe_load((sweep / job / "config.yaml").read_text())["training"]["learning_rate"] for job in "01"]
    assert rates == [1e-3, 2e-3]
    assert all((sweep / job / "model" / "model.safetensors").exists() for job in "01")


def test_another_launcher_that_sets_ranks_is_told_that_it_cannot_sweep(lmtune, monkeypatch, tmp_path):
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("lmtune.cli.sweeps.check_jobs", lambda *_: None)
    answer = lmtune("train", "-m", "seed=1,2", *STEPS)
    assert answer.code == 2
    assert "-m under several processes needs torchrun" in answer.err
    assert list(tmp_path.iterdir()) == []


OPTIONS = [
    ["-m"],
    ["--multirun"],
    ["--cfg", "job"],
    ["--cfg=all"],
    ["-c", "hydra"],
    ["--help"],
    ["-h"],
    ["--resolve"],
    ["-p", "data"],
]
KEYS = ["data.files=a b.txt", "seed=1,2", "prompt=-m", "name=--help", "prompts=[-c,job]", "data=bio"]


@pytest.mark.parametrize("seed", range(30))
def test_options_mean_the_same_wherever_they_stand(seed):
    draw = random.Random(seed)
    options, keys = draw.sample(OPTIONS, 3), draw.sample(KEYS, 4)
    if not any(option[0].startswith(("-c", "--cfg")) for option in options):
        options.append(["--cfg", "job"])  # which some of the others are about
    expected, rest = take_options([*itertools.chain(*options), *keys])
    assert rest == keys
    pieces = [*options, *([key] for key in keys)]
    draw.shuffle(pieces)
    mixed = list(itertools.chain(*pieces))
    again, rest = take_options(mixed)
    assert sorted(rest) == sorted(keys)
    values = [piece for piece in pieces if piece[0] in ("--cfg", "-c", "--cfg=all")]
    assert again == expected or len(values) > 1, "of two values for one option the last counts"
    assert again.multirun == expected.multirun
    assert again.help == expected.help


def test_what_hydra_is_given_means_what_was_said():
    options, keys = take_options(["a=1", "-m", "b=2", "--cfg", "job", "--info"])
    assert options == Options(multirun=True, cfg="job", info="all")
    assert keys == ["a=1", "b=2"]
    assert options.render() == ["--multirun", "--cfg=job", "--info=all"]
    assert set(CFG) == {"job", "hydra", "all"}


def readme_lines():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line.split("  ")[0].strip() for line in re.findall(r"^    (lmtune .*)$", text, re.MULTILINE)]
    return [line for line in lines if line.split()[1] in COMMANDS]


@pytest.mark.parametrize("line", readme_lines())
def test_every_line_of_the_readme_is_understood(line):
    import shlex

    arguments = shlex.split(line.replace("...", "x"))[2:]
    options, keys = take_options(arguments)
    assert len(prepare_overrides(keys)) >= len(keys)
    for place in range(len(keys) + 1):
        if options.multirun:
            assert take_options([*keys[:place], "-m", *keys[place:]]) == (options, keys)


def test_options_of_hydra_are_all_known_or_refused():
    from hydra._internal.utils import get_args_parser

    for action in get_args_parser()._actions:
        for name in action.option_strings:
            arguments = [name] if action.nargs in (0, "?") else [name, "job"]
            assert "is no option" not in answer_to(arguments), name


def answer_to(arguments):
    """What take_options says of options that it refuses."""
    try:
        take_options(arguments)
    except ConfigError as error:
        return str(error)
    return ""
