"""What a training needs before its first step, checked in the order of what the checks cost."""

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lmtune.config import FinetuneMethod, TrainConfig, render_plain
from lmtune.data import predecessor
from lmtune.data.build import build_corpus, count_left_out, leave_out, prepare_training
from lmtune.data.canaries import build_canaries
from lmtune.data.corpus import Corpus
from lmtune.data.hub_source import check_data_source
from lmtune.data.lanes import check_shards
from lmtune.data.ledger import Ledger
from lmtune.data.losses import render_losses
from lmtune.data.prepared import Prepared
from lmtune.errors import Gathering
from lmtune.evaluation.protocol import hash_model
from lmtune.evaluation.windows import resolve_stride
from lmtune.exporting.hub import Target
from lmtune.modeling import adapters, behaviour, generation, loading, model_config, positions, saving
from lmtune.modeling.base import hash_base
from lmtune.modeling.source import check_model_source
from lmtune.modeling.transplant import EmbeddingTransfer
from lmtune.patience import turn_to
from lmtune.runs import Run
from lmtune.training import arguments as training_arguments
from lmtune.training import devices, publishing, resume, trackers
from lmtune.training.compiling import check_compile, find_compile_failure
from lmtune.training.disk import count_steps
from lmtune.training.distributed import agree, check_everywhere, check_same_text, join
from lmtune.training.planning import Plan, choose_rows, plan_steps
from lmtune.training.vocabulary import build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

logger = logging.getLogger(__name__)


ONLY_MODEL = (
    "training.save_only_model=true: checkpoints hold weights alone, so this run cannot be resumed once it is stopped"
)


@dataclass(frozen=True, slots=True)
class Setup:
    """A training, ready but for its run folder."""

    config: TrainConfig
    chosen: dict[str, Any]
    """Training arguments that lmtune chose for the device and the steps to come."""
    remarks: list[str]
    """Remarks on the training, for the plan in the log and for `lmtune check`."""
    arguments: "TrainingArguments"
    tokenizer: "PreTrainedTokenizerBase"
    model: "PreTrainedModel"
    move: EmbeddingTransfer | None
    """The move from the vocabulary that the weights came with to that of `tokenizer`."""
    context: int
    """Tokens of an evaluation window."""
    corpus: Corpus
    prepared: Prepared
    target: Target | None
    """The repository that takes the model in the end."""
    untouched: str | None = None
    """The hash of the weights before anything was added to them, where the model is to write text of its own."""
    base: str | None = None
    """The hash of the weights that an adapter is trained on; see hash_base."""


def build_setup(config: TrainConfig) -> Setup:
    """Load, build and prepare everything; raise for whatever can be known to fail."""
    resumed = check_training(config)
    target = publishing.open_target(config)
    past = agree(lambda: predecessor.find_past(config.model, resumed))
    corpus = build_corpus(config.data, config.seed, past)
    check_shards(config.data, corpus.source)
    for other in config.mixed_sets.values() if config.data.streaming else ():
        check_shards(other, build_corpus(other).source, mixed=True)
    chosen = agree(lambda: choose_settings(config, resumed))
    arguments = training_arguments.build_arguments(config, Path("unopened"), config.evaluates, chosen)
    training_arguments.check_liger(arguments)
    check_compile(arguments)
    spreads = training_arguments.spreads(config.training, arguments)
    model, tokenizer, move, block_size, context = build_parts(config, corpus, arguments, first=spreads)
    untouched = hash_model(model) if config.forgetting.writes else None
    adapts = config.finetune.method is FinetuneMethod.lora
    base = agree(lambda: hash_base(model)) if adapts else None
    chosen |= apply_batch(config, arguments, model, block_size, begins=resumed is None)
    model = prepare_finetune(config, arguments, model)
    canaries = build_canaries(config.audit, config.data.seed)
    prepared = prepare_training(corpus, config.mixed_sets, tokenizer, block_size, canaries)
    if not config.data.streaming:  # of a stream, the dates of files count, which copies need not have
        check_same_text(prepared.facts)
    if config.goldfish is not None:
        leave_out(config.goldfish, prepared.blocks, tokenizer)
        count_left_out(prepared)
    say_losses(prepared.ledger)
    # Without empty rows, accelerate would fill the last batch of several processes with rows that were learned already;
    # and the order of an epoch would depend on their number.
    batches = arguments.max_steps * arguments.gradient_accumulation_steps
    ranks = arguments.world_size
    prepared.blocks.set_batch_shape(arguments.train_batch_size * ranks, batches, ranks)
    if agree(lambda: resumed is None or not resumed.checkpoints()):  # a run that goes on reads where it stood
        check_everywhere(lambda: prepared.blocks.check_start(arguments.process_index, ranks))
    plan = agree(lambda: plan_training(config, arguments, model, prepared, begins=resumed is None))
    training_arguments.change_arguments(arguments, **plan.chosen)
    chosen |= plan.chosen
    remarks = [*plan.remarks, *([ONLY_MODEL] if arguments.save_only_model else [])]
    if spreads:
        from lmtune.training.sharding import shard_model

        shard_model(model, arguments.device)
        remarks.append(f"weights, gradients and the optimizer's state are spread over {arguments.world_size} processes")
    return Setup(
        config, chosen, remarks, arguments, tokenizer, model, move, context, corpus, prepared, target, untouched, base
    )


