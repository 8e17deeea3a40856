"""How `lmtune train` begins: what is checked before anything heavy, and how a run folder is opened or resumed."""

import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lmtune import __version__
from lmtune.composition import build_data_config
from lmtune.config import DataConfig, TrainConfig, render_plain
from lmtune.data.corpus import Corpus, Prepared
from lmtune.errors import CheckpointError, ConfigError, DataError
from lmtune.hub import check_available
from lmtune.modeling import generation, loading
from lmtune.runs import MANIFEST, Run, checksum_of, claim_folder, find_newest, load_json, slug, write_json, write_text
from lmtune.streams import TokenStream
from lmtune.training.arguments import check_tracker, point_tracker

OUTPUTS = Path("outputs")
WITHOUT_EFFECT = [
    "resume",
    "resume_force",
    "format",
    "name",
    "output",
    "objective",
    "tracker",
    "samples",
    "prompts",
    "generation",
    "training.logging_steps",
    "training.save_total_limit",
    "training.dataloader_num_workers",
    "training.disable_tqdm",
    "data.prompts",
]
"""Settings that leave the weights as they are: a run may be resumed with others."""


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
            results = {**self.run.load_results(), "status": status, "reason": reason}
            write_json(self.run.results_file, results)
            self.say(f"run folder: {self.run.folder}")

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


def build_watched(config: TrainConfig) -> dict[str, DataConfig]:
    """The data configurations that eval_data names."""
    if config.data.name in config.eval_data:
        raise ConfigError(f"eval_data names {config.data.name}, which data= watches already. Leave it out.")
    return {name: build_data_config(name) for name in config.eval_data}


def check_sources(config: TrainConfig, watched: dict[str, DataConfig]) -> None:
    """Raise for ids, folders and packages that are not there, within seconds and before torch is imported."""
    check_tracker(config.tracker.name)
    loading.check_model_source(config.model)
    for data in (config.data, *watched.values()):
        check_data_source(data)


def check_data_source(config: DataConfig) -> None:
    """Raise DataError for a Hub dataset that cannot be had."""
    if config.files is None and config.path is not None and not Path(config.path).exists():
        check_available("dataset", config.path, config.revision, DataError)


def has_validation(config: DataConfig) -> bool:
    """True if some text will be held out."""
    return config.validation_fraction > 0 or config.validation_files is not None or config.validation_split is not None


def build_model(config: TrainConfig, corpus: Corpus) -> tuple[Any, Any]:
    """(tokenizer, model), the weights of a new model drawn from the seed."""
    from transformers import set_seed

    tokenizer = loading.build_tokenizer(config.model, lambda: corpus.sides["train"])
    set_seed(config.seed)
    model, remarks = loading.build_model(config.model, tokenizer)
    for remark in remarks:
        sys.stderr.write(remark + "\n")
    return tokenizer, model


def try_generation(config: TrainConfig, model: Any, tokenizer: Any) -> None:
    """Raise ConfigError for generation settings that fail, now and not at the first sample: write one token."""
    if config.samples.enabled and config.prompts:
        settings = {**config.generation, "max_new_tokens": 1, "min_new_tokens": None, "min_length": None}
        generation.check_room(model, generation.build_generation_config(model, config.generation))
        generation.generate_aside(model, tokenizer, config.prompts[:1], settings, seed=0)


class HeldOutSet(NamedTuple):
    """Text that is scored while the model learns."""

    stream: TokenStream
    split_by: str


def load_held_out(
    config: TrainConfig, prepared: Prepared, watched: dict[str, DataConfig], tokenizer: Any
) -> dict[str, HeldOutSet]:
    """The held-out text of `data=` first, then that of each set of `eval_data=`."""
    sets = {}
    if "validation" in prepared.held_out:
        sets[config.data.name] = HeldOutSet(prepared.held_out["validation"], prepared.ledger.split_by)
    for name, data in watched.items():
        streams, split_by = Corpus(data, config.seed).load_held_out(tokenizer)
        if "validation" not in streams:
            raise DataError(
                f"eval_data={name}: it holds nothing out. Give conf/data/{name}.yaml a validation_fraction."
            )
        sets[name] = HeldOutSet(streams["validation"], split_by)
    return sets


def open_run(config: TrainConfig, arguments: Any, prepared: Prepared, watched: dict[str, DataConfig]) -> Opened:
    """Claim a new run folder, or take up the one to resume; all ranks agree on it."""
    plain = {**render_plain(config), "eval_sets": {name: render_plain(data) for name, data in watched.items()}}
    fingerprint = checksum_of(repr(sorted(without_neutral(plain).items())))
    folder = _share(str(_choose_folder(config, fingerprint).folder.resolve()) if arguments.process_index == 0 else None)
    arguments.output_dir = folder
    manifest = {
        "lmtune": __version__,
        "fingerprint": fingerprint,
        "world_size": int(arguments.world_size),
        "facts": prepared.facts,
    }
    opened = Opened(Run(Path(folder)), name_run(config), arguments, fingerprint, manifest)
    if config.tracker.name != "none":
        opened.held.callback(point_tracker(config.tracker.name, opened.run.folder))
    try:
        if opened.is_main:
            _enter(opened, config, plain, prepared)
        chosen = _share(str(opened.checkpoint) if opened.checkpoint else "")
    except BaseException:
        opened.held.close()
        raise
    opened.checkpoint = Path(chosen) if chosen else None
    arguments.eval_on_start = "validation" in prepared.held_out and opened.checkpoint is None
    return opened


