"""Whole commands beside a conf/ of the user's own, or of another Hydra project: what is not asked for does not matter."""

import pytest

from lmtune.runs import Run

FOREIGN = {
    "config.yaml": "defaults:\n  - _self_\n  - data: mnist\n  - model: resnet\nhydra:\n  run:\n    dir: logs/${now:%Y-%m-%d}\n",
    "train.yaml": "# @package _global_\ndefaults:\n  - _self_\n  - data: mnist\n  - model: resnet\n  - callbacks: default\n  - hydra: default\n"
    "task_name: train\nckpt_path: null\nseed: null\n",
    "eval.yaml": "# @package _global_\ndefaults:\n  - data: mnist\nckpt_path: ???\n",
    "data.yaml": "a: 1\n",
    "generate.yaml": "no: on\n",
    "data/mnist.yaml": "_target_: src.data.MNISTDataModule\ndata_dir: ${paths.data_dir}\nbatch_size: 128\ntrain_val_test_split: [55_000, 5_000]\n",
    "data/gpt2.yaml": "!!python/object/apply:os.system ['touch PWNED']\n",
    "model/resnet.yaml": "_target_: src.models.ResNet\noptimizer:\n  _target_: torch.optim.Adam\n  _partial_: true\n  lr: 0.001\n",
    "callbacks/default.yaml": "model_checkpoint:\n  _target_: lightning.pytorch.callbacks.ModelCheckpoint\n",
    "hparams_search/optuna.yaml": "# @package _global_\ndefaults:\n  - override /hydra/sweeper: optuna\nhydra:\n  mode: MULTIRUN\n"
    "  sweeper:\n    _target_: hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper\n",
    "hydra/default.yaml": "defaults:\n  - override hydra_logging: colorlog\nrun:\n  dir: ${paths.log_dir}\n",
    "hydra/launcher/basic.yaml": "_target_: evil.Launcher\n",
    "hydra/job_logging/none.yaml": "_target_: evil.Logging\n",
    "paths/default.yaml": "root_dir: ${oc.env:PROJECT_ROOT}\n",
    "trainer/gpu.yaml": "accelerator: gpu\n",
    "experiment/example.yaml": "# @package _global_\ndefaults:\n  - override /data: mnist\n  - override /model: resnet\n"
    "tags: [mnist]\nseed: 12345\n",
    "seed/one.yaml": "1\n",
    "latin.yaml": "a: jo\xe3o\n",
}
"""conf/ as the widespread template of Lightning and Hydra has it, with names of lmtune's groups among its own."""


@pytest.fixture
def foreign(tmp_path):
    for name, text in FOREIGN.items():
        file = tmp_path / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="latin-1")


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--cfg", "job"),
        ("train", "data=bio", "model=gpt2", "seed=3", "--cfg", "job"),
        ("train", "experiment=gportuguese2", "--cfg", "job"),
        ("train", "--help"),
        ("eval", "ckpt=x", "data=wikitext", "--cfg", "job"),
        ("generate", "ckpt=x", "prompt=y", "--cfg", "job"),
        ("lr-find", "--cfg", "job"),
        ("tokenizer", "--cfg", "job"),
    ],
    ids=" ".join,
)
def test_the_conf_of_another_project_does_not_matter(lmtune, foreign, tmp_path, command):
    answer = lmtune(*command)
    assert (answer.code, answer.err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"conf"}


def test_text_is_prepared_beside_the_conf_of_another_project(lmtune, foreign, tmp_path):
    (tmp_path / "a.txt").write_text("O paciente chegou no hospital.\n\nVoltou para casa.\n" * 30)
    answer = lmtune("data", "data.files=a.txt", "data.documents=blank_line", "format=json")
    assert answer.code == 0, answer.err
    assert answer.json


