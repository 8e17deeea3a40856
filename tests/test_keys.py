"""Names read from transformers' source are those of the real classes."""

from dataclasses import fields

import pytest

from lmtune import upstream
from lmtune.cli.faults import suggest_word
from lmtune.cli.schemas import all_keys, facts_for
from lmtune.config.keys import facts_of
from lmtune.config.value_types import check_types
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
    with pytest.raises(ConfigError, match=rf"training\.{name}=\S*: expected "):
        check_types({name: value}, upstream.load_training_fields(), "training.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 1), ("learning_rate", 5e-5), ("bf16", True), ("save_total_limit", None), ("eval_steps", 0.1),
        ("lr_scheduler_type", "cosine"), ("fsdp_config", {"version": 2}), ("debug", ["underflow_overflow"]), ("tf32", None), ("fsdp", True),
    ],
)  # fmt: skip
def test_a_value_of_the_right_type_passes(name, value):
    check_types({name: value}, upstream.load_training_fields(), "training.")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("lerning_rate", "learning_rate"), ("lr", "learning_rate"), ("batch_size", "per_device_train_batch_size")],
)
def test_a_typo_is_answered_with_the_nearest_name(typed, meant):
    with pytest.raises(ConfigError) as error:
        upstream.check_names([typed], upstream.load_training_fields(), "training.")
    assert str(error.value) == f"training.{typed} is not a key. Did you mean training.{meant}?"


KEYS_WITH_WORDS = sorted(name for name, item in all_keys().items() if facts_of(item).words or facts_of(item).names_run)


@pytest.mark.parametrize("key", KEYS_WITH_WORDS)
def test_a_mistyped_word_beside_names_is_answered_with_the_word(key):
    word = (*facts_for(key).words, "last")[0]
    error = ConfigError(f"{word}x is no folder here.")
    suggest_word(error, ["seed=1", f"{key}={word}x"])
    assert str(error) == f"{word}x is no folder here. Did you mean {key}={word}?"


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("ckpt=lost/run", "ckpt=lost/run: expected a run folder."),  # a name of its own
        ("ckpt=lst", "ckpt=last: found nothing."),  # an error about something else
        ("ckpt=lst", "lst is not there. Did you mean list?"),  # already answered
        ("ckpt=last", "last holds no model."),  # the word itself
    ],
)
def test_no_word_is_suggested_where_none_was_mistyped(argument, text):
    error = ConfigError(text)
    suggest_word(error, [argument])
    assert str(error) == text
