"""Files of the user's conf/ add choices to lmtune's groups; what else they say is refused by name, and runs nothing."""

import copy
import pickle
import re
import textwrap

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from lmtune.cli import composition, schemas
from lmtune.cli.options import take_options
from lmtune.cli.user_conf import folders
from lmtune.cli.user_conf.typed import check_hydra_overrides
from lmtune.errors import ConfigError

GLOBAL = "# @package _global_\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file of conf/ where the test stands."""
    monkeypatch.chdir(tmp_path)

    def call(name, text, conf="conf"):
        file = tmp_path / conf / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return call


@pytest.fixture
def store_launcher(monkeypatch):
    """Stores a launcher as a plugin would, for one test."""
    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", copy.deepcopy(store.repo))

    def call(name):
        target = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
        store.store(group="hydra/launcher", name=name, node={"_target_": target, "partition": None, "setup": []})
        return target

    return call


def composed(command, *overrides, config_dirs=()):
    composition.register(command, config_dirs)
    with initialize_config_dir(str(schemas.find_conf()), version_base="1.3"):
        node = compose(command, overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(node)
    return node


REFUSED = {
    # Names of code.
    ("data/mine", "where: {_target_: os.system}"): "line 1: where._target_: names code to run, and lmtune runs none",
    ("model/mine", "_target_: torch.nn.Linear\nin_features: 3"): "line 1: _target_: names code to run",
    ("experiment/mine", GLOBAL + "hydra: {sweeper: {sampler: {_target_: x.Y}}}"): "hydra.sweeper.sampler._target_: names code",
    ("hydra/launcher/mine", "_target_: evil.Launcher"): "line 1: _target_: names code to run",
    ("hydra/launcher/mine", "defaults: [basic]\nx: [{_target_: evil}]"): "x.0._target_: names code to run",
    ("hydra/sweeper/mine", "defaults: [basic]\ncustom_search_space: evil.space"): "custom_search_space: names code to run",
    ("data/mine", "where: &a {x: 1}\nmix: {<<: {_target_: x}}"): "mix._target_: names code to run",
    # Hydra's own settings.
    ("experiment/mine", GLOBAL + "hydra: {callbacks: {x: {a: 1}}}"): "line 2: hydra.callbacks: a setting of Hydra itself; expected none",
    ("experiment/mine", GLOBAL + "hydra:\n  run: {dir: /tmp}"): "line 3: hydra.run: a setting of Hydra itself; expected none in a config "
    "but those of hydra.sweeper. Type output=FOLDER.",
    ("experiment/mine", GLOBAL + "hydra: {sweep: {dir: x}}"): "Type hydra.sweep.dir=FOLDER.",
    ("experiment/mine", GLOBAL + "hydra: {searchpath: [/tmp]}"): "hydra.searchpath: a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: {job_logging: {root: {level: DEBUG}}}"): "hydra.job_logging: a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: {output_subdir: x}"): "hydra.output_subdir: a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: {job: {chdir: true}}"): "hydra.job: a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: {job: {env_set: {LD_PRELOAD: x}}}"): "hydra.job: a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: {mode: MULTIRUN}"): "hydra.mode: a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: {launcher: {setup: [ls]}}"): "Write conf/hydra/launcher/mine.yaml",
    ("experiment/mine", GLOBAL + "hydra.output_subdir: x"): "hydra.output_subdir: a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: ${data}"): "hydra: expected `key: value` lines below it, found ${data}.",
    ("experiment/mine", GLOBAL + "hydra: {sweeper: {params: {+hydra.job.chdir: 'true'}}}"): "params.+hydra.job.chdir: a setting of Hydra",
    ("experiment/mine", GLOBAL + "hydra: {sweeper: {params: {+data@hydra.job: x}}}"): "a setting of Hydra itself",
    ("hydra/sweeper/mine", "defaults: [basic]\nparams: {hydra/job_logging: default}"): "a setting of Hydra itself",
    ("experiment/mine", GLOBAL + "hydra: {sweeper: {params: {hydra: '{job: {chdir: true}}'}}}"): "params.hydra: a setting of Hydra itself",
    ("data/mine", "where: {++hydra: '{job: {chdir: true}}'}"): "where.++hydra: a setting of Hydra itself",
    ("data/mine", "where: {hydra.job.chdir: true}"): "where.hydra.job.chdir: a setting of Hydra itself",
    ("data/mine", "hydra: {job: {chdir: true}}"): "line 1: hydra: a setting of Hydra itself",
    ("hydra/sweeper/mine", "params: {seed: '1,2'}"): "expected a defaults list that names the sweeper it builds on, found none. "
    "Write defaults: [basic] at its top.",
    ("hydra/launcher/mine", "defaults: [_self_]\npartition: gpu"): "expected a defaults list that names the launcher it builds on",
    # Interpolations.
    ("data/mine", "language: \"${oc.create:'{_target_: x}'}\""): "language: ${oc.create:...} is nothing that lmtune resolves here",
    ("data/mine", "language: '${ oc.decode : x}'"): "${oc.decode:...} is nothing that lmtune resolves here",
    ("data/mine", r"language: \\${oc.decode:x}"): "${oc.decode:...} is nothing that lmtune resolves here",
    ("data/mine", "language: ${oc.env:A,${free_folder:x}}"): "${free_folder:...} is nothing that lmtune resolves here",
    ("data/mine", "language: ${eval:1+1}"): "${eval:...} is nothing that lmtune resolves here; expected one of hydra, now, oc.dict.keys",
    ("data/mine", "language: ${oc.${seed}:x}"): "names a key by another; expected the name itself.",
    ("data/mine", "language: ${${seed}}"): "names a key by another; expected the name itself.",
    ("data/mine", "language: ${oc.env:${seed}}"): "expected the name of a variable behind oc.env:.",
    ("data/mine", "path: https://x/${oc.env:HF_TOKEN}"): "path: HF_TOKEN holds a secret, which would be written into records.",
    ("data/mine", "path: https://x/${oc.env:'MY_PASSWORD'}"): "MY_PASSWORD holds a secret",
    ("model/mine", "path: hf_abcdefghijklmnopqrst"): "path: holds a token of the Hub, which would be written into records.",
    ("data/mine", "language: ${"): "line 1: language: expected ${key} of another key, found a ${ that nothing closes",
    ("data/mine", "prompts: [a, '${b']"): "line 1: prompts.1: expected ${key} of another key",
    ("data/mine", "language: '" + "${a:" * 500 + "'"): "is nothing that lmtune resolves here",
    ("data/mine", "language: '" + "${oc.select:" * 500 + "'"): "expected ${key} of another key, found a ${ that nothing closes",
    ("data/mine", "language: ${.subset}\nsubset: ${data.language}"): "line 1: data.language refers to itself: data.language -> data.subset -> "
    "data.language. Give one of them a value.",
    ("data/mine", "language: ${data.language}"): "data.language refers to itself: data.language -> data.language.",
    ("data/mine", "where: {a: '${data.where}'}"): "data.where.a refers to itself",
    ("data/mine", "language: ${oc.select:data.subset}\nsubset: ${..data.language}"): "refers to itself",
    ("data/mine", "language: " + "${seed}" * 3000): "expected few references to other keys, found too many.",
    # Packages.
    ("experiment/mine", "training: {max_steps: 2}"): "mine.yaml: expected the line `# @package _global_` at its top, found none. "
    "Without it an experiment sets nothing: put it before all else, as line 1.",
    ("experiment/mine", "# @package training\nmax_steps: 2"): "at its top, found # @package training.",
    ("experiment/mine", "training: {max_steps: 2}\n" + GLOBAL): "expected the line `# @package _global_` at its top, found none.",
    ("data/mine", GLOBAL + "files: x"): "mine.yaml begins with # @package _global_, which would put its keys elsewhere than under data.",
    ("data/mine", "#@package hydra.job\nchdir: true"): "begins with #@package hydra.job, which would put its keys elsewhere",
    ("hydra/launcher/mine", "# @package hydra\ndefaults: [basic]"): "which would put its keys elsewhere than under hydra.launcher.",
    # Defaults lists.
    ("data/mine", "defaults: [mine]"): "defaults: comes back to where it began: data/mine -> data/mine. Take one of the names out.",
    ("data/mine", "defaults: [mine.yaml]"): "comes back to where it began: data/mine -> data/mine.",
    ("data/mine", "defaults: [/data/mine]"): "comes back to where it began: data/mine -> data/mine.",
    ("data/mine", "defaults: bio"): "defaults: expected a list of names, found bio. Write defaults: [NAME].",
    ("data/mine", "defaults: {data: bio}"): "defaults: expected a list of names",
    ("data/mine", "defaults: null"): "defaults: expected a list of names, found None.",
    ("data/mine", "defaults: [3]"): "defaults.0: expected a name, or `override /GROUP: NAME`, found 3.",
    ("data/mine", "defaults: [[bio]]"): "defaults.0: expected a name",
    ("data/mine", "defaults: [{}]"): "defaults.0: expected a name",
    ("data/mine", "defaults: [null]"): "defaults.0: expected a name",
    ("data/mine", "defaults: [{a: b, c: d}]"): "defaults.0: expected a name",
    ("data/mine", "defaults: [bio, '${data}']"): "defaults.1: expected a name",
    ("data/mine", "defaults: [{/data@training: bio}]"): "defaults.0: expected a name",
    ("data/mine", "defaults: ['../../secret']"): "defaults.0: expected a name",
    ("data/mine", "defaults: [{override model: gpt2}]"): "found override model. Write `override /model: gpt2`.",
    ("experiment/mine", GLOBAL + "defaults:\n  - override data: bio"): "line 3: defaults.0: expected `override /GROUP: NAME`, found override "
    "data. Write `override /data: bio`.",
    ("experiment/mine", GLOBAL + "defaults: [{/data: bio}]"): "found /data. Write `override /data: bio`.",
    ("experiment/mine", GLOBAL + "defaults: [{override /hydra/job_logging: default}]"): "hydra/job_logging is no group of lmtune's",
    ("experiment/mine", GLOBAL + "defaults: [{override /hydra/callbacks: x}]"): "hydra/callbacks is no group of lmtune's",
    ("experiment/mine", GLOBAL + "defaults: [/hydra/output/default]"): "hydra/output is no group of lmtune's",
    ("experiment/mine", GLOBAL + "defaults: [{override /trainer: gpu}]"): "trainer is no group of lmtune's; expected one of data, model,",
    ("data/mine", "defaults: [bio, _self_, _self_]"): "defaults.1: expected _self_ once, found it again.",
    ("experiment/mine", GLOBAL + "defaults: [{override /data: bio}, gpt2-biopt]"): "defaults.1: expected overrides at the end of the list",
    # Sections that are none.
    ("experiment/mine", GLOBAL + "data: bio"): "line 2: data: expected `key: value` lines below it, found bio. Write them, or take it out.",
    ("experiment/mine", GLOBAL + "training:"): "training: expected `key: value` lines below it, found nothing.",
    ("experiment/mine", GLOBAL + "data: ${model}"): "data: expected `key: value` lines below it, found ${model}.",
    ("experiment/mine", GLOBAL + "generation: [1]"): "generation: expected `key: value` lines below it, found [1].",
    ("experiment/mine", GLOBAL + "hydra: {sweeper: '${data}'}"): "hydra.sweeper: expected `key: value` lines below it",
    # Text that a number does not keep.
    ("data/mine", "revision: 1.10"): "line 1: revision: 1.10 is read as 1.1, and text is wanted here. Write '1.10' between quotes.",
    ("data/mine", "revision: 12e03"): "revision: 12e03 is read as 12000.0, and text is wanted here.",
    ("data/mine", "language: true"): "language: true is read as True, and text is wanted here.",
    ("data/mine", "prompts: [a, 1.10]"): "prompts.1: 1.10 is read as 1.1, and text is wanted here.",
    ("model/mine", "revision: 0x1F"): "revision: 0x1F is read as 31, and text is wanted here.",
    ("experiment/mine", GLOBAL + "tracker: {project: 2.0e3}"): "tracker.project: 2.0e3 is read as 2000.0, and text is wanted here.",
    # Not YAML at all: the rest is in test_plain_yaml.py.
    ("data/mine", "max_documents: 0100"): "conf/data/mine.yaml, line 1: max_documents: 0100 is read as 64",
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), REFUSED, ids=lambda text: text[:60].replace("\n", " "))
def test_a_file_that_says_more_than_settings_is_refused_by_name(write, name, text):
    write(name, text)
    composition.register("train")
    source = folders.UserConfSource("user", f"{folders.SCHEME}://{folders.UserConf.folders[0]}")
    with pytest.raises(ConfigError) as told:
        source.load_config(name)
    assert REFUSED[name, text] in str(told.value)
    assert str(told.value).startswith(f"conf/{name}.yaml")
    assert "\n" not in str(told.value)


