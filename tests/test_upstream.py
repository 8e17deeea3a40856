"""What lmtune stands on in its libraries beyond their promises; where a new version changes that, this names what to read.

A method whose source is not one of those that were read: compare it in the two versions, then with the reason given here
and with src/lmtune/training/trainer.py. Where all still holds, add the new hash beside the others.
"""

import ast
import codecs
import hashlib
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import accelerate
import datasets
import omegaconf
import pytest
import tokenizers
import torch
import transformers
from packaging.version import Version
from transformers import Trainer, TrainerControl

import lmtune
from lmtune.training.trainer import LmTrainer

ROOT = Path(lmtune.__file__).parent
OLDEST_READ, PINNED_READ = Version("5.10.1"), Version("5.23.0")
"""Versions of transformers whose Trainer was read; those between them are held to names and parameters alone."""


class Method(NamedTuple):
    """A method of Trainer: why it matters, its parameters, and the hashes of its source in the versions that were read."""

    reason: str
    parameters: str
    bodies: tuple[str, ...]


OVERRIDDEN = {
    "_get_train_sampler": Method(
        "the order of rows, where the rows decide it; called for each dataloader",
        "train_dataset=None",
        ("2cb85f83c75c", "1580d7493244"),
    ),
    "get_batch_samples": Method(
        "returns the batches of a step and the targets in them, which are counted as trained tokens",
        "epoch_iterator, num_batches, device",
        ("0b3727386f73",),
    ),
    "training_step": Method(
        "returns the loss of a batch as a share of its step's; called once for each batch",
        "model, inputs, num_items_in_batch=None",
        ("7acfd3d5040f", "e9760c8ee103"),
    ),
    "_get_learning_rate": Method(
        "asked after the step is taken and before it is counted",
        "",
        ("158d12f9b950",),
    ),
    "floating_point_ops": Method(
        "called for each batch, with input_ids",
        "inputs",
        ("ffd8b0eb8cf7",),
    ),
    "_build_accelerator_args": Method(
        "returns a dict with dynamo_plugin, which is replaced where fit() compiles by itself",
        "**kwargs",
        ("75b60b903fd8", "5288559459f1"),
    ),
    "_update_auto_batch_size": Method(
        "called before each try of auto_find_batch_size with the rows of a process",
        "batch_size",
        ("cc70f4fe62f5",),
    ),
    "log": Method(
        "called with loss and learning_rate for a log, and without loss for anything else",
        "logs, start_time=None",
        ("73b8e3acd21a",),
    ),
    "evaluate": Method(
        "called by _evaluate; on_evaluate and log are left to it",
        "eval_dataset=None, ignore_keys=None, metric_key_prefix='eval'",
        ("d714e7e22446", "47001f3acc99"),
    ),
    "_determine_best_metric": Method(
        "called after each evaluation; sets best_metric and best_global_step of the state, returns a bool",
        "metrics, trial",
        ("7aa77355a0c3",),
    ),
    "_finalize_training": Method(
        "called once, also directly for a run that had only to end; sums up the loss and the time, loads the best model",
        "trial, num_train_samples, start_time",
        ("8fdcb7005e2b", "6d6d83d6a271"),
    ),
    "_save_checkpoint": Method(
        "writes below args.output_dir and nowhere else; deletes older checkpoints only there",
        "model, trial",
        ("a9111e30faa9",),
    ),
    "save_model": Method(
        "rank 0 alone writes in it, and the others wait for it right after",
        "output_dir=None, _internal_call=False",
        ("ca8d2be9f60f", "705727ee10c8"),
    ),
    "_load_from_checkpoint": Method(
        "loads the weights alone; the optimizer and the scheduler are loaded elsewhere",
        "resume_from_checkpoint, model=None",
        ("4711d0506786", "a2804e8d93a2"),
    ),
    "_load_optimizer_and_scheduler": Method(
        "loads both into those that are there, settings of their groups and base rates included",
        "checkpoint",
        ("bdcb956f06c4", "741032f57d6f"),
    ),
    "_load_best_model": Method(
        "loads the weights of state.best_model_checkpoint alone",
        "",
        ("0e183d55a9db",),
    ),
    "_save_rng_state": Method(
        "writes one file for each rank into the folder that it is given, and reads nothing else",
        "output_dir",
        ("27a97d106124",),
    ),
}
"""What LmTrainer does otherwise, and what it relies on in doing so."""

