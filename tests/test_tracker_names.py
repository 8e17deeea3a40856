"""Names of trackers: one, several, none, in a sweep and from transformers' own argument; what cannot be is said at once."""

import os

import pytest

from lmtune.cli.dispatch import Dispatch
from lmtune.cli.options import Options
from lmtune.cli.overrides import spell_out
from lmtune.errors import ConfigError
from lmtune.training import trackers


@pytest.fixture
def compose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return lambda *keys: Dispatch("train", Options()).compose(list(keys))


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ((), []),
        (("tracker=none",), []),
        (("tracker=wandb",), ["wandb"]),
        (("tracker=[wandb]",), ["wandb"]),
        (("tracker=[tensorboard, wandb]",), ["tensorboard", "wandb"]),
        (("tracker.name=[tensorboard,wandb]",), ["tensorboard", "wandb"]),
        (("training.report_to=[tensorboard,wandb]",), ["tensorboard", "wandb"]),
        (("tracker=[tensorboard,wandb]", "training.report_to=[tensorboard,wandb]"), ["tensorboard", "wandb"]),
    ],
)
def test_a_tracker_or_several(compose, keys, names):
    assert compose(*keys).tracker.names == names


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (("tracker=[]",), r"tracker=\[\]: expected none, the name of a tracker, or several in a list"),
        (("tracker=[none,wandb]",), r"tracker=\[none,wandb\]: expected none"),
        (("tracker=[wandb]", "training.report_to=trackio"), "differ; they mean the same"),
        (("tracker=[tensorboard,codecarbon]", "tracker.project=x"), "tracker.project has no effect"),
    ],
)
def test_what_no_run_could_do_is_refused(compose, keys, words):
    with pytest.raises(ConfigError, match=words):
        compose(*keys)


def test_a_project_that_the_environment_names_is_not_typed_as_well(compose, monkeypatch):
    assert compose("tracker=[tensorboard,wandb]", "tracker.project=x").tracker.project == "x"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    with pytest.raises(ConfigError, match="WANDB_PROJECT in the environment says otherwise"):
        compose("tracker=wandb", "tracker.project=x")


def test_a_list_is_one_value_of_a_sweep():
    assert spell_out(["tracker=[a,b],none", "seed=1"]) == ["tracker.name=[a,b],none", "seed=1"]
    assert spell_out(["tracker=wandb,none"]) == ["tracker=wandb,none"]


def test_packages_and_names_are_checked_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None if name == "wandb" else name)
    trackers.check_trackers(["tensorboard"])
    with pytest.raises(ConfigError, match=r"needs the package wandb, which is not installed. pip install '?wandb\b"):
        trackers.check_trackers(["tensorboard", "wandb"])
    with pytest.raises(ConfigError, match=r"tracker=tensorbord: expected none, .* Did you mean tensorboard\?"):
        trackers.check_trackers(["tensorbord"])
    with pytest.raises(ConfigError, match=r"names trackio twice. Expected each once: tracker=\[trackio\]"):
        trackers.check_trackers(["trackio", "trackio"])


def test_the_environment_is_the_users_and_is_left_as_it_was(begin_run, tmp_path, monkeypatch):
    run = begin_run(tmp_path / "run")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = dict(os.environ)
    undo = trackers.point_trackers(["wandb", "mlflow"], run, "ours")
    assert os.environ["WANDB_PROJECT"] == "mine"
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "ours"
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("run/mlflow.db")
    undo()
    assert dict(os.environ) == before