def test_a_circle_of_several_files_is_named(write):
    for name, inner in (("a", "b"), ("b", "c"), ("c", "a")):
        write(f"data/{name}", f"defaults: [{inner}]\n")
    with pytest.raises(ConfigError, match="comes back to where it began: data/a -> data/b -> data/c -> data/a"):
        composed("train", "data=a")


def test_a_circle_through_experiments_is_named(write):
    write("experiment/a", GLOBAL + "defaults: [b]\n")
    write("experiment/b", GLOBAL + "defaults: [/experiment/a]\n")
    with pytest.raises(ConfigError, match="comes back to where it began: experiment/a -> experiment/b -> experiment/a"):
        composed("train", "experiment=a")


def test_lists_that_take_in_each_other_twice_over_end_soon(write):
    write("data/a0", "min_chars: 1\n")
    for number in range(1, 30):
        write(f"data/a{number}", f"defaults: [a{number - 1}, a{number - 1}]\n")
    with pytest.raises(ConfigError, match="takes in over 50 configs"):
        composed("train", "data=a29")


def test_references_that_double_each_other_end_soon(write):
    text = ["where:", "  a0: xxxxxxxxxx", *(f"  a{n}: ${{.a{n - 1}}}${{data.where.a{n - 1}}}" for n in range(1, 60))]
    write("data/mine", "\n".join(text))
    with pytest.raises(
        ConfigError, match=r"line \d+: data\.where\.a\d+ grows beyond all use once its references are followed"
    ):
        composed("train", "data=mine")