RELIED_ON = {
    "_inner_training_loop": Method(
        "on_train_begin comes after the sums of the loss are reset, and on_epoch_begin right before the epoch: LoopCallback puts the sums back and sets the epoch of a sampler; the values of set_initial_training_values are used as fit() uses them",
        "batch_size=None, args=None, resume_from_checkpoint=None, trial=None, ignore_keys_for_eval=None",
        ("59b69168df65", "20ec4276e99f"),
    ),
    "_init_training_state": Method(
        "loads the state from a checkpoint: the path of the best one and the counters of callbacks are mended after it",
        "max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial",
        ("4d8fa053043f", "8fbd17ebb7d3"),
    ),
    "_load_callback_state": Method(
        "leaves callbacks alone unless restore_callback_states_from_checkpoint",
        "",
        ("2d0eae17b14b",),
    ),
    "_prepare_for_training": Method(
        "keeps an optimizer that is already there, as finetune=gradual sets one",
        "max_steps, train_dataloader, resume_from_checkpoint",
        ("0a4d89b3fdfd", "f55950593d7e", "28182cbf71da"),  # from 5.24 on it reshards the modules of FSDP2 first
    ),
    "create_optimizer": Method(
        "keeps an optimizer that is already there; build_optimizer of finetune=gradual groups parameters as it does",
        "model=None",
        ("daff86cde6cc", "c798977d9dca"),
    ),
    "_run_epoch": Method(
        "on_step_begin, batches, the optimizer's step, the rate, global_step, on_step_end, then _maybe_log_save_evaluate: in this order",
        "model, epoch, train_dataloader, steps_in_epoch, num_update_steps_per_epoch, trial, ignore_keys_for_eval, start_time, resume_from_checkpoint, epochs_trained, steps_trained_in_current_epoch",
        ("c704c082dae4", "31aff00f34c3"),
    ),
    "_maybe_log_save_evaluate": Method(
        "logs, evaluates, saves, in this order and through log, evaluate and _save_checkpoint: each checks the loss first",
        "tr_loss, grad_norm, model, trial, epoch, ignore_keys_for_eval, start_time, learning_rate=None",
        ("af101534f0f7",),
    ),
    "_get_num_items_in_batch": Method(
        "counts the targets of a step over all processes, or of one, by average_tokens_across_devices",
        "batch_samples, device",
        ("cd07d211c9ed", "a31fa106f70d"),
    ),
    "_get_output_dir": Method(
        "is args.output_dir, which a save sets to the staging folder",
        "trial",
        ("97172085342a",),
    ),
    "_save_optimizer_and_scheduler": Method(
        "no rank waits for another in it (without DeepSpeed): an error is noted around the whole save",
        "output_dir",
        ("c5ef974db69a",),
    ),
    "_save_scaler": Method(
        "no rank waits for another in it: an error is noted around the whole save",
        "output_dir",
        ("fd1ce04cfea4",),
    ),
    "set_initial_training_values": Method(
        "returns seven values in an order that count_steps unpacks by name",
        "args, dataloader",
        ("81697f5f3100",),
    ),
}
"""What LmTrainer leaves as it is and takes for granted."""

ATTRIBUTES = {
    "_tr_loss": "sum of the loss since the last log; saved in manifests, put back on resuming",
    "_total_loss_scalar": "sum of the loss up to the last log; saved and put back likewise",
    "_globalstep_last_logged": "the step of that log; saved and put back likewise",
    "_initial_global_step": "set to 0 at the end, so that train_loss is the mean over all starts of the run; from 5.19 on, before it always was",
}
"""Of Trainer itself."""


def source_of(*owners):
    return "".join(inspect.getsource(owner) for owner in owners)


