"""Where a finished model goes on the Hub, tried before anything else is done, and the push.

What huggingface_hub is asked for, it is asked in a process of its own (client.py), which a time limit can end.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from lmtune import __version__
from lmtune.config.training_arguments import WITHHELD
from lmtune.errors import ConfigError, PushError
from lmtune.exporting.card_seal import is_own_card
from lmtune.exporting.contents import CARD, REPLACED, Package, is_any
from lmtune.hub import find_offline, is_offline
from lmtune.storage import Record

NAME = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]{0,94}\w)?", re.ASCII)
"""What the Hub takes for an owner or a repository."""

BRANCH = re.compile(r"(?!refs/|.*\.\.|[0-9a-f]{40}\Z)\w[\w.-]*(?:/\w[\w.-]*)*", re.ASCII)
"""A branch, and not a commit, a tag's full name or a pull request."""

OPEN_LIMIT = 30
"""Seconds for the questions before a run."""
PUSH_LIMIT, SLOWEST = 600, 100_000
"""Seconds for a push, besides those that its bytes take at the slowest rate (bytes a second) that is waited for."""

MOST_NAMES = 8
"""Most names that are listed in a line."""

CLIENT = Path(__file__).with_name("client.py")

FAULTS = {
    "offline": ("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set", "Unset it"),
    "no_token": (
        "no token was found, in HF_TOKEN or left by `hf auth login`",
        "Make one with the right to write at {endpoint}/settings/tokens and set HF_TOKEN to it",
    ),
    "refused": (
        "{endpoint} does not take the token ({detail})",
        "Set HF_TOKEN to one that is valid and may write, or run `hf auth login`",
    ),
    "read_only": (
        "the token of {user} can only read",
        "Make one with the right to write at {endpoint}/settings/tokens and set HF_TOKEN to it",
    ),
    "forbidden": (
        "the token of {user} may not write to {repo} at {endpoint} ({detail})",
        "Name a repository of yours, {key}={user}/{name}, or set HF_TOKEN to a token that may write there",
    ),
    "silent": ("{endpoint} did not answer as the Hub does ({detail})", "Check the network and HF_ENDPOINT"),
    "slow": ("{endpoint} was not done after {detail}", "Check the network"),
    "xet": ("{endpoint}: {detail}", "Set HF_HUB_DISABLE_XET=1, which uploads by plain HTTP"),
    "edited": (
        "{detail} in {repo} has been edited since it was looked at",
        "Say what it says by card.* keys, or add card.overwrite=true to replace it",
    ),
    "other": ("{endpoint}: {detail}", "Mend that"),
}
"""What can be wrong between here and the Hub: what was found, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Where a model is to go, and by which keys that was said."""

    repo: str
    """`owner/name`, or a `name` of the token's user."""
    revision: str = "main"
    private: bool = True
    """Whether a new repository is private."""
    overwrite: bool = False
    """A card that was written by hand is replaced."""
    key: str = "repo"
    asker: str = "lmtune push"
    otherwise: str = ""
    """What can be done instead, behind the remedy of a fault."""


@dataclass(frozen=True, slots=True)
class Target:
    """A repository that is there and may be written to."""

    repo: str
    revision: str
    endpoint: str
    state: str
    """Whether it is new, who sees it, and what it holds, in words."""
    card: str | None
    """The text of the card that stands there."""
    overwrite: bool

    @property
    def url(self) -> str:
        """Address of the repository's page."""
        return f"{self.endpoint}/{self.repo}"


def check_settings(training: Record) -> None:
    """Raise ConfigError for what of the keys above is not supported, or has no effect; nothing is asked for."""
    given = [key for key in WITHHELD if training.get(key) is not None]
    if not training.get("push_to_hub"):
        if given and "push_to_hub" not in given:
            raise ConfigError(
                f"training.{given[0]} has no effect without training.push_to_hub=true. Add that, or leave it out."
            )
        return
    if training.get("hub_strategy", "end") != "end" or training.get("hub_always_push"):
        key = "hub_always_push" if training.get("hub_always_push") else "hub_strategy"
        raise ConfigError(
            f"training.{key}={training[key]}: expected a push at the end alone (hub_strategy=end, the default here): checkpoints "
            "hold what only this machine can use. Leave it out."
        )
    if (branch := training.get("hub_revision")) is not None:
        check_branch("training.hub_revision", branch)
    if (variable := find_offline()) is not None:
        raise ConfigError(
            f"training.push_to_hub=true needs the Hub, and {variable} is set. Unset it, or leave it out now and push "
            "later: lmtune train resume=<run folder> training.push_to_hub=true."
        )


def check_branch(key: str, branch: str) -> None:
    """Raise ConfigError for what cannot be a branch."""
    if not BRANCH.fullmatch(branch):
        raise ConfigError(f"{key}={branch}: expected the name of a branch, such as main or run/2.")