FILES = {
    "data/mine": "files: a.txt\nlanguage: no\n",
    "data/octal": "files: a.txt\nmax_documents: 0100\n",
    "data/latin": "files: /tmp/jo\xe3o.txt\n",
    "data/itself": "defaults: [itself]\nfiles: x\n",
    "data/typo": "fils: x\n",
    "data/kind": "block_size: many\n",
    "data/unset": "files: ${oc.env:LMTUNE_NOT_SET}/x.txt\n",
    "data/home": "files: ${HOME}/x.txt\n",
    "data/wrongkind": "min_chars: ${data.files}\nfiles: x.txt\n",
    "data/missing": "defaults: [nothing]\n",
    "data/Upper": "files: x.txt\n",
    "model/elsewhere": "path: gpt2\n",
    "training/typo": "lerning_rate: 1\n",
    "training/familiar": "lr: 1\n",
    "experiment/bare": "training:\n  max_steps: 2\n",
    "experiment/old": "# @package _global_\ndata: {fils: x}\n",
    "experiment/evil": "# @package _global_\nhydra:\n  callbacks:\n    x: {_target_: evil.Evil}\n",
    "experiment/path": "# @package _global_\nhydra:\n  callbacks:\n    x: {_target_: pathlib.Path.touch, self: {_target_: pathlib.Path, _args_: [PWNED]}}\n",
    "experiment/logging": "# @package _global_\nhydra:\n  job_logging: {handlers: {f: {class: logging.FileHandler, filename: PWNED}}, root: {handlers: [f]}}\n",
    "hydra/launcher/evil": "_target_: evil.Launcher\n",
    "hydra/launcher/slurm": "defaults: [submitit_slurm]\npartition: gpu\n",
}

TOLD = {
    (
        "train",
        "data=mine",
    ): "conf/data/mine.yaml, line 2: language: no is read as false. Write 'no' between quotes for the word, or false.",
    (
        "data",
        "data=octal",
    ): "conf/data/octal.yaml, line 2: max_documents: 0100 is read as 64, an octal number. Write 100, or",
    (
        "data",
        "data=latin",
    ): "conf/data/latin.yaml: expected text in UTF-8, found the byte 0xe3 in line 1. Save it as UTF-8: iconv",
    (
        "data",
        "data=itself",
    ): "conf/data/itself.yaml, line 1: defaults: comes back to where it began: data/itself -> data/itself.",
    (
        "eval",
        "ckpt=x",
        "data=typo",
    ): "conf/data/typo.yaml sets data.fils, which is not a key of lmtune eval. Did you mean data.files?",
    (
        "data",
        "data=kind",
    ): "conf/data/kind.yaml sets data.block_size=many: expected a whole number. Give another value.",
    (
        "data",
        "data=unset",
    ): "conf/data/unset.yaml, line 1: data.files needs the environment variable LMTUNE_NOT_SET, found none of that name. "
    "Set it, or write ${oc.env:LMTUNE_NOT_SET,VALUE}",
    (
        "data",
        "data=home",
    ): "line 1: data.files: ${HOME} is no key of lmtune data. Write ${oc.env:HOME} for the environment variable.",
    (
        "data",
        "data=wrongkind",
    ): "conf/data/wrongkind.yaml, line 1: data.min_chars: expected ${key} of a key with a fitting value, found: ",
    (
        "data",
        "data=missing",
    ): "conf/data/missing.yaml: its defaults list names data/nothing, which is no config. Name one that is there.",
    ("data", "data=upper"): "Did you mean data=Upper? conf/data/Upper.yaml is there: data=Upper.",
    (
        "data",
        "data=elsewhere",
    ): "conf/model/elsewhere.yaml is there; for data=elsewhere it has to be conf/data/elsewhere.yaml.",
    ("data", "data=odd"): "conf/data/odd.yml is there, but names of configs end in .yaml: call it odd.yaml.",
    ("data", "data=conf/data/mine.yaml"): "A choice is the name of a file without folder and ending: data=mine.",
    ("train", "eval_data=[octal]"): "conf/data/octal.yaml, line 2: max_documents: 0100 is read as 64",
    (
        "train",
        "training=typo",
    ): "conf/training/typo.yaml sets training.lerning_rate, which is not a key of lmtune train. Did you mean training.learning_rate?",
    (
        "train",
        "training=familiar",
    ): "conf/training/familiar.yaml sets training.lr, which is not a key of lmtune train. Did you mean training.learning_rate?",
    (
        "train",
        "experiment=bare",
    ): "conf/experiment/bare.yaml: expected the line `# @package _global_` at its top, found none.",
    (
        "train",
        "experiment=old",
    ): "conf/experiment/old.yaml sets data.fils, which is not a key of lmtune train. Did you mean data.files?",
    (
        "train",
        "experiment=evil",
    ): "conf/experiment/evil.yaml, line 3: hydra.callbacks: a setting of Hydra itself; expected none in a config",
    ("train", "experiment=path"): "conf/experiment/path.yaml, line 3: hydra.callbacks: a setting of Hydra itself",
    (
        "train",
        "experiment=logging",
    ): "conf/experiment/logging.yaml, line 3: hydra.job_logging: a setting of Hydra itself",
    (
        "train",
        "hydra/launcher=evil",
    ): "conf/hydra/launcher/evil.yaml, line 1: _target_: names code to run, and lmtune runs none",
    (
        "train",
        "hydra/launcher=slurm",
    ): "its defaults list names hydra/launcher/submitit_slurm, which is no config. Name one that is there. Those of a "
    "plugin are there once it is installed, such as hydra-submitit-launcher.",
    ("train", "-m", "data=itself,mine"): "conf/data/itself.yaml, line 1: defaults: comes back to where it began",
    (
        "train",
        "--config-dir",
        "nowhere",
    ): "--config-dir nowhere: expected a folder of configs that may be read, found none. Give another.",
    ("train", "-cp", "conf"): "--config-path is not taken by lmtune: a command has one configuration of its own",
    ("train", "hydra.job.chdir=true"): "hydra.job.chdir=true: expected hydra.job.chdir as lmtune sets it.",
    (
        "data",
        "hydra.output_subdir=.hydra",
    ): "hydra.output_subdir=.hydra: expected hydra.output_subdir as lmtune sets it.",
    ("data", "hydra/job_logging=default"): "hydra/job_logging=default: expected hydra.job_logging as lmtune sets it.",
}


