"""How a run folder is opened, anew or to go on with its run."""

import logging
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune import __version__, stopping
from lmtune.config import TrackerConfig
from lmtune.console import QuietFileHandler
from lmtune.data.premise import describe_text
from lmtune.data.prepared import Prepared
from lmtune.errors import CheckpointError, ConfigError
from lmtune.modeling import base
from lmtune.modeling.layers import runs_in_step
from lmtune.reporting.next_steps import render_resumption
from lmtune.runs import MARK, Place, Run
from lmtune.runs.files import END_NAMES
from lmtune.runs.settings import flatten
from lmtune.secrets import find_secret
from lmtune.storage import Record, write_json
from lmtune.training import resume
from lmtune.training.arguments import change_arguments
from lmtune.training.disk import DiskNeed, check_disk, count_steps, estimate_run_disk
from lmtune.training.distributed import agree
from lmtune.training.setup import Setup, render_settings
from lmtune.training.trackers import TRACKERS, point_trackers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainingArguments

logger = logging.getLogger(__name__)


@dataclass
class RunContext:
    """A run folder held by this process (and the other ranks), with what the rest of the run needs to know."""

    run: Run
    name: str
    arguments: "TrainingArguments"
    fingerprint: str
    manifest: Record
    fresh: bool = False
    """The run begins here; nothing of it was there before."""
    checkpoint: Path | None = None
    place: Place | None = None
    """The folder as rank 0 holds it."""
    held: ExitStack = field(default_factory=ExitStack)

    @property
    def rank(self) -> int:
        return int(self.arguments.process_index)

    @property
    def world_size(self) -> int:
        return int(self.arguments.world_size)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def check_place(self) -> None:
        """Raise CheckpointError where the run folder has been moved, deleted or replaced."""
        if self.place is not None:
            self.place.check()

    def fail(self, status: str, reason: str) -> None:
        """Record in results.json how the run ended, wherever its folder is now."""
        if not self.is_main:
            return
        run = self._find_run()
        if run is not None:
            try:
                run.write_results({**run.find_results(), "status": status, "reason": reason})
            except (OSError, CheckpointError) as error:  # what ended the run is the news, not that the disk is full
                logger.info("%s could not be written: %s", run.results_file.name, error)
            logger.info("run folder: %s", run.folder)
            if status == "stopped" and run.checkpoints() and not self.arguments.save_only_model:
                for line in render_resumption(run):
                    logger.info("%s", line)

    def stop(self, reason: str) -> None:
        """Record that the run was stopped; one that has learned nothing and has no checkpoint is taken back."""
        run = self._find_run()
        if self.is_main and run is not None and not run.checkpoints() and not run.has_learned():
            run.withdraw()
            logger.info("stopped before the first step was logged, so no run folder is left")
        else:
            self.fail("stopped", reason)

    def find_results(self) -> Record | None:
        """The results of a run that has completed: it is not trained again."""
        results = agree(self.run.find_results)
        if results.get("status") != "completed":
            return None
        logger.info("this run has completed; here are its results")
        return results

    def close(self) -> None:
        """Release the lock and close the log."""
        run = self._find_run()
        if self.is_main and run is not None and (run.folder / MARK).exists():
            run.sweep()
        self.held.close()

    def _find_run(self) -> Run | None:
        """The run where its folder lies by now."""
        folder = self.run.folder if self.place is None or self.place.is_kept else self.place.find()
        return None if folder is None else Run(folder)


def open_run(setup: Setup) -> RunContext:
    """Claim a new run folder, or take up the one to resume; all ranks agree on it."""
    stopping.check()
    config, arguments = setup.config, setup.arguments
    plain = {**render_settings(config), "chosen": setup.chosen}
    check_no_secret(plain)
    fingerprint = resume.fingerprint_of(plain)
    folder = agree(lambda: str(resume.choose_folder(config, plain).folder.resolve()))
    manifest = {
        "fingerprint": fingerprint,
        "machine": describe_machine(arguments, setup.model),
        "facts": setup.prepared.facts,
        "told": plain,
        **({} if setup.base is None else {base.KEY: setup.base}),
    }
    name = resume.name_run(config)
    context = RunContext(Run(Path(folder)), name, arguments, fingerprint, manifest)
    change_arguments(arguments, output_dir=folder, run_name=arguments.run_name or name)
    try:
        context.checkpoint = agree(lambda: _enter(context, setup, plain))
    except BaseException:
        context.held.close()
        raise
    if context.checkpoint:
        resume.restore_threads(context.checkpoint)
    change_arguments(arguments, eval_on_start=config.evaluates and context.checkpoint is None)
    return context


def check_no_secret(plain: Record) -> None:
    """Raise ConfigError where a setting has become a secret, through `${oc.env:...}` or a file of the user's own."""
    for key, value in flatten(plain).items():
        if (found := find_secret(str(value))) is not None:
            raise ConfigError(
                f"{key} holds {found}, which would be written into config.yaml. Expected no secret among the settings: leave it "
                "in the environment, where the library that needs it looks."
            )


