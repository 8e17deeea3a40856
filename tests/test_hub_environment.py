"""lmtune.hub reads the environment as huggingface_hub does, without importing it."""

import json
import os
import subprocess
import sys

import pytest

from lmtune import hub

NAMES = (
    "HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE",
    "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT", "PLACE",
)  # fmt: skip
THEIRS = """
import json
from huggingface_hub import constants, get_token
print(json.dumps([constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE, get_token(), constants.ENDPOINT]))
"""


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"HF_HOME": "~/hf", "HF_HUB_OFFLINE": "yes", "HF_TOKEN": " hf_one\n", "HUGGING_FACE_HUB_TOKEN": "hf_two"},
        {"XDG_CACHE_HOME": "/var/cache", "TRANSFORMERS_OFFLINE": "1", "HUGGING_FACE_HUB_TOKEN": "hf_two"},
        {"HF_HUB_CACHE": "$PLACE/models", "PLACE": "/srv", "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"},
        {"HUGGINGFACE_HUB_CACHE": "/old", "HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN_PATH": "/nowhere/token"},
    ],
)
def test_the_environment_means_what_it_means_to_huggingface_hub(given, monkeypatch, tmp_path):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    answer = subprocess.run([sys.executable, "-c", THEIRS], env=os.environ, capture_output=True, text=True, check=True)
    ours = [str(hub._find_cache()), hub.is_offline(), hub._find_token(), hub._endpoint()]
    assert ours == json.loads(answer.stdout)
