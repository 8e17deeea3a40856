"""Every field of TrainingArguments (transformers 5.23), how lmtune treats it, and the fields that lmtune adds.

A field works as transformers documents it, works only with certain other settings, or is refused: because it contradicts a promise
of lmtune, or because nothing would ever read it. A test compares the table with the fields of the installed version.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lmtune import upstream
from lmtune.config import conditions as on
from lmtune.config.conditions import Condition, Idle
from lmtune.config.optimizers import UNFIT_OPTIMIZERS
from lmtune.config.ranges import LARGEST_SEED, Range

if TYPE_CHECKING:
    from lmtune.config.train import TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One training argument."""

    range: Range | None = None
    choices: tuple[str, ...] = ()
    kind: str = ""
    """The enumeration of transformers whose values are the choices, as `file.Class`."""
    remedy: str = ""
    """Added to the error for a value that is not among the choices."""
    annotation: str = ""
    """For an argument of lmtune's own: its type, as transformers writes types."""
    text: str = ""
    """For an argument of lmtune's own: what it does."""
    condition: Condition | None = None
    """Finds why it would have no effect; called if the argument was typed and is not off."""
    refusal: str = ""
    """Why it is refused, and what to do instead."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Choices that are refused, and why."""
    harmless: tuple[Any, ...] = ()
    """Values of a refused argument that ask for what lmtune does anyway."""
    contradicts: bool = False
    """Refused wherever it is set, not only if typed: it would break a promise."""
    home: str = ""
    """lmtune's own key for the same setting; the two are one."""
    follows: str = ""
    """The key whose value it takes unless it is set itself."""
    chosen: str = ""
    """What lmtune sets where it is left open, in words; '' for the default of transformers."""
    phased: bool = False
    """Determined by the phases of finetune=gradual."""
    withheld: bool = False
    """Read by lmtune itself, and not passed to Trainer."""
    weights: bool = True
    """It decides the weights, so that a run is resumed only with the same value."""
    anew: bool = False
    """A completed run may be asked for with another value."""
    always_asks: bool = False
    """0 asks for something, instead of leaving something out."""

    @property
    def words(self) -> tuple[str, ...]:
        """The choices, including those of transformers' enumeration."""
        return self.choices or (upstream.load_choices(self.kind) if self.kind else ())


def works(**facts: Any) -> Argument:
    """An argument that works as transformers documents it."""
    return Argument(**facts)


def needs(condition: Condition, **facts: Any) -> Argument:
    """An argument that works only with certain other settings."""
    return Argument(condition=condition, **facts)


def unread(refusal: str, *harmless: Any) -> Argument:
    """An argument that nothing in lmtune reads."""
    return Argument(refusal=refusal, harmless=harmless)


def against(refusal: str, *harmless: Any, **facts: Any) -> Argument:
    """An argument that would break a promise of lmtune."""
    return Argument(refusal=refusal, harmless=harmless, contradicts=True, **facts)


def ours(annotation: str, text: str, **facts: Any) -> Argument:
    """An argument of lmtune's own, which is not passed to Trainer."""
    return Argument(annotation=annotation, text=text, **facts)


def both(first: Condition, second: Condition) -> Condition:
    """The condition that both hold."""

    def condition(config: "TrainConfig") -> Idle | None:
        return first(config) or second(config)

    condition.__doc__ = f"{first.__doc__} {second.__doc__}"
    return condition


def whole(least: int, **bounds: Any) -> Range:
    """Whole numbers from `least`."""
    return Range(least=least, whole=True, **bounds)


INTERVAL = "trainer_utils.IntervalStrategy"
LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
STEPS = Range(above=0, steps=True)
BETA = Range(least=0, below=1)
SEED = whole(0, most=LARGEST_SEED)
KEPT = whole(1, remedy="That many of the newest are kept, besides the best one; null keeps all of them.")
OWN_EVALUATION = (
    "nothing reads it, since lmtune scores held-out text by itself, every token once. Leave it out; see eval.*."
)
FLOAT32 = "held-out text is scored in float32, so that numbers compare. Leave it out."
SPREAD = (
    "lmtune spreads weights over processes by itself, block by block and in float32, and in no other way. Leave it out, and "
    "give training.fsdp=true where a model does not fit on one device."
)