def test_references_that_double_each_other_over_two_files_end_soon(write):
    a, b = (["where:"], ["config:"])
    for n in range(1, 40):
        a.append(f"  a{n}: ${{model.config.b{n - 1}}}${{model.config.b{n - 1}}}")
        b.append(f"  b{n}: ${{data.where.a{n}}}")
    write("data/mine", "\n".join(a))
    write("model/mine", "\n".join([*b, "  b0: xxxxxxxx"]))
    with pytest.raises(ConfigError, match=r"grows beyond all use|found too many"):
        composed("train", "data=mine", "model=mine")


def test_sweeps_and_sets_do_not_mix_up_what_refers_to_what(write):
    write("data/a", "files: x\nlanguage: ${data.subset}\nsubset: a\n")
    write("data/b", "files: x\nlanguage: b\nsubset: ${data.language}\n")
    composition.register("train")
    with initialize_config_dir(str(schemas.find_conf()), version_base="1.3"):
        found = [compose("train", overrides=[f"data={name}"]).data.subset for name in ("a", "b", "a")]
    assert found == ["a", "b", "a"]


def test_settings_names_references_and_variables_pass(write, monkeypatch):
    monkeypatch.setenv("CORPUS", "/corpus")
    write("data/base", "files: ${oc.env:CORPUS}/x.txt\nlanguage: ${oc.env:NOT_SET,pt}\n")
    write(
        "data/mine",
        "defaults:\n  - base\n  - _self_\nprompts: ['\\${data.prompts}', 'Em ${data.language}']\nmin_chars: ${.rows_per_document}\n",
    )
    write(
        "experiment/mine",
        GLOBAL + "defaults:\n  - gpt2-biopt\n  - override /data: mine\n  - override /tracker: tensorboard\n\n"
        "training:\n  max_steps: ${oc.select:nothing,7}\n",
    )
    node = composed("train", "experiment=mine", "resume=off")
    data = OmegaConf.to_container(node.data, resolve=True)
    assert (data["files"], data["language"], data["min_chars"]) == ("/corpus/x.txt", "pt", 1)
    assert data["prompts"] == ["${data.prompts}", "Em pt"]
    assert node.training.max_steps == 7
    assert node.hydra.runtime.choices["tracker"] == "tensorboard"