def say_losses(ledger: Ledger) -> None:
    """Say what of the training text the vocabulary loses, if anything."""
    train = ledger.sides["train"]
    if train.unknown_tokens or train.lost_bytes:
        lost = render_losses(train.unknown_tokens, train.lost_bytes, train.bytes)
        logger.warning("The vocabulary does not hold all of the training text: %s, so nothing of them is learned", lost)


def check_training(config: TrainConfig) -> Run | None:
    """Raise for what can be known within seconds, with nothing loaded and nothing made; return the run to go on with, if any."""
    found, resumed = Gathering(), None
    with found.noting():
        publishing.check_push(config)
    with found.noting():
        predecessor.check_private(config.model, private=config.private)
    join(config.training)
    plain = render_settings(config)
    if config.training.get("push_to_hub"):
        with found.noting():
            publishing.check_stated(config.card, plain)
    with found.noting():
        resumed = agree(lambda: resume.find_checked(config, plain))
        resume.check_not_elsewhere(config, plain, resumed)
    if config.resume != "off":
        found.raise_all()  # where a run cannot go on, its files are not asked about
    check_sources(config, found)
    found.raise_all()
    check_lengths(config)
    return resumed


def check_lengths(config: TrainConfig) -> None:
    """Raise ConfigError for rows and windows that are longer than the model has positions, before its weights are loaded."""
    asked = {"data.block_size": config.data.block_size, "eval.context": config.eval.context}
    if any(asked.values()):
        described = model_config.plan_config(config.model)
        for key, value in asked.items():
            positions.check_length(key, value, described)


def check_sources(config: TrainConfig, found: Gathering) -> None:
    """Note ids, files and packages that are not there, within seconds and before torch is imported."""
    with found.noting():
        trackers.check_trackers(config.tracker.names)
    with found.noting():
        check_model_source(config.model, config.check_weights)
        if config.finetune.method is FinetuneMethod.lora:
            adapters.check_adapter(config.finetune, config.model)
    for data in (config.data, *config.eval_sets.values(), *config.mixed_sets.values(), *config.replay_sets.values()):
        with found.noting():
            check_data_source(data)
            build_corpus(data)


