"""Each number has its range, beside its field; nan and infinity are in none."""

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtune import config
from lmtune.config import generation
from lmtune.config.ranges import LARGEST, Range, check_number, check_ranges
from lmtune.config.training_arguments import ARGUMENTS
from lmtune.errors import ConfigError

SECTIONS = [
    config.BatchConfig, config.DataConfig, config.EarlyStoppingConfig, config.EvalConfig, config.FinetuneConfig, config.GridConfig,
    config.ModelConfig, config.PhaseConfig, config.RangeConfig, config.SamplesConfig, config.SuiteConfig, config.TokenizerConfig,
    config.TrainConfig, config.EvalCommandConfig, config.GenerateConfig, config.DataCommandConfig, config.TokenizerCommandConfig,
    config.AverageConfig,
]  # fmt: skip
NUMBERS = ("int", "float")
ALL = [argument.range for argument in ARGUMENTS.values() if argument.range] + [*generation.NUMBERS.values()]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_number_of_a_section_has_a_range(section):
    for item in fields(section):
        words = str(getattr(item.type, "__name__", item.type)) + str(item.type)
        if any(word in words for word in NUMBERS) and "dict" not in words:
            assert isinstance(item.metadata.get("range"), Range), item.name


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_default_lies_in_its_range(section):
    if section is not config.RangeConfig:
        check_ranges(section(), "")


@given(st.sampled_from(ALL), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_range_holds_nan_or_infinity(allowed, value):
    assert allowed.find_fault(value) is not None


@given(st.integers(0, 10), st.integers(0, 10), st.floats(-20, 20) | st.integers(-20, 20))
def test_a_range_holds_what_lies_between_its_bounds(low, more, value):
    closed, open_ended = Range(least=low, most=low + more), Range(above=low, below=low + more)
    assert (closed.find_fault(value) is None) == (low <= value <= low + more)
    assert (open_ended.find_fault(value) is None) == (low < value < low + more)


@given(st.floats(1, 1e6))
def test_steps_are_shares_below_one_and_whole_from_there(value):
    assert (Range(above=0, steps=True).find_fault(value) is None) == value.is_integer()


@pytest.mark.parametrize(
    ("allowed", "value", "expected"),
    [
        (Range(least=1, whole=True, unit="tokens"), 0, "1 or more tokens"),
        (Range(least=1, whole=True), 1.5, "a whole number, 1 or more"),
        (Range(least=1, whole=True), LARGEST + 1, f"at most {LARGEST}"),
        (Range(least=1, whole=True), 10**400, f"at most {LARGEST}"),
        (Range(least=0, whole=True, zero="off"), -1, "0 (off) or more"),
        (Range(least=1, whole=True, special={-1: "-1 for all"}), 0, "1 or more, or -1 for all"),
        (Range(least=0, below=1), 1, "at least 0 and below 1"),
        (Range(above=0), math.inf, "a finite number, more than 0"),
        (Range(), math.nan, "a finite number"),
        (Range(least=0), "two", "a number, at least 0"),
        (Range(least=0), True, "a number, at least 0"),
        (Range(least=0, most=1, whole=True), 2, "a whole number from 0 to 1"),
    ],
)
def test_what_was_expected_is_said_in_words(allowed, value, expected):
    assert allowed.find_fault(value) == expected


def test_each_number_of_a_list_is_checked():
    with pytest.raises(ConfigError, match=r"^grid\.temperature=\[0\.5,-1\]: expected more than 0\. So there\.$"):
        check_number("grid.temperature", [0.5, -1], Range(above=0, remedy="So there."))