def test_a_file_of_training_or_generation_keeps_lmtunes_defaults_underneath(write):
    write("training/mine", "max_steps: 3\n")
    write("training/mine-too", "defaults: [mine]\nlearning_rate: 1e-3\n")
    write("generation/mine", "top_k: 5\n")
    node = composed("train", "training=mine-too", "generation=mine")
    assert (node.training.max_steps, node.training.learning_rate) == (3, 1e-3)
    assert (node.training.eval_strategy, node.training.metric_for_best_model) == ("steps", "bits_per_byte")
    assert (node.generation.top_k, node.generation.max_new_tokens, node.generation.do_sample) == (5, 60, True)
    assert composed("lr-find", "training=mine").training.eval_strategy == "steps"
    assert composed("generate", "generation=mine").generation.max_new_tokens == 60


def test_a_launcher_of_the_users_builds_on_a_known_one(write, store_launcher):
    target = store_launcher("slurm_stub")
    write("hydra/launcher/mine", "defaults: [slurm_stub]\npartition: gpu\nsetup: [module load cuda]\n")
    launcher = composed("train", "hydra/launcher=mine").hydra.launcher
    assert (launcher.partition, launcher._target_) == ("gpu", target)
    write("hydra/launcher/slurm_stub", "defaults: [basic]\n")
    with pytest.raises(ConfigError, match="hydra/launcher=slurm_stub of an installed plugin have the same name"):
        composed("train", "hydra/launcher=slurm_stub")


