"""The evaluator against plain PyTorch: one token at a time, no batches, float64."""

import math

import numpy as np
import pytest
import torch

from lmtune.errors import TrainingError
from lmtune.evaluation.perplexity import Workers, evaluate_stream, score_stream, window_batches
from lmtune.streams import DOCUMENT_TABLE, TokenStream

KINDS = ["gpt2", "llama", "qwen2", "gpt_neox"]


def build_stream(lengths, seed=0, vocabulary=320):
    """Random documents of so many tokens each, id 0 after each."""
    draw = np.random.default_rng(seed)
    pieces = [np.append(draw.integers(1, vocabulary, length), 0) for length in lengths]
    table = np.array([(n + 1, 3 * n, 2 * n, max(1, n // 2), i) for i, n in enumerate(lengths)], dtype=DOCUMENT_TABLE)
    return TokenStream(np.concatenate(pieces).astype(np.uint16), table, separator=0)


def reference(model, stream, context):
    """[tokens] of (nll, correct) in float64: each window scored alone, its last token only, then one token longer."""
    double = model.double()
    ids = [stream.separator, *stream.ids.tolist()]
    scored = []
    with torch.no_grad():
        for place in range(len(stream.ids)):
            start = place - place % context
            logits = double(input_ids=torch.tensor([ids[start : place + 1]]), use_cache=False).logits[0, -1]
            target = ids[place + 1]
            scored.append((-torch.log_softmax(logits, -1)[target].item(), int(logits.argmax()) == target))
    model.float()
    return scored


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("context", "batch_size"), [(7, 1), (16, 7), (64, 3)])
def test_every_measure_equals_the_reference(build_tiny, kind, context, batch_size):
    model, stream = build_tiny(kind), build_stream([13, 1, 22, 5])
    measures = evaluate_stream(model, stream, context, batch_size)
    scored = reference(model, stream, context)
    nll, correct = map(list, zip(*scored, strict=True))
    ends = set((stream.ends - 1).tolist())
    text = math.fsum(loss for place, loss in enumerate(nll) if place not in ends)
    assert measures["loss"] == pytest.approx(math.fsum(nll) / len(nll), rel=1e-6)
    assert measures["perplexity"] == pytest.approx(math.exp(math.fsum(nll) / len(nll)), rel=1e-5)
    assert measures["accuracy"] == sum(correct) / len(correct)
    assert measures["bits_per_byte"] == pytest.approx(text / math.log(2) / (3 * 41), rel=1e-6)
    assert measures["separator_loss"] == pytest.approx(math.fsum(nll[place] for place in ends) / 4, rel=1e-6)
    assert measures["word_perplexity"] == pytest.approx(math.exp(text / 20), rel=1e-5)
    assert (measures["tokens"], measures["bytes"], measures["words"]) == (45, 123, 20)


@pytest.mark.parametrize(
    ("tokens", "context", "batch_size"), [(1, 8, 2), (8, 8, 2), (9, 8, 2), (100, 8, 3), (5, 64, 4)]
)
def test_windows_cover_every_token_once(tokens, context, batch_size):
    batches = list(window_batches(tokens, context, batch_size))
    assert np.concatenate([batch.reshape(-1) for batch in batches]).tolist() == list(range(tokens))
    assert all(batch.shape[0] <= batch_size and batch.shape[1] <= context for batch in batches)


def test_shared_work_adds_up_to_the_same_sums(build_tiny):
    model, stream = build_tiny(), build_stream([40, 31, 9])
    alone = score_stream(model, stream, 8, 2, Workers())
    parts = []
    for rank in range(3):
        score_stream(model, stream, 8, 2, Workers(rank, 3, lambda sums: parts.append(sums.clone()) or sums))
    together = sum(parts).tolist()
    assert together[0] == pytest.approx(alone.nll, rel=1e-12)
    assert together[1:2] + together[3:] == [alone.tokens, alone.separators, alone.correct]


def test_evaluation_leaves_no_trace(build_tiny):
    model, stream = build_tiny().train(), build_stream([30])
    state = torch.random.get_rng_state()
    first = evaluate_stream(model, stream, 16, 2)
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert evaluate_stream(model, stream, 16, 2)["loss"] == first["loss"], "dropout was on"


def test_evaluation_is_in_float32_inside_autocast(build_tiny):
    model, stream = build_tiny(), build_stream([30])
    outside = evaluate_stream(model, stream, 16, 2)["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert evaluate_stream(model, stream, 16, 2)["loss"] == outside


def test_evaluation_is_in_float32_where_training_allows_tf32(build_tiny):
    model, stream = build_tiny(), build_stream([30])
    outside = evaluate_stream(model, stream, 16, 2)["loss"]
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "tf32"
    try:
        assert evaluate_stream(model, stream, 16, 2)["loss"] == outside
        assert torch.backends.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = before


def test_damaged_weights_are_an_error_that_names_the_place(build_tiny):
    model, stream = build_tiny(), build_stream([10, 10, 10])
    with torch.no_grad():
        model.transformer.wpe.weight[3] = math.nan
    with pytest.raises(TrainingError, match=r"held-out tokens 0 to 15 \(documents 1 to 2\) is not a finite number"):
        evaluate_stream(model, stream, 8, 2)
