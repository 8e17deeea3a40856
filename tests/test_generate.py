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
    ],
)
def test_what_cannot_work_is_refused(lmtune, ckpt, arguments, message):
    answer = lmtune("generate", ckpt, *arguments)
    assert answer.code == 2
    assert message in answer.err
