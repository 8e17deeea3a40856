"""The evaluator against plain PyTorch: one token at a time, no batches, float64."""

import math

import numpy as np
import pytest
import torch

from lmtune.errors import DataError, ModelError, TrainingError
from lmtune.evaluation.evaluator import Scoring, Workers, evaluate_documents, score_documents, sum_documents
from lmtune.evaluation.metrics import Sums
from lmtune.token_stream import DOCUMENT_TABLE, NO_SEPARATOR, TokenStream
from lmtune.versions import find_precision_switches

KINDS = ["gpt2", "llama", "qwen2", "gpt_neox"]


def evaluate_stream(*given):
    return evaluate_documents(*given)[0]


def build_stream(lengths, seed=0, vocabulary=320, separator=0):
    """Random documents of so many tokens each, the separator after each."""
    draw = np.random.default_rng(seed)
    ends = [] if separator == NO_SEPARATOR else [separator]
    pieces = [np.append(draw.integers(1, vocabulary, length), ends) for length in lengths]
    rows = [(n + len(ends), 3 * n, 2 * n, max(1, n // 2), i) for i, n in enumerate(lengths)]
    return TokenStream(np.concatenate(pieces).astype(np.uint16), np.array(rows, dtype=DOCUMENT_TABLE), separator)


def reference(model, stream, context, stride):
    """[tokens] of (nll, correct) in float64: each token scored alone, after what its window shows of the text before it.

    Token t lies in the first window that holds it; windows begin at multiples of the stride.
    """
    double = model.double()
    prefix = [] if stream.separator == NO_SEPARATOR else [stream.separator]
    ids = [*prefix, *stream.ids.tolist()]
    scored = []
    with torch.no_grad():
        for place in range(len(ids) - 1):
            start = 0 if place < context else math.ceil((place - context + 1) / stride) * stride
            logits = double(input_ids=torch.tensor([ids[start : place + 1]]), use_cache=False).logits[0, -1]
            target = ids[place + 1]
            scored.append((-torch.log_softmax(logits, -1)[target].item(), int(logits.argmax()) == target))
    model.float()
    return scored


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("context", "stride", "batch_size"),
    [(7, 7, 1), (16, 16, 7), (64, 64, 3), (7, 1, 7), (16, 8, 1), (16, 8, 7), (17, 5, 7), (64, 32, 1)],
)
def test_every_measure_equals_the_reference(build_tiny, kind, context, stride, batch_size):
    model, stream = build_tiny(kind), build_stream([13, 1, 22, 5])
    measures = evaluate_stream(model, stream, Scoring(context, batch_size, stride=stride))
    nll, correct = map(list, zip(*reference(model, stream, context, stride), strict=True))
    ends = set((stream.ends - 1).tolist())
    text = math.fsum(loss for place, loss in enumerate(nll) if place not in ends)
    expected = {
        "loss": math.fsum(nll) / 45,
        "perplexity": math.exp(math.fsum(nll) / 45),
        "accuracy": sum(correct) / 45,
        "bits_per_byte": text / math.log(2) / (3 * 41),
        "bits_per_character": text / math.log(2) / (2 * 41),
        "word_perplexity": math.exp(text / 20),
        "separator_loss": math.fsum(nll[place] for place in ends) / 4,
    }
    for name, value in expected.items():
        assert measures[name] == pytest.approx(value, rel=1e-6), name
    counts = [measures[name] for name in ("tokens", "bytes", "characters", "words")]
    assert counts == [45, 123, 82, 20]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_sums_of_documents_equal_the_reference(build_tiny, kind):
    model, stream = build_tiny(kind), build_stream([13, 1, 22, 5])
    scores = score_documents(model, stream, Scoring(16, 2, stride=8))
    scored = reference(model, stream, 16, 8)
    for row, end, length in zip(scores, stream.ends, stream.documents["tokens"], strict=True):
        text = [loss for loss, _ in scored[end - length : end - 1]]
        assert row["nll"] == pytest.approx(math.fsum(text), rel=1e-6)
        assert row["separator_nll"] == pytest.approx(scored[end - 1][0], rel=1e-6)
        assert row["correct"] == sum(right for _, right in scored[end - length : end])


def test_without_a_separator_the_first_token_is_left_out_of_every_sum(build_tiny):
    model, stream = build_tiny(), build_stream([13, 5], separator=NO_SEPARATOR)
    sums = sum_documents(stream, score_documents(model, stream, Scoring(8, 2)))
    scored = reference(model, stream, 8, 8)
    assert sums.nll == pytest.approx(math.fsum(loss for loss, _ in scored), rel=1e-6)
    assert (sums.tokens, sums.separators, sums.separator_nll) == (17, 0, 0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_made_only_where_tokens_are_scored(build_tiny, kind, tied):
    model, stream = build_tiny(kind, tie_word_embeddings=tied), build_stream([40])
    rows = []
    model.get_output_embeddings().register_forward_hook(lambda *given: rows.append(given[2].shape[:-1].numel()))
    evaluate_stream(model, stream, Scoring(16, 2, stride=4))
    # Eight rows decide whether the head is plain; 41 tokens are scored, among 16 * 8 places of windows.
    assert sum(rows) == 8 + 41


def test_a_head_that_caps_its_logits_is_scored_as_the_model_has_it():
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=64, final_logit_softcapping=0.05,
    )  # fmt: skip
    model, stream = Gemma2ForCausalLM(config).eval(), build_stream([30])
    nll = [loss for loss, _ in reference(model, stream, 16, 16)]
    assert evaluate_stream(model, stream, Scoring(16, 2))["loss"] == pytest.approx(math.fsum(nll) / 31, rel=1e-6)


def test_shared_work_adds_up_to_the_same_sums(build_tiny):
    model, stream = build_tiny(), build_stream([40, 31, 9])
    alone = score_documents(model, stream, Scoring(8, 2))
    parts = []
    for rank in range(3):
        score_documents(model, stream, Scoring(8, 2), Workers(rank, 3, lambda sums: parts.append(sums.clone()) or sums))
    together = sum(parts)[:-1]
    for number, name in enumerate(alone.dtype.names):
        assert together[:, number].tolist() == pytest.approx(alone[name].tolist(), rel=1e-12)


def test_evaluation_leaves_no_trace(build_tiny):
    model, stream = build_tiny().train(), build_stream([30])
    state = torch.random.get_rng_state()
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    first = evaluate_stream(model, stream, Scoring(16, 2))
    evaluate_stream(model, stream, Scoring(16, 2, dtype="bfloat16"))
    assert model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(weights[name], weight) for name, weight in model.state_dict().items())
    assert evaluate_stream(model, stream, Scoring(16, 2))["loss"] == first["loss"], "dropout was on"


def test_evaluation_is_in_float32_inside_autocast(build_tiny):
    model, stream = build_tiny(), build_stream([30])
    outside = evaluate_stream(model, stream, Scoring(16, 2))["loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert evaluate_stream(model, stream, Scoring(16, 2))["loss"] == outside


def test_evaluation_is_in_float32_where_training_allows_tf32(build_tiny):
    model, stream = build_tiny(), build_stream([30])
    outside = evaluate_stream(model, stream, Scoring(16, 2))["loss"]
    (place, name), *_ = find_precision_switches()[0]
    before, allowed = getattr(place, name), "tf32" if name == "fp32_precision" else True
    setattr(place, name, allowed)
    try:
        assert evaluate_stream(model, stream, Scoring(16, 2))["loss"] == outside
        assert getattr(place, name) == allowed
    finally:
        setattr(place, name, before)


@pytest.mark.parametrize("kind", KINDS)
def test_precision_is_as_asked_whatever_the_model_has(build_tiny, kind):
    model, stream = build_tiny(kind), build_stream([30])
    nll = [loss for loss, _ in reference(model, stream, 16, 16)]
    losses = {
        name: evaluate_stream(model, stream, Scoring(16, 2, dtype=name))["loss"] for name in ("float64", "bfloat16")
    }
    assert losses["float64"] == pytest.approx(math.fsum(nll) / 31, rel=1e-12)
    half = model.to(torch.bfloat16)
    with torch.no_grad():
        logits = half(input_ids=torch.tensor([[0, *stream.ids[:15].tolist()]]), use_cache=False).logits[0].float()
    first = torch.nn.functional.cross_entropy(logits, torch.from_numpy(stream.ids[:16].astype(np.int64))).item()
    short = TokenStream(stream.ids[:16], np.array([(16, 1, 1, 1, 0)], dtype=DOCUMENT_TABLE), 0)
    assert evaluate_stream(half, short, Scoring(16, 2, dtype="bfloat16"))["loss"] == pytest.approx(first, rel=1e-6)
    assert losses["bfloat16"] != losses["float64"]
    assert losses["bfloat16"] == pytest.approx(losses["float64"], rel=1e-2)
    assert half.dtype == torch.bfloat16


def test_damaged_weights_are_an_error_that_names_the_place(build_tiny):
    model, stream = build_tiny(), build_stream([10, 10, 10])
    with torch.no_grad():
        model.transformer.wpe.weight[3] = math.nan
    with pytest.raises(TrainingError, match=r"held-out tokens 0 to 15 \(documents 1 to 2\) is not a finite number"):
        evaluate_stream(model, stream, Scoring(8, 2))
    with torch.no_grad():
        model.transformer.wpe.weight[3] = 0
        model.transformer.wte.weight[:] *= 1e5
    with pytest.raises(TrainingError, match=r"float16 overflows beyond 65,504: try eval.dtype=float32"):
        evaluate_stream(model, stream, Scoring(8, 2, dtype="float16"))


def test_a_fault_of_one_process_ends_all_of_them(build_tiny):
    model, stream = build_tiny(), build_stream([30])

    def add_a_fault(sums):
        sums[-1, 0] += 1
        return sums

    with pytest.raises(TrainingError, match="Another process met a loss that is not a finite number"):
        score_documents(model, stream, Scoring(8, 2), Workers(0, 2, add_a_fault))


def test_what_cannot_be_scored_is_said(build_tiny):
    model = build_tiny()
    with pytest.raises(DataError, match="expected at least one token with something before it, found 1 token"):
        evaluate_stream(model, build_stream([1], separator=NO_SEPARATOR), Scoring(8, 2))
    with pytest.raises(ModelError, match=r"ids up to 4\d\d, the embedding of the model has 320 rows"):
        evaluate_stream(model, build_stream([200], vocabulary=500), Scoring(8, 2))


def test_the_protocol_says_how_the_numbers_came_to_be(build_tiny):
    protocol = evaluate_stream(build_tiny(), build_stream([5, 9]), Scoring(8, 2, stride=4, dtype="bfloat16"))[
        "protocol"
    ]
    versions = protocol.pop("versions")
    assert protocol.pop("text") == build_stream([5, 9]).identify()
    assert protocol == {
        "windows": "strided", "context": 8, "stride": 4, "separator": 0, "first": [0], "detokenizer": None,
        "documents": 2, "dtype": "bfloat16",
    }  # fmt: skip
    assert versions["torch"] == torch.__version__
    assert {"lmtune", "transformers", "python"} <= set(versions)


def test_no_documents_add_up_to_nothing():
    assert Sums() + Sums(nll=1.0, tokens=1) == Sums(nll=1.0, tokens=1)


def test_a_model_that_does_not_run_in_a_precision_is_refused_by_name(build_tiny):
    model = build_tiny("gpt2")
    mask = torch.zeros(16, 16)  # a constant of its class, in float32 whatever the weights are in
    forward = model.forward
    model.forward = lambda input_ids, **settings: (
        mask.mm(model.get_input_embeddings().weight[:16]),
        forward(input_ids, **settings),
    )[1]
    stream = build_stream([30])
    assert evaluate_stream(model, stream, Scoring(16, 2))["tokens"] == 31
    with pytest.raises(
        ModelError, match=r"GPT2LMHeadModel does not run on 8 tokens with eval\.dtype=float64 \(expected m1 and m2"
    ):
        evaluate_stream(model, stream, Scoring(16, 2, dtype="float64"))
    assert model.dtype == torch.float32
