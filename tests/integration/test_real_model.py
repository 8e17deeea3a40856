"""A real pretrained model, scored as plain PyTorch scores it.

LMTUNE_TEST_MODEL names its folder (SmolLM2-135M-Instruct, weights from a Q4_1 GGUF), LMTUNE_TEST_DATA that of the text.
"""

import gzip
import itertools
import math

import pytest

pytestmark = pytest.mark.real


def score_in_pytorch(folder, text, context):
    """(perplexity, tokens) in float32 with a float64 softmax: disjoint windows, the first token predicted from the separator."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    end = tokenizer.eos_token_id
    ids = [end, *tokenizer(text, add_special_tokens=False)["input_ids"], end]
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(ids) - 1, context):
            window = torch.tensor([ids[start : start + context + 1]])
            logits = model(input_ids=window[:, :-1], use_cache=False).logits[0].double()
            total += float(torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum"))
    return math.exp(total / (len(ids) - 1)), len(ids) - 1


def score(lmtune, model, text, file):
    file.write_text(text, encoding="utf-8")
    answer = lmtune("eval", f"ckpt={model}", f"data.files={file}", "data.documents=file", "eval.context=1024", "device=cpu",
                    "format=json")  # fmt: skip
    assert answer.code == 0, answer.err
    (measures,) = answer.json["eval"].values()
    return measures


def test_wikitext_is_scored_as_pytorch_scores_it(lmtune, real_model, real_data, tmp_path):
    text = "".join(read_lines(real_data / "wikitext-2" / "test.raw.txt.gz", 70)).strip("\n")
    measures = score(lmtune, real_model, text, tmp_path / "wiki.txt")
    expected, tokens = score_in_pytorch(real_model, text, 1024)
    assert abs(measures["perplexity"] / expected - 1) < 1e-5
    assert measures["tokens"] == tokens
    assert measures["perplexity"] == pytest.approx(22.796, abs=5e-3)
    assert measures["bits_per_byte"] == pytest.approx(1.0711, abs=2e-4)
    assert measures["accuracy"] == pytest.approx(0.4106, abs=2e-4)


def test_portuguese_is_scored_as_pytorch_scores_it(lmtune, real_model, real_data, tmp_path):
    text = "".join(read_lines(real_data / "pt-wiki" / "ud-pud.txt.gz", 60)).strip("\n")
    measures = score(lmtune, real_model, text, tmp_path / "pud.txt")
    expected, _ = score_in_pytorch(real_model, text, 1024)
    assert abs(measures["perplexity"] / expected - 1) < 1e-5
    assert measures["perplexity"] == pytest.approx(45.737, abs=0.05)


def read_lines(file, count):
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return list(itertools.islice(stream, count))
