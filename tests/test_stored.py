"""Save and load are inverse: checkpoints of architectures that are saved under other names come back, bit by bit."""

import json
import shutil

import pytest
import torch
from architectures import build_small
from safetensors.torch import save_file

from lmtune.errors import CheckpointError, ConfigError, ModelError
from lmtune.evaluation.protocol import hash_model
from lmtune.modeling import stored
from lmtune.modeling.loading import load_model
from lmtune.modeling.read_back import check_reads_back

MIXTURE = [
    "model=hub", "model.init=scratch", "model.tokenizer=learn", "model.config.model_type=mixtral", "model.config.hidden_size=32",
    "model.config.intermediate_size=48", "model.config.num_hidden_layers=2", "model.config.num_attention_heads=2",
    "model.config.num_key_value_heads=1", "model.config.num_local_experts=4", "model.config.max_position_embeddings=64",
    "data.block_size=32", "eval.context=32", "eval.max_tokens=300", "training.max_steps=4", "training.learning_rate=0.3",
    "training.warmup_steps=0", "training.lr_scheduler_type=constant", "training.eval_steps=1", "training.save_total_limit=null",
    "training.per_device_train_batch_size=2", "samples.enabled=false", "training.use_cpu=true",
]  # fmt: skip


@pytest.fixture
def build(tokenizer):
    return lambda kind: build_small(kind, len(tokenizer), tokenizer.eos_token_id)


@pytest.mark.parametrize("kind", ["gpt2", "mixtral", "gpt_neox", "qwen2_moe", "jamba"])
def test_a_checkpoint_gives_back_every_weight_under_whatever_names(build, kind, tmp_path):
    model, other = build(kind), build(kind)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight))
    model.save_pretrained(tmp_path)
    assert stored.find_difference(model, tmp_path) is None
    assert stored.find_difference(other, tmp_path) is not None
    stored.restore(other, tmp_path)
    assert hash_model(other) == hash_model(model)
    assert other.get_output_embeddings().weight is not None


def test_a_checkpoint_that_lacks_weights_or_holds_others_is_not_restored(build, tmp_path):
    model = build("gpt2")
    whole = dict(stored._without_ties(model.state_dict()))
    for change in (dict(list(whole.items())[1:]), {**whole, "more": torch.zeros(1)}):
        save_file(change, tmp_path / "model.safetensors", metadata={"format": "pt"})
        model.config.save_pretrained(tmp_path)
        assert stored.find_difference(model, tmp_path) is not None
        with pytest.raises(CheckpointError, match="expected the weights of this model"):
            stored.restore(model, tmp_path)


def test_a_saved_model_that_is_another_is_refused(build, tmp_path):
    model = build("llama")
    model.save_pretrained(tmp_path)
    check_reads_back(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    with pytest.raises(ModelError, match="gives other logits"):
        check_reads_back(model, tmp_path)
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    with pytest.raises(ModelError, match=r"lm_head\.weight has other values"):
        check_reads_back(model, tmp_path)


def test_the_best_step_of_a_mixture_is_whole_and_a_resumed_run_is_bit_equal(lmtune, tmp_path):
    answer = lmtune("train", *MIXTURE, f"output={tmp_path / 'run'}", "format=json")
    assert answer.code == 0, answer.err
    (measures,) = answer.json["eval"].values()
    best = answer.json["train"]["best_step"]
    assert best < 4  # the rate is far too high, so that the end is not the best
    for name in (f"checkpoint-{best}", "model"):
        assert hash_model(load_model(str(tmp_path / "run" / name))) == measures["protocol"]["model"]
    shutil.copytree(tmp_path / "run", tmp_path / "again")
    for name in ("model", "checkpoint-4", "checkpoint-3"):
        shutil.rmtree(tmp_path / "again" / name)
    (tmp_path / "again" / "results.json").unlink()
    answer = lmtune("train", f"resume={tmp_path / 'again'}", "format=json")
    assert answer.code == 0, answer.err
    assert next(iter(answer.json["eval"].values()))["loss"] == measures["loss"]
    one, other = (dict(stored.read_tensors(tmp_path / each / "checkpoint-4")) for each in ("run", "again"))
    assert all(torch.equal(one[name], other[name]) for name in one | other)


def test_a_checkpoint_of_weights_alone_is_not_resumed(lmtune, tmp_path):
    few = [
        "training.max_steps=4",
        "training.eval_steps=2",
        "samples.enabled=false",
        "eval.max_tokens=200",
        "training.use_cpu=true",
    ]
    answer = lmtune("train", *few, "training.save_only_model=true", f"output={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert "cannot be resumed" in answer.err
    (tmp_path / "run" / "results.json").unlink()
    answer = lmtune("train", f"resume={tmp_path / 'run'}")
    assert answer.code == 2
    assert "checkpoint-4 lacks optimizer.pt and scheduler.pt" in answer.err


@pytest.mark.parametrize(
    "name", ["galore_adamw_layerwise", "galore_adafactor", "grokadamw", "adalomo", "apollo_adamw", "lomo"]
)
def test_optimizers_that_would_break_a_promise_are_refused_by_name(name):
    from lmtune.config.training import check_training

    with pytest.raises(ConfigError, match=f"training.optim={name}: it"):
        check_training({"optim": name})
