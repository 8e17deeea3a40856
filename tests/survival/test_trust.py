"""No secret is ever written down, and nothing that is read back from a checkpoint can run."""

import importlib.util
import pickle
from pathlib import Path

import pytest
import torch

SECRETS = {
    "HF_TOKEN": "hf_aVerySecretTokenOfTheHub",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "MLFLOW_TRACKING_PASSWORD": "correct-horse-battery",
    "LMTUNE_SERVE_TOKEN": "only-for-my-friends",
}
TINY = (
    "training.use_cpu=true",
    "training.max_steps=1",
    "training.eval_steps=1",
    "model.config.n_layer=1",
    "samples.show=0",
)


@pytest.fixture
def secrets(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return SECRETS


def find_leaks(folder, texts=()):
    contents = [(str(path), path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")]
    return [
        (name, place)
        for name, secret in SECRETS.items()
        for place, content in [*contents, *((text, b"") for text in texts)]
        if secret.encode() in content or secret in place
    ]


def test_secrets_of_the_environment_reach_no_file_and_no_message(lmtune, secrets, tmp_path):
    tracker = "tensorboard" if importlib.util.find_spec("tensorboard") else "none"
    answer = lmtune("train", *TINY, f"tracker={tracker}")
    assert answer.code == 0, answer.err
    assert len(list(answer.run.glob("checkpoint-*"))) == 1
    assert find_leaks(tmp_path, [answer.out, answer.err]) == []


@pytest.mark.parametrize("sweep", [(), ("-m",)], ids=["one", "sweep"])
@pytest.mark.parametrize(
    "override",
    [
        f"training.hub_token={SECRETS['HF_TOKEN']}",
        f"+training.hub_token={SECRETS['LMTUNE_SERVE_TOKEN']}",
        f"name=run-{SECRETS['HF_TOKEN']}",
        f"hydra.job.env_set.WANDB_API_KEY={SECRETS['WANDB_API_KEY']}",
        f"hydra.job.env_set={{MLFLOW_TRACKING_PASSWORD: {SECRETS['MLFLOW_TRACKING_PASSWORD']}}}",
        "training.hub_token=hf_anotherTokenThanThatOfTheEnvironment",
        "tracker.project=${oc.env:MLFLOW_TRACKING_PASSWORD}",
    ],
)
def test_a_secret_among_the_overrides_is_refused_and_repeated_nowhere(lmtune, secrets, tmp_path, override, sweep):
    answer = lmtune("train", *sweep, *TINY, override)
    assert answer.code == 2
    assert "nvironment" in answer.err
    assert "hf_another" not in answer.err
    assert find_leaks(tmp_path, [answer.out, answer.err]) == []


def test_a_setting_that_only_sounds_secret_is_taken(lmtune, secrets):
    answer = lmtune("train", *TINY, "training.hub_token=null", "model.tokenizer=learn", "name=token")
    assert answer.code == 0, answer.err


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize(
    "file",
    ["optimizer.pt", *(pytest.param(name, marks=pytest.mark.slow) for name in ("scheduler.pt", "rng_state.pth"))],
)
def test_a_pickle_in_a_checkpoint_does_not_run(lmtune, tmp_path, file):
    """Even where the manifest has been made to fit."""
    from lmtune.runs import Run, seal
    from lmtune.storage import load_json

    first = lmtune("train", *TINY, "training.max_steps=4", "training.eval_steps=2")
    assert first.code == 0, first.err
    run = Run(first.run)
    run.write_results({**run.load_results(), "status": "stopped"})
    newest, older = run.checkpoints()
    run.discard(newest)
    torch.save(Trap(), older / file)
    manifest = load_json(older / "manifest.json")
    seal(older, {name: value for name, value in manifest.items() if name not in ("files", "xxh3_128")})
    with pytest.raises(pickle.UnpicklingError):
        lmtune("train", f"resume={run.folder}")
    assert not (tmp_path / "sprung").exists()


def test_code_that_comes_with_a_checkpoint_is_not_run(lmtune, tmp_path):
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "config.json").write_text(
        '{"model_type": "foreign", "trust_remote_code": true, '
        '"auto_map": {"AutoConfig": "code.Foreign", "AutoModelForCausalLM": "code.Foreign"}}'
    )
    (folder / "code.py").write_text("from pathlib import Path\nPath('sprung').touch()\n")
    answer = lmtune("train", f"model.path={folder}", *TINY[:3])
    assert answer.code == 2
    assert not (tmp_path / "sprung").exists()
