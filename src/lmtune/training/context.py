"""How a run folder is opened or resumed, and what `lmtune train` says before its first step."""

import logging
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmtune import __version__, stopping
from lmtune.console import QuietFileHandler
from lmtune.data.predecessor import find_predecessor
from lmtune.data.premise import describe_text
from lmtune.data.prepared import Prepared
from lmtune.errors import CheckpointError, ConfigError
from lmtune.runs import MARK, Place, Run
from lmtune.runs.folder import END_NAMES
from lmtune.secrets import find_secret
from lmtune.storage import write_json
from lmtune.training import devices, resume
from lmtune.training.arguments import TRACKER_NAMES, count_devices, point_tracker
from lmtune.training.batches import BatchPlan
from lmtune.training.room import Room, check_room, count_steps, estimate_room
from lmtune.training.setup import Setup, render_settings
from lmtune.training.throughput import Yardstick

logger = logging.getLogger(__name__)


@dataclass
class Opened:
    """A run folder held by this process (and the other ranks), with what the rest of the run needs to know."""

    run: Run
    name: str
    arguments: Any
    fingerprint: str
    manifest: dict[str, Any]
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

    def stop(self, reason: str) -> None:
        """Record that the run was stopped; one that has learned nothing and has no checkpoint is taken back."""
        run = self._find_run()
        if self.is_main and run is not None and not run.checkpoints() and not run.has_learned():
            run.withdraw()
            logger.info("stopped before the first step was logged, so no run folder is left")
        else:
            self.fail("stopped", reason)

    def find_results(self) -> dict[str, Any] | None:
        """The results of a run that has completed: it is not trained again."""
        results = self.run.find_results()
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


def open_run(setup: Setup) -> Opened:
    """Claim a new run folder, or take up the one to resume; all ranks agree on it."""
    stopping.check()
    config, arguments = setup.config, setup.arguments
    plain = {**render_settings(config), "chosen": setup.chosen}
    check_no_secret(plain)
    fingerprint = resume.fingerprint_of(plain)
    folder = _share(
        str(resume.choose_folder(config, fingerprint).folder.resolve()) if arguments.process_index == 0 else None
    )
    arguments.output_dir = folder
    manifest = {
        "fingerprint": fingerprint,
        "machine": describe_machine(arguments, setup.model),
        "facts": setup.prepared.facts,
        "told": plain,
    }
    opened = Opened(Run(Path(folder)), resume.name_run(config), arguments, fingerprint, manifest)
    arguments.run_name = arguments.run_name or opened.name
    try:
        if opened.is_main:
            _enter(opened, setup, plain)
        checkpoint = _share(str(opened.checkpoint) if opened.checkpoint else "")
    except BaseException:
        opened.held.close()
        raise
    opened.checkpoint = Path(checkpoint) if checkpoint else None
    if opened.checkpoint:
        resume.restore_threads(opened.checkpoint)
    arguments.eval_on_start = config.evaluates and opened.checkpoint is None
    return opened


def check_no_secret(plain: dict[str, Any]) -> None:
    """Raise ConfigError where a setting has become a secret, through `${oc.env:...}` or a file of the user's own."""
    for key, value in resume.flatten(plain).items():
        if (found := find_secret(str(value))) is not None:
            raise ConfigError(
                f"{key} holds {found}, which would be written into config.yaml. Expected no secret among the settings: leave it "
                "in the environment, where the library that needs it looks."
            )


def _enter(opened: Opened, setup: Setup, plain: dict[str, Any]) -> None:
    """Lock the run folder, then record a new run or find where an old one stopped."""
    run = opened.run
    opened.fresh = not run.config_file.exists() and not run.checkpoints()
    try:
        if not opened.fresh and run.restore_mark():
            logger.info("%s was damaged or gone; it is written anew from the newest checkpoint", MARK)
        _hold(opened, setup.config.tracker.name)
        if opened.fresh:
            check_room(run.folder, _estimate_room(setup), present=0)
            _record(opened, plain, setup.prepared)
        else:
            _take_up(opened, setup, plain)
    except BaseException:
        if opened.fresh:
            run.withdraw()
        raise


def _hold(opened: Opened, tracker: str) -> None:
    """Keep the folder for this process: its lock, its inode, its log, and what trackers write into it."""
    run = opened.run
    opened.held.callback(run.lock().release)
    opened.place = Place(run.folder)
    opened.held.callback(opened.place.close)
    run.check_free(*END_NAMES, *(folder.name for folder in run.checkpoints()))
    run.claim(*TRACKER_NAMES.get(tracker, ()))
    if tracker != "none":
        opened.held.callback(point_tracker(tracker, run))
    opened.held.callback(_log_to(run.log_file))


