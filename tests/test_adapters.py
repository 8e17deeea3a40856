"""LoRA: what learns, that ties hold, and that the merged model is the one that was trained."""

import json

import pytest
import torch
from helpers import set_status

pytest.importorskip("peft")

from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lmtune import runs
from lmtune.config import FinetuneConfig, FinetuneMethod, ModelConfig, ModelInit, Transplant
from lmtune.errors import CheckpointError, ConfigError, LmtuneError
from lmtune.modeling import stored
from lmtune.modeling.adapters import add_adapter, merge_adapter
from lmtune.modeling.base import hash_base
from lmtune.modeling.loading import build_model, load_merged, load_model
from lmtune.modeling.transplant import plan_transfer
from lmtune.training.resume import check_same_base

IDS = torch.arange(1, 33)[None]


def shake(model):
    """Random values in everything that learns, as training would leave."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "gpt_neox"])
@pytest.mark.parametrize("embeddings", [False, True])
def test_the_merged_model_is_the_trained_one_and_ties_hold(build_tiny, kind, embeddings):
    model = build_tiny(kind)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    adapted = shake(add_adapter(model, FinetuneConfig(method=FinetuneMethod.lora, embeddings=embeddings)))
    expected = adapted(input_ids=IDS, use_cache=False).logits.detach()
    merged = merge_adapter(adapted)
    torch.testing.assert_close(merged(input_ids=IDS, use_cache=False).logits, expected, rtol=1e-4, atol=1e-4)
    assert (merged.get_output_embeddings().weight is merged.get_input_embeddings().weight) == tied
    assert type(merged).__name__ == type(build_tiny(kind)).__name__


def test_only_the_adapter_learns(build_tiny):
    adapted = add_adapter(build_tiny(), FinetuneConfig(method=FinetuneMethod.lora, rank=4, target_modules=["c_attn"]))
    learning = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert len(learning) == 4
    assert all("c_attn.lora_" in name for name in learning)


@pytest.mark.parametrize(
    ("targets", "message"), [(["wte"], "an embedding or the head"), (["q_proj"], "which GPT2LMHeadModel does not have")]
)
def test_targets_that_no_adapter_fits_are_refused(build_tiny, targets, message):
    with pytest.raises(ConfigError, match=message):
        add_adapter(build_tiny(), FinetuneConfig(method=FinetuneMethod.lora, target_modules=targets))


@pytest.fixture
def asked(build_tiny, tokenizer, tmp_path):
    build_tiny().save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return ("train", "finetune=lora", "model.path=base", "data.block_size=32", "samples.enabled=false", "format=json",
            "training.max_steps=8", "training.eval_steps=4", "training.learning_rate=1e-2", "training.use_cpu=true")  # fmt: skip


def replace_base(folder):
    """Another model of the same shapes in the same folder."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.transformer.h[0].mlp.c_fc.weight.data *= 1.01
    model.save_pretrained(folder)


@pytest.mark.parametrize("merge", [True, False])
def test_a_run_saves_what_it_scored(lmtune, asked, tmp_path, merge):
    trained = lmtune(*asked, f"finetune.merge={merge}", "output=run")
    assert trained.code == 0, trained.err
    assert (tmp_path / "run/model/adapter_config.json").exists() != merge
    scored = lmtune("eval", "ckpt=run", "device=cpu", "format=json").json["eval"]["sample"]
    assert scored["loss"] == pytest.approx(trained.json["eval"]["sample"]["loss"], rel=1e-6)
    assert trained.json["epochs"][-1]["loss"] < trained.json["epochs"][0]["loss"]
    replace_base(tmp_path / "base")
    checkpoint = lmtune("eval", "ckpt=run/checkpoint-8", "device=cpu")
    assert checkpoint.code == 2
    assert "base: expected the weights that the adapter was trained on, " in checkpoint.err
    assert lmtune("eval", "ckpt=run", "device=cpu").code == (0 if merge else 2)
    if merge:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model")
        assert model.dtype == torch.float32
        assert model.config.architectures == ["GPT2LMHeadModel"]


def test_a_resumed_adapter_ends_with_the_same_bits(lmtune, asked, tmp_path):
    import shutil

    settings = ("training.load_best_model_at_end=false", "training.save_total_limit=5")
    assert lmtune(*asked, *settings, "output=straight").code == 0
    shutil.copytree(tmp_path / "straight", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/checkpoint-8")
    shutil.rmtree(tmp_path / "cut/model")
    set_status(tmp_path / "cut", "stopped")
    assert lmtune("train", "resume=cut", "output=cut").code == 0
    one, other = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "model").state_dict() for name in ("straight", "cut")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def adapter(build_tiny, tokenizer, tmp_path):
    """The folder of a sealed adapter, on the model in base/."""
    for saved in (build_tiny(), tokenizer):
        saved.save_pretrained(tmp_path / "base")
    base = load_model(str(tmp_path / "base"))
    recorded = hash_base(base)
    add_adapter(base, FinetuneConfig(method=FinetuneMethod.lora)).save_pretrained(tmp_path / "adapter")
    runs.seal(tmp_path / "adapter", {"run": "mine", "base": recorded})
    return tmp_path / "adapter"


