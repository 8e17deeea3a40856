"""The Modelfile says what Ollama would otherwise guess, in the way that its parser reads."""

from types import SimpleNamespace

import pytest
from transformers import GenerationConfig

from lmtune.exporting.modelfile import list_parameters, list_stops, quote, render_modelfile


def build_model(**config):
    return SimpleNamespace(
        config=SimpleNamespace(max_position_embeddings=64, pad_token_id=None, model_type="gpt2", **config)
    )


def test_sampling_is_that_of_the_run_and_else_that_of_transformers():
    settings = GenerationConfig(do_sample=True, temperature=0.7, max_new_tokens=60)
    found = dict(list_parameters(build_model(), settings))
    assert found == {
        "temperature": 0.7, "top_k": 50, "top_p": 1.0, "min_p": 0.0, "repeat_penalty": 1.0, "num_predict": 60, "num_ctx": 64,
    }  # fmt: skip


def test_the_likeliest_token_each_time_is_temperature_zero():
    settings = GenerationConfig(do_sample=False, repetition_penalty=1.2)
    assert dict(list_parameters(build_model(), settings)) == {"temperature": 0, "repeat_penalty": 1.2, "num_ctx": 64}


def test_what_ends_a_text_is_said_once(tokenizer):
    end = tokenizer.eos_token_id
    settings = GenerationConfig(eos_token_id=[end, 5], stop_strings=["\n", tokenizer.eos_token])
    assert list_stops(tokenizer, settings) == [tokenizer.eos_token, tokenizer.convert_ids_to_tokens(5), "\n"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x", '"x"'), ("{{ .Prompt }}", '"{{ .Prompt }}"'), ("\n", '"""\n"""'), ('a"', '"""a""""'), ("é #", '"é #"')],
)
def test_a_text_stands_between_marks_that_it_does_not_hold(text, expected):
    assert quote(text) == expected


def test_a_model_without_a_chat_template_gets_its_prompt_as_it_is(tokenizer):
    settings = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    lines = render_modelfile("x.gguf", build_model(), tokenizer, settings).splitlines()
    assert lines[:2] == ["FROM ./x.gguf", 'TEMPLATE "{{ .Prompt }}"']
    assert lines[-1] == 'PARAMETER stop "<|endoftext|>"'
