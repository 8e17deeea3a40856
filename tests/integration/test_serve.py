"""lmtune serve over loopback: two wire formats, and each text the one of model.generate."""

import concurrent.futures
import json

import pytest
import torch
from serving_client import TOKEN, generate, httpx

from lmtune.config import LongPrompt, ServePrecision

# The wire format of OpenAI


def test_a_text_is_that_of_generate(client):
    answer = client.complete("O paciente", temperature=0, max_tokens=8)
    (choice,) = answer["choices"]
    assert choice["text"] == generate(client, "O paciente", {"do_sample": False}, 8)[0]
    assert (answer["object"], answer["model"], choice["finish_reason"]) == ("text_completion", "one", "length")
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["usage"]["total_tokens"] == 8 + answer["usage"]["prompt_tokens"]
    drawn = client.complete("O paciente", temperature=0.7, seed=5, max_tokens=8)["choices"][0]["text"]
    assert drawn == generate(client, "O paciente", {"do_sample": True, "temperature": 0.7, "top_k": 0}, 8, seed=5)[0]


def test_several_prompts_and_several_texts_of_each(client):
    answer = client.complete(["O paciente", "A médica"], n=2, seed=3, max_tokens=6)
    texts = [choice["text"] for choice in answer["choices"]]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    settings = {"do_sample": True, "top_k": 0}
    expected = [generate(client, p, settings, 6, seed)[0] for p in ("O paciente", "A médica") for seed in (3, 4)]
    assert texts == expected
    ids = next(iter(client.models)).tokenizer("O paciente")["input_ids"]
    assert client.complete(ids, seed=3, max_tokens=6)["choices"][0]["text"] == texts[0]


