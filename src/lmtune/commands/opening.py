"""How a run folder is opened or resumed, and what `lmtune train` says before its first step."""

import logging
import platform
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lmtune import __version__
from lmtune.commands import resuming
from lmtune.commands.preparing import Setup, render_settings
from lmtune.config import TrainConfig
from lmtune.data.corpus import Prepared
from lmtune.errors import ConfigError
from lmtune.records import write_json, write_text
from lmtune.runs import Run
from lmtune.secrets import find_secret
from lmtune.training import devices
from lmtune.training.arguments import count_devices, point_tracker
from lmtune.training.batches import BatchPlan
from lmtune.training.room import Room, check_room, count_steps, estimate_room
from lmtune.training.throughput import Yardstick


@dataclass
class Opened:
    """A run folder held by this process (and the other ranks), with what the rest of the run needs to know."""

    run: Run
    name: str
    arguments: Any
    fingerprint: str
    manifest: dict[str, Any]
    checkpoint: Path | None = None
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

    def say(self, text: str) -> None:
        """A line on stderr, once and not once per rank."""
        if self.is_main:
            sys.stderr.write(text + "\n")

    def fail(self, status: str, reason: str) -> None:
        """Leave word of how the run ended."""
        if self.is_main:
            try:
                results = {**self.run.load_results(), "status": status, "reason": reason}
                write_json(self.run.results_file, results)
            except OSError as error:  # what ended the run is the news, not that the disk is full
                self.say(f"{self.run.results_file.name} could not be written: {error.strerror}")
            self.say(f"run folder: {self.run.folder}")

    def stop(self, reason: str) -> None:
        """Leave word of a run that was asked to stop; one that has no checkpoint yet is taken back."""
        if self.is_main and not self.run.checkpoints() and not self.run.has_learned():
            self.run.withdraw()
            self.say("stopped before the first step was logged, so no run folder is left")
        else:
            self.fail("stopped", reason)

    def find_results(self) -> dict[str, Any] | None:
        """The results of a run that has completed: it is not trained again."""
        results = self.run.load_results()
        if results.get("status") != "completed":
            return None
        self.say("this run has completed; here are its results")
        return results

    def close(self) -> None:
        """Let go of the lock and the log."""
        if self.is_main:
            self.run.sweep()
        self.held.close()


def open_run(setup: Setup) -> Opened:
    """Claim a new run folder, or take up the one to resume; all ranks agree on it."""
    config, arguments, prepared = setup.config, setup.arguments, setup.prepared
    plain = {**render_settings(config, setup.sets), "chosen": setup.chosen}
    check_no_secret(plain)
    fingerprint = resuming.fingerprint_of(plain)
    folder = _share(
        str(resuming.choose_folder(config, fingerprint).folder.resolve()) if arguments.process_index == 0 else None
    )
    arguments.output_dir = folder
    manifest = {
        "fingerprint": fingerprint,
        "machine": describe_machine(arguments, setup.model),
        "facts": prepared.facts,
    }
    opened = Opened(Run(Path(folder)), resuming.name_run(config), arguments, fingerprint, manifest)
    arguments.run_name = arguments.run_name or opened.name
    if config.tracker.name != "none":
        opened.held.callback(point_tracker(config.tracker.name, opened.run))
    try:
        if opened.is_main:
            steps = count_steps(arguments, len(prepared.blocks))
            room = estimate_room(arguments, setup.model, steps)
            _enter(opened, config, plain, prepared, room)
        checkpoint = _share(str(opened.checkpoint) if opened.checkpoint else "")
    except BaseException:
        opened.held.close()
        raise
    opened.checkpoint = Path(checkpoint) if checkpoint else None
    if opened.checkpoint:
        resuming.restore_threads(opened.checkpoint)
    arguments.eval_on_start = config.evaluates and opened.checkpoint is None
    return opened


def check_no_secret(plain: dict[str, Any]) -> None:
    """Raise ConfigError where a setting has become a secret, through `${oc.env:...}` or a file of the user's own."""
    for key, value in resuming.flatten(plain).items():
        if (found := find_secret(str(value))) is not None:
            raise ConfigError(
                f"{key} holds {found}, which would be written into config.yaml. Expected no secret among the settings: leave it "
                "in the environment, where the library that needs it looks."
            )


def _enter(opened: Opened, config: TrainConfig, plain: dict[str, Any], prepared: Prepared, room: Room) -> None:
    """Lock the run folder, then record a new run or find where an old one stopped."""
    run = opened.run
    lock = run.lock()
    opened.held.callback(lock.release)
    opened.held.callback(_log_to(run.log_file))
    if not run.config_file.exists():
        try:
            check_room(run.folder, room, present=0)
            _record(opened, plain, prepared)
        except BaseException:
            run.withdraw()
            raise
        return
    resuming.check_settings(config, run, plain)
    if run.load_results().get("status") != "completed":
        check_room(run.folder, room, run.measure_checkpoints())
        opened.checkpoint = resuming.take_up(run, opened.manifest, config.resume_force, opened.say)


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
        opened.say(
            f"data: {ledger.documents_kept:,} documents ({ledger.documents_are}); {train.tokens:,} tokens to learn "
            f"in {ledger.blocks:,} blocks of {ledger.block_size:,}; {held.tokens:,} held out by {ledger.split_by}"
        )
    else:
        opened.say(f"data: streamed in blocks of {ledger.block_size:,}; held out by {ledger.split_by}")
    for name, part in ledger.mix.items():
        opened.say(f"mix: {name}: {part['blocks_per_epoch']:,} of {part['blocks']:,} blocks an epoch")
    opened.say(
        f"model: {model.num_parameters():,} parameters on {opened.arguments.device}, {opened.world_size} process(es)"
    )
    used = devices.find_device(opened.arguments.use_cpu)
    attention = getattr(model.config, "_attn_implementation", None)
    opened.say(devices.render_settings(used, opened.arguments, attention, "fused" if is_fused(model) else "plain"))
    args = opened.arguments
    rows, passes = args.per_device_train_batch_size, args.gradient_accumulation_steps
    opened.say(BatchPlan(rows, passes, count_devices(args), ledger.block_size).render())
    for remark in setup.remarks:
        opened.say(remark)
    if yardstick.peak is not None:
        opened.say(
            f"MFU: {yardstick.flops_per_token / 1e9:.3g} GFLOP a token, of {yardstick.peak / 1e12:.0f} TFLOP/s a chip"
        )
    opened.say(f"run folder: {opened.run.folder}")
    if opened.checkpoint:
        opened.say(f"resuming from {opened.checkpoint.name}")


def _record(opened: Opened, plain: dict[str, Any], prepared: Prepared) -> None:
    """Write down what was asked for and what was read, before the first step; config.yaml last, as it marks a run."""
    run = opened.run
    write_json(run.ledger_file, prepared.ledger.as_dict())
    write_json(run.results_file, {"run": run.folder.name, "status": "running", "fingerprint": opened.fingerprint})
    _record_hydra(run.folder / ".hydra")
    write_text(run.config_file, yaml.safe_dump(plain, allow_unicode=True, sort_keys=False))


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


def _log_to(file: Path) -> Any:
    """Keep warnings of all libraries in train.log as well; return what undoes it."""
    from transformers.utils import logging as transformers_logging

    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    transformers_logging.add_handler(handler)

    def undo() -> None:
        logging.getLogger().removeHandler(handler)
        transformers_logging.remove_handler(handler)
        handler.close()

    return undo
