"""Names read from transformers' source are those of the real classes."""

from dataclasses import fields

import pytest

from lmtune import upstream
from lmtune.errors import ConfigError
from lmtune.versions import add_newer_names


def test_training_fields_are_those_of_the_class():
    from transformers import TrainingArguments

    installed = {item.name: "" for item in fields(TrainingArguments) if item.init}
    assert set(upstream.load_training_fields()) == add_newer_names(installed).keys()


def test_generation_fields_are_those_of_the_class():
    from transformers import GenerationConfig

    public = {name for name in vars(GenerationConfig()) if not name.startswith("_")} - {"transformers_version"}
    assert public <= upstream.load_generation_fields()
    assert {"do_sample", "top_k", "max_new_tokens", "stop_strings"} <= upstream.load_generation_fields()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "gpt_neox", "opt"])
def test_model_config_fields_are_those_of_the_class(kind):
    from transformers import AutoConfig

    known = upstream.load_model_config_fields(kind)
    own = {name for name in type(AutoConfig.for_model(kind)).__annotations__ if not name.startswith("_")}
    own -= {"model_type", "base_model_tp_plan", "base_model_pp_plan", "attribute_map"}
    assert own <= set(known)


def test_an_unknown_model_type_has_no_fields():
    assert upstream.load_model_config_fields("gtp2") is None
    assert upstream.load_model_config_fields("../../etc") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "abc"),
        ("bf16", "true"),
        ("max_steps", 2.5),
        ("max_steps", True),
        ("seed", None),
        ("learning_rate", ""),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"training\.{name}: expected "):
        upstream.check_types({name: value}, upstream.load_training_fields(), "training.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 1), ("learning_rate", 5e-5), ("bf16", True), ("save_total_limit", None), ("eval_steps", 0.1),
        ("lr_scheduler_type", "cosine"), ("fsdp_config", {"version": 2}), ("debug", ["underflow_overflow"]), ("tf32", None), ("fsdp", True),
    ],
)  # fmt: skip
def test_a_value_of_the_right_type_passes(name, value):
    upstream.check_types({name: value}, upstream.load_training_fields(), "training.")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("lerning_rate", "learning_rate"), ("lr", "learning_rate"), ("batch_size", "per_device_train_batch_size")],
)
def test_a_typo_is_answered_with_the_nearest_name(typed, meant):
    with pytest.raises(ConfigError) as error:
        upstream.check_names([typed], upstream.load_training_fields(), "training.")
    assert str(error.value) == f"training.{typed} is not a key. Did you mean training.{meant}?"