@pytest.mark.parametrize("command", TOLD, ids=" ".join)
def test_a_mistake_in_a_config_is_told_with_its_file_and_leaves_nothing(lmtune, tmp_path, monkeypatch, command):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('PWNED').touch()\nEvil = Launcher = object\n")
    for name, text in FILES.items():
        file = tmp_path / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="latin-1")
    (tmp_path / "conf" / "data" / "odd.yml").write_text("files: x.txt\n")
    answer = lmtune(*command)
    assert (answer.code, answer.out) == (2, "")
    assert TOLD[command] in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} - {"outputs"} == {"conf", "evil.py"}
    assert "-m" in command or not (tmp_path / "outputs").exists()


def test_a_run_folder_of_others_runs_nothing_when_it_is_resumed(lmtune, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('PWNED').touch()\nEvil = object\n")
    evil = "{callbacks: {x: {_target_: evil.Evil}}}"
    assert (
        lmtune("train", "training.max_steps=1", "training.use_cpu=true", "samples.enabled=false", "output=run").code
        == 0
    )
    run = Run(tmp_path / "run")
    (run.hydra_folder / "overrides.yaml").write_text("- +hydra.callbacks.x={_target_:evil.Evil}\n")
    run.write_config({**run.load_config(), "hydra": {"callbacks": {"x": {"_target_": "evil.Evil"}}}, "samples": evil})
    assert lmtune("train", f"resume={run.folder}").code == 2
    run.write_config({**run.load_config(), "samples": {"enabled": False}})
    assert lmtune("train", f"resume={run.folder}").code in (0, 2)
    assert not (tmp_path / "PWNED").exists()


def test_a_config_of_the_users_own_is_taken_as_written(lmtune, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "training").mkdir()
    (tmp_path / "a.txt").write_text("".join(f"O paciente {n} chegou no hospital.\n\nVoltou.\n" for n in range(30)))
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(
        "files: a.txt\ndocuments: line\nlanguage: 'no'\nvalidation_fraction: 0.2\n"
    )
    (tmp_path / "conf" / "training" / "short.yaml").write_text("max_steps: 2\n")
    answer = lmtune("data", "data=mine", "format=json")
    assert answer.code == 0, answer.err
    answer = lmtune("train", "data=mine", "training=short", "--cfg", "job")
    assert answer.code == 0, answer.err
    assert "language: 'no'" in answer.out
    assert "max_steps: 2" in answer.out
    assert "eval_strategy: steps" in answer.out