def _enter(opened: Opened, config: TrainConfig, plain: dict[str, Any], prepared: Prepared) -> None:
    """Lock the run folder, then record a new run or find where an old one stopped."""
    run = opened.run
    lock = run.lock()
    opened.held.callback(lock.release)
    opened.held.callback(_log_to(run.log_file))
    if not run.config_file.exists():
        _record(opened, plain, prepared)
        return
    _check_drift(config, run, plain)
    if run.load_results().get("status") != "completed":
        _take_up(opened, force=config.resume_force)


def say_plan(opened: Opened, model: Any, prepared: Prepared) -> None:
    """What is about to happen, in three lines on stderr."""
    ledger, train = prepared.ledger, prepared.ledger.sides["train"]
    held = ledger.sides["validation"]
    opened.say(
        f"data: {ledger.documents_kept:,} documents ({ledger.documents_are}); {train.tokens:,} tokens to learn "
        f"in {ledger.blocks:,} blocks of {ledger.block_size:,}; {held.tokens:,} held out by {ledger.split_by}"
    )
    opened.say(
        f"model: {model.num_parameters():,} parameters on {opened.arguments.device}, {opened.world_size} process(es)"
    )
    opened.say(f"run folder: {opened.run.folder}")
    if opened.checkpoint:
        opened.say(f"resuming from {opened.checkpoint.name}")


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def without_neutral(plain: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the weights."""
    return {
        key: value
        for key, value in flatten(plain).items()
        if not any(key == name or key.startswith(name + ".") for name in WITHOUT_EFFECT)
    }


def _choose_folder(config: TrainConfig, fingerprint: str) -> Run:
    if config.resume not in ("off", "auto", "False"):  # YAML reads a bare off as False
        return _find_resumed(Path(config.resume))
    if config.resume == "auto":
        newest = find_newest(OUTPUTS, fingerprint)
        if newest is not None:
            return newest
    if config.output is not None:
        folder = Path(config.output)
        if (folder / "config.yaml").exists() and config.resume == "auto":
            return Run(folder)
        if (folder / "config.yaml").exists():
            raise CheckpointError(
                f"{folder} already holds a run. Give another output=, or go on with it: resume={folder}."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"output={folder}: expected a folder that can be made, found: {error.strerror}."
            ) from error
        return Run(folder)
    return Run(claim_folder(OUTPUTS, name_run(config), datetime.now()))


def name_run(config: TrainConfig) -> str:
    """`name=`, else <data>-<model>."""
    return slug(config.name or f"{slug(config.data.name)}-{_model_slug(config)}")


def _model_slug(config: TrainConfig) -> str:
    return slug(config.model.path) if config.model.name == "hub" and config.model.path else slug(config.model.name)


def _find_resumed(folder: Path) -> Run:
    if not (folder / "config.yaml").exists():
        raise CheckpointError(
            f"resume={folder}: expected a run folder, found {'no config.yaml in it' if folder.is_dir() else 'nothing there'}."
        )
    return Run(folder)


def _check_drift(config: TrainConfig, run: Run, plain: dict[str, Any]) -> None:
    """Raise ConfigError where settings that decide the weights are not those the run was started with."""
    before, now = without_neutral(run.load_config()), without_neutral(plain)
    changed = [
        f"{key}: {before.get(key)} then, {now.get(key)} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if changed and not config.resume_force:
        raise ConfigError(
            f"{run.folder} was started with other settings ({'; '.join(changed)}), so its result would be neither. "
            "Leave them as they were, or say resume_force=true."
        )


def _take_up(opened: Opened, force: bool) -> None:
    """Find the newest whole checkpoint, and cut the records back to it."""
    run = opened.run
    run.sweep()
    opened.checkpoint, complaints = run.find_checkpoint()
    if opened.checkpoint is not None:
        _check_same_world(opened, load_json(opened.checkpoint / MANIFEST), force)
    for complaint in complaints:
        opened.say(f"set aside {complaint}")
        broken = run.folder / complaint.split(":")[0]
        broken.rename(run.folder / f"broken-{broken.name}-{os.getpid()}")
    step = int(opened.checkpoint.name.removeprefix("checkpoint-")) if opened.checkpoint else -1
    run.cut_back(step)
    write_json(run.results_file, {**run.load_results(), "status": "running"})


def _check_same_world(opened: Opened, before: dict[str, Any], force: bool) -> None:
    """Raise where the text or the vocabulary is another than at the checkpoint; say where the world size is."""
    now = opened.manifest
    changed = [
        word
        for key, word in (("corpus", "text"), ("tokenizer", "vocabulary"))
        if before["facts"].get(key) != now["facts"][key]
    ]
    if changed and not force:
        raise CheckpointError(
            f"{opened.run.folder}: the {' and the '.join(changed)} changed since its checkpoint was written, so its result "
            "would be neither. Put it back as it was, or say resume_force=true."
        )
    if before["world_size"] != now["world_size"]:
        opened.say(f"{before['world_size']} processes then, {now['world_size']} now: the result will not be bit-equal")


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
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), folder / "hydra.yaml")
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
