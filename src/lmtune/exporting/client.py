"""The Hub's own client, in a process of its own: it waits without limit, and a process can be given one.

    echo '{"task": "open", "repo": "me/gpt2-bio", "private": true, "revision": "main"}' | python -P client.py

One JSON object comes in on stdin, one goes out on stdout; a task that failed answers with a `fault` (a key of hub.FAULTS)
and its `detail`. It imports nothing of lmtune, so it starts in a quarter of a second, and from any folder.
"""

import contextlib
import importlib
import json
import re
import signal
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    __version__,
    constants,
    get_token,
    hf_hub_url,
    set_client_factory,
)
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

utils = importlib.import_module("huggingface_hub.utils")  # exports what follows, and does not say so
http = importlib.import_module("httpx" if __version__.startswith("1.") else "httpx2")
"""What huggingface_hub speaks HTTP with: from 2.0 on the latter."""

CARD = "README.md"

QUESTION_LIMIT, ANSWER_LIMIT, TRANSFER_LIMIT = 2.0, 10.0, 60.0
"""Seconds without a sign from the endpoint: of the first question, of what is asked then, of uploads."""

PAUSES = (5.0, 20.0)
"""Seconds before a push is tried again."""

WRITE_REFUSED = (401, 402, 403, 409)
"""What creating a repository is answered with where it exists already, or where the token has no right to make one."""

XET = re.compile(r"\b(xet|cas)\b", re.IGNORECASE)
"""Matches what hf_xet says of a store that it cannot reach: its errors have no type of their own."""

FAULT_OF_KIND: dict[type[BaseException], str] = {
    HfHubHTTPError: "other",  # its status tells
    LocalTokenNotFoundError: "no_token",
    OfflineModeIsEnabled: "offline",
    http.TransportError: "silent",
}


def open_repository(request: dict[str, Any]) -> dict[str, Any]:
    """Make a repository and its branch, unless they are there and may be written to; say what is in it."""
    api = _build_api(QUESTION_LIMIT)
    known = ask_who(api)
    limit_waiting(ANSWER_LIMIT)
    user, repo, revision = known["name"], request["repo"], request["revision"]
    repo = repo if "/" in repo else f"{user}/{repo}"
    about = {"user": user, "repo": repo, "endpoint": api.endpoint}
    if known.get("auth", {}).get("accessToken", {}).get("role") == "read":
        return {**about, "fault": "read_only", "detail": "the token can only read"}
    try:
        made = make_repository(api, repo, request["private"])
        if revision != constants.DEFAULT_REVISION:
            api.create_branch(repo, branch=revision, exist_ok=True)
        files = api.list_repo_files(repo, revision=revision)
        card = load_card(api, repo, revision, files)
        return {**about, "made": made, "private": bool(api.model_info(repo).private), "files": files, "card": card}
    except Exception as error:
        return {**about, **explain(error)}


def ask_who(api: HfApi) -> dict[str, Any]:
    """What the Hub knows of the token; raise TransportError where something else than a Hub answers."""
    try:
        return api.whoami()
    except HfHubHTTPError as error:
        if error.response.status_code == 401:
            raise
        raise http.TransportError(explain(error)["detail"]) from None
    except ValueError:
        raise http.TransportError("its answer is no JSON") from None


def make_repository(api: HfApi, repo: str, private: bool) -> bool:
    """True if the repository is new; raise where it is there and may not be written to.

    Not by exist_ok: that takes a repository of somebody else, which can only be read, for one's own.
    """
    try:
        api.create_repo(repo, private=private)
    except HfHubHTTPError as refused:
        if refused.response.status_code not in WRITE_REFUSED:
            raise
        _check_write(api, repo, refused)
        return False
    return True


def _check_write(api: HfApi, repo: str, refused: HfHubHTTPError) -> None:
    try:
        api.auth_check(repo, write=True)
    except HfHubHTTPError as error:
        if refused.response.status_code != 409:
            raise refused from error
        if error.response.status_code != 404 or "X-Error-Code" in error.response.headers:
            raise  # otherwise it is the question that the endpoint does not know


