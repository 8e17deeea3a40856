"""lmtune generate: texts, next tokens, grids and files of prompts."""

import pytest
import torch


@pytest.fixture
def ckpt(tmp_path, build_tiny, tokenizer):
    build_tiny().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return "ckpt=model"


def test_next_tokens_come_with_their_probabilities(lmtune, ckpt, build_tiny, tokenizer):
    asked = ("generate", ckpt, "prompt=O paciente chegou", "top=5")
    answer = lmtune(*asked, "format=json").json
    ids = torch.tensor([tokenizer("O paciente chegou")["input_ids"]])
    true = build_tiny()(input_ids=ids).logits[0, -1].double().softmax(-1)
    assert [value for _, value in answer["next"]] == pytest.approx(sorted(true.tolist(), reverse=True)[:5])
    assert answer["next"][0][0] == tokenizer.decode([int(true.argmax())])
    lines = lmtune(*asked).out.splitlines()
    assert (lines[0], len(lines)) == ("O paciente chegou", 6)


def test_a_grid_shows_every_combination(lmtune, ckpt):
    grid = ("grid.temperature=[0.5,2.0]", "grid.top_k=[3,50]", "generation.max_new_tokens=6")
    asked = ("generate", ckpt, "prompt=A médica", *grid)
    answers = lmtune(*asked, "format=json").json
    assert [(answer["temperature"], answer["top_k"]) for answer in answers] == [
        (0.5, 3),
        (0.5, 50),
        (2.0, 3),
        (2.0, 50),
    ]
    assert len({answer["texts"][0] for answer in answers}) > 1
    assert lmtune(*asked, "format=json").json == answers, "the same seed, the same texts"
    assert "== temperature 0.5, top_k 3 ==" in lmtune(*asked).out


def test_a_text_does_not_depend_on_the_prompts_before_it(lmtune, ckpt, tmp_path):
    (tmp_path / "prompts.txt").write_text("O paciente\n\nA médica\n", encoding="utf-8")
    shared = ("generate", ckpt, "generation.num_return_sequences=2", "generation.max_new_tokens=5", "format=json")
    answers = lmtune(*shared, "prompts_file=prompts.txt").json
    assert [answer["prompt"] for answer in answers] == ["O paciente", "A médica"]
    assert [len(answer["texts"]) for answer in answers] == [2, 2]
    assert lmtune(*shared, "prompt=A médica").json == answers[1]
    assert lmtune(*shared, "prompts=[O paciente, A médica]").json == answers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prompts_file=nowhere.txt"], "prompts_file=nowhere.txt: expected a text file"),
        (["prompt=a", "top=-1"], "top=-1: expected 0 (off) or more"),
        (["prompt=a", "grid.top_k=[3]", "generation.do_sample=false"], "need sampling"),
        ([], "lmtune generate needs prompt="),
        (["prompt=m\udce9dica"], "expected a text in UTF-8, found bytes that are none"),
    ],
)
def test_what_cannot_work_is_refused(lmtune, ckpt, arguments, message):
    answer = lmtune("generate", ckpt, *arguments)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.parametrize(
    "arguments", [(), ("top=3",), ("generation.do_sample=false", "generation.top_k=null"), ("generation.num_beams=2",)]
)
def test_weights_that_are_no_numbers_cost_one_paragraph(lmtune, ckpt, tmp_path, arguments):
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "model/model.safetensors")
    weights["transformer.wpe.weight"][4] = torch.nan
    save_file(weights, tmp_path / "model/model.safetensors", {"format": "pt"})
    answer = lmtune("generate", ckpt, "prompt=O paciente chegou no hospital", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "the model gives scores that are no finite numbers" in answer.err
    assert answer.err.count("\n") == 1


def test_numbers_that_end_within_a_text_are_met_there(build_tiny, tokenizer):
    """Greedy decoding would go on with any token, and say nothing."""
    from lmtune.errors import ModelError
    from lmtune.modeling.generation import build_generation_config, generate

    model = build_tiny()
    with torch.no_grad():
        model.transformer.wpe.weight[20] = torch.nan
    settings = {"max_new_tokens": 40, "do_sample": False, "eos_token_id": None}
    with pytest.raises(ModelError, match="After 21 tokens the model gives scores that are no finite numbers"):
        generate(model, tokenizer, "O", build_generation_config(model, settings), seed=0)


def test_tokens_that_settings_rule_out_are_no_fault_of_the_model(lmtune, ckpt):
    answer = lmtune(
        "generate",
        ckpt,
        "prompt=O",
        "generation.suppress_tokens=[1,2,3]",
        "generation.top_p=0.1",
        "generation.max_new_tokens=3",
    )
    assert answer.code == 0, answer.err


def test_ids_beyond_the_embedding_cost_one_paragraph(lmtune, ckpt, tokenizer, tmp_path):
    import copy

    larger = copy.deepcopy(tokenizer)
    larger.add_tokens(["zebra"])
    larger.save_pretrained(tmp_path / "model")
    for arguments in ((), ("top=3",)):
        answer = lmtune("generate", ckpt, "prompt=A zebra", *arguments)
        assert (answer.code, answer.out) == (2, "")
        assert "The tokenizer gives ids up to 320, the embedding of the model has 320 rows." in answer.err
        assert answer.err.count("\n") == 1
    assert lmtune("generate", ckpt, "prompt=O paciente", "generation.max_new_tokens=2").code == 0


def test_a_model_that_transformers_cannot_generate_with_costs_a_paragraph(lmtune, ckpt, monkeypatch):
    from transformers import GPT2LMHeadModel

    def fail(*_, **__):
        raise RuntimeError("The size of tensor a (32) must match the size of tensor b (64)")

    monkeypatch.setattr(GPT2LMHeadModel, "generate", fail)
    answer = lmtune("generate", ckpt, "prompt=A")
    assert (answer.code, answer.out) == (2, "")
    assert "found that it fails: The size of tensor a (32) must match" in answer.err
    assert "Traceback" not in answer.err
