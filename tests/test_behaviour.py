"""What a model does is tried on a few tokens: whether it is causal, shifts labels, isolates documents, and how many it takes."""

import pytest
import torch
import transformers
from architectures import build_small
from packaging.version import Version

from lmtune.config import LossChoice, ModelConfig, ModelInit
from lmtune.errors import ConfigError, LmtuneError, ModelError
from lmtune.foreign import Source
from lmtune.modeling.behaviour import check_causal, check_isolation, choose_ids, moved
from lmtune.modeling.loading import build_model, load_model
from lmtune.modeling.loss import find_misfit, install_loss
from lmtune.modeling.positions import positions_of, resolve_length
from lmtune.modeling.special_ids import mend_special_ids

SOURCE = Source("model.path", "somewhere")
FALCON_ISOLATES = Version(transformers.__version__) >= Version("5.24")


@pytest.fixture
def build(tokenizer):
    return lambda kind: build_small(kind, len(tokenizer), tokenizer.eos_token_id)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra"])
def test_an_encoder_is_refused_and_a_decoder_is_not(build, kind):
    model = build(kind)
    check_causal(model, SOURCE)
    for module in model.modules():
        for name in ("is_causal", "is_decoder"):
            if hasattr(module, name):
                setattr(module, name, False)
    model.config.is_decoder = False
    with pytest.raises(ModelError, match=r"is not causal here.*Set is_decoder to true"):
        check_causal(model, SOURCE)


def test_an_encoder_as_the_hub_has_it_is_not_scored(tokenizer, tmp_path):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model("bert", vocab_size=len(tokenizer), **sizes)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ModelError, match="is not causal here"):
        load_model(str(tmp_path))
    with pytest.raises(LmtuneError, match="is not causal here"):
        build_model(
            ModelConfig(init=ModelInit.scratch, config={"model_type": "bert", **sizes}, tokenizer="learn"), tokenizer
        )


@pytest.mark.parametrize(("kind", "isolates"), [("gpt2", True), ("llama", True), ("mixtral", True), ("gpt_neox", True),
                                                ("opt", False), ("bart", False), ("bamba", False), ("falcon", FALCON_ISOLATES)])  # fmt: skip
def test_isolation_is_what_a_trial_shows(build, kind, isolates):
    model = build(kind)
    if isolates:
        check_isolation(model)
    else:
        with pytest.raises(ConfigError, match=r"data\.isolate_documents=true"):
            check_isolation(model)


@pytest.mark.parametrize(
    ("kind", "misfit"),
    [
        ("gpt2", None),
        ("llama", None),
        ("gemma2", None),
        ("mixtral", None),
        ("bart", "does not shift"),
        ("marian", "does not shift"),
    ],
)
def test_a_loss_that_does_not_shift_its_labels_is_found(build, kind, misfit):
    from lmtune.modeling.loading import _refine

    found = find_misfit(_refine(build(kind)))
    assert found is None if misfit is None else misfit in found


@pytest.mark.parametrize("kind", ["bart", "pegasus", "prophetnet"])
def test_the_loss_is_the_shifted_cross_entropy_whatever_the_class_takes_for_it(build, kind):
    model = build(kind)
    with pytest.raises(ConfigError, match=r"model\.loss=plain"):
        install_loss(model, LossChoice.plain)
    remarks = install_loss(model, LossChoice.auto)
    assert "cross-entropy of the model's logits" in remarks[0]
    ids = choose_ids(model, 8)
    targets = ids.roll(-1, 1)
    targets[0, -1] = -100
    made = model(input_ids=ids, labels=ids, shift_labels=targets, num_items_in_batch=torch.tensor(4), use_cache=False)
    logits = type(model).forward(model, input_ids=ids, use_cache=False).logits
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], targets[0, :-1], reduction="sum") / 4
    assert torch.allclose(made.loss, expected, rtol=1e-5)
    made.loss.backward()


@pytest.mark.parametrize(
    ("kind", "positions"), [("roberta", 126), ("mpt", 128), ("gpt2", 128), ("bloom", 1024), ("llama", 128)]
)
def test_a_default_window_is_as_long_as_the_model_takes(build, kind, positions):
    model = build(kind)
    assert resolve_length("eval.context", None, model) == positions
    if positions < 1024:
        with pytest.raises(ConfigError, match=f"the model has {positions} positions"):
            resolve_length("eval.context", positions + 1, model)


def test_positions_that_only_a_trial_shows(build):
    model = build("gpt2")
    model.config.n_positions = 200  # its table has 128
    assert positions_of(model.config) == 200
    assert resolve_length("eval.context", None, model) == 128
    with pytest.raises(ConfigError, match="the model has 128 positions"):
        resolve_length("eval.context", 150, model)
    model.config.n_positions = -1
    assert positions_of(model.config) is None


def test_a_padding_id_that_the_model_counts_by_stays(build, tokenizer, tmp_path):
    model = build("roberta")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert any("pad_token_id stays 1" in remark for remark in mend_special_ids(model, tokenizer))
    model.save_pretrained(tmp_path)
    assert load_model(str(tmp_path)).config.pad_token_id == 1
    plain = build("gpt2")
    mend_special_ids(plain, tokenizer)
    assert plain.config.pad_token_id is None


def test_logits_that_are_no_numbers_are_anothers_matter():
    assert not moved(torch.tensor([float("nan"), 1.0]), torch.tensor([2.0, 3.0]))
    assert moved(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.1]))
    assert not moved(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0 + 1e-6]))


def test_a_mixture_of_experts_is_scored_in_float64(build):
    from lmtune.evaluation.scorer import open_scorer

    model = build("mixtral")
    before = model.config._experts_implementation
    with open_scorer(model, "float64") as scorer:
        ids = choose_ids(model, 9).numpy()
        scored = scorer.score(ids[:, :-1], ids[:, 1:])
    with open_scorer(model) as scorer:
        again = scorer.score(ids[:, :-1], ids[:, 1:])
    assert abs(scored.nll - again.nll).max() < 1e-5
    assert model.config._experts_implementation == before