OF_HUB = {"withheld": True, "weights": False, "anew": True}
"""Facts of what is asked for once the model has been trained."""

ARGUMENTS: Mapping[str, Argument] = {
    # length of the run, and what goes into a step
    "per_device_train_batch_size": works(range=whole(1)),
    "gradient_accumulation_steps": works(range=whole(1)),
    "auto_find_batch_size": works(),
    "num_train_epochs": needs(
        on.if_epochs_count, range=Range(above=0, most=1_000_000), follows="data.epochs", phased=True
    ),
    "max_steps": works(range=whole(1, special={-1: "-1 for whole epochs"}), phased=True),
    # rate and optimizer
    "learning_rate": works(range=Range(least=0), follows="model.learning_rate", phased=True),
    "lr_scheduler_type": works(kind="trainer_utils.SchedulerType", phased=True),
    "lr_scheduler_kwargs": needs(on.if_schedule_takes_kwargs, phased=True),
    "warmup_steps": needs(on.if_schedule_warms_up, range=Range(least=0, steps=True), phased=True),
    "optim": works(kind="training_args.OptimizerNames", unfit=UNFIT_OPTIMIZERS, chosen="adamw_torch_fused"),
    "optim_args": needs(on.if_optimizer_reads_arguments),
    "optim_target_modules": needs(on.if_optimizer_takes_targets),
    "weight_decay": works(range=Range(least=0)),
    "adam_beta1": needs(on.if_first_beta_is_free, range=BETA),
    "adam_beta2": needs(on.if_optimizer_has_betas, range=BETA),
    "adam_epsilon": needs(on.if_optimizer_has_epsilon, range=Range(least=0)),
    "max_grad_norm": works(range=Range(least=0, remedy="0 cuts nothing off.")),
    "neftune_noise_alpha": works(range=Range(above=0, most=1_000_000)),
    "label_smoothing_factor": against("not supported, since it would change what the loss means. Leave it out.", 0),
    "goldfish": ours(
        "int | None",
        "Leave one in this many tokens out of the loss, chosen by a hash of the 13 tokens before it: the same passage always loses "
        "the same tokens ([audit.md](audit.md#against-it)). Off by default.",
        range=whole(
            2,
            remedy="1 would leave out every token. Give 4, which leaves out a quarter; without the key none is left out.",
        ),
    ),
    "muon": ours(
        "bool",
        "Move the matrices of the blocks by Muon, and the other weights by AdamW; learning rate and weight decay hold for both. "
        "It is for training from scratch, where higher rates pay, and for finetune=lora ([experiments.md](experiments.md#muon)).",
    ),
    "average_tokens_across_devices": needs(on.if_launched),
    # precision, memory, compilation
    "bf16": works(chosen="true on a device that computes in it"),
    "fp16": works(chosen="true on a GPU that computes in it and not in bf16"),
    "bf16_full_eval": against(FLOAT32, False),
    "fp16_full_eval": against(FLOAT32, False),
    "tf32": needs(on.if_on_device, chosen="true on a GPU that computes in it, without bf16 and fp16"),
    "activation_checkpointing": works(chosen="true where a step would not fit into memory"),
    "activation_checkpointing_kwargs": needs(on.if_checkpointed),
    "gradient_checkpointing": needs(on.unless_renamed("activation_checkpointing")),
    "gradient_checkpointing_kwargs": needs(
        both(on.unless_renamed("activation_checkpointing_kwargs"), on.if_checkpointed)
    ),
    "torch_compile": works(chosen="true for a long run that gains by it"),
    "torch_compile_backend": works(),
    "torch_compile_mode": works(),
    "use_liger_kernel": works(),
    "liger_kernel_config": needs(on.beside("use_liger_kernel")),
    "use_cache": against(
        "a cache is for generation: while training, keys and values would be kept for nothing, and data.isolate_documents would "
        "isolate no more. Leave it out.",
        False,
    ),
    "torch_empty_cache_steps": needs(on.if_on_device, range=whole(1)),
    "use_cpu": works(),
    # logging
    "logging_strategy": works(kind=INTERVAL),
    "logging_steps": needs(on.if_logged_by_steps, range=STEPS, weights=False),
    "logging_first_step": works(),
    "logging_nan_inf_filter": against("a NaN loss has to be seen, and stops the run. Leave it out.", False),
    "include_num_input_tokens_seen": works(
        choices=("all", "no"),
        remedy="Rows are full, so there is no padding to leave out; tokens learned are always counted.",
    ),
    "log_level": works(choices=LEVELS),
    "log_level_replica": needs(on.if_launched, choices=LEVELS),
    "log_on_each_node": needs(on.if_launched),
    "disable_tqdm": works(weights=False),
    "report_to": works(home="tracker.name"),
    "run_name": works(home="name"),
    "project": works(home="tracker.project"),
    "trackio_space_id": needs(on.if_on_trackio),
    "trackio_bucket_id": needs(on.if_on_trackio),
    "trackio_static_space_id": needs(on.if_on_trackio),
    "skip_memory_metrics": works(),
    "debug": works(
        choices=("underflow_overflow",), remedy="tpu_metrics_debug belongs to an evaluation that lmtune does not use."
    ),
    # evaluation
    "eval_strategy": needs(on.if_evaluated, kind=INTERVAL),
    "eval_steps": needs(on.if_evaluated_by_steps, range=STEPS),
    "eval_delay": needs(on.if_evaluated_while_training, range=Range(least=0)),
    "per_device_eval_batch_size": needs(on.if_evaluated, range=whole(1)),
    "eval_on_start": unread("step 0 is always scored, so that there is something to compare with. Leave it out.", True),
    "prediction_loss_only": unread(OWN_EVALUATION, False),
    "eval_do_concat_batches": unread(OWN_EVALUATION, True),
    "eval_use_gather_object": unread(OWN_EVALUATION, False),
    "eval_accumulation_steps": unread(OWN_EVALUATION),
    "include_for_metrics": unread(OWN_EVALUATION, []),
    "batch_eval_metrics": unread(OWN_EVALUATION, False),
    "label_names": unread("nothing reads it, since targets come with each row. Leave it out."),
    # checkpoints
    "save_strategy": works(kind="trainer_utils.SaveStrategy", chosen="as training.eval_strategy"),
    "save_steps": needs(on.if_saved_by_steps, range=STEPS, chosen="as training.eval_steps"),
    "save_total_limit": needs(on.if_saved, range=KEPT, weights=False),
    "save_only_model": needs(on.if_saved),
    "save_on_each_node": against("a run has one folder, which the first process writes. Leave it out.", False),
    "enable_jit_checkpoint": against("lmtune saves on SIGTERM, SIGINT and SIGUSR1 by itself. Leave it out.", False),
    "load_best_model_at_end": needs(on.if_best_can_be_kept),
    "metric_for_best_model": needs(on.if_best_is_sought),
    "greater_is_better": needs(on.if_best_is_sought, chosen="as training.metric_for_best_model asks"),
    "resume_from_checkpoint": works(home="resume"),
    "ignore_data_skip": against(
        "a resumed run would read other rows than the run that was never stopped. Leave it out.", False
    ),
    "restore_callback_states_from_checkpoint": against(
        "lmtune gives callbacks their states back by itself. Leave it out."
    ),
    # the Hub
    "push_to_hub": works(**OF_HUB),
    "hub_model_id": needs(on.if_published, **OF_HUB),
    "hub_private_repo": needs(on.if_published_or_on_trackio, **OF_HUB),
    "hub_revision": needs(on.if_published, **OF_HUB),
    "hub_strategy": needs(on.if_published, kind="trainer_utils.HubStrategy", **OF_HUB),
    "hub_always_push": needs(on.if_published, **OF_HUB),
    "hub_token": against(
        "a secret, which would be written into config.yaml; expected none among the settings. "
        "Set the environment variable HF_TOKEN instead.",
        **OF_HUB,
    ),
    # chance
    "seed": works(range=SEED, home="seed"),
    "data_seed": needs(on.if_rows_are_drawn, range=SEED, always_asks=True),
    "full_determinism": works(),
    # rows
    "train_sampling_strategy": needs(
        on.if_order_is_free,
        choices=("random", "sequential"),
        remedy="Rows have one length here, so that there is nothing to group or balance by it.",
    ),
    "length_column_name": unread("nothing reads it, since rows have one length. Leave it out.", "length"),
    "remove_unused_columns": against(
        "rows hold exactly what the loss takes, and all of it is needed. Leave it out.", False
    ),
    "dataloader_drop_last": against(
        "no row is dropped: the last batch is filled up with empty ones. Leave it out.", False
    ),
    "dataloader_num_workers": works(range=whole(0, most=1024), weights=False),
    "dataloader_pin_memory": needs(on.if_on_device, chosen="true with CUDA"),
    "dataloader_persistent_workers": needs(on.if_workers),
    "dataloader_prefetch_factor": needs(on.if_workers, range=whole(1)),
    "dataloader_multiprocessing_context": needs(on.if_workers, choices=("fork", "spawn", "forkserver")),
    "dataloader_in_order": against(
        "the order of batches would depend on which worker is faster, and a resumed run would differ. Leave it out.",
        True,
    ),
    # several processes
    "accelerator_config": works(),
    "parallelism_config": against(SPREAD),
    "fsdp": needs(on.if_spread, choices=("true", "false"), weights=False),
    "fsdp_config": against(SPREAD, {}),
    "deepspeed": works(),
    "ddp_find_unused_parameters": needs(on.if_copied, chosen="false"),
    "ddp_bucket_cap_mb": needs(on.if_copied, range=whole(1)),
    "ddp_broadcast_buffers": needs(on.if_copied),
    "ddp_static_graph": needs(on.if_copied),
    "ddp_backend": needs(on.if_launched, choices=("nccl", "gloo", "mpi", "xccl", "hccl")),
    "ddp_timeout": needs(on.if_launched, range=whole(1, unit="seconds")),
    "local_rank": unread("nothing reads it, since the launcher tells each process its place. Leave it out.", -1),
    # the script
    "output_dir": works(home="output"),
    "do_train": against("lmtune train trains and evaluates. To evaluate alone: lmtune eval ckpt=...", True),
    "do_eval": against("lmtune train trains and evaluates. To train without: training.eval_strategy=no.", True),
    "do_predict": unread(
        "nothing reads it; to try a finished model: lmtune eval ckpt=..., lmtune generate ckpt=...", False
    ),
}
"""In the order of transformers' own documentation, more or less."""

