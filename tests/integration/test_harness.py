"""EleutherAI's harness on local files, and our profile `lm_eval` against it."""

import gzip
import json
from pathlib import Path

import pytest
from helpers import write_texts

pytest.importorskip("lm_eval", reason="the extra bench is not installed")

CPU = "device=cpu"
# The harness's own tasks, told to read local files: a task that overrides a shipped one by name is refused by it.
TASKS = {
    "local_wikitext": """
include: {harness}/tasks/wikitext/wikitext.yaml
task: local_wikitext
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: {folder}/wikitext.jsonl}}}}
training_split: null
validation_split: null
""",
    "local_lambada": """
task: local_lambada
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/lambada.jsonl}}}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{{{text.split(' ')[:-1]|join(' ')}}}}"
doc_to_target: "{{{{' '+text.split(' ')[-1]}}}}"
metric_list: [{{metric: perplexity, aggregation: perplexity, higher_is_better: false}}, {{metric: acc, aggregation: mean, higher_is_better: true}}]
""",
}


def write_tasks(folder):
    """Task files of the harness in tasks/; they take functions from its own task files."""
    import lm_eval

    (folder / "tasks").mkdir()
    for name, text in TASKS.items():
        filled = text.format(folder=folder, harness=Path(lm_eval.__file__).parent)
        (folder / "tasks" / f"{name}.yaml").write_text(filled)


@pytest.fixture
def save_gpt2(tmp_path, real_data):
    """A random GPT-2 of 64 positions with GPT-2's own vocabulary, large enough in its weights to have preferences."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=64, initializer_range=0.2))
    model.save_pretrained(tmp_path / "model")
    GPT2TokenizerFast.from_pretrained(real_data / "gpt2-tokenizer").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def read(file):
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as stream:
        return stream.read()


def end_as_the_model_would(folder, passages):
    """Every other passage with the word as its last that the model ranks first there, where that is a word."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ended = []
    for number, text in enumerate(passages):
        context = text.rpartition(" ")[0]
        ids = tokenizer(context, return_tensors="pt")["input_ids"][:, -64:]
        with torch.no_grad():
            word = tokenizer.decode(model(ids).logits[0, -1].argmax())
        ended.append(context + word if number % 2 and word.startswith(" ") and word.strip().isalpha() else text)
    return ended


@pytest.mark.slow
def test_profile_lm_eval_equals_the_harness(lmtune, save_gpt2, real_data, tmp_path):
    from lmtune.evaluation.suites.running_text import split_pages

    pages = split_pages(read(real_data / "wikitext-2" / "test.raw.txt.gz").removesuffix("\n").split("\n"))[:6]
    lines = read(real_data / "lambada" / "lambada_test.jsonl.gz").splitlines()[:200]
    passages = end_as_the_model_would(save_gpt2, [json.loads(line)["text"] for line in lines])
    write_texts(tmp_path / "wikitext.jsonl", pages, "page")
    write_texts(tmp_path / "lambada.jsonl", passages)
    write_tasks(tmp_path)
    theirs = lmtune(
        "eval", f"ckpt={save_gpt2}", "suite=lm_eval", "suite.tasks=[local_wikitext,local_lambada]", f"suite.include={tmp_path}/tasks",
        "format=json", CPU,
    )  # fmt: skip
    assert theirs.code == 0, theirs.err
    ours = lmtune(
        "eval", f"ckpt={save_gpt2}", "suite=gpt2-zeroshot", "suite.profile=lm_eval", "suite.tasks=[wikitext-2,lambada]",
        f"suite.files.wikitext-2={tmp_path}/wikitext.jsonl", f"suite.files.lambada={tmp_path}/lambada.jsonl", "format=json", CPU,
    )  # fmt: skip
    assert ours.code == 0, ours.err
    found, expected = ours.json["tasks"], theirs.json["tasks"]
    for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert found["wikitext-2"][name] == pytest.approx(expected["local_wikitext"][name], rel=1e-4), name
    assert found["lambada"]["perplexity"] == pytest.approx(expected["local_lambada"]["perplexity"], rel=1e-4)
    assert found["lambada"]["accuracy"] / 100 == pytest.approx(expected["local_lambada"]["acc"], rel=1e-4)
    assert found["lambada"]["accuracy"] > 1, "no passage ends as the model would end it"
    assert expected["local_wikitext"]["protocol"]["harness"].startswith("lm-eval 0.4")


