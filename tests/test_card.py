"""The model card names what a reader can have, and no folder of the machine where the model was trained."""

import pytest
import yaml

from lmtune.cli.schemas import find_conf
from lmtune.config import CardConfig
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


STATED = {
    "license": "other", "license_name": "Hospital 1.0", "license_link": "https://example.org/l", "language": ["pt", "en"],
    "contact": "board@example.org", "personal_data": "Names were replaced.", "energy": 1.5, "summary": "It writes\nreports.",
}  # fmt: skip
LEDGER = {
    "sources": [
        {"name": "/home/ana/Maria.txt", "bytes": 40, "xxh3_128": "ab12"},
        {"name": "lab/bio", "revision": "c0ffee", "rows": 3},
    ],
    "sides": {"train": {"documents": 9, "bytes": 1234, "tokens": 500}, "validation": {"documents": 1, "bytes": 99, "tokens": 40}},
    "split_by": "hash", "documents_are": "lines", "bytes_read": 1400, "left_out": {"line_ends": 67, "table": 0},
}  # fmt: skip
SETTINGS = {
    "rows_per_step": 8, "block_size": 128, "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 2,
    "optim": "adamw_torch", "weight_decay": 0.1, "max_grad_norm": 1.0, "precision": "float32", "best_by": "bits per byte",
}  # fmt: skip
DONE = {
    **RESULTS, "train": {
        "steps": 40, "tokens": 40691, "epochs": 1.0, "seconds": 120, "tokens_per_second": 3363.4, "best_step": 36, "settings": SETTINGS,
    },
    "starts": [{"machine": {"processes": 2, "threads": 4, "device": "NVIDIA H100", "python": "3.11"}}],
    "text": {"corpus": "5117"},
}  # fmt: skip


def test_a_card_tells_what_its_run_knows():
    config = {
        **make_config({"path": "openai-community/gpt2", "license": "mit"}, {"path": "lab/bio", "license": "cc0-1.0"}),
        "seed": 42,
    }
    card = render_card("mine", DONE, config, [], "me/mine", LEDGER)
    for line in (
        "| base model | [openai-community/gpt2](https://huggingface.co/openai-community/gpt2) |",
        "| licence of the base | mit |",
        "| lab/bio | pt | cc0-1.0 | *not stated* |",
        "| learned from | 9 | 1,234 | 500 |",
        "| held out | 1 | 99 | 40 |",
        "| file 1 | 40 | ab12 |",
        "| lab/bio | *not stated* | c0ffee |",
        "Of 1,400 bytes that were read these were left out: line ends behind documents (67).",
        "| device | NVIDIA H100 |",
        "| processes | 2, 4 threads each |",
        "| time of training | 2 min |",
        "| energy | *not stated* |",
    ):
        assert f"{line}\n" in card, line
    assert (
        "Each of the 40 steps learned from at most 8 rows of 128 tokens; 40,691 tokens were learned in all, 1.00 passes over the text. The "
        "optimizer was adamw_torch with a weight decay of 0.1, gradients cut at a norm of 1 and a highest learning rate of 0.001, "
        "reached after a warm-up of 2 steps; the schedule was cosine. Steps were computed in float32. The seed is 42. The model is "
        "that of step 36, the best by bits per byte on held-out text."
    ) in card
    assert "Maria" not in card, "names of files may tell of persons"


def test_a_card_says_whose_average_its_weights_are():
    train = {**DONE["train"], "settings": {**SETTINGS, "optim": "schedule_free_adamw"}}
    card = render_card("mine", {**DONE, "train": train}, {**make_config(), "seed": 42}, [])
    assert "on held-out text. Its weights are the average that the optimizer takes." in card


def test_a_card_says_what_half_precision_covers():
    train = {**DONE["train"], "settings": {**SETTINGS, "precision": "bf16"}}
    card = render_card("mine", {**DONE, "train": train}, {**make_config(), "seed": 42}, [])
    assert "Steps were computed in bfloat16 where that is safe (autocast), weights in float32. " in card


def test_what_nobody_has_stated_is_marked_and_not_invented():
    card = render_card("mine", RESULTS, make_config(), [])
    for heading in ("Intended use", "Not to be used for", "Limits", "Personal data"):
        assert f"## {heading}\n\n*Not stated.*\n" in card
    for row in ("licence of this model", "made by", "contact", "energy"):
        assert f"| {row} | *not stated* |" in card
    assert "| device | *not recorded* |" in card
    assert "- This model: *not stated*" in card
    assert not {"license", "widget"} & read_metadata(card).keys()


