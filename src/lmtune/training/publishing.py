"""training.push_to_hub in `lmtune train`: settled before a run, done after it."""

import logging
import os
from pathlib import Path

from lmtune.config import FinetuneMethod, TrainConfig
from lmtune.config.training_arguments import WITHHELD
from lmtune.errors import ConfigError, PushError, Stopped
from lmtune.exporting import contents, hub
from lmtune.hub import is_hub_id
from lmtune.runs import Run
from lmtune.runs.manifest import find_damage
from lmtune.runs.search import SWEEP_MARK
from lmtune.storage import Record
from lmtune.training import resume
from lmtune.training.results import load_card

logger = logging.getLogger(__name__)


def check_push(config: TrainConfig) -> None:
    """Raise ConfigError for a push that cannot be, without asking anybody."""
    hub.check_settings(config.training)
    if not config.training.get("push_to_hub"):
        return
    if config.private:
        raise ConfigError(
            "private=true pushes nothing, and training.push_to_hub=true asks for that: weights may hold text of the corpus. Leave "
            "one of them out."
        )
    key = "name" if config.training.get("hub_model_id") is None else "training.hub_model_id"
    hub.check_repository(key, name_repository(config))
    finetune, base = config.finetune, config.model.path
    if finetune.method is FinetuneMethod.lora and not finetune.merge and not (base and is_hub_id(base)):
        raise ConfigError(
            f"training.push_to_hub=true with finetune.merge=false pushes an adapter alone, whose base is {base}, a folder that "
            "nobody else has. Expected a base on the Hub. Leave finetune.merge=true."
        )


def open_target(config: TrainConfig) -> hub.Target | None:
    """The repository that takes the model of this run, made now by the first process; None for the others, and without a push."""
    if not config.training.get("push_to_hub") or _is_one_of_others():
        return None
    target, line = hub.open_target(config.training, name_repository(config))
    logger.info(line)
    return target


def push(run: Run, config: TrainConfig, target: hub.Target | None, results: Record) -> None:
    """Push the model of a completed run. Raises PushError where that fails: the run is what it was, completed."""
    if target is None:
        return
    left = f"{run.folder} has completed and is saved, but its model is not on the Hub ({target.url})"
    later = f"push it: lmtune train resume={run.folder} {_render_typed(config.training)}"
    try:
        _check_weights(run)
        package = contents.pack(run.model_folder, load_card(run, results, target.repo), results)
        contents.check_traces(
            package, contents.build_traces(run.folder, _render_public(config, target, results["name"]))
        )
        logger.info(hub.push(target, package, results["name"]))
    except (PushError, OSError) as error:
        raise PushError(f"{left}: {error}. Then {later}") from error
    except (Stopped, KeyboardInterrupt):
        logger.info("%s. To %s", left, later)
        raise


def _check_weights(run: Run) -> None:
    """Raise PushError unless the weights are those that were saved; settings may have been edited for the Hub since."""
    damage = find_damage(run.model_folder, "*.safetensors")
    if damage is not None:
        raise PushError(
            f"the model is not as it was saved: {damage}. Delete {run.model_folder} and {run.results_file.name}, so that the run "
            "writes both anew from its last checkpoint"
        )


def _render_typed(training: Record) -> str:
    """The settings of a push, as they are typed."""
    given = {key: training[key] for key in WITHHELD if training.get(key) is not None}
    return " ".join(
        f"training.{key}={str(value).lower() if value in (True, False) else value}" for key, value in given.items()
    )


def _is_one_of_others() -> bool:
    """True for a process that a launcher started beside the first; torch is not loaded yet."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1 and int(os.environ.get("RANK") or 0) > 0


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
    return resumed.name if (resumed.parent / SWEEP_MARK).is_file() else None


def _render_public(config: TrainConfig, target: hub.Target, name: str) -> str:
    """Names that the card says in any case."""
    model, data = config.model, config.data
    named = (target.repo, name, model.name, model.path, data.name, data.path, *config.eval_data)
    return " ".join(each for each in named if each)