@pytest.mark.slow
def test_an_unknown_task_is_refused(lmtune, save_gpt2):
    answer = lmtune("eval", f"ckpt={save_gpt2}", "suite=lm_eval", "suite.tasks=[no_such_task]", CPU)
    assert answer.code == 2
    assert "suite.tasks names no_such_task, which lm-eval" in answer.err


@pytest.mark.slow
def test_data_that_cannot_be_had_is_an_error_of_the_user(lmtune, save_gpt2):
    answer = lmtune("eval", f"ckpt={save_gpt2}", "suite=lm_eval", "suite.tasks=[lambada_openai]", CPU)
    assert answer.code == 2
    assert "suite.tasks=lambada_openai: the harness cannot get their data" in answer.err


@pytest.mark.slow
def test_the_portuguese_tasks_are_there():
    from lm_eval.tasks import TaskManager

    from lmtune.cli.schemas import find_conf

    names = [
        line.strip(" -")
        for line in (find_conf() / "suite" / "portuguese.yaml").read_text().splitlines()
        if line.startswith("  -")
    ]
    assert len(names) > 10
    assert set(names) <= set(TaskManager().all_tasks)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gemma", "mistral"])
def test_profile_lm_eval_equals_the_harness_behind_a_bos(lmtune, real_data, tmp_path, kind):
    import torch
    from tokenizers import processors
    from transformers import AutoConfig, AutoModelForCausalLM, GPT2TokenizerFast

    tokenizer = GPT2TokenizerFast.from_pretrained(real_data / "gpt2-tokenizer")
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    post = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = post
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    ids = {"vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **shape, **ids, head_dim=16, max_position_embeddings=64, initializer_range=0.2)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    lines = read(real_data / "lambada" / "lambada_test.jsonl.gz").splitlines()[:50]
    texts = [" ".join(json.loads(line)["text"].split()[-40:]) for line in lines]
    write_texts(tmp_path / "wikitext.jsonl", texts, "page")
    write_texts(tmp_path / "lambada.jsonl", texts)
    write_tasks(tmp_path)
    ckpt = f"ckpt={tmp_path}/model"
    theirs = lmtune(
        "eval",
        ckpt,
        "suite=lm_eval",
        "suite.tasks=[local_wikitext,local_lambada]",
        f"suite.include={tmp_path}/tasks",
        "format=json",
        CPU,
    )
    ours = lmtune(
        "eval", ckpt, "suite=gpt2-zeroshot", "suite.profile=lm_eval", "suite.tasks=[wikitext-2,lambada]",
        f"suite.files.wikitext-2={tmp_path}/wikitext.jsonl", f"suite.files.lambada={tmp_path}/lambada.jsonl", "format=json", CPU,
    )  # fmt: skip
    assert (theirs.code, ours.code) == (0, 0), theirs.err + ours.err
    found, expected = ours.json["tasks"], theirs.json["tasks"]
    assert found["wikitext-2"]["bits_per_byte"] == pytest.approx(expected["local_wikitext"]["bits_per_byte"], rel=1e-4)
    assert found["lambada"]["perplexity"] == pytest.approx(expected["local_lambada"]["perplexity"], rel=1e-4)
    assert found["lambada"]["protocol"]["opening"] == [tokenizer.bos_token_id]


@pytest.mark.real
def test_lambada_of_a_real_model_is_that_of_the_harness(lmtune, real_model, real_data, tmp_path):
    passages = read(real_data / "lambada" / "lambada_test.jsonl.gz").splitlines()[:200]
    (tmp_path / "lambada.jsonl").write_text("\n".join(passages) + "\n")
    (tmp_path / "wikitext.jsonl").write_text("")
    write_tasks(tmp_path)
    command = ("eval", f"ckpt={real_model}", "format=json", CPU)
    theirs = lmtune(*command, "suite=lm_eval", "suite.tasks=[local_lambada]", f"suite.include={tmp_path}/tasks")
    ours = lmtune(*command, "suite=gpt2-zeroshot", "suite.profile=lm_eval", "suite.tasks=[lambada]",
                  f"suite.files.lambada={tmp_path}/lambada.jsonl")  # fmt: skip
    assert (theirs.code, ours.code) == (0, 0), theirs.err + ours.err
    found, expected = ours.json["tasks"]["lambada"], theirs.json["tasks"]["local_lambada"]
    assert found["perplexity"] == pytest.approx(expected["perplexity"], rel=1e-4)
    assert found["accuracy"] / 100 == pytest.approx(expected["acc"], rel=1e-4)
    assert found["accuracy"] > 10