GENERATE = transformers.GPT2LMHeadModel.generate
PRIVATE = {
    "_prepare_generation_config": (
        "serving/chooser: a request's settings, completed as generate completes them",
        lambda: "self._prepare_generation_config(generation_config, **kwargs)" in source_of(GENERATE),
    ),
    "_prepare_special_tokens": (
        "serving/chooser: special ids as tensors, which logits processors read from the settings",
        lambda: "self._prepare_special_tokens(" in source_of(GENERATE),
    ),
    "_get_logits_processor": (
        "serving/chooser: the processors that generate makes of settings",
        lambda: "self._get_logits_processor(" in source_of(GENERATE),
    ),
    "_supports_default_dynamic_cache": (
        "serving/cache: models whose cache is no list of keys and values",
        lambda: transformers.GPT2LMHeadModel._supports_default_dynamic_cache(),
    ),
    "_n_gpu": (
        "training/arguments: a process without a launcher takes one GPU, not DataParallel",
        lambda: "self._n_gpu" in source_of(transformers.TrainingArguments),
    ),
    "_attn_implementation": (
        "training/context: the attention that a model runs with has no public name",
        lambda: transformers.GPT2Config()._attn_implementation is None,
    ),
    "_experts_implementation": (
        "evaluation/scorer: nor has that of a mixture of experts, which set_experts_implementation changes",
        lambda: hasattr(transformers.GPT2Config(), "_experts_implementation"),
    ),
    "_tied_weights_keys": (
        "modeling/wholeness: which weights a class ties to its embedding",
        lambda: "lm_head.weight" in transformers.GPT2LMHeadModel._tied_weights_keys,
    ),
    "_original_forward": (
        "evaluation/scorer: accelerate puts autocast around forward, and keeps the original under this name",
        lambda: "model._original_forward = model.forward" in source_of(accelerate.Accelerator),
    ),
    "_compiled_call_impl": (
        "training/compiling: what Module.compile() leaves behind, and what undoes it",
        lambda: "self._compiled_call_impl = torch.compile" in source_of(torch.nn.Module.compile),
    ),
    "_subclasses": (
        "training/memory: FakeTensorMode follows a step without values; its module is private",
        lambda: hasattr(torch._subclasses.fake_tensor.FakeTensorMode, "from_tensor"),
    ),
    "_cdata": (
        "training/memory: tells storages without values apart, whose data_ptr() is refused",
        lambda: isinstance(torch.zeros(1).untyped_storage()._cdata, int),
    ),
    "_tokenizer": (
        "modeling/tokenizer: the plain tokenizer inside ByteLevelBPETokenizer, which PreTrainedTokenizerFast takes",
        lambda: isinstance(tokenizers.ByteLevelBPETokenizer()._tokenizer, tokenizers.Tokenizer),
    ),
    "_fingerprint": (
        "data/hub_source: says that the rows of a dataset have changed",
        lambda: isinstance(datasets.Dataset.from_dict({"text": ["a"]})._fingerprint, str),
    ),
    "_resolve_features": (
        "data/tables: the columns of a stream that declares none",
        lambda: hasattr(datasets.IterableDataset, "_resolve_features"),
    ),
    "_is_none": (
        "cli/composition: whether a whole section was set to null",
        lambda: omegaconf.OmegaConf.create({"section": None})._get_node("section")._is_none(),
    ),
    "_is_text_encoding": (
        "data/decoding: Python's codecs have no public name for it",
        lambda: codecs.lookup("utf-8")._is_text_encoding and not codecs.lookup("base64")._is_text_encoding,
    ),
    "_internal": (
        "cli/sweeps: Hydra's own split of sweeps into jobs, so that all are checked before the first",
        lambda: "max_batch_size" in inspect.signature(basic_sweeper().split_arguments).parameters,
    ),
}
"""Underscored names of other libraries: where and why, and a proof that they still mean what they are used for."""

OTHERS = {
    "gigatoken.gigatoken_rs": (
        "data/gigatokens: the encoder itself; gigatoken's own wrapper takes no tokenizer as JSON",
        lambda: hasattr(__import__("gigatoken.gigatoken_rs").gigatoken_rs, "load_hf_json"),
    ),
    "cached_file": (
        "foreign: its underscored parameters make it return None where there is no such file",
        lambda: {"_raise_exceptions_for_gated_repo", "_raise_exceptions_for_missing_entries",
                 "_raise_exceptions_for_connection_errors"}
        <= inspect.signature(transformers.utils.hub.cached_files).parameters.keys(),
    ),
    "hydra.core.plugins": (
        "cli/user_conf: a search path plugin of a package that is not hydra_plugins",
        lambda: callable(plugins().register),
    ),
    "TrainerControl": (
        "training/saved_state: whether a run had decided to stop, as Trainer writes it into trainer_state.json",
        lambda: TrainerControl(should_training_stop=True).state()["args"]["should_training_stop"] is True,
    ),
}  # fmt: skip
"""What else is no promise of a library's."""

NOT_PRIVATE = {"_asdict", "_replace", "_fields", "_make", "_typeshed"}
"""Of named tuples, and the types of the standard library."""


def basic_sweeper():
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    return BasicSweeper


def plugins():
    from hydra.core.plugins import Plugins

    return Plugins.instance()


def parameters_of(function):
    """`a, b=None`: names and defaults, without the types."""
    listed = inspect.signature(function).parameters.values()
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in listed]
    return str(inspect.Signature(plain)).strip("()").removeprefix("self").removeprefix(", ")


def body_of(function):
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", [*OVERRIDDEN, *RELIED_ON])
def test_a_method_of_trainer_is_one_that_was_read(name):
    known, found = {**OVERRIDDEN, **RELIED_ON}[name], getattr(Trainer, name)
    version = f"transformers {transformers.__version__}: Trainer.{name}"
    assert parameters_of(found) == known.parameters, f"{version} takes other parameters. It matters: {known.reason}"
    if OLDEST_READ < Version(transformers.__version__) < PINNED_READ:
        return  # both ends were read, and what lies between is theirs
    assert body_of(found) in known.bodies, (
        f"{version} is not one that was read. It matters: {known.reason}. Its hash: {body_of(found)}"
    )