def load_card(api: HfApi, repo: str, revision: str, files: list[str]) -> str | None:
    """The text of the card in a repository; None for one without. Raises HfHubHTTPError."""
    if CARD not in files:
        return None
    address = hf_hub_url(repo, CARD, revision=revision, endpoint=api.endpoint)
    answer = utils.get_session().get(address, headers=utils.build_hf_headers(token=api.token))
    utils.hf_raise_for_status(answer)
    return str(answer.text)


def push(request: dict[str, Any]) -> dict[str, Any]:
    """Upload files and texts in one commit, which takes away what of an earlier model they do not replace.

    card: the text that the card there may have, None for no card; without this key it may have any.
    """
    api = _build_api(TRANSFER_LIMIT)
    repo, revision = request["repo"], request["revision"]
    before = api.model_info(repo, revision=revision).sha
    contents = {**request["files"], **{name: text.encode() for name, text in request["texts"].items()}}
    present = api.list_repo_files(repo, revision=revision)
    if "card" in request:
        found = load_card(api, repo, revision, present)
        if found not in (request["card"], request["texts"][CARD]):  # the latter where the answer to this push was lost
            return {"fault": "edited", "detail": CARD}
    stale = find_stale(present, set(contents), request["replaces"])
    additions = [CommitOperationAdd(name, content) for name, content in contents.items()]
    deletions = [CommitOperationDelete(name) for name in stale]
    done = api.create_commit(repo, [*additions, *deletions], commit_message=request["message"], revision=revision)
    missing = sorted(set(contents) - set(api.list_repo_files(repo, revision=done.oid)))
    if missing:  # a .gitignore in the repository has the Hub leave files out, and the client says nothing
        return {"fault": "other", "detail": f"the commit lacks {', '.join(missing)}: look for a .gitignore there"}
    return {"commit": done.oid, "url": done.commit_url, "removed": stale, "changed": done.oid != before}


def find_stale(present: list[str], coming: set[str], replaces: list[str]) -> list[str]:
    """Files of an earlier model that would be loaded with, or instead of, the one that comes."""
    return [name for name in present if name not in coming and any(fnmatchcase(name, pattern) for pattern in replaces)]


def explain(error: BaseException) -> dict[str, str]:
    """The fault and its detail in one line: of the error itself, or of the one that led to it."""
    chain = list(_chain(error))
    known = next((each for each in chain if isinstance(each, tuple(FAULT_OF_KIND))), chain[-1])
    if isinstance(known, HfHubHTTPError):
        code = known.response.status_code
        said = known.server_message or known.response.reason_phrase
        return {"fault": _fault_of(code), "detail": _shorten(f"{code}: {said}")}
    text = str(known) or type(known).__name__
    unknown = "xet" if XET.search(text) else "other"
    fault = next((fault for kind, fault in FAULT_OF_KIND.items() if isinstance(known, kind)), unknown)
    return {"fault": fault, "detail": _shorten(text)}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def limit_waiting(seconds: float) -> None:
    """Let no request wait longer than this for a sign from the other side."""
    set_client_factory(lambda: http.Client(follow_redirects=True, timeout=seconds))


def _build_api(seconds: float) -> HfApi:
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    limit_waiting(seconds)
    token = get_token()
    if token is None:
        raise LocalTokenNotFoundError("no token")
    return HfApi(token=token)


def _fault_of(code: int) -> str:
    if code == 401:
        return "refused"
    if code in (402, 403, 404):
        return "forbidden"
    return "silent" if code >= 500 else "other"


def _shorten(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")


TASKS = {"open": open_repository, "push": push}


def respond(request: dict[str, Any]) -> dict[str, Any]:
    """What a task answers. A push is tried again where the Hub did not answer: not every question of the client is."""
    pauses = list(PAUSES) if request["task"] == "push" else []
    while True:
        try:
            answer = TASKS[request["task"]](request)
        except Exception as error:
            answer = explain(error)
        if answer.get("fault") != "silent" or not pauses:
            return answer
        time.sleep(pauses.pop(0))


def main() -> None:
    """Answer the request on stdin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, it reaches the whole group: whoever waits decides
    request = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        answer = respond(request)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
