"""Weights that are spread over processes, here over one: what is gathered, lent and given back."""

import pickle

import pytest
import torch
from torch.distributed.tensor import DTensor

from lmtune.config import FinetuneConfig, FinetuneMethod, LossChoice
from lmtune.errors import CheckpointError, ConfigError
from lmtune.evaluation.scorer import open_scorer
from lmtune.modeling import adapters
from lmtune.modeling.behaviour import choose_ids
from lmtune.modeling.layers import below_adapter
from lmtune.modeling.loss import install_again, install_loss, is_fused
from lmtune.training import sharding
from lmtune.training.setup import Parts

CPU = torch.device("cpu")


@pytest.fixture
def group():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def build_pair(group, build_tiny):
    """A function that builds the same model whole and sharded; with an adapter, if asked for."""

    def build(method):
        made = []
        for _ in range(2):
            model = build_tiny()
            install_loss(model, LossChoice.auto)
            if method == "lora":
                torch.manual_seed(1)
                model = adapters.add_adapter(model, FinetuneConfig(method=FinetuneMethod.lora, rank=2))
                with torch.no_grad():  # an adapter begins with nothing
                    for name, weight in model.named_parameters():
                        weight.add_(0.01 if "lora_B" in name else 0)
            made.append(model)
        sharding.shard_model(made[1], CPU)
        return made

    return build


def weights_of(model):
    return {name: weight.detach() for name, weight in model.named_parameters()}


def are_spread(model):
    return all(isinstance(weight, DTensor) for weight in model.parameters())


def score(model):
    ids = choose_ids(below_adapter(model), 16).numpy()
    with sharding.lending(model), open_scorer(model) as scorer:
        return scorer.score(ids, ids).nll


def learn(model, optimizer, steps=2):
    model.eval()  # no dropout, whose random numbers would be others
    for _ in range(steps):
        ids = choose_ids(below_adapter(model), 16)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def build_optimizer(model):
    return torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_is_spread_learns_scores_and_comes_back_whole(build_pair, tmp_path, method):
    pair = whole, sharded = build_pair(method)
    assert are_spread(sharded)
    assert not are_spread(whole)
    assert (score(sharded) == score(whole)).all()
    assert are_spread(sharded), "what was lent is given back"
    optimizers = [build_optimizer(model) for model in pair]
    for model, optimizer in zip(pair, optimizers, strict=True):
        learn(model, optimizer)
    gathered = sharding.gather_model(sharded)
    assert weights_of(gathered).keys() == weights_of(whole).keys()
    for name, weight in weights_of(whole).items():
        assert torch.equal(weights_of(gathered)[name], weight), name
    assert (
        below_adapter(gathered).get_output_embeddings().weight is below_adapter(gathered).get_input_embeddings().weight
    )
    assert (score(gathered) == score(whole)).all()
    state, plain = sharding.gather_optimizer(optimizers[1]), optimizers[0].state_dict()
    assert state["param_groups"] == plain["param_groups"]
    for number, values in plain["state"].items():
        for name, value in values.items():
            assert torch.equal(state["state"][number][name], value)

    whole.save_pretrained(tmp_path)
    torch.save(plain, tmp_path / "optimizer.pt")
    learn(*[each[1] for each in (pair, optimizers)])
    sharding.restore(sharded, tmp_path)
    again = build_optimizer(sharded)
    sharding.load_optimizer(again, tmp_path / "optimizer.pt")
    learn(whole, optimizers[0])
    learn(sharded, again)
    for name, weight in weights_of(whole).items():
        assert torch.equal(weights_of(sharding.gather_model(sharded))[name], weight), name


def test_a_merged_adapter_is_scored_as_it_is_saved(build_pair):
    _, sharded = build_pair("lora")
    before = score(sharded)
    merged = adapters.merge_adapter(sharding.gather_model(sharded))
    sharding.spread_model(sharded, merged)
    assert (score(sharded) == score(merged)).all()
    assert (score(sharded) != before).any(), "rounded otherwise than base and adapter one after the other"


def test_a_checkpoint_of_another_model_is_refused(build_pair, tmp_path, build_tiny):
    build_tiny(n_layer=1).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="lacks"):
        sharding.restore(build_pair("full")[1], tmp_path)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_model_travels_without_its_values(group, build_tiny, kind):
    model = build_tiny(kind)
    install_loss(model, LossChoice.auto)
    parts, fuses = pickle.loads(pickle.dumps(sharding._strip(Parts(model, None, None, 8, 8))))
    assert len(pickle.dumps(parts)) < 60_000
    assert {weight.device.type for weight in parts.model.parameters()} == {"meta"}
    install_again(parts.model, fuses)
    assert is_fused(parts.model)
    received = sharding.replace_weights(parts.model, lambda name, _: dict(model.named_parameters())[name].detach())
    assert (score(received) == score(model)).all()


def test_a_model_without_blocks_is_refused_by_name(build_tiny):
    model = build_tiny()
    model.config.num_hidden_layers = 7
    with pytest.raises(ConfigError, match=r"training\.fsdp=true: .* none in GPT2LMHeadModel"):
        sharding.shard_model(model, CPU)
