"""A secret is known by what it looks like, or by one of few names; a misspelt key is none."""

import pytest

from lmtune.errors import ConfigError
from lmtune.secrets import MASK, check_secrets, find_secret, hide_secrets

TOKEN = "hf_" + "a1B2" * 6


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["training.hub_token=abc"], "HF_TOKEN"),
        (["hub_token=anything"], "HF_TOKEN"),
        (["serve.token=open-sesame"], "LMTUNE_SERVE_TOKEN"),
        (["token=0123abcd0123abcd"], "HF_TOKEN"),
        (["training.api_key=0123abcd0123abcd"], "API_KEY"),
        (["--hub_token", "something"], "HF_TOKEN"),
        (["--hub-token=something"], "HF_TOKEN"),
        ([f"name={TOKEN}"], "environment"),
        (["hydra.job.env_set.WANDB_API_KEY=abc"], "WANDB_API_KEY"),
        (["data.path=https://me:hunter2@example.org/data"], "Leave it out of the address."),
        (["data.files=https://example.org/a.txt?sig=0123abcd0123abcd"], "Leave it out of the address."),
        (["tracker.project=${oc.env:WANDB_API_KEY}"], "environment"),
    ],
)
def test_a_secret_among_the_arguments_is_refused(arguments, remedy):
    with pytest.raises(ConfigError) as error:
        check_secrets(arguments)
    assert remedy in str(error.value)
    assert hide_secrets(str(error.value)) == str(error.value)


@pytest.mark.parametrize(
    "argument",
    ["batch.token=5", "batch.token=524288", "batch.token=choice(1024,2048)", "model.token=gpt2-small-pt", "eval.max_token=250000",
     "training.hub_token=null", "token=true", "data.files=https://example.org/a.txt", "data.files=C:/a@b.txt", "prompt=user:pass",
     "model.revision=0123456789abcdef0123456789abcdef01234567", "-m", "--cfg", "tokenizer.special_tokens=[<a>,<b>]"],
)  # fmt: skip
def test_what_only_sounds_secret_is_none(argument):
    check_secrets([argument])


def test_the_value_of_a_secret_variable_is_found_and_masked(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "correct-horse")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    assert find_secret("run-correct-horse") == "the value of MLFLOW_TRACKING_PASSWORD"
    assert find_secret("abc") is None
    assert hide_secrets(f"a correct-horse and {TOKEN}") == f"a {MASK} and {MASK}"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("s3://id:key@bucket/x", f"s3://{MASK}@bucket/x"),
        ("https://h/x?a=1&token=0123456789&b=2", f"https://h/x?a=1&{MASK}&b=2"),
        ("ghp_" + "a" * 30, MASK),
        ("https://example.org/a?page=2", "https://example.org/a?page=2"),
        ("12:30@noon", "12:30@noon"),
    ],
)
def test_secrets_in_addresses_are_masked(text, hidden):
    assert hide_secrets(text) == hidden