def test_every_override_is_listed_and_takes_what_trainer_gives():
    overrides = {name for name in vars(LmTrainer) if callable(getattr(Trainer, name, None)) and name != "__init__"}
    own = {name for name in overrides if not name.startswith("__")}
    assert own == OVERRIDDEN.keys()
    for name in own:
        assert parameters_of(getattr(LmTrainer, name)) == parameters_of(getattr(Trainer, name)), name


def test_what_old_text_changes_of_trainer_is_listed_too():
    from lmtune.training.replay import ReplayTrainer

    own = {name for name in vars(ReplayTrainer) if callable(getattr(Trainer, name, None)) and name[:2] != "__"}
    assert own == {"get_batch_samples", "log", "_determine_best_metric"} <= OVERRIDDEN.keys()
    for name in own:
        assert parameters_of(getattr(ReplayTrainer, name)) == parameters_of(getattr(Trainer, name)), name


SHARDED = {
    "save_model": "OVERRIDDEN says it; all ranks come to it",
    "_load_from_checkpoint": "OVERRIDDEN says it",
    "_load_best_model": "OVERRIDDEN says it",
    "_save_optimizer_and_scheduler": "RELIED_ON says it; writes optimizer.pt and scheduler.pt, which lmtune writes itself where parts are gathered",
    "_load_optimizer_and_scheduler": "reads the two; the scaler of float16, which is refused, is loaded elsewhere",
    "_defer_fsdp_gradient_reduction": "surrounds all passes of a step but the last",
}
"""What ShardedTrainer does otherwise."""

SHARDED_BODIES = {
    "_load_optimizer_and_scheduler": ("741032f57d6f",),
    "_defer_fsdp_gradient_reduction": ("e8b6a1ca3958",),
    "_sync_replicated_trainable_parameters": ("97721be20ba2",),
}
"""Hashes of what was read besides; the last one leaves weights alone that are spread."""


@pytest.mark.skipif(
    Version(transformers.__version__) < PINNED_READ, reason="weights are not spread with older versions"
)
def test_what_trainer_does_with_weights_that_are_spread_was_read():
    from lmtune.training.sharded_trainer import ShardedTrainer

    own = {
        name for name in vars(ShardedTrainer) if callable(getattr(Trainer, name, None)) and not name.startswith("__")
    }
    assert own == SHARDED.keys()
    for name in own:
        assert parameters_of(getattr(ShardedTrainer, name)) == parameters_of(getattr(Trainer, name)), name
    for name, bodies in SHARDED_BODIES.items():
        assert body_of(getattr(Trainer, name)) in bodies, (
            f"Trainer.{name} is not one that was read: {body_of(getattr(Trainer, name))}"
        )
    prepare = source_of(Trainer._prepare_for_training)
    assert "if self.is_distributed_loading_by_transformers" in prepare
    assert "_is_fsdp_managed_module" in source_of(torch.distributed.fsdp.fully_shard), (
        "generate() then keeps processes in step"
    )


def test_private_names_of_trainer_are_listed():
    used = set(re.findall(r"(?:self|super\(\)|trainer)\.(_[a-z]\w*)", (ROOT / "training/trainer.py").read_text()))
    of_trainer = {name for name in used if re.search(rf"\bself\.{name}\b", source_of(Trainer))}
    known = ATTRIBUTES.keys() - (
        {"_initial_global_step"} if Version(transformers.__version__) < Version("5.19") else set()
    )
    assert of_trainer - OVERRIDDEN.keys() - RELIED_ON.keys() == known


@pytest.mark.parametrize(("name", "entry"), [*PRIVATE.items(), *OTHERS.items()], ids=[*PRIVATE, *OTHERS])
def test_a_private_name_still_means_what_it_is_used_for(name, entry):
    reason, holds = entry
    package = reason.split(":")[0]
    assert holds(), f"{name} has changed. It matters in {package}: {reason}"


def test_private_names_of_other_libraries_are_listed():
    used = {name for file in ROOT.rglob("*.py") for name in private_names(ast.parse(file.read_text("utf-8")))}
    assert used - NOT_PRIVATE == PRIVATE.keys()


def private_names(tree):
    """Underscored names that are taken from something other than self, cls or super(), and underscored modules."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    for node in ast.walk(tree):
        match node:
            case (
                ast.Attribute(value=ast.Name(id="self" | "cls"))
                | ast.Attribute(value=ast.Call(func=ast.Name(id="super")))
            ):
                found = []
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                found = [name]
            case ast.ImportFrom(module=str(module)) if not module.startswith("lmtune"):
                found = module.split(".")
            case ast.Call(
                func=ast.Name(id="getattr" | "hasattr" | "setattr"), args=[_, ast.Constant(value=str(name)), *_]
            ):
                found = [name]
            case _:
                found = []
        yield from (name for name in found if re.match(r"_[a-z]", name) and name not in own)
