"""Every field of TrainingArguments is known: it works, works beside others, or is refused with the reason."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
import transformers
from packaging.version import Version

import lmtune
from lmtune import upstream
from lmtune.cli.effects.typed import check_effects
from lmtune.cli.reference import render_arguments
from lmtune.cli.schemas import find_conf
from lmtune.config import FinetuneMethod
from lmtune.config.evaluation import EvalPrecision
from lmtune.config.sharding import UNTRIED, check_sharding
from lmtune.config.training import check_training, settle_training
from lmtune.config.training_arguments import ARGUMENTS, OWN
from lmtune.errors import ConfigError
from lmtune.training.arguments import _complete, change_arguments
from lmtune.training.cross_checks import _warn_of_warmup
from lmtune.upstream import Typed

SOURCE = Path(lmtune.__file__).parent

LATER = (
    {"dataloader_in_order", "dataloader_multiprocessing_context"}
    if Version(transformers.__version__) < Version("5.15")
    else set()
)
"""Arguments that the oldest versions of transformers do not have."""

DEFAULTS = {
    "eval_strategy": "steps",
    "eval_steps": 0.1,
    "load_best_model_at_end": True,
    "save_total_limit": 2,
    "lr_scheduler_type": "cosine",
}


def build(evaluates=True, method="full", streaming=False, mix=(), tracker="none", **training):
    """What conditions ask of a configuration."""
    return SimpleNamespace(
        training={**DEFAULTS, **training},
        evaluates=evaluates,
        finetune=SimpleNamespace(method=FinetuneMethod(method)),
        data=SimpleNamespace(streaming=streaming, mix=mix),
        early_stopping=SimpleNamespace(patience=None),
        tracker=SimpleNamespace(name=tracker),
    )


def check(config, name):
    key = f"training.{name}"
    check_effects("train", config, Typed(frozenset([key]), {key: config.training[name]}))


def test_the_table_is_that_of_transformers():
    fields = set(upstream.load_training_fields())
    assert fields - ARGUMENTS.keys() == set(), "new in transformers: say what becomes of them"
    assert ARGUMENTS.keys() - OWN.keys() - fields <= LATER, "gone from transformers"
    assert OWN.keys().isdisjoint(fields), "transformers has one of that name by now"


def test_an_argument_of_newer_versions_is_told_from_one_that_there_is_not(monkeypatch):
    fields = {name: kind for name, kind in upstream.load_training_fields().items() if name != "dataloader_in_order"}
    monkeypatch.setattr(upstream, "load_training_fields", lambda: fields)
    with pytest.raises(ConfigError, match=r"^training\.dataloader_in_order: the installed transformers has none yet"):
        check_training({"dataloader_in_order": True})


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_argument_is_refused_or_conditional_or_neither(name):
    argument = ARGUMENTS[name]
    assert not (argument.refusal and argument.condition)
    assert argument.refusal == "" or argument.refusal.endswith((".", "..."))
    assert argument.refusal or (not argument.harmless and not argument.contradicts)
    assert not argument.kind or upstream.load_choices(argument.kind)


REFUSED = [name for name, argument in ARGUMENTS.items() if argument.refusal and name in upstream.load_training_fields()]
OTHER = {"eval_on_start": False, "include_for_metrics": ["loss"], "label_names": ["x"], "length_column_name": "x", "hub_token": "x",
         "label_smoothing_factor": 0.1, "parallelism_config": {"tp_size": 2}, "fsdp_config": {"version": 2}, "eval_accumulation_steps": 2,
         "do_train": False, "do_eval": False, "eval_do_concat_batches": False, "dataloader_in_order": False, "local_rank": 1}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_with_its_reason_and_a_remedy(name):
    value = OTHER.get(name, True)
    with pytest.raises(ConfigError) as error:
        check_training({name: value}) if ARGUMENTS[name].contradicts else check(build(**{name: value}), name)
    assert str(error.value).startswith(f"training.{name}")
    assert ARGUMENTS[name].refusal in str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_saying_what_is_done_anyway_is_not_refused(name):
    for value in ARGUMENTS[name].harmless:
        check_training({name: value} if value is not None else {})
        check(build(**{name: value}), name)


@pytest.mark.parametrize("name", [name for name in REFUSED if not ARGUMENTS[name].contradicts])
def test_what_is_never_read_may_stand_in_a_file(name):
    check_training({name: OTHER.get(name, True)})


WORKERS, CPU, HUB, NOTHING = (
    {"dataloader_num_workers": 2},
    {"use_cpu": True},
    {"push_to_hub": True},
    {"evaluates": False},
)
CONDITIONS = {
    "num_train_epochs": (2, {"max_steps": 3}, {"max_steps": -1}),
    "lr_scheduler_kwargs": ({"num_cycles": 2}, {"lr_scheduler_type": "constant"}, {}),
    "warmup_steps": (5, {"lr_scheduler_type": "constant"}, {"lr_scheduler_type": "constant_with_warmup"}),
    "optim_args": ("momentum=0.9", {}, {"optim": "sgd"}),
    "optim_target_modules": ("all-linear", {}, {"optim": "galore_adamw"}),
    "adam_beta1": (0.8, {"method": "gradual"}, {}),
    "adam_beta2": (0.8, {"optim": "sgd"}, {"method": "gradual"}),
    "adam_epsilon": (1e-6, {"optim": "lion_32bit"}, {"optim": "adamw_torch"}),
    "tf32": (True, CPU, {}),
    "activation_checkpointing_kwargs": ({"use_reentrant": False}, {}, {"activation_checkpointing": True}),
    "gradient_checkpointing": (True, {"activation_checkpointing": False}, {}),
    "gradient_checkpointing_kwargs": ({"use_reentrant": False}, {}, {"gradient_checkpointing": True}),
    "liger_kernel_config": ({"rope": True}, {}, {"use_liger_kernel": True}),
    "torch_empty_cache_steps": (5, CPU, {}),
    "logging_steps": (5, {"logging_strategy": "epoch"}, {}),
    "trackio_space_id": ("me/space", {"tracker": "wandb"}, {"tracker": "trackio"}),
    "trackio_bucket_id": ("me/bucket", {}, {"tracker": "trackio"}),
    "trackio_static_space_id": ("me/space", {}, {"tracker": "trackio"}),
    "eval_strategy": ("epoch", NOTHING, {}),
    "eval_steps": (5, {"eval_strategy": "epoch"}, {}),
    "eval_delay": (5, {"eval_strategy": "no"}, {}),
    "per_device_eval_batch_size": (2, NOTHING, {"eval_strategy": "no"}),
    "save_steps": (5, {"eval_strategy": "epoch"}, {"eval_strategy": "epoch", "save_strategy": "steps"}),
    "save_total_limit": (3, {"save_strategy": "no"}, {}),
    "save_only_model": (True, {"save_strategy": "no"}, {}),
    "load_best_model_at_end": (True, {"save_strategy": "no"}, {}),
    "metric_for_best_model": ("loss", {"load_best_model_at_end": False}, {"lr_scheduler_type": "reduce_lr_on_plateau"}),
    "greater_is_better": (True, {"eval_strategy": "no"}, {}),
    "hub_model_id": ("me/model", {}, HUB),
    "hub_strategy": ("end", {}, HUB),
    "hub_private_repo": (True, {}, {"tracker": "trackio"}),
    "hub_always_push": (True, {}, HUB),
    "hub_revision": ("main", {}, HUB),
    "data_seed": (3, {"streaming": True}, {}),
    "train_sampling_strategy": ("sequential", {"mix": {"bio": 1}}, {}),
    "dataloader_pin_memory": (True, CPU, {}),
    "dataloader_persistent_workers": (True, {}, WORKERS),
    "dataloader_prefetch_factor": (2, {}, WORKERS),
    "dataloader_multiprocessing_context": ("spawn", {}, WORKERS),
}
"""By argument: a value, settings beside which it does nothing, and settings beside which it works."""

COPIED = ("ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph")
LAUNCHED = (
    "average_tokens_across_devices",
    "log_level_replica",
    "log_on_each_node",
    "ddp_backend",
    "ddp_timeout",
    "fsdp",
    *COPIED,
)


def test_every_condition_is_tried():
    assert {name for name, argument in ARGUMENTS.items() if argument.condition} == {*CONDITIONS, *LAUNCHED}


@pytest.mark.parametrize("name", CONDITIONS)
def test_an_argument_without_effect_is_refused_where_it_was_typed(name):
    value, idle, working = CONDITIONS[name]
    with pytest.raises(ConfigError, match=rf"^training\.{name} has no effect: .*\. \S.*\.$"):
        check(build(**{**idle, name: value}), name)
    check(build(**{**working, name: value}), name)
    check_effects("train", build(**{**idle, name: value}), Typed())


@pytest.mark.parametrize("name", LAUNCHED)
def test_what_processes_share_needs_a_launcher(name, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match="torchrun"):
        check(build(**{name: 2}), name)
    monkeypatch.setenv("WORLD_SIZE", "1")
    check(build(**{name: 2}), name)


@pytest.mark.parametrize("name", COPIED)
def test_settings_of_ddp_have_no_effect_where_weights_are_spread(name, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"has no effect: with training\.fsdp=true there is no DDP"):
        check(build(fsdp=True, **{name: 2}), name)


@pytest.mark.parametrize("name", UNTRIED)
def test_what_was_not_tried_with_spread_weights_is_refused(name):
    for training in ({name: 1}, {"optim": "adafactor", name: 1}):
        config = build(**training)
        config.eval = SimpleNamespace(dtype=EvalPrecision.float32)
        check_sharding(config)
        config.training["fsdp"] = True
        with pytest.raises(
            ConfigError, match=rf"^training\.fsdp=true has not been tried with training\.{name}=1.* Leave"
        ):
            check_sharding(config)


def test_an_argument_that_is_off_may_be_idle():
    for name, value in (
        ("warmup_steps", 0),
        ("load_best_model_at_end", False),
        ("dataloader_persistent_workers", False),
    ):
        check(build(lr_scheduler_type="constant", eval_strategy="no", **{name: value}), name)


@pytest.mark.parametrize(
    ("metric", "greater", "mode"),
    [("accuracy", True, "max"), ("eval_accuracy", True, "max"), ("bits_per_byte", False, "min"), ("perplexity", False, "min"), (None, False, "min")],
)  # fmt: skip
def test_what_is_better_follows_the_metric(metric, greater, mode):
    chosen = {"metric_for_best_model": metric} if metric else {}
    settled = _complete(
        {"eval_strategy": "steps", "lr_scheduler_type": "reduce_lr_on_plateau", **chosen}, has_validation=True
    )
    assert (settled["greater_is_better"], settled["lr_scheduler_kwargs"]) == (greater, {"mode": mode})
    with pytest.raises(ConfigError, match=r"training\.greater_is_better="):
        _complete({"eval_strategy": "steps", "greater_is_better": not greater, **chosen}, has_validation=True)
    against = {"lr_scheduler_type": "greedy", "lr_scheduler_kwargs": {"mode": "max" if mode == "min" else "min"}}
    with pytest.raises(ConfigError, match=r"training\.lr_scheduler_kwargs\.mode="):
        _complete({"eval_strategy": "steps", **against, **chosen}, has_validation=True)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (
            {"accelerator_config": {"use_seedable_sampler": False}},
            r"accelerator_config\.use_seedable_sampler=false: a resumed run",
        ),
        ({"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 2}}}, "gradient_accumulation_steps="),
        ({"accelerator_config": "file.json"}, "expected its keys, found a text"),
        ({"activation_checkpointing_kwargs": {"foo": 1}}, r"activation_checkpointing_kwargs\.foo is not a key"),
        ({"gradient_checkpointing_kwargs": {"every_n_layer": 2}}, r"Did you mean .*kwargs\.every_n_layers"),
        ({"optim": "adamw"}, r"Did you mean training\.optim=adamw_torch\?"),
        ({"optim": "sgd", "optim_args": "momentum"}, "expected name=value,name=value"),
        ({"torch_compile": False, "torch_compile_mode": "default"}, "Leave one of them out"),
        ({"include_num_input_tokens_seen": "non_padding"}, "no padding to leave out"),
        ({"train_sampling_strategy": "batch_rebalance"}, "Rows have one length"),
        ({"debug": "tpu_metrics_debug"}, "underflow_overflow"),
        ({"save_total_limit": 0}, "expected 1 or more"),
        ({"save_total_limit": -1}, "null keeps all of them"),
    ],
)
def test_values_that_cannot_work_are_refused_wherever_they_stand(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        check_training(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"accelerator_config": {"non_blocking": True, "even_batches": True}}, {"include_num_input_tokens_seen": True},
        {"debug": ["underflow_overflow"]}, {"save_total_limit": None}, {"max_steps": -1}, {"warmup_steps": 0.03}, {"warmup_steps": 100},
    ],
)  # fmt: skip
def test_values_that_work_pass(settings):
    check_training(settings)


def test_the_docs_name_what_is_refused_and_what_is_conditional():
    text = (find_conf().parent / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, argument in ARGUMENTS.items():
        if argument.refusal or argument.condition:
            assert f"`{name}`" in text or f"`{name}=" in text, name


def test_each_field_stands_in_one_table_of_the_docs():
    tables = [render_arguments(which).splitlines()[2:] for which in ("refused", "unread", "conditional", "works")]
    named = [name.strip("` ") for table in tables for line in table for name in line.split("|")[1].split(",")]
    assert sorted(named) == sorted(ARGUMENTS)


def test_arguments_change_in_one_place_once_they_are_built():
    found = [
        f"{file.relative_to(SOURCE)}:{node.lineno}"
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for target in list_targets(node)
        if isinstance(target, ast.Attribute) and ast.unparse(target.value).rpartition(".")[2] in ("args", "arguments")
    ]
    assert found == [], "see LATE in training/arguments.py"


def list_targets(node):
    """What a statement assigns to."""
    if isinstance(node, ast.Assign):
        return [
            part for target in node.targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])
        ]
    return [node.target] if isinstance(node, (ast.AugAssign, ast.AnnAssign)) else []


def test_recomputing_is_told_which_of_torchs_two_ways_to_take():
    training = {
        "activation_checkpointing_kwargs": {"every_n_layers": 2},
        "gradient_checkpointing_kwargs": {"use_reentrant": True},
    }
    settle_training(training)
    assert training["activation_checkpointing_kwargs"] == {"every_n_layers": 2, "use_reentrant": False}
    assert training["gradient_checkpointing_kwargs"] == {"use_reentrant": True}


def test_only_what_is_decided_late_can_change(tmp_path):
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    change_arguments(arguments, eval_steps=5)
    assert arguments.eval_steps == 5
    with pytest.raises(KeyError, match="adam_beta1 is decided before"):
        change_arguments(arguments, adam_beta1=0.5)


def test_a_run_whose_only_step_has_no_rate_is_warned_of():
    args = SimpleNamespace(lr_scheduler_type="cosine", get_warmup_steps=lambda steps: 1, warmup_steps=0.03)
    assert ["nothing is learned" in each for each in _warn_of_warmup(args, 1)] == [True]
    assert list(_warn_of_warmup(args, 9)) == []


def test_a_whole_number_with_a_point_is_answered_with_how_to_write_it():
    with pytest.raises(
        ConfigError, match=r"goldfish=3\.0: expected a whole number or null\. Write training\.goldfish=3\."
    ):
        check_training({"goldfish": 3.0})
