"""GELUs in one kernel: the same function of the same weights, with less to keep."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.activations import ACT2FN

from lmtune.modeling.activations import fuse_activations


def tiny_gpt2(activation):
    torch.manual_seed(0)
    settings = {"n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": 64, "vocab_size": 300}
    config = AutoConfig.for_model("gpt2", activation_function=activation, bos_token_id=0, eos_token_id=0, **settings)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(("activation", "fused"), [("gelu_new", 2), ("gelu_fast", 2), ("gelu", 0), ("silu", 0)])
def test_the_model_answers_as_before(activation, fused):
    model = tiny_gpt2(activation)
    with torch.no_grad():
        for weight in model.parameters():  # as large as in a trained model, so that the activation is bent
            weight.mul_(3)
    before = copy.deepcopy(model)
    assert fuse_activations(model) == fused
    assert fuse_activations(model) == 0
    assert model.config.to_dict() == before.config.to_dict()
    assert model.state_dict().keys() == before.state_dict().keys()
    ids = torch.arange(64)[None] % 300
    for one, other in ((model, before), (model.double(), before.double())):
        tolerance = 1e-5 if one.dtype is torch.float32 else 1e-9  # gelu_fast rounds sqrt(2/pi) to ten digits
        torch.testing.assert_close(one(ids).logits, other(ids).logits, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["gelu_new", "gelu_fast"])
def test_bfloat16_is_no_further_from_float64(name):
    values = torch.linspace(-10, 10, 100_001).bfloat16()
    true = ACT2FN[name](values.double())
    spelled_out = (ACT2FN[name](values).double() - true).abs().max()
    assert (torch.nn.GELU(approximate="tanh")(values).double() - true).abs().max() <= spelled_out


def test_less_is_kept_for_the_backward_pass():
    def count_kept(model):
        kept = {}

        def keep(tensor):
            kept[tensor.data_ptr()] = tensor.shape[-2:] == (64, 128)  # the wide side of a block
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = model(torch.arange(64)[None], use_cache=False).logits  # held, so that no address comes twice
        assert logits.requires_grad
        return sum(kept.values())

    plain = tiny_gpt2("gelu_new")
    fused = copy.deepcopy(plain)
    fuse_activations(fused)
    assert count_kept(fused) == 2 * 2  # in each of two blocks input and output of the activation
    assert count_kept(plain) == 2 * 5
