"""Every shipped YAML composes, says what it is, and passes its own checks."""

import importlib
import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from lmtune import upstream
from lmtune.cli import composition, reference, reference_pages, schemas
from lmtune.cli.commands import COMMANDS
from lmtune.cli.tools import TOOLS
from lmtune.config.keys import section_of, walk

CONF = schemas.find_conf()
CHOICES = sorted(
    (file.parent.name, file.stem)
    for file in CONF.glob("*/*.yaml")
    if file.parent.name not in ("training", "generation", "suite")
)


@pytest.fixture(autouse=True)
def _hydra():
    for command in schemas.SCHEMAS:
        composition.register(command)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides):
    return compose("train", overrides=list(overrides), return_hydra_config=True)


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group, choice):
    node = composed(f"{group}={choice}")
    HydraConfig.instance().set_config(node)
    assert node.hydra.runtime.choices[group] == choice
    if group in ("data", "model", "tracker", "finetune"):
        assert node[group].name == choice


@pytest.mark.parametrize("choice", sorted(file.stem for file in (CONF / "suite").glob("*.yaml")))
def test_every_suite_composes(choice):
    node = compose("eval", overrides=["ckpt=x", f"suite={choice}"], return_hydra_config=True)
    assert node.suite.name == choice


@pytest.mark.parametrize("choice", sorted(file.stem for file in (CONF / "experiment").glob("*.yaml")))
def test_the_samples_of_every_recipe_can_be_written(build_tiny, choice):
    from lmtune.modeling.generation import build_generation_config

    node = composed(f"experiment={choice}")
    HydraConfig.instance().set_config(node)
    given = [name for name in node.generation if not OmegaConf.is_missing(node.generation, name)]
    settings = {name: node.generation[name] for name in given}
    assert build_generation_config(build_tiny(), settings).max_new_tokens > 0


@pytest.mark.parametrize("file", sorted(CONF.glob("*/*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_opens_with_a_comment(file):
    assert file.read_text(encoding="utf-8").startswith("#")


@pytest.mark.parametrize("data", ["sample", "wikitext", "wikitext-103", "pt-wiki", "bio"])
def test_named_data_has_a_source_and_prompts(data):
    node = composed(f"data={data}")
    assert (node.data.path is None) != (node.data.files is None)
    assert len(node.prompts) >= 2


def test_default_training_names_a_reason_for_each_departure():
    lines = (CONF / "training" / "default.yaml").read_text(encoding="utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith("#")]
    assert settings
    for line in settings:
        assert "#" in line, line
        assert line.split(":")[0] in upstream.load_training_fields()


SHARED = "groups"  # by train and lr-find


def test_every_command_has_a_config_a_schema_and_a_door():
    from lmtune.cli.main import COMMANDS

    assert set(COMMANDS) == set(schemas.SCHEMAS) == {file.stem for file in CONF.glob("*.yaml")} - {SHARED}
    for command in COMMANDS.values():
        assert callable(importlib.import_module(command.module).run)


@pytest.mark.parametrize("page", ["configuration", "coming-from"])
def test_the_tables_of_the_docs_are_those_of_the_fields(page):
    text = (CONF.parent / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert text == reference.rewrite(text), "make docs"


def test_the_reference_is_that_of_the_package():
    docs = CONF.parent / "docs"
    commands = reference_pages.render_commands((docs / "configuration.md").read_text(encoding="utf-8"))
    assert (docs / "reference" / "commands.md").read_text(encoding="utf-8") == commands, "make docs"
    assert (docs / "reference" / "python.md").read_text(encoding="utf-8") == reference_pages.render_python(), (
        "make docs"
    )
    for command in (*COMMANDS, *TOOLS):
        assert f"\n## lmtune {command}\n" in commands


@pytest.mark.parametrize("command", schemas.SCHEMAS)
def test_every_key_has_a_text(command):
    for section in ("", *(name for name, item in walk(schemas.SCHEMAS[command]) if section_of(item.type))):
        for line in reference.render_table(command, section).splitlines()[2:]:
            assert re.search(r"\| [^|]+[.`] \|$", line), line


def test_the_docs_name_every_key():
    text = (CONF.parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    for command in schemas.SCHEMAS:
        for key in schemas.known_keys(command):
            if key.split(".")[0] not in ("training", "generation"):
                assert any(f"`{key}{end}" in text for end in ("`", "=", ".")), key