def _take_up(opened: Opened, setup: Setup, plain: dict[str, Any]) -> None:
    """Go on with a run; one that has completed is left as it is."""
    run, config = opened.run, setup.config
    if run.find_results().get("status") == "completed":
        return
    check_room(run.folder, _estimate_room(setup), run.measure_checkpoints())
    opened.checkpoint = resume.take_up(run, opened.manifest, config.resume_force)
    _restore_records(opened, plain, setup.prepared)


def _restore_records(opened: Opened, plain: dict[str, Any], prepared: Prepared) -> None:
    """Records that are in memory, written anew: they may have been damaged, or the run been told otherwise since."""
    run = opened.run
    if run.find_config() is None:
        where = f"; what stood there is now {run.set_aside(run.config_file).name}" if run.config_file.exists() else ""
        logger.info("%s was not as the run wrote it, so it is written anew%s", run.config_file.name, where)
    run.write_config(plain)
    write_json(run.ledger_file, prepared.ledger.as_dict())


def _estimate_room(setup: Setup) -> Room:
    steps = count_steps(setup.arguments, len(setup.prepared.blocks))
    return estimate_room(setup.arguments, setup.model, steps)


def describe_machine(arguments: Any, model: Any) -> dict[str, Any]:
    """What besides settings and data decides the bits of a result; kept in each manifest, compared at a resume."""
    import torch
    import transformers

    device = arguments.device
    return {
        "processes": int(arguments.world_size),
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


def say_plan(opened: Opened, setup: Setup, yardstick: Yardstick) -> None:
    """What is about to happen, in a few lines on stderr."""
    from lmtune.modeling.loss import is_fused

    model, ledger = setup.model, setup.prepared.ledger
    train, held = ledger.sides["train"], ledger.sides["validation"]
    if ledger.blocks:
        logger.info(
            f"data: {ledger.documents_kept:,} documents ({ledger.documents_are}); {train.tokens:,} tokens to learn "
            f"in {ledger.blocks:,} blocks of {ledger.block_size:,}; {held.tokens:,} held out by {ledger.split_by}"
        )
    else:
        logger.info(f"data: streamed in blocks of {ledger.block_size:,}; held out by {ledger.split_by}")
    if (source := find_predecessor(setup.config.model)) is not None and setup.corpus.past is not None:
        learned, held_again = ledger.documents_spared + ledger.documents_learned_before, ledger.documents_held_again
        logger.info(
            f"data: nothing that {source.folder} has learned is held out ({learned:,} documents would have been); "
            f"{held_again:,} more that it held out still are"
        )
    if ledger.bytes_copied:
        logger.info(f"data: {ledger.bytes_copied:,} bytes are copies of what is held out, and are not learned")
    for name, part in ledger.mix.items():
        logger.info(f"mix: {name}: {part['blocks_per_epoch']:,} of {part['blocks']:,} blocks an epoch")
    logger.info(
        f"model: {model.num_parameters():,} parameters on {opened.arguments.device}, {opened.world_size} process(es)"
    )
    used = devices.find_device(opened.arguments.use_cpu)
    attention = getattr(model.config, "_attn_implementation", None)
    logger.info(devices.render_settings(used, opened.arguments, attention, "fused" if is_fused(model) else "plain"))
    args = opened.arguments
    rows, passes = args.per_device_train_batch_size, args.gradient_accumulation_steps
    logger.info(BatchPlan(rows, passes, count_devices(args), ledger.block_size).render())
    for remark in setup.remarks:
        logger.info(remark)
    if yardstick.peak is not None:
        logger.info(
            f"MFU: {yardstick.flops_per_token / 1e9:.3g} GFLOP a token, of {yardstick.peak / 1e12:.0f} TFLOP/s a chip"
        )
    logger.info(f"run folder: {opened.run.folder}")
    if opened.checkpoint:
        logger.info(f"resuming from {opened.checkpoint.name}")


def _record(opened: Opened, plain: dict[str, Any], prepared: Prepared) -> None:
    """Write down what was asked for and what was read, before the first step; config.yaml last, as it marks a run."""
    run = opened.run
    write_json(run.ledger_file, prepared.ledger.as_dict())
    facts = {"fingerprint": opened.fingerprint, "text": describe_text(prepared.facts)}
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


def _share(value: str | None) -> str:
    """The value of rank 0, on every rank."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        assert value is not None
        return value
    shared = [value]
    torch.distributed.broadcast_object_list(shared, src=0)
    assert shared[0] is not None
    return shared[0]


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
