"""The range of versions: what is said outside it, and that constraints/ has its ends."""

import tomllib
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from transformers import TrainingArguments

import lmtune as package
from lmtune import versions
from lmtune.errors import LmtuneError
from lmtune.versions import (
    add_newer_names,
    check_versions,
    compose_letters,
    disable_checkpointing,
    enable_checkpointing,
    get_argument,
    render_install,
    set_argument,
    use_installed_names,
)

ROOT = Path(package.__file__).parents[2]
HERE = {"python_version": "3.11"}
WITHDRAWN_AND_OLD = {"logging_dir": "str", "gradient_checkpointing": "bool", "seed": "int"}


@pytest.fixture(scope="module")
def bounds():
    """Requirements of the package and of its extra for adapters."""
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("no checkout")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return list(map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["lora"]]))


def load_pins(name):
    lines = (ROOT / "constraints" / f"{name}.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(pin.name): Version(str(pin.specifier).removeprefix("=="))
        for pin in pins
        if pin.marker is None or Marker(str(pin.marker)).evaluate(HERE)
    }


@pytest.mark.parametrize("name", ["oldest", "pinned", "newest"])
def test_each_set_of_versions_lies_within_the_range(bounds, name):
    pins = load_pins(name)
    for wanted in bounds:
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


def test_the_oldest_versions_are_the_lower_bounds(bounds):
    pins = load_pins("oldest")
    for wanted in bounds:
        least = next(Version(bound.version) for bound in wanted.specifier if bound.operator in (">=", "=="))
        assert pins[canonicalize_name(wanted.name)] == least, wanted


@pytest.fixture
def requires(monkeypatch):
    """A function that sets what the installed lmtune requires."""

    def set_required(*lines):
        monkeypatch.setattr(versions.metadata, "requires", lambda name: list(lines))

    return set_required


def test_versions_in_the_range_are_taken(requires):
    requires("torch>=2,<3", "numpy", 'peft>=99; extra == "lora"', 'tomli>=99; python_version < "3"')
    check_versions()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            "torch<1.5,>=1.2",
            f"lmtune works with torch >=1.2,<1.5, found torch {metadata.version('torch')}. pip install",
        ),
        ("torch>=99", f"lmtune works with torch >=99, found torch {metadata.version('torch')}. pip install"),
        ("no-such-library>=1", "lmtune works with no-such-library >=1, found none. pip install"),
    ],
)
def test_versions_outside_are_refused_in_one_line(requires, lmtune, wanted, said):
    requires("numpy", wanted)
    with pytest.raises(LmtuneError, match=f"^{said}".replace(".", r"\.").replace("+", r"\+")):
        check_versions()
    answer = lmtune("data")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {said}")
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_letters_are_composed_whatever_pyarrow_does(monkeypatch, kind):
    texts = pa.array(["ac\u0327a\u0303o", "plain", None, "\u00e9"], type=kind)
    composed = ["\u00e7\u00e3".join("ao"), "plain", None, "\u00e9"]
    assert compose_letters(texts).to_pylist() == composed
    monkeypatch.setattr(pyarrow.compute, "utf8_normalize", lambda texts, form: texts)
    assert compose_letters(texts).to_pylist() == composed
    assert compose_letters(texts).type == kind


def test_help_comes_with_any_version(requires, lmtune):
    requires("torch>=99")
    assert lmtune("--help").code == 0
    assert lmtune("--version").code == 0


def test_a_folder_on_the_path_requires_nothing(monkeypatch):
    def requires(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions.metadata, "requires", requires)
    check_versions()


def test_what_is_missing_is_installed_in_the_version_that_lmtune_wants(requires):
    requires("torch<3,>=2.8", "peft>=0.21; extra == 'lora'", "prometheus-client>=0.26; extra == 'serve'")
    assert render_install("peft") == "pip install 'peft>=0.21'"
    assert render_install("torch", "prometheus_client") == "pip install 'torch>=2.8,<3' 'prometheus_client>=0.26'"
    assert render_install("deepspeed") == "pip install deepspeed"


def test_training_arguments_have_their_newest_names():
    assert add_newer_names(WITHDRAWN_AND_OLD) == {
        "gradient_checkpointing": "bool", "activation_checkpointing": "bool", "seed": "int",
    }  # fmt: skip
    settings = {"activation_checkpointing": True, "seed": 1}
    assert use_installed_names(settings, ["gradient_checkpointing", "seed"]) == {
        "gradient_checkpointing": True,
        "seed": 1,
    }
    assert use_installed_names(settings, ["activation_checkpointing", "seed"]) == settings


def test_arguments_are_read_and_set_by_whichever_name_is_there(tmp_path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert not get_argument(arguments, "activation_checkpointing")
    set_argument(arguments, "activation_checkpointing", True)
    assert get_argument(arguments, "activation_checkpointing") is True


def test_activations_are_computed_twice_and_kept_again(build_tiny):
    model = build_tiny().train()
    for change, twice in ((enable_checkpointing, True), (disable_checkpointing, False)):
        change(model, *([None] if twice else []))
        assert any(getattr(module, "gradient_checkpointing", False) for module in model.modules()) is twice
