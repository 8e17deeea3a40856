"""Resolving `ckpt=`: a run folder, one of its checkpoints, a saved model, or a Hub id."""

import logging
from dataclasses import dataclass
from pathlib import Path

import yaml

from lmtune import foreign
from lmtune.errors import CheckpointError
from lmtune.hub import check_available, is_local
from lmtune.modeling import wholeness
from lmtune.modeling.source import check_folder
from lmtune.paths import GivenPath, describe, find_near, shorten
from lmtune.runs import Run, step_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved model, and the run that it comes from."""

    path: str
    """Folder or Hub id."""
    run: Run | None
    """None for a model that no run of lmtune made."""

    def find_finished(self) -> Run | None:
        """The run whose finished model this is, so that its results belong to these weights; else None."""
        run = self.run
        if run is None or Path(self.path).resolve() != run.model_folder.resolve():
            return None
        return run if run.find_results().get("status") == "completed" else None


def resolve_checkpoint(ckpt: str, whole: bool = True, key: str = "ckpt") -> Checkpoint:
    """The model in a run folder (its model/, else its newest whole checkpoint), a checkpoint-<step>, a model folder or on the Hub.

    key: the key that named it, for errors. Raises CheckpointError if there is none and, with `whole`, if files differ from what
    was sealed.
    """
    foreign.check_docstrings()
    given = GivenPath(key, ckpt, CheckpointError)
    folder = given.expand()
    if not given.is_folder(folder):
        near = find_near(folder)
        meant = f"Did you mean {folder.with_name(near)}?" if near else ""
        if is_local(given):
            raise given.refuse(
                "a run folder, a checkpoint or a model folder", describe(folder), meant or "Check the path."
            )
        try:
            check_available("model", ckpt, None, CheckpointError)
        except CheckpointError as error:
            raise CheckpointError(f"{error} {meant}".rstrip()) from error
        return Checkpoint(ckpt, None)
    if given.is_file(folder / foreign.CONFIG) or given.is_file(folder / foreign.ADAPTER):
        inside_run = step_of(folder) >= 0 or folder.name == "model"
        run = _find_run(given, given.resolve(folder).parent) if inside_run else None
        if run is not None:
            _check_adapter_base(run, folder)
        check_folder(foreign.Source(key, str(folder), error=CheckpointError, whole=whole))
        return Checkpoint(str(folder), run)
    if given.is_file(folder / "config.yaml"):
        return _find_in_run(Run(folder), key, whole)
    raise CheckpointError(
        f"{given}: expected a run folder, a checkpoint or a saved model, found neither config.yaml nor {foreign.CONFIG} in it."
    )


def _find_run(given: GivenPath, folder: Path) -> Run | None:
    """The run that a folder holds; None if its config.yaml is another program's or unreadable."""
    run = Run(folder)
    try:
        found = run.load_config() if given.is_file(run.config_file) else None
    except (CheckpointError, yaml.YAMLError, UnicodeDecodeError, OSError):
        return None
    return None if found is None else run


def _find_in_run(run: Run, key: str, whole: bool) -> Checkpoint:
    given = GivenPath(key, str(run.folder), CheckpointError)
    if any(given.is_file(run.model_folder / name) for name in (foreign.CONFIG, foreign.ADAPTER)):
        wholeness.check_sealed(foreign.Source(key, str(run.model_folder), error=CheckpointError, whole=whole))
        return Checkpoint(str(run.model_folder), run)
    newest, complaints = run.find_checkpoint()
    if newest is None:
        found = "; ".join(complaints) or "none was written"
        raise CheckpointError(
            f"{run.folder} holds no model and no whole checkpoint ({found}). Train on with lmtune train resume={run.folder}."
        )
    _check_adapter_base(run, newest)
    logger.info(
        "%s has no finished model, so its newest whole checkpoint is taken: %s", shorten(run.folder), newest.name
    )
    return Checkpoint(str(newest), run)


def _check_adapter_base(run: Run, folder: Path) -> None:
    """Raise CheckpointError for an adapter whose base was built by its own run and was not saved."""
    settings = foreign.load_settings(foreign.Source("ckpt", str(folder), error=CheckpointError))
    if foreign.ADAPTER in settings and not settings[foreign.ADAPTER].get("base_model_name_or_path"):
        raise CheckpointError(
            f"{folder} holds an adapter alone, on weights that its run made (model.transplant=, model.init=scratch, or an adapter "
            f"as model.path=). Finish the run, which merges it: lmtune train resume={run.folder}."
        )
