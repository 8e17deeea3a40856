"""What would fail only later in a training is tried before."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments

from lmtune.errors import ConfigError, DataError
from lmtune.training.arguments import check_liger, check_optimizer
from lmtune.training.trial import explained, try_training
from lmtune.versions import use_installed_names


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=32, vocab_size=64))


def arguments(tmp_path, **settings):
    settings = use_installed_names(settings, TrainingArguments.__dataclass_fields__)
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **settings)


def computes_twice(model):
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


class Trainer:
    """What try_training asks of one."""

    def __init__(self, model, args):
        self.model, self.args, self.loaders = model, args, 0

    def get_train_dataloader(self):
        self.loaders += 1


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("detial"),
        ImportError("no such package"),
        FileNotFoundError(2, "none", "absent.json"),
        ZeroDivisionError(),
    ],
)
def test_whatever_a_library_raises_is_a_mistake_in_the_settings(fault):
    with (
        pytest.raises(ConfigError, match=rf"training\.\*: it does not go: {type(fault).__name__}[:.]"),
        explained("it does not go"),
    ):
        raise fault


def test_our_own_errors_and_a_full_memory_pass_as_they_are():
    with pytest.raises(DataError, match=r"^no text$"), explained():
        raise DataError("no text")
    with pytest.raises(torch.OutOfMemoryError), explained():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_trial_leaves_weights_gradients_random_numbers_and_mode(model, tmp_path):
    trainer = Trainer(
        model.eval(),
        arguments(tmp_path, activation_checkpointing=True, activation_checkpointing_kwargs={"use_reentrant": False}),
    )
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.random.get_rng_state()
    try_training(trainer)
    assert trainer.loaders == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not model.training
    assert not computes_twice(model)


def test_settings_of_activation_checkpointing_are_read_in_the_trial(model, tmp_path):
    if hasattr(model, "activation_checkpointing_enable"):  # transformers before 5.23 has no settings of its own
        own = {"every_n_layers": 2, "use_reentrant": False}
        try_training(
            Trainer(model, arguments(tmp_path, activation_checkpointing=True, activation_checkpointing_kwargs=own))
        )
    wrong = arguments(
        tmp_path, activation_checkpointing=True, activation_checkpointing_kwargs={"foo": 1, "use_reentrant": True}
    )
    with pytest.raises(ValueError, match="foo"):
        try_training(Trainer(model, wrong))
    assert not computes_twice(model)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": -5}}, "ZeroDivisionError"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": -0.5}}, "ZeroDivisionError"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": "x"}}, "could not convert"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": float("nan")}}, "expected factors"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr"),
        ({"optim": "sgd", "optim_args": "momentum=x"}, "could not convert"),
    ],
)
def test_a_schedule_is_followed_to_its_last_step_before_the_first(model, tmp_path, settings, words):
    with pytest.raises(ConfigError, match=words):
        check_optimizer(arguments(tmp_path, **settings), model)


def test_schedules_that_end_well_pass(model, tmp_path):
    for schedule, kwargs in [
        ("linear", {}),
        ("cosine", {}),
        ("polynomial", {"power": 2.0}),
    ]:
        check_optimizer(arguments(tmp_path, lr_scheduler_type=schedule, lr_scheduler_kwargs=kwargs), model)


def test_liger_needs_its_package_and_a_gpu(tmp_path, monkeypatch):
    asked = arguments(tmp_path, use_liger_kernel=True)
    monkeypatch.setattr("transformers.utils.import_utils.is_liger_kernel_available", lambda: False)
    with pytest.raises(ConfigError, match="pip install liger-kernel"):
        check_liger(asked)
    monkeypatch.setattr("transformers.utils.import_utils.is_liger_kernel_available", lambda: True)
    with pytest.raises(ConfigError, match="expected a GPU"):
        check_liger(asked)
    check_liger(arguments(tmp_path))