def test_the_examples_of_the_docs_compose(write, store_launcher):
    text = (schemas.find_conf().parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    section = text.split("## A conf/ folder of your own")[1].split("\n## ")[0]
    examples = [part for part in section.split("\n\n") if part.startswith("    #")]
    for example in examples:
        write(re.search(r"# conf/(\S+)\.yaml", example)[1], textwrap.dedent(example))
    store_launcher("submitit_slurm")
    node = composed("train", "experiment=mine", "hydra/launcher=mine")
    assert len(examples) == 4
    assert (node.data.language, node.training.max_steps, node.batch.tokens) == ("no", 200, 65536)
    assert (node.hydra.launcher.partition, node.training.eval_strategy) == ("gpu", "steps")


def test_a_sweep_of_the_users_is_written_in_an_experiment_or_a_sweeper(write):
    write("experiment/mine", GLOBAL + "hydra:\n  sweeper:\n    params: {training.learning_rate: 'choice(1e-5,1e-4)'}\n")
    write("hydra/sweeper/mine", "defaults: [basic]\nparams: {seed: 'choice(1,2)'}\n")
    assert composed("train", "experiment=mine").hydra.sweeper.params == {"training.learning_rate": "choice(1e-5,1e-4)"}
    assert composed("train", "hydra/sweeper=mine").hydra.sweeper.params == {"seed": "choice(1,2)"}


def test_a_name_in_both_counts_only_where_it_is_asked_for(write):
    file = write("data/bio", "files: x\n")
    write("model/gpt2", "_target_: x\n")
    write("hydra/launcher/basic", "_target_: evil\n")
    assert composed("train", "data=wikitext").hydra.runtime.choices["data"] == "wikitext"
    assert composed("generate").hydra.launcher._target_.startswith("hydra._internal")
    with pytest.raises(ConfigError) as told:
        composed("train", "data=bio")
    ours = schemas.find_conf() / "data" / "bio.yaml"
    assert str(told.value) == (
        f"{file} and {ours} have the same name; expected a name of its own for yours. "
        "Rename your file: my-bio.yaml gives data=my-bio."
    )


def test_what_is_none_of_lmtunes_groups_does_not_matter(write):
    for name in (
        "train",
        "config",
        "data",
        "hydra/default",
        "hydra/job_logging/none",
        "trainer/gpu",
        "ckpt/x",
        "seed/x",
    ):
        write(name, "!!python/name:os.system\n")
    node = composed("train", "seed=3")
    assert node.seed == 3
    assert node.hydra.runtime.choices["hydra/job_logging"] == "none"
    source = folders.UserConfSource("user", f"{folders.SCHEME}://{folders.UserConf.folders[0]}")
    assert source.list("", None) == ["hydra"]
    assert not source.is_config("train")
    assert not source.is_group("trainer")


def test_a_folder_of_configs_is_given_by_name(write):
    write("data/mine", "files: x\n", conf="elsewhere")
    options, rest = take_options(["data=mine", "--config-dir", "elsewhere", "-m", "-cd=elsewhere"])
    config_dirs = options.config_dir
    assert (rest, config_dirs) == (["data=mine"], ("elsewhere", "elsewhere"))
    assert composed("train", "data=mine", config_dirs=config_dirs).data.files == "x"
    write("data/mine", "files: y\n")
    with pytest.raises(ConfigError, match=r"conf/data/mine.yaml and .*elsewhere/data/mine.yaml have the same name"):
        composed("train", "data=mine", config_dirs=config_dirs)


@pytest.mark.parametrize("folder", ["nowhere", "file.txt", "~nobody/conf", "", "x" * 300, "loop"])
def test_a_folder_of_configs_that_is_none_is_told(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ConfigError, match="expected a folder of configs"):
        composition.register("train", take_options(["--config-dir", folder])[0].config_dir)


def test_a_conf_folder_that_cannot_be_read_holds_nothing(write, monkeypatch):
    write("data/mine", "files: x\n")

    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folders.os, "scandir", refuse)
    assert composed("train", "data=wikitext").data.path
    monkeypatch.setattr(folders.os, "access", lambda path, mode: False)
    assert folders.find_hint("data", "other") == " conf is there, but may not be read."


