"""`lmtune push`: the model of a finished run to the Hub, with its card and its numbers, and nothing of this machine.

lmtune push ckpt=outputs/... repo=me/gpt2-bio dry_run=true
"""

import logging

from lmtune.commands.result import Result
from lmtune.config import CardConfig, PushConfig
from lmtune.errors import CheckpointError, PushError
from lmtune.exporting import hub
from lmtune.exporting.contents import CARD, Package
from lmtune.exporting.listing import list_going, list_staying
from lmtune.modeling.checkpoint import resolve_checkpoint
from lmtune.reporting.push import list_unstated, render_push
from lmtune.runs import Run
from lmtune.storage import Record
from lmtune.training import publishing

logger = logging.getLogger(__name__)


def run(config: PushConfig) -> Result:
    """Send the model, in one commit, or list what would be sent. All that can be refused is, before anybody is asked."""
    assert config.repo is not None, "a configuration that was checked names a repository"
    hub.check_repository("repo", config.repo)
    hub.check_branch("branch", config.branch)
    finished = load_finished(config)
    results = finished.load_results()
    told = finished.load_config()
    card = config.card.complete(told.get("card", {}))
    card.check_license()
    publishing.check_base(f"ckpt={config.ckpt}", told)
    if not config.dry_run:
        publishing.check_stated(card, told)
    publishing.check_weights(finished)
    publishing.say_edited_card(finished)
    package = publishing.build_package(finished, results, card, config.repo)
    answer = {} if config.dry_run else push(config, finished, results, card, package)
    account = {
        **{"ckpt": config.ckpt, "repo": config.repo, "branch": config.branch, "dry_run": config.dry_run, **answer},
        **{"files": list_going(package), "stays": list_staying(finished.folder, package)},
        **{
            "unstated": list_unstated(card, told, results),
            "refused": publishing.find_lack(card, told),
            "card": package.texts[CARD],
        },
    }
    return Result(account, lambda: render_push(account))


def load_finished(config: PushConfig) -> Run:
    """The run whose finished model is named.

    Raises CheckpointError for anything else, whose card would have no numbers, and PushError for a private run.
    """
    finished = resolve_checkpoint(str(config.ckpt), config.check_weights).find_finished()
    if finished is None:
        raise CheckpointError(
            f"ckpt={config.ckpt}: expected the folder of a run that has completed, whose card tells how it learned and what it "
            "scores; this is another model. Finish its run with lmtune train resume=RUN, or upload a folder of your own with "
            "`hf upload`."
        )
    if finished.is_private:
        raise PushError(
            f"ckpt={config.ckpt}: this run was trained with private=true, of which nothing is pushed: weights may hold text of the "
            "corpus. Expected a run whose text may be known; train one without private=true."
        )
    return finished


def push(config: PushConfig, finished: Run, results: Record, card: CardConfig, package: Package) -> Record:
    """Send it; return where it is now, and what was removed there."""
    assert config.repo is not None
    wish = hub.Wish(config.repo, config.branch, private=not config.public, overwrite=card.overwrite)
    target = hub.open_target(wish)
    logger.info("Hub: %s, %s", target.url, target.state)
    if target.repo != config.repo:  # the owner, whose name the card says
        package = publishing.build_package(finished, results, card, target.repo)
    answer = hub.push(target, package, results["name"])
    known = {name: answer[name] for name in ("url", "commit", "removed", "changed")}
    return {"repo": target.repo, "address": target.url, "state": target.state, **known}