def check_repository(key: str, repo: str) -> None:
    """Raise ConfigError for what the Hub would not take for a repository, `owner/name` or `name`."""
    parts = repo.split("/")
    sound = len(parts) <= 2 and all(NAME.fullmatch(part) for part in parts)
    if not sound or repo.endswith(".git"):
        raise ConfigError(
            f"{key}={repo}: expected what the Hub takes for a repository, owner/name or name: letters A to Z, digits, '_', '-' and "
            f"'.', the last two neither doubled nor at an end. Give {'training.hub_model_id' if key == 'name' else key}=owner/name."
        )


def open_target(wish: Wish) -> Target:
    """The repository, made or found writable now.

    Raises PushError where it is not to be had, or holds a card that was written by hand and is not to be replaced.
    """
    asked = {"task": "open", "repo": wish.repo, "private": wish.private, "revision": wish.revision}
    # Offline by now, and not when the settings were checked: the endpoint did not answer for a model or a text.
    answer = {"fault": "silent", "detail": "see above"} if is_offline() else ask_client(asked, OPEN_LIMIT)
    if "fault" in answer:
        found, remedy = explain({"repo": wish.repo, "key": wish.key, **answer})
        raise PushError(
            f"{wish.asker} needs a repository of the Hub that can be written to, but {found}. {remedy}{wish.otherwise}."
        )
    card, repo = answer["card"], answer["repo"]
    if card is not None and not wish.overwrite and not is_own_card(card):
        raise PushError(
            f"{CARD} in {answer['endpoint']}/{repo} was written or edited by hand: it is not a card as lmtune wrote it, and would "
            f"be lost. Say what it says by card.* keys and add card.overwrite=true, or name another repository: {wish.key}=."
        )
    return Target(repo, wish.revision, answer["endpoint"], describe(answer, wish.private), card, wish.overwrite)


def describe(answer: Record, private: bool) -> str:
    """What is known of an open repository that was asked to be private, or not: one that is there stays what it is."""
    visible = "private" if answer["private"] else "PUBLIC" if private else "public"
    if answer["made"]:
        return f"new and {visible}"
    old = sorted(name for name in answer["files"] if name == "README.md" or is_any(name, REPLACED))
    return f"there already and {visible}" + (f" (to be replaced: {list_names(old)})" if old else "")


def list_names(names: list[str]) -> str:
    """Names in a row, of many the first."""
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def push(target: Target, package: Package, name: str) -> Record:
    """Upload a package in one commit; return what the client says of it. Raises PushError, in a clause, where it fails."""
    asked = {
        "task": "push",
        "repo": target.repo,
        "revision": target.revision,
        "files": {file: str(path) for file, path in package.files.items()},
        "texts": package.texts,
        "replaces": REPLACED,
        "message": f"{name}, by lmtune {__version__}",
        **({} if target.overwrite else {"card": target.card}),
    }
    answer = ask_client(asked, PUSH_LIMIT + package.size / SLOWEST)
    if "fault" in answer:
        found, remedy = explain({"repo": target.repo, "endpoint": target.endpoint, **answer})
        raise PushError(f"{found}. {remedy}")
    return answer


def render_pushed(target: Target, package: Package, answer: Record) -> str:
    """What was pushed where, in one line."""
    if not answer["changed"]:
        return f"Hub: {target.url} holds this model already: {answer['url']}"
    count, size = len(package.files) + len(package.texts), package.size / 1e6
    removed = f"; removed there: {list_names(answer['removed'])}" if answer["removed"] else ""
    left = f"; left here: {list_names(package.left_out)}" if package.left_out else ""
    return f"Hub: pushed {count} files, {size:,.1f} MB, to {answer['url']}{removed}{left}"


def explain(answer: Record) -> tuple[str, str]:
    """(what was found, what to do) for an answer with a fault."""
    endpoint = answer.get("endpoint") or os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    name = answer["repo"].rpartition("/")[2]
    facts = {"user": "<you>", "key": "repo", **answer, "endpoint": endpoint, "name": name}
    found, remedy = FAULTS[answer["fault"]]
    return found.format(**facts), remedy.format(**facts)


def ask_client(request: Record, limit: float) -> Record:
    """The client's answer, or that it had none within `limit` seconds. -P: nothing is imported from where the user stands."""
    shows = (sys.stderr is not None and sys.stderr.isatty()) or os.environ.get("LMTUNE_DEBUG") == "1"
    try:
        ended = subprocess.run(
            [sys.executable, "-P", str(CLIENT)],
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            stderr=None if shows else subprocess.DEVNULL,
            timeout=limit,
            check=False,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return {"fault": "slow", "detail": f"{limit:,.0f} s"}
    try:
        answer = json.loads(ended.stdout)
    except ValueError:
        return {"fault": "other", "detail": f"the client ended with code {ended.returncode} and no answer"}
    assert isinstance(answer, dict)
    return answer