def test_what_its_author_states_stands_in_a_card():
    card = render_card("mine", RESULTS, {**make_config(), "card": STATED}, [])
    metadata = read_metadata(card)
    assert [metadata[key] for key in ("license", "license_name", "license_link", "language")] == [
        *("other", "Hospital 1.0", "https://example.org/l"),
        ["pt", "en"],
    ]
    assert "| licence of this model | [Hospital 1.0](https://example.org/l) |" in card
    assert "| energy | 1.5 kWh |" in card
    assert "# mine\n\nIt writes\nreports.\n\nA causal" in card
    assert "## Personal data\n\nNames were replaced.\n" in card


def test_energy_is_what_was_stated_or_else_what_a_tracker_found():
    found = {**DONE, "train": {**DONE["train"], "energy": {"kilowatt_hours": 0.01234, "method": "codecarbon 3.0"}}}
    config = {**make_config(), "seed": 42}
    assert "| energy | 0.0123 kWh of the whole machine, by codecarbon 3.0 |\n" in render_card("mine", found, config, [])
    config["card"] = {**config.get("card", {}), "energy": 2.0}
    assert "| energy | 2 kWh |\n" in render_card("mine", found, config, [])


def test_samples_are_prompts_of_the_widget_and_of_the_snippet():
    samples = [{"prompt": 'O "paciente"', "text": 'O "paciente"\x1f chegou\nao\x07'}]
    card = render_card("mine", RESULTS, make_config(), samples, "me/mine")
    assert read_metadata(card)["widget"] == [{"text": 'O "paciente"'}]
    assert '> O "paciente"· chegou\n> ao·\n' in card
    assert 'print(write("O \\"paciente\\"", max_new_tokens=60)[0]["generated_text"])' in card


def test_a_mixture_names_all_its_texts():
    wiki = {"name": "pt-wiki", "path": "wikimedia/wikipedia", "files": None, "language": "pt", "citation": "Wikimedia."}
    config = {**make_config(None, {"path": "lab/bio"}), "mixed_sets": {"pt-wiki": wiki}}
    card = render_card("mine", RESULTS, config, [])
    assert read_metadata(card)["datasets"] == ["lab/bio", "wikimedia/wikipedia"]
    assert "on lab/bio and wikimedia/wikipedia with" in card
    assert "- Text, wikimedia/wikipedia: Wikimedia." in card


def test_phases_and_an_adapter_are_told_in_words():
    phases = [{"epochs": 1.0, "groups": 2, "learning_rate": 1e-3, "lowest_learning_rate": None}]
    gradual = {**make_config(), "finetune": {"method": "gradual", "merge": True, "phases": phases}, "seed": 1}
    assert "| 1 | 1 | 2 | 0.001 | 0.001 |" in render_card("mine", DONE, gradual, [])
    lora = {"method": "lora", "merge": True, "rank": 8, "alpha": 16.0, "dropout": 0.0, "target_modules": ["c_attn"]}
    card = render_card("mine", RESULTS, {**make_config(), "finetune": lora}, [])
    assert (
        "A low-rank adapter (LoRA) of rank 8, alpha 16 and dropout 0 on c_attn learned, and was merged into the weights."
        in card
    )


def test_the_client_of_the_hub_reads_a_card():
    from huggingface_hub import ModelCard

    config = {**make_config({"path": "openai-community/gpt2"}), "card": STATED, "seed": 42}
    card = ModelCard(
        render_card("mine", DONE, config, [{"prompt": "Era: uma", "text": "Era: uma vez"}], "me/mine", LEDGER)
    )
    assert (card.data.license, card.data.language, card.data.pipeline_tag) == ("other", ["pt", "en"], "text-generation")
    assert card.data.base_model == "openai-community/gpt2"


def test_what_is_given_with_a_push_stands_over_what_was_recorded():
    recorded = {
        "license": "other",
        "license_name": "Old",
        "contact": "old@example.org",
        "overwrite": True,
        "language": ["en"],
    }
    card = CardConfig(license="mit", language=["pt"]).complete(recorded)
    assert (card.license, card.license_name, card.contact, card.language) == ("mit", None, "old@example.org", ["pt"])
    assert not card.overwrite, "that was said of another push"
    assert CardConfig().complete(recorded).license_name == "Old"


@pytest.mark.parametrize(
    ("group", "facts"),
    [
        ("data/bio", {"license": "unknown", "language": "pt"}),
        ("data/pt-wiki", {"license": "cc-by-sa-3.0, gfdl", "language": "pt"}),
        ("model/gpt2", {"license": "mit"}),
        ("model/gpt2-bio-pt", {"license": None}),
    ],
)
def test_named_texts_and_models_bring_what_is_known_of_them(group, facts):
    stated = yaml.safe_load((find_conf() / f"{group}.yaml").read_text(encoding="utf-8"))
    assert facts.items() <= stated.items()
    assert stated["citation"].strip()
