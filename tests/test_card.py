"""The model card names what a reader can have, and no folder of the machine where the model was trained."""

import pytest
import yaml

from lmtune.reporting.card import render_card

RESULTS = {"train": {"steps": 2, "tokens": 20}, "eval": {}, "epochs": []}


def make_config(model=None, data=None, merge=True):
    return {
        "model": {"name": "hub", "path": None, "init": "pretrained", **(model or {})},
        "data": {"name": "bio", "path": None, "files": None, "language": "pt", **(data or {})},
        "finetune": {"method": "full" if merge else "lora", "merge": merge},
    }


def read_metadata(card):
    return yaml.safe_load(card.split("---")[1])


@pytest.mark.parametrize(
    "spell",
    [str, lambda path: f"./{path.name}", lambda path: path.name, lambda path: f"../{path.parent.name}/{path.name}"],
)
def test_a_folder_of_the_machine_is_not_named(tmp_path, monkeypatch, spell):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").mkdir()
    place = spell(tmp_path / "secret")
    card = render_card("mine", RESULTS, make_config({"path": place}, {"path": place}), [])
    assert "secret" not in card
    assert not {"base_model", "datasets"} & read_metadata(card).keys()
    assert "fine-tuned from a model of its author's own" in card


def test_what_is_on_the_hub_is_named():
    card = render_card(
        "mine", RESULTS, make_config({"path": "openai-community/gpt2"}, {"path": "lab/bio"}), [], "me/mine"
    )
    assert (read_metadata(card)["base_model"], read_metadata(card)["datasets"]) == (
        "openai-community/gpt2",
        ["lab/bio"],
    )
    assert "fine-tuned from openai-community/gpt2" in card
    assert 'pipeline("text-generation", model="me/mine")' in card


def test_ones_own_files_take_the_place_of_a_data_set():
    card = render_card("mine", RESULTS, make_config(None, {"path": "lab/bio", "files": ["/home/ana/x.txt"]}), [])
    assert "datasets" not in read_metadata(card)
    assert "/home/ana" not in card


def test_an_adapter_says_that_it_is_one():
    card = render_card("mine", RESULTS, make_config({"path": "openai-community/gpt2"}, merge=False), [])
    assert read_metadata(card)["library_name"] == "peft"
    assert "A low-rank adapter (LoRA) for a causal language model, fine-tuned from openai-community/gpt2" in card
    assert read_metadata(render_card("mine", RESULTS, make_config(), []))["library_name"] == "transformers"


def test_the_table_of_a_held_out_set_stands_once():
    protocol = {"text": "x", "limit": None, "context": 64, "dtype": "float32", "split_by": "hash"}
    numbers = {"bits_per_byte": 1.25, "perplexity": 9.0, "word_perplexity": 90.0, "loss": 2.2, "accuracy": 0.5}
    amounts = {"tokens": 5, "words": 3, "bytes": 20}
    before = {"text": "x", "limit": None, "before": numbers, "after": numbers, **amounts}
    measures = {**numbers, **amounts, "protocol": protocol, "while_training": before}
    card = render_card("mine", {**RESULTS, "eval": {"bio": measures}}, make_config(), [])
    assert card.count("| measure | before | after |") == card.count("| loss (nats per token) |") == 1
    assert card.index("| next-token accuracy |") < card.index("The columns are of before and after")
