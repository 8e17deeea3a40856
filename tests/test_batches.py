"""Tokens a step, split over devices and passes exactly or not at all."""

import pytest

from lmtune.errors import ConfigError
from lmtune.training.batches import BatchPlan, plan_batch


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_the_same_tokens_whatever_the_devices(devices):
    plan = plan_batch(524_288, 1024, devices, None, None, most_rows=8)
    assert plan.tokens == 524_288
    assert (plan.per_device, plan.accumulation) == (8, 64 // devices)


@pytest.mark.parametrize(
    ("given", "expected"),
    [((16, None), (16, 4)), ((None, 4), (16, 4)), ((16, 4), (16, 4)), ((None, None), (8, 8)), ((64, None), (64, 1))],
)
def test_what_the_user_sets_stays_and_the_rest_follows(given, expected):
    plan = plan_batch(65_536, 1024, 1, *given, most_rows=8)
    assert (plan.per_device, plan.accumulation) == expected


def test_rows_that_eight_does_not_divide():
    assert plan_batch(7 * 3 * 128, 128, 1, None, None, most_rows=8) == BatchPlan(7, 3, 1, 128)
    assert plan_batch(13 * 128, 128, 1, None, None, most_rows=8) == BatchPlan(1, 13, 1, 128)


@pytest.mark.parametrize(
    ("tokens", "given", "complaint"),
    [
        (100_000, (None, None), r"expected a multiple of 2048 .*2 devices.*batch\.tokens=98304 or batch\.tokens=100352"),
        (2048, (4, None), r"multiple of 8192 .*per_device_train_batch_size=4\)\. Give batch\.tokens=8192\."),
        (65_536, (4, 4), r"expected 32768 .*gradient_accumulation_steps=4\)\. Give batch\.tokens=32768\."),
    ],
)  # fmt: skip
def test_what_cannot_be_met_exactly_is_an_error_with_the_nearest(tokens, given, complaint):
    with pytest.raises(ConfigError, match=complaint):
        plan_batch(tokens, 1024, 2, *given, most_rows=8)


def test_the_line_multiplies_out():
    assert (
        BatchPlan(8, 4, 2, 1024).render() == "a step: 65,536 tokens = 8 rows x 1,024 tokens x 4 accumulated x 2 devices"
    )