HOMES: Mapping[str, str] = {name: argument.home for name, argument in ARGUMENTS.items() if argument.home}
"""Arguments that have a key of lmtune's own, and that key."""
OWN: Mapping[str, str] = {name: argument.annotation for name, argument in ARGUMENTS.items() if argument.annotation}
"""Arguments of lmtune's own, and their types."""
PHASED = tuple(name for name, argument in ARGUMENTS.items() if argument.phased)
WITHHELD = tuple(name for name, argument in ARGUMENTS.items() if argument.withheld)


def load_fields() -> Mapping[str, str]:
    """Names and types of all keys of `training.*`: those of the installed transformers, and lmtune's own."""
    return {**upstream.load_training_fields(), **OWN}


RECOMPUTING = (
    "use_reentrant",
    "every_n_layers",
    "offload",
    "preserve_rng_state",
    "determinism_check",
    "debug",
    "early_stop",
)
"""Keys of training.activation_checkpointing_kwargs: those of Trainer, and those of torch.utils.checkpoint.checkpoint that YAML can
express. Any other would be passed to the model's blocks, which ignore it."""

ACCELERATE: Mapping[str, tuple[Any, str]] = {
    "split_batches": (False, "a batch would be another than training.per_device_train_batch_size says"),
    "dispatch_batches": (False, "a resumed run would read other rows than the run that was never stopped"),
    "use_seedable_sampler": (True, "a resumed run would read other rows than the run that was never stopped"),
    "use_configured_state": (False, "lmtune sets up its process itself"),
    "even_batches": (True, "batches are even already, so it would change nothing"),
}
"""Keys of training.accelerator_config with the one value that is accepted, and why."""
