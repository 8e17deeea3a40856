"""What `lmtune push` and training.push_to_hub do: the latter is settled before a run and done after it."""

import logging
import shlex
from pathlib import Path

from lmtune.config import CardConfig, FinetuneMethod, TrainConfig, render_plain
from lmtune.config.training_arguments import WITHHELD
from lmtune.errors import ConfigError, PushError, Stopped
from lmtune.exporting import contents, hub
from lmtune.exporting.card_seal import seal_card
from lmtune.hub import is_hub_id
from lmtune.reporting.card_facts import list_languages
from lmtune.runs import Run
from lmtune.runs.catalog import find_sweep
from lmtune.runs.manifest import find_damage, is_edited
from lmtune.storage import Record
from lmtune.training import resume
from lmtune.training.distributed import is_first
from lmtune.training.results import load_card

logger = logging.getLogger(__name__)

EXAMPLES = {"card.license": "for instance card.license=cc-by-sa-4.0", "card.language": "for instance card.language=pt"}


def check_push(config: TrainConfig) -> None:
    """Raise ConfigError for a push that cannot be, without asking anybody."""
    pushes = bool(config.training.get("push_to_hub"))
    if pushes and config.private:
        raise ConfigError(
            "private=true pushes nothing, and training.push_to_hub=true asks for that: weights may hold text of the corpus. Leave "
            "one of them out."
        )
    hub.check_settings(config.training)
    if not pushes:
        return
    key = "name" if config.training.get("hub_model_id") is None else "training.hub_model_id"
    hub.check_repository(key, name_repository(config))
    check_base("training.push_to_hub=true with finetune.merge=false", render_plain(config))


def check_base(asker: str, told: Record) -> None:
    """Raise ConfigError for an adapter alone whose base nobody else has. told: the settings of the run."""
    finetune, base = told["finetune"], told["model"]["path"]
    alone = finetune["method"] == FinetuneMethod.lora.value and not finetune["merge"]
    if alone and not (base and is_hub_id(base)):
        raise ConfigError(
            f"{asker} pushes an adapter alone, whose base is {base}, a folder that "
            "nobody else has. Expected a base on the Hub. Leave finetune.merge=true."
        )


def check_stated(card: CardConfig, told: Record) -> None:
    """Raise ConfigError for a card without a licence or a language, unless that is meant. told: the settings of the run."""
    if (lack := find_lack(card, told)) is not None:
        raise ConfigError(lack)


def find_lack(card: CardConfig, told: Record) -> str | None:
    """Why a card is not pushed as it is, in words; None for one that is."""
    found = {"card.license": card.license, "card.language": list_languages({**told, "card": render_plain(card)})}
    missing = [key for key, value in found.items() if not value]
    if not missing or card.allow_unstated:
        return None
    return (
        "a model on the Hub is expected to say under which licence, and for which languages, it may be used; found no "
        f"{' and no '.join(f'{key}=' for key in missing)}. Give {' and '.join(EXAMPLES[key] for key in missing)}, or "
        "card.allow_unstated=true to push it without."
    )


def open_target(config: TrainConfig) -> hub.Target | None:
    """The repository that takes the model of this run, made now by the first process; None for the others, and without a push."""
    if not config.training.get("push_to_hub") or not is_first():
        return None
    wish = hub.Wish(
        name_repository(config),
        config.training.get("hub_revision") or "main",
        private=config.training.get("hub_private_repo") is not False,
        overwrite=config.card.overwrite,
        key="training.hub_model_id",
        asker="training.push_to_hub=true",
        otherwise=", or leave out training.push_to_hub",
    )
    target = hub.open_target(wish)
    logger.info("Hub: %s, %s, takes the model when the run has completed", target.url, target.state)
    return target


def push(run: Run, config: TrainConfig, target: hub.Target | None, results: Record) -> None:
    """Push the model of a completed run. Raises PushError where that fails: the run is what it was, completed."""
    if target is None:
        return
    left = f"{run.folder} has completed and is saved, but its model is not on the Hub ({target.url})"
    later = f"push it: lmtune train resume={run.folder} {_render_typed(config, run.load_config())}"
    try:
        check_weights(run)
        say_edited_card(run)
        package = build_package(run, results, config.card, target.repo)
        logger.info(hub.render_pushed(target, package, hub.push(target, package, results["name"])))
    except (PushError, OSError) as error:
        raise PushError(f"{left}: {error}. Then {later}") from error
    except (Stopped, KeyboardInterrupt):
        logger.info("%s. To %s", left, later)
        raise


def build_package(run: Run, results: Record, card: CardConfig, repo: str) -> contents.Package:
    """What of a completed run goes to a repository. Raises PushError for a text that tells of this machine."""
    text = load_card(run, results, repo, card)
    package = contents.pack(run.model_folder, seal_card(text), results)
    public = _render_public(run.load_config(), card, repo, results["name"])
    contents.check_traces(package, contents.build_traces(run.folder, public))
    return package


def check_weights(run: Run) -> None:
    """Raise PushError unless the weights are those that were saved; settings may have been edited for the Hub since."""
    damage = find_damage(run.model_folder, "*.safetensors")
    if damage is not None:
        raise PushError(
            f"the model is not as it was saved: {damage}. Delete {run.model_folder} and {run.results_file.name}, so that the run "
            "writes both anew from its last checkpoint"
        )


def say_edited_card(run: Run) -> None:
    """Say so where somebody has edited the card in model/: it does not go, and would be looked for."""
    if is_edited(run.model_folder, contents.CARD):
        logger.info(
            "%s has been edited since it was written. It stays here: the card that goes is written anew, from the run and card.*",
            run.model_folder / contents.CARD,
        )


def _render_typed(config: TrainConfig, told: Record) -> str:
    """The settings of a push, and what the card says besides what was recorded with the run, as they are typed."""
    settings = {f"training.{key}": config.training.get(key) for key in WITHHELD}
    recorded = told.get("card", {})
    for key, value in render_plain(config.card).items():
        settings[f"card.{key}"] = None if not value or value == recorded.get(key) else value
    return " ".join(f"{key}={_render_value(value)}" for key, value in settings.items() if value is not None)


def _render_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return shlex.quote(f"[{','.join(value)}]" if isinstance(value, list) else str(value))


def name_repository(config: TrainConfig) -> str:
    """training.hub_model_id, else the run's name; with the number of a job of a sweep behind it, as the jobs share that."""
    name = config.training.get("hub_model_id") or resume.name_run(config)
    job = _find_job(config)
    return f"{name}-{job}" if job else name


def _find_job(config: TrainConfig) -> str | None:
    """The number of a job of a sweep, which is also the name of its folder."""
    if config.job_folder is not None:
        return Path(config.job_folder).name
    resumed = Path(str(config.resume)).expanduser().absolute()
    return None if find_sweep(resumed) is None else resumed.name


def _render_public(told: Record, card: CardConfig, repo: str, name: str) -> str:
    """Names that the card says in any case, and what it says because its author wants it to."""
    model, data, kept = told["model"], told["data"], (told.get("forgetting") or {}).get("on")
    stated = [str(value) for value in render_plain(card).values()]
    named = (repo, name, model["name"], model["path"], data["name"], data["path"], *told["eval_data"], kept, *stated)
    return " ".join(each for each in named if each)