class Parts(NamedTuple):
    """What the weights of a training begin with, tried."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    move: EmbeddingTransfer | None
    block_size: int
    """Tokens of a row."""
    context: int
    """Tokens of an evaluation window."""


def build_parts(config: TrainConfig, corpus: Corpus, arguments: "TrainingArguments", *, first: bool) -> Parts:
    """Load and try all that depends on the model. first: on rank 0 alone, so that no other process holds the weights.

    Raises LmtuneError for what the model does not do.
    """
    if first:
        from lmtune.training.sharding import build_first

        return build_first(lambda: build_parts(config, corpus, arguments, first=False))
    tokenizer, model, move = build_model(config, corpus)
    saving.check_saveable(model, tokenizer)
    training_arguments.check_optimizer(arguments, model)
    try_generation(config, model, tokenizer)
    if config.data.isolate_documents:
        behaviour.check_isolation(model)
    block_size = positions.resolve_length("data.block_size", config.data.block_size, model, training=True)
    context = positions.resolve_length("eval.context", config.eval.context, model)
    resolve_stride(config.eval.stride, context)
    return Parts(model, tokenizer, move, block_size, context)


def build_model(
    config: TrainConfig, corpus: Corpus
) -> tuple["PreTrainedTokenizerBase", "PreTrainedModel", EmbeddingTransfer | None]:
    """(tokenizer, model, move): the weights of a new model drawn from the seed; the move to another vocabulary, if any."""
    from transformers import set_seed

    from lmtune.modeling.loss import install_loss

    turn_to("building the model")
    tokenizer = build_tokenizer(config.model, corpus)
    set_seed(config.seed)
    move = loading.find_transfer(config.model, tokenizer)
    model, remarks = loading.build_model(config.model, tokenizer, move, config.check_weights)
    remarks += install_loss(model, config.model.loss)
    for remark in remarks:
        logger.info(remark)
    return tokenizer, model, move


def try_generation(config: TrainConfig, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise ConfigError for generation settings that fail, now and not at the first sample: write one token."""
    if config.samples.enabled and config.prompts:
        one = {"max_new_tokens": 1, "max_length": None, "min_new_tokens": None, "min_length": None}
        settings = config.generation | one
        asked = generation.build_generation_config(model, config.generation)
        generation.check_prompts(model, tokenizer, config.prompts, asked)
        generation.generate_aside(model, tokenizer, config.prompts[:1], settings, seed=0)


def prepare_finetune(
    config: TrainConfig, arguments: "TrainingArguments", model: "PreTrainedModel"
) -> "PreTrainedModel":
    """The model as finetune= wants it; raise ConfigError where it or the arguments do not go with that."""
    if config.muon:
        from lmtune.training.muon import check_muon

        check_muon(config, arguments, model)
    if config.finetune.method is FinetuneMethod.lora:
        return adapters.add_adapter(model, config.finetune, config.model.revision)  # type: ignore[return-value]  # peft answers for the model
    if config.finetune.method is FinetuneMethod.gradual:
        from lmtune.training.gradual import check_gradual

        check_gradual(arguments, model, config.finetune)
    return model


def apply_batch(
    config: TrainConfig, arguments: "TrainingArguments", model: "PreTrainedModel", block_size: int, *, begins: bool
) -> dict[str, Any]:
    """Set rows and accumulation for batch.tokens; return what lmtune chose, which a resumed run has to repeat."""
    rows = choose_rows(config.training, arguments, model, block_size) if begins and config.batch.tokens else None
    chosen = {} if rows is None else {"per_device_train_batch_size": rows}
    training_arguments.change_arguments(arguments, **chosen)
    training_arguments.apply_batch(config, arguments, block_size)
    return chosen


def choose_settings(config: TrainConfig, resumed: Run | None) -> dict[str, Any]:
    """Training settings for this device, of those left open; a resumed run keeps what was chosen when it began."""
    device = devices.detect_device(bool(config.training.get("use_cpu")))
    if resumed is None:
        return devices.choose_settings(config.training, device)
    kept = devices.keep_settings(resumed.load_config().get("chosen") or {}, device)
    spread = "weights are spread over processes (training.fsdp=true)" if config.training.get("fsdp") else None
    if kept.get("torch_compile") and (obstacle := spread or find_compile_failure(device.kind)) is not None:
        logger.info("torch.compile, which this run began with, does not work here: %s", obstacle)
        return {name: value for name, value in kept.items() if not name.startswith("torch_compile")}
    return kept


def plan_training(
    config: TrainConfig, arguments: "TrainingArguments", model: "PreTrainedModel", prepared: Prepared, *, begins: bool
) -> Plan:
    """Training settings for the steps to come, of those left open; they are set in `arguments` already.

    A run that does not begin but goes on keeps its choice of torch.compile, which its bits depend on.
    """
    given = config.training if begins else {**config.training, "torch_compile": arguments.torch_compile}
    block_size = prepared.ledger.block_size
    rows = count_steps(arguments, len(prepared.blocks)) * training_arguments.count_rows_per_step(arguments)
    return plan_steps(given, arguments, model, block_size, rows * block_size)


def render_settings(config: TrainConfig) -> dict[str, Any]:
    """config.yaml as plain values, without what lmtune chose, and without what a command asks beside a training."""
    own = {item.name for item in fields(TrainConfig)}
    return {name: value for name, value in render_plain(config).items() if name in own}