def _enter(context: RunContext, setup: Setup, plain: Record) -> Path | None:
    """Lock the run folder, then record a new run or return the checkpoint at which an old one stopped. Rank 0 does."""
    run = context.run
    context.fresh = not run.config_file.exists() and not run.checkpoints()
    try:
        if not context.fresh and run.restore_mark():
            logger.info("%s was damaged or gone; it is written anew from the newest checkpoint", MARK)
        _hold(context, setup.config.tracker)
        if context.fresh:
            check_disk(run.folder, _estimate_disk(setup), present=0)
            _record(context, plain, setup.prepared)
            return None
        return _take_up(context, setup, plain)
    except BaseException:
        if context.fresh:
            run.withdraw()
        raise


def _hold(context: RunContext, tracker: TrackerConfig) -> None:
    """Keep the folder for this process: its lock, its inode, its log, and what trackers write into it."""
    run = context.run
    context.held.callback(run.lock().release)
    context.place = Place(run.folder)
    context.held.callback(context.place.close)
    run.check_free(*END_NAMES, *(folder.name for folder in run.checkpoints()))
    run.claim(*(file for name in tracker.names for file in TRACKERS[name]))
    context.held.callback(point_trackers(tracker.names, run, tracker.project))
    context.held.callback(_log_to(run.log_file))


def _take_up(context: RunContext, setup: Setup, plain: Record) -> Path | None:
    """The checkpoint to go on from; a run that has completed is left as it is, unless it is to become longer."""
    run, config = context.run, setup.config
    if run.find_results().get("status") == "completed":
        if not resume.is_lengthened(config, run, plain):
            return None
        logger.info("the run had completed, and goes on to its new end; model/ stays as it is until then")
    check_disk(run.folder, _estimate_disk(setup), run.measure_checkpoints())
    checkpoint = resume.take_up(run, context.manifest, config.resume_force)
    _restore_records(context, plain, setup.prepared)
    return checkpoint


def _restore_records(context: RunContext, plain: Record, prepared: Prepared) -> None:
    """Records that are in memory, written anew: they may have been damaged, or the run been told otherwise since."""
    run = context.run
    if run.find_config() is None:
        where = f"; what stood there is now {run.set_aside(run.config_file).name}" if run.config_file.exists() else ""
        logger.info("%s was not as the run wrote it, so it is written anew%s", run.config_file.name, where)
    run.write_config(plain)
    write_json(run.ledger_file, prepared.ledger.as_dict())


def _estimate_disk(setup: Setup) -> DiskNeed:
    return estimate_run_disk(setup, count_steps(setup.arguments, len(setup.prepared.blocks)))


def describe_machine(arguments: "TrainingArguments", model: "PreTrainedModel") -> Record:
    """What besides settings and data decides the bits of a result; kept in each manifest, compared at a resume."""
    import torch
    import transformers

    device = arguments.device
    return {
        "processes": int(arguments.world_size),
        "fsdp": runs_in_step(model),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type} {platform.machine()}",
        "attention": model.config._attn_implementation,
        "compiled": bool(arguments.torch_compile),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "lmtune": __version__,
    }


def _record(context: RunContext, plain: Record, prepared: Prepared) -> None:
    """Write down what was asked for and what was read, before the first step; config.yaml last, as it marks a run."""
    run = context.run
    write_json(run.ledger_file, prepared.ledger.as_dict())
    facts = {"fingerprint": context.fingerprint, "text": describe_text(prepared.facts)}
    run.write_results({"run": run.folder.name, "status": "running", **facts})
    _record_hydra(run.hydra_folder)
    run.write_config(plain)


def _record_hydra(folder: Path) -> None:
    """What Hydra itself keeps in .hydra/, written here so that a refused configuration leaves no folder behind."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return
    folder.mkdir(exist_ok=True)
    hydra = HydraConfig.get()
    record = OmegaConf.create({"hydra": OmegaConf.to_container(hydra)})
    for name in record.hydra.job.env_set:
        record.hydra.job.env_set[name] = "***"  # often a secret
    OmegaConf.save(record, folder / "hydra.yaml")
    OmegaConf.save(hydra.overrides.task, folder / "overrides.yaml")


def _log_to(file: Path) -> Callable[[], None]:
    """Keep what is said, and warnings of all libraries, in train.log as well; return what undoes it."""
    from transformers.utils import logging as transformers_logging

    try:
        handler = QuietFileHandler(file)
    except OSError as error:
        logger.info("%s cannot be written: %s", file.name, error.strerror)
        return lambda: None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = logging.getLogger(), logging.getLogger("lmtune")
    for each in loggers:
        each.addHandler(handler)
    transformers_logging.add_handler(handler)

    def undo() -> None:
        for each in loggers:
            each.removeHandler(handler)
        transformers_logging.remove_handler(handler)
        handler.close()

    return undo