@pytest.mark.parametrize("kind", ["file", "loop", "gone"])
def test_conf_that_is_no_folder_holds_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").touch() if kind == "file" else (tmp_path / "conf").symlink_to(
        "conf" if kind == "loop" else "nowhere"
    )
    assert composed("train").hydra.runtime.choices["data"] == "sample"
    assert (
        folders.find_hint("data", "mine") == " conf is there, but it is no folder; yours go into a folder of that name."
    )


@pytest.mark.parametrize(
    ("there", "hint"),
    [
        ("conf/data/mine.yml", " conf/data/mine.yml is there, but names of configs end in .yaml: call it mine.yaml."),
        ("conf/data/Mine.yaml", " conf/data/Mine.yaml is there: data=Mine."),
        ("conf/mine.yaml", " conf/mine.yaml is there; for data=mine it has to be conf/data/mine.yaml."),
        ("conf/model/mine.yaml", " conf/model/mine.yaml is there; for data=mine it has to be conf/data/mine.yaml."),
        ("conf/data/pt/mine.yaml", " conf/data/pt/mine.yaml is there; for data=mine it has to be conf/data/mine.yaml."),
        ("configs/data/mine.yaml", " configs/data/mine.yaml is there; for data=mine it has to be conf/data/mine.yaml."),
        ("data/mine.yaml", " data/mine.yaml is there; for data=mine it has to be conf/data/mine.yaml."),
        ("mine.yaml", " mine.yaml is there; for data=mine it has to be conf/data/mine.yaml."),
        ("mine.txt", ""),
    ],
)
def test_a_file_that_is_nearly_right_is_pointed_at(tmp_path, monkeypatch, there, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("files: x\n")
    composition.register("train")
    assert folders.find_hint("data", "mine") == hint


def test_a_source_travels_to_another_process(write):
    write("data/mine", "files: x\n")
    composition.register("train")
    source = folders.UserConfSource("user", f"{folders.SCHEME}://{folders.UserConf.folders[0]}")
    assert pickle.loads(pickle.dumps(source)).load_config("data/mine").config.files == "x"


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("hydra.output_subdir=.hydra", "The run folder keeps a record of its own"),
        ("++hydra.output_subdir=none", "The run folder keeps a record of its own"),
        ("hydra.job.chdir=", "output=FOLDER says where a run is written"),
        ("hydra.job.chdir=true", "output=FOLDER says where a run is written"),
        ("hydra.job={chdir:true}", "output=FOLDER says where a run is written"),
        ("hydra={job:{chdir:true}}", "output=FOLDER says where a run is written"),
        ("hydra.job.chdir=${oc.env:X}", "output=FOLDER says where a run is written"),
        ("hydra/job_logging=default", "Logs go to stderr"),
        ("hydra/job_logging=stdout", "Logs go to stderr"),
        ("+hydra.job_logging.handlers.file.class=logging.FileHandler", "Logs go to stderr"),
        ("hydra/hydra_logging=default", "Logs go to stderr"),
        ("hydra.searchpath=[file:///tmp]", "--config-dir FOLDER adds a folder of configs"),
    ],
)
def test_what_hydra_would_do_where_the_user_stands_is_refused_with_its_remedy(typed, remedy):
    with pytest.raises(ConfigError) as told:
        check_hydra_overrides(["data=bio", typed])
    assert remedy in str(told.value)
    assert str(told.value).startswith(f"{typed.partition('=')[0]}")


@pytest.mark.parametrize(
    "typed",
    [
        "hydra.output_subdir=null", "hydra.job.chdir=false", "hydra/job_logging=none", "hydra/job_logging=disabled",
        "hydra/hydra_logging=none", "hydra.run.dir=x", "hydra.sweep.dir=x", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu",
        "hydra.job.num=3", "hydra.sweeper.max_batch_size=2", "~hydra.job.chdir", "hydrate=3", "hydra", "hydra.x=[",
    ],
)  # fmt: skip
def test_other_settings_of_hydra_are_the_users_own(typed):
    check_hydra_overrides(["data=bio", typed])


def test_an_experiment_may_set_any_key_of_a_training(write):
    values = {"name": "mine", "seed": 3, "objective": "loss", "prompts": ["a"], "eval_data": ["bio"], "format": "json"}
    write("experiment/mine", GLOBAL + "".join(f"{key}: {value}\n" for key, value in values.items()))
    node = composed("train", "experiment=mine")
    assert {key: getattr(node[key], "value", node[key]) for key in values} == values