def test_a_stream_makes_the_same_text(client):
    asked = {"prompt": "O paciente", "max_tokens": 12, "seed": 1, "n": 2}
    whole = client.complete(**asked)
    *events, done = client.stream(**asked, stream_options={"include_usage": True})
    assert done == "[DONE]"
    usage = events.pop()
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    texts = ["", ""]
    for event in events:
        (part,) = event["choices"]
        texts[part["index"]] += part["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]
    ends = [event["choices"][0]["finish_reason"] for event in events]
    assert [end for end in ends if end] == ["length", "length"]
    assert len(events) > 4


def test_a_stop_string_is_cut_and_never_half_streamed(client):
    plain = client.complete("O paciente", temperature=0, max_tokens=30)["choices"][0]["text"]
    stop = plain[9:13]
    place = plain.index(stop)
    answer = client.complete("O paciente", temperature=0, max_tokens=30, stop=[stop, "never there"])["choices"][0]
    assert (answer["text"], answer["finish_reason"]) == (plain[:place], "stop")
    shown = ""
    for event in client.stream(prompt="O paciente", temperature=0, max_tokens=30, stop=stop)[:-1]:
        shown += event["choices"][0]["text"]
        assert plain[:place].startswith(shown)
    assert shown == plain[:place]


def test_echo_and_logprobs(client):
    answer = client.complete("O paciente", temperature=0, max_tokens=4, echo=True, logprobs=3)["choices"][0]
    assert answer["text"].startswith("O paciente")
    found = answer["logprobs"]
    assert "".join(found["tokens"]) == answer["text"]
    assert (found["token_logprobs"][0], found["top_logprobs"][0], found["text_offset"][0]) == (None, None, 0)
    assert all(len(top) <= 3 for top in found["top_logprobs"][1:])
    served = next(iter(client.models))
    ids = torch.tensor([served.tokenizer(answer["text"])["input_ids"]])
    if len(ids[0]) == len(found["tokens"]):
        logits = served.model(input_ids=ids).logits[0].log_softmax(-1).detach()
        assert found["token_logprobs"][1] == pytest.approx(float(logits[0, ids[0, 1]]), abs=1e-4)
    scored = client.complete("O paciente", max_tokens=0, echo=True, logprobs=0)["choices"][0]
    assert scored["text"] == "O paciente"
    assert scored["logprobs"]["token_logprobs"] == found["token_logprobs"][: len(scored["logprobs"]["tokens"])]


def test_parameters_of_generate_by_their_own_names(client):
    settings = {"do_sample": True, "top_k": 9, "repetition_penalty": 1.4, "no_repeat_ngram_size": 2}
    text = client.complete("A médica", max_new_tokens=9, seed=2, **settings)["choices"][0]["text"]
    assert text == generate(client, "A médica", settings, 9, seed=2)[0]
    beams = {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5}
    texts = [choice["text"] for choice in client.complete("A médica", max_new_tokens=9, **beams)["choices"]]
    assert texts == generate(client, "A médica", {"do_sample": False, **beams}, 9)


def test_contrary_settings_at_the_same_time(client):
    asked = [
        ({"do_sample": False}, {"temperature": 0}),
        ({"do_sample": True, "temperature": 2.0, "top_k": 0}, {"temperature": 2.0}),
        ({"do_sample": False, "repetition_penalty": 1.9}, {"temperature": 0, "repetition_penalty": 1.9}),
        ({"do_sample": False, "num_beams": 2}, {"num_beams": 2}),
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(client.complete, "O paciente", max_tokens=40, seed=4, **wire) for _, wire in asked]
        texts = [each.result()["choices"][0]["text"] for each in pending]
    assert texts == [generate(client, "O paciente", settings, 40, seed=4)[0] for settings, _ in asked]


def test_two_checkpoints_are_chosen_by_name(serve, models):
    client = serve(models)
    listed = client.http.get("/v1/models").json()["data"]
    assert [(each["id"], each["context"]) for each in listed] == [("one", 512), ("two", 512)]
    assert listed[0]["examples"] == ["O paciente", "A médica"]
    texts = [
        client.complete("O paciente", model=name, temperature=0, max_tokens=8)["choices"][0]["text"]
        for name in ("one", "two")
    ]
    assert texts == [generate(client, "O paciente", {"do_sample": False}, 8, number=place)[0] for place in (0, 1)]
    assert texts[0] != texts[1]
    missing = client.post(prompt="a", model="three")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_what_reads_as_a_special_token_is_text(client):
    text = "<|endoftext|>"
    answer = client.complete(text, max_tokens=1, echo=True, logprobs=0)
    assert answer["usage"]["prompt_tokens"] > 1
    assert answer["choices"][0]["text"].startswith(text)


def test_a_long_prompt_is_cut_and_the_answer_says_so(serve):
    client = serve()
    long = "O paciente chegou no hospital. " * 200
    answer = client.complete(long, temperature=0, max_tokens=8)
    assert "its beginning was left out" in answer["notices"][0]
    assert answer["usage"]["prompt_tokens"] == 512 - 8
    refusing = serve(long_prompt=LongPrompt.refuse)
    refused = refusing.post(prompt=long, max_tokens=8)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")


def test_adapters_and_other_precisions(serve, models, tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(models[0])
    adapted = peft.get_peft_model(
        base, peft.LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False, lora_alpha=800)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    client = serve([str(tmp_path / "adapter"), models[0]])
    texts = [
        client.complete("O paciente", model=name, temperature=0, max_tokens=20)["choices"][0]["text"]
        for name in ("adapter", "one")
    ]
    assert texts == [generate(client, "O paciente", {"do_sample": False}, 20, number=place)[0] for place in (0, 1)]
    assert texts[0] != texts[1]
    half = serve(dtype=ServePrecision.bfloat16)
    text = half.complete("O paciente", seed=1, max_tokens=20)["choices"][0]["text"]
    assert text == generate(half, "O paciente", {"do_sample": True, "top_k": 0}, 20, seed=1)[0]


def test_an_unchanged_openai_client(client):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{client.url}/v1", api_key=TOKEN, max_retries=0) as api:
        assert [model.id for model in api.models.list()] == ["one"]
        asked = {"model": "one", "prompt": "O paciente", "max_tokens": 6, "seed": 1}
        whole = api.completions.create(**asked, logprobs=2)
        assert len(whole.choices[0].logprobs.tokens) == whole.usage.completion_tokens
        parts = [event.choices[0].text for event in api.completions.create(**asked, stream=True)]
        assert "".join(parts) == whole.choices[0].text
        with pytest.raises(openai.BadRequestError, match="temperature"):
            api.completions.create(model="one", prompt="a", temperature=-1)
    with (
        openai.OpenAI(base_url=f"{client.url}/v1", api_key="wrong", max_retries=0) as api,
        pytest.raises(openai.AuthenticationError),
    ):
        api.models.list()


# The older wire format


def test_a_run_comes_back_as_a_text_of_json(client):
    data = ["O paciente", {"response_length": 8, "remove_input": True, "do_sample": False}]
    run = client.post("/v2/runs", pipeline_id="pipeline_680b", data=data).json()
    assert json.loads(run["result_preview"]) == generate(client, "O paciente", {"do_sample": False}, 8)[0]
    assert (run["run_state"], run["pipeline_id"], run["error"]) == ("complete", "pipeline_680b", None)
    kept = client.post("/v2/runs", pipeline_id="x", data=["O paciente", {"response_length": 8}]).json()
    assert json.loads(kept["result_preview"]) == "O paciente" + json.loads(run["result_preview"])
    several = {"num_return_sequences": 2, "do_sample": True, "response_length": 4, "remove_input": True, "seed": 3}
    texts = json.loads(client.post("/v2/runs", pipeline_id="x", data=["A", several]).json()["result_preview"])
    assert texts == generate(client, "A", {"do_sample": True, "num_return_sequences": 2}, 4, seed=3)
    assert client.http.get("/v2/users/me").json()["username"] == "lmtune"


def test_errors_of_runs_are_as_their_clients_read_them(client):
    wrong = client.post("/v2/runs", pipeline_id="x", data=["a", {"custom_generate": "owner/repo"}])
    assert wrong.status_code == 422
    assert "custom_generate is not taken" in wrong.json()["detail"]["message"]
    stranger = httpx.get(f"{client.url}/v2/users/me", headers={"Authorization": "Bearer no"})
    assert stranger.status_code == 401
    assert stranger.json()["detail"]["message"]


@pytest.mark.real
def test_a_real_model_writes_what_generate_writes(serve, real_model):
    client = serve([str(real_model)])
    prompts = ["The capital of France is", "Once upon a time there was", "def add(a, b):", "Water boils at"]
    asked = [
        ({"do_sample": False}, {"temperature": 0}),
        ({"do_sample": True, "top_p": 0.9, "top_k": 0}, {"top_p": 0.9}),
    ]
    for settings, wire in asked:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            pending = [pool.submit(client.complete, prompt, max_tokens=24, seed=9, **wire) for prompt in prompts]
            texts = [each.result()["choices"][0]["text"] for each in pending]
        assert texts == [generate(client, prompt, settings, 24, seed=9)[0] for prompt in prompts]