@pytest.mark.parametrize("load", [load_model, load_merged])
def test_an_adapter_on_another_base_than_its_own_is_refused(adapter, load):
    load(str(adapter))
    replace_base(adapter.parent / "base")
    with pytest.raises(
        LmtuneError, match=r"an adapter on .*base: expected the weights .* found others, [0-9a-f]{8}, so"
    ):
        load(str(adapter))
    load(str(adapter), whole=False)


def test_an_adapter_without_a_record_of_its_base_is_taken(adapter):
    replace_base(adapter.parent / "base")
    (adapter / runs.MANIFEST).unlink()
    load_model(str(adapter))


def test_a_base_is_known_in_another_file_and_place(build_tiny, tmp_path):
    model = build_tiny()
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "two", max_shard_size="20KB")
    one, two = (load_model(str(tmp_path / name)) for name in ("one", "two"))
    assert len(list((tmp_path / "two").glob("*.safetensors"))) > 1
    assert hash_base(one) == hash_base(two)
    with torch.no_grad():
        two.lm_head.weight[0, 0] += 1e-3
    assert hash_base(one) != hash_base(two)


def test_a_run_does_not_go_on_over_another_base(begin_run, tmp_path):
    run = begin_run(tmp_path / "run")
    before, now = "a" * 32, "b" * 32
    check_same_base(run, now, now, force=False)
    check_same_base(run, None, now, force=False)
    with pytest.raises(CheckpointError, match=r"aaaaaaaa in its checkpoint, found other weights there, bbbbbbbb\."):
        check_same_base(run, before, now, force=False)
    check_same_base(run, before, now, force=True)


def test_an_adapter_without_its_base_is_refused(lmtune):
    answer = lmtune("train", "finetune=lora", "finetune.merge=false")
    assert answer.code == 2
    assert "finetune.merge=false keeps the adapter alone" in answer.err


def test_whole_embeddings_stay_tied_in_an_adapter_that_is_kept_apart(lmtune, asked, tmp_path):
    trained = lmtune(*asked, "finetune.merge=false", "finetune.embeddings=true", "output=run")
    assert trained.code == 0, trained.err
    loss = trained.json["eval"]["sample"]["loss"]
    for ckpt in ("run", "run/checkpoint-8"):
        scored = lmtune("eval", f"ckpt={ckpt}", "device=cpu", "format=json").json["eval"]["sample"]
        assert scored["loss"] == pytest.approx(loss, rel=1e-6)
    assert lmtune("export", "ckpt=run", "to=safetensors", "output=merged").code == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.config.tie_word_embeddings
    assert "lm_head.weight" not in load_file(tmp_path / "merged/model.safetensors")


def test_an_adapter_on_an_adapter_is_merged_or_refused(lmtune, asked, tmp_path):
    """Kept apart, the second one would be put on the weights below the first, whose numbers are others."""
    assert lmtune(*asked, "finetune.merge=false", "output=first").code == 0
    on_top = [*asked, "model.path=first"]
    refused = lmtune(*on_top, "finetune.merge=false", "output=second")
    assert refused.code == 2
    assert "first/model is an adapter, which is added into the weights below it" in refused.err
    assert not (tmp_path / "second").exists()
    trained = lmtune(*on_top, "output=second")
    scored = lmtune("eval", "ckpt=second", "device=cpu", "format=json").json["eval"]["sample"]
    assert scored["loss"] == pytest.approx(trained.json["eval"]["sample"]["loss"], rel=1e-6)
    assert not json.loads((tmp_path / "second/checkpoint-8/adapter_config.json").read_text())["base_model_name_or_path"]
    answer = lmtune("eval", "ckpt=second/checkpoint-8", "device=cpu")
    assert answer.code == 2
    assert "on weights that its run made" in answer.err


def test_an_adapter_names_the_revision_of_its_base(build_tiny):
    model = build_tiny()
    model.name_or_path = "me/base"
    adapted = add_adapter(model, FinetuneConfig(method=FinetuneMethod.lora), "v2")
    settings = adapted.peft_config["default"]
    assert (settings.base_model_name_or_path, settings.revision) == ("me/base", "v2")


def test_weights_that_a_run_made_are_no_base(build_tiny, tokenizer, tmp_path):
    folder = tmp_path / "base"
    build_tiny().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    scratch, _ = build_model(ModelConfig(path=str(folder), init=ModelInit.scratch), tokenizer)
    move = plan_transfer(tokenizer, tokenizer, Transplant.mean)
    moved, _ = build_model(ModelConfig(path=str(folder), transplant=Transplant.mean), tokenizer, move)
    as_it_lies, _ = build_model(ModelConfig(path=str(folder)), tokenizer)
    adapted = [add_adapter(each, FinetuneConfig(method=FinetuneMethod.lora)) for each in (scratch, moved, as_it_lies)]
    bases = [each.peft_config["default"].base_model_name_or_path or None for each in adapted]
    assert bases == [None, None, str(folder)]


def test_saving_an_adapter_asks_nobody(build_tiny, tmp_path, monkeypatch):
    def ask(*args, **kwargs):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", ask)
    model = build_tiny()
    model.name_or_path = "me/base"
    adapted = add_adapter(model, FinetuneConfig(method=FinetuneMethod.lora))
    adapted.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "me/base"
    assert stored.find_difference(adapted, tmp_path) is None
