"""How `lmtune train` begins: what is checked before anything heavy, and how a run folder is opened or resumed."""

import logging
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lmtune import __version__
from lmtune.commands import resuming
from lmtune.composition import build_data_config
from lmtune.config import DataConfig, FinetuneMethod, TrainConfig, render_plain
from lmtune.data.corpus import Corpus, Prepared
from lmtune.errors import ConfigError, DataError
from lmtune.hub import check_available
from lmtune.modeling import adapters, generation, loading
from lmtune.modeling.transplant import Move
from lmtune.runs import Run, write_json, write_text
from lmtune.streams import TokenStream
from lmtune.training.arguments import check_tracker, point_tracker


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
    if config.finetune.method is FinetuneMethod.lora:
        adapters.check_adapter(config.finetune, config.model)
    loading.check_model_source(config.model)
    for data in (config.data, *watched.values()):
        check_data_source(data)


def check_data_source(config: DataConfig) -> None:
    """Raise DataError for a Hub dataset that cannot be had."""
    if config.files is None and config.path is not None and not Path(config.path).exists():
        check_available("dataset", config.path, config.revision, DataError)


def build_model(config: TrainConfig, corpus: Corpus) -> tuple[Any, Any, Move | None]:
    """(tokenizer, model, move): the weights of a new model drawn from the seed; the move to another vocabulary, if any."""
    from transformers import set_seed

    tokenizer = loading.build_tokenizer(config.model, lambda: corpus.sides["train"])
    set_seed(config.seed)
    move = loading.find_move(config.model, tokenizer)
    model, remarks = loading.build_model(config.model, tokenizer, move)
    for remark in remarks:
        sys.stderr.write(remark + "\n")
    return tokenizer, model, move


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
    fingerprint = resuming.fingerprint_of(plain)
    folder = _share(
        str(resuming.choose_folder(config, fingerprint).folder.resolve()) if arguments.process_index == 0 else None
    )
    arguments.output_dir = folder
    manifest = {
        "lmtune": __version__,
        "fingerprint": fingerprint,
        "world_size": int(arguments.world_size),
        "facts": prepared.facts,
    }
    opened = Opened(Run(Path(folder)), resuming.name_run(config), arguments, fingerprint, manifest)
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
    resuming.check_settings(config, run, plain)
    if run.load_results().get("status") != "completed":
        opened.checkpoint = resuming.take_up(run, opened.manifest, config.resume_force, opened.say)


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
