"""Free text stays what was typed, whatever Hydra's grammar thinks of it."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lmtune.cli.faults import find_fault
from lmtune.cli.overrides import prepare_overrides


def read(argument):
    """The value that Hydra and OmegaConf make of one prepared argument."""
    override = OverridesParser.create().parse_override(prepare_overrides([argument])[-1])
    return OmegaConf.to_container(OmegaConf.create({"value": override.value()}), resolve=True)["value"]


@pytest.mark.parametrize(
    "text",
    [
        "tem já", "Em 2020, o", "/home/João/a(1).txt", "Quem era Jim Henson? Jim Henson era um", "a=b", "{x}", "${oc.env:HOME}",
        r"\${a}", "It's", 'say "hi"', "null", "true", "3", "", " ", "# no comment", "a\nb", "ação: {título}", "choice of words", "~/x",
        r"back\slash", "{title}\n\n{text}",
    ],
)  # fmt: skip
def test_free_text_is_literal(text):
    assert read(f"prompt={text}") == text


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_free_text_round_trips(text):
    if not text.startswith(("[", "choice(")):
        assert read(f"prompt={text}") == text


@pytest.mark.parametrize(
    ("typed", "items"),
    [
        ("[a.txt,b.txt]", ["a.txt", "b.txt"]),
        ("[João.txt, 'a, b.txt']", ["João.txt", "a, b.txt"]),
        ("[a(1).txt]", ["a(1).txt"]),
    ],
)
def test_a_value_that_opens_with_a_bracket_is_a_list(typed, items):
    assert read(f"data.files={typed}") == items


@pytest.mark.parametrize("key", ["prompt", "resume", "name"])
def test_only_keys_that_take_lists_read_brackets_as_one(key):
    assert read(f"{key}=[1] Introduction") == "[1] Introduction"


def test_a_single_prompt_is_a_list_of_one():
    assert read("prompts=Era uma vez, em Minas") == ["Era uma vez, em Minas"]


def test_values_of_columns_may_have_any_name():
    assert prepare_overrides(["data.where={lang:pt}"]) == ["++data.where={lang:pt}"]


def test_choice_sweeps_over_free_text():
    assert prepare_overrides(["-m", "prompt=choice(a,b)"]) == ["-m", "prompt=choice(a,b)"]


@pytest.mark.parametrize(
    ("typed", "added"),
    [
        (["data.files=x.txt"], ["data=files"]),
        (["model.path=gpt2"], ["model=hub"]),
        (["model.path=gpt2", "model=gpt2"], ["model.license=null", "model.citation=null"]),
        (["training.max_steps=3"], []),
    ],
)
def test_a_source_alone_chooses_its_group(typed, added):
    assert prepare_overrides(typed)[: -len(typed)] == added


def test_own_files_take_the_place_of_a_source_and_keep_its_filters():
    prepared = prepare_overrides(["data=bio", "data.files=x.jsonl", "data.text_column=body"])
    assert {"data.path=null", "data.documents=null", "data.rows_per_document=1"} <= set(prepared)
    assert "data.text_column=text" not in prepared
    assert not [
        override for override in prepared if override.startswith(("data.deduplicate", "data.max_bytes", "data=files"))
    ]


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_keys_of_the_model_config_are_added_whatever_stands_before_them(prefix):
    assert prepare_overrides([f"{prefix}model.config.n_layer=2"]) == ["++model.config.n_layer=2"]


def test_ordinary_values_keep_their_types():
    assert [read(f"training.learning_rate={text}") for text in ("5e-5", "1", "true", "null")] == [5e-5, 1, True, None]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("forgetting.on", ["a", "b"], "forgetting.on=[a, b]: expected one value, found a list."),
        ("seed", [1, 2], "seed=[1, 2]: expected one value, found a list."),
        ("data.packing", [True], "data.packing=[True]: expected one value, found a list."),
        ("model.transplant", ["fvt"], "model.transplant=[fvt]: expected one value, found a list."),
        ("data.min_chars", {"a": 1}, "data.min_chars={a: 1}: expected one value, found keys with values."),
        ("data.min_chars", "list", "data.min_chars=list: expected a whole number. Give another value."),
    ],
)
def test_several_values_where_one_is_taken_are_told(key, value, shown):
    assert find_fault("train", key, value).startswith(shown)
