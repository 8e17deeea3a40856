"""Embeddings moved to another vocabulary: which rows are copied, how the others begin, and what stays as it was."""

import gzip
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from lmtune.config import Transplant
from lmtune.errors import ModelError
from lmtune.modeling.extending import extend_tokenizer
from lmtune.modeling.special_ids import mend_special_ids, move_ids
from lmtune.modeling.tokenizer import complete, learn_tokenizer
from lmtune.modeling.transplant import ATOMS, find_sums, plan_transfer, sum_as, transplant

OTHER_TEXTS = [f"The patient {name} came to the hospital at {hour}." for name in ("João", "Ann") for hour in range(9)]


@pytest.fixture(scope="module")
def other():
    return learn_tokenizer(OTHER_TEXTS, vocab_size=300, max_length=64)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
def test_shared_rows_are_copied_and_others_begin_as_the_mean(build_tiny, tokenizer, other, kind):
    model = build_tiny(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head.weight is embedding.weight
    old, old_head = embedding.weight.detach().clone(), head.weight.detach().clone()
    move = plan_transfer(tokenizer, other, Transplant.mean)
    transplant(model, move)
    theirs = tokenizer.get_vocab()
    for values, weight in (
        (old, model.get_input_embeddings().weight),
        (old_head, model.get_output_embeddings().weight),
    ):
        assert weight.shape == (len(other), 32)
        mean = values.double().mean(dim=0).float()
        for token, index in other.get_vocab().items():
            assert torch.equal(weight[index], values[theirs[token]] if token in theirs else mean), token
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied == (kind == "gpt2")
    same = {name for name, value in model.state_dict().items() if value.shape == before[name].shape}
    assert len(same) >= len(before) - 2
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in same)
    assert model.config.vocab_size == len(other)


def test_the_report_counts_shared_initialised_and_lost(tokenizer, other):
    ours, theirs = set(other.get_vocab()), set(tokenizer.get_vocab())
    assert plan_transfer(tokenizer, other, Transplant.mean).report() == {
        "method": "mean",
        "old_entries": len(theirs),
        "new_entries": len(ours),
        "shared": len(ours & theirs),
        "same_id": sum(other.get_vocab()[token] == tokenizer.get_vocab()[token] for token in ours & theirs),
        "initialised": len(ours - theirs),
        "lost": len(theirs - ours),
    }


def test_fvt_begins_with_the_mean_of_the_pieces(build_tiny, tokenizer, other):
    model = build_tiny("gpt2")
    old = model.get_input_embeddings().weight.detach().clone()
    transplant(model, plan_transfer(tokenizer, other, Transplant.fvt))
    new = model.get_input_embeddings().weight.detach()
    begun = [token for token in other.get_vocab().keys() - tokenizer.get_vocab().keys() if token.isascii()]
    assert len(begun) > 5
    for token in begun:
        pieces = tokenizer(token)["input_ids"]
        assert len(pieces) > 1
        torch.testing.assert_close(new[other.get_vocab()[token]], old[pieces].mean(dim=0))


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_omp_begins_with_the_sum_that_rebuilds_the_token_in_the_donor(build_tiny, tokenizer, other, kind):
    model, donor = build_tiny(kind), build_tiny(kind, seed=1)
    donor.resize_token_embeddings(len(other), mean_resizing=False)
    plan = plan_transfer(tokenizer, other, Transplant.omp)
    shared, begun = np.flatnonzero(plan.sources >= 0), np.flatnonzero(plan.sources < 0)
    first, second = plan.sources[shared[:2]]
    for place, module in enumerate((donor.get_input_embeddings(), donor.get_output_embeddings())):
        with torch.no_grad():
            module.weight[begun[0]] = (3 + place) * module.weight[shared[0]] - module.weight[shared[1]]
    old, old_head = (
        each.weight.detach().clone() for each in (model.get_input_embeddings(), model.get_output_embeddings())
    )
    tied = kind == "gpt2"
    transplant(model, sum_as(donor, plan))
    for place, (before, module) in enumerate(
        ((old, model.get_input_embeddings()), (old_head, model.get_output_embeddings()))
    ):
        after, factor = module.weight.detach(), 4 if tied else 3 + place
        torch.testing.assert_close(after[begun[0]], factor * before[first] - before[second], rtol=1e-4, atol=1e-6)
        assert torch.equal(after[shared], before[plan.sources[shared]])
        assert torch.isfinite(after).all()
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


@pytest.mark.slow
def test_sums_are_short_beside_the_width_and_take_shared_rows_alone():
    draw = np.random.default_rng(0)
    sources = np.where(np.arange(900) % 3 == 0, -1, np.arange(900)[::-1])
    for width, terms in ((32, 4), (2 * 8 * ATOMS, ATOMS)):
        sums = find_sums(torch.from_numpy(draw.normal(size=(900, width))), sources)
        assert sums.rows.tolist() == np.flatnonzero(sources < 0).tolist()
        assert sums.terms.shape == sums.weights.shape == (300, terms)
        assert set(sums.terms.flatten().tolist()) <= set(sources[sources >= 0].tolist())


def test_the_end_of_text_keeps_its_row_under_another_name(tokenizer):
    renamed = learn_tokenizer(OTHER_TEXTS, vocab_size=300, max_length=64, special_tokens=["</s>"])
    move = plan_transfer(tokenizer, renamed, Transplant.mean)
    assert move.sources[renamed.eos_token_id] == tokenizer.eos_token_id


def test_rows_beyond_the_old_vocabulary_count_for_nothing(tokenizer, other):
    padded = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=len(tokenizer) + 64))
    weight = padded.get_input_embeddings().weight
    with torch.no_grad():
        weight[len(tokenizer) :] = 1000.0
    mean = weight[: len(tokenizer)].detach().double().mean(dim=0).float()
    move = plan_transfer(tokenizer, other, Transplant.mean)
    transplant(padded, move)
    new = padded.get_input_embeddings().weight[int(np.flatnonzero(move.sources < 0)[0])]
    assert torch.equal(new.detach(), mean)


def test_vocabularies_of_another_alphabet_are_refused(tokenizer):
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.BPE({"a": 0, "▁a": 1, "</s>": 2}, []))
    plain.decoder = decoders.Metaspace()
    foreign = PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="</s>")
    with pytest.raises(ModelError, match="moves between byte-level vocabularies"):
        plan_transfer(tokenizer, foreign, Transplant.mean)


def test_a_run_moves_a_model_and_keeps_the_account(lmtune, build_tiny, tokenizer, other, tmp_path):
    build_tiny("gpt2").save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    other.save_pretrained(tmp_path / "other")
    asked = (
        "train",
        "model.path=source",
        "model.tokenizer=other",
        "training.max_steps=2",
        "samples.enabled=false",
        "data.block_size=32",
    )
    refused = lmtune(*asked)
    assert refused.code == 2
    assert "model.transplant=mean" in refused.err
    answer = lmtune(*asked, "model.transplant=fvt", "output=run")
    assert answer.code == 0, answer.err
    report = plan_transfer(tokenizer, other, Transplant.fvt).report()
    assert json.loads((tmp_path / "run/transplant.json").read_text()) == report
    assert json.loads((tmp_path / "run/results.json").read_text())["transplant"] == report
    assert f"{report['shared']:,} were copied" in (tmp_path / "run/model/README.md").read_text()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model")
    saved = AutoTokenizer.from_pretrained(tmp_path / "run/model")
    assert saved.get_vocab() == other.get_vocab()
    for config in (model.config, model.generation_config):
        assert (config.bos_token_id, config.eos_token_id) == (other.bos_token_id, other.eos_token_id)
    assert model.generation_config.pad_token_id == other.pad_token_id


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (
            "other",
            "model.tokenizer=other: model.transplant=omp looks new tokens up in a model that has their vocabulary",
        ),
        ("learn", "found model.tokenizer=learn. Name a model"),
    ],
)
def test_omp_without_a_donor_is_refused(lmtune, build_tiny, tokenizer, other, tmp_path, vocabulary, message):
    build_tiny("gpt2").save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    other.save_pretrained(tmp_path / "other")
    answer = lmtune("train", "model.path=source", f"model.tokenizer={vocabulary}", "model.transplant=omp")
    assert answer.code == 2
    assert message in answer.err.replace(str(tmp_path) + "/", "")


@pytest.mark.slow
def test_a_run_takes_its_rows_from_a_donor(lmtune, build_tiny, tokenizer, other, tmp_path):
    build_tiny("gpt2").save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    donor = build_tiny("llama")
    donor.resize_token_embeddings(len(other), mean_resizing=False)
    donor.save_pretrained(tmp_path / "donor")
    other.save_pretrained(tmp_path / "donor")
    asked = ("model.path=source", "model.tokenizer=donor", "model.transplant=omp", "training.max_steps=1")
    answer = lmtune("train", *asked, "samples.enabled=false", "data.block_size=32", "output=run")
    assert answer.code == 0, answer.err
    report = json.loads((tmp_path / "run/transplant.json").read_text())
    assert report == plan_transfer(tokenizer, other, Transplant.omp).report()
    assert "model.transplant=omp" in (tmp_path / "run/model/README.md").read_text()


def test_a_vocabulary_learned_on_the_way(lmtune, build_tiny, tokenizer, tmp_path):
    build_tiny("gpt2").save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    learned = ("model.tokenizer=learn", "model.vocab_size=500", "model.transplant=mean", "output=run")
    answer = lmtune(
        "train", "model.path=source", *learned, "training.max_steps=1", "samples.enabled=false", "data.block_size=32"
    )
    assert answer.code == 0, answer.err
    assert json.loads((tmp_path / "run/transplant.json").read_text())["new_entries"] == 500


def test_legacy_ids_keep_those_of_the_old_vocabulary(tokenizer, build_tiny, tmp_path):
    from lmtune.config import ModelConfig
    from lmtune.modeling.loading import build_model, find_transfer

    model = build_tiny("gpt2")
    model.config.eos_token_id = 77
    model.save_pretrained(tmp_path / "source")
    tokenizer.save_pretrained(tmp_path / "source")
    settings = {"path": str(tmp_path / "source"), "tokenizer": "unused", "transplant": Transplant.mean}
    for legacy, expected in ((True, 77), (False, 0)):
        config = ModelConfig(**settings, legacy_ids=legacy)
        built, _ = build_model(config, tokenizer, find_transfer(config, tokenizer))
        assert built.config.eos_token_id == expected


def test_transplant_without_another_vocabulary_is_refused(lmtune):
    answer = lmtune("train", "model=gpt2", "model.transplant=mean")
    assert answer.code == 2
    assert "found no model.tokenizer=" in answer.err


def test_gpt2_moves_to_a_portuguese_vocabulary(real_data):
    """On real files: an independent count of shared tokens, the mean to float precision, blocks untouched, the head tied."""
    english = complete(GPT2TokenizerFast.from_pretrained(real_data / "gpt2-tokenizer"))
    with gzip.open(real_data / "pt-wiki" / "machado.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines][:30]
    portuguese = learn_tokenizer(texts, 20_000, 1024, max_chars=None)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    move = plan_transfer(english, portuguese, Transplant.mean)
    transplant(model, move)
    entries = json.loads((real_data / "gpt2-tokenizer" / "vocab.json").read_text())
    learned = json.loads(portuguese.backend_tokenizer.to_str())["model"]["vocab"]
    shared = sorted(entries.keys() & learned.keys())
    assert move.report()["shared"] == len(shared) > 2000
    old, new = before["transformer.wte.weight"], model.transformer.wte.weight.detach()
    assert torch.equal(new[[learned[token] for token in shared]], old[[entries[token] for token in shared]])
    begun = new[[index for token, index in learned.items() if token not in entries]]
    torch.testing.assert_close(begun, old.mean(dim=0).expand_as(begun))
    assert model.lm_head.weight is model.transformer.wte.weight
    embeddings = ("transformer.wte.weight", "lm_head.weight")
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items() if name not in embeddings)


def test_ids_of_a_generation_config_follow_their_tokens(build_tiny, tokenizer, other):
    model = build_tiny()
    (shared, further), gone = (
        sorted(tokenizer.get_vocab().keys() & other.get_vocab().keys())[-2:],
        next(token for token in tokenizer.get_vocab() if token not in other.get_vocab()),
    )
    old, new = ([vocabulary.get(token) for token in (shared, further, gone)] for vocabulary in (
        tokenizer.get_vocab(), other.get_vocab()
    ))  # fmt: skip
    settings = model.generation_config
    settings.eos_token_id = [tokenizer.eos_token_id, old[0], old[2]]
    settings.suppress_tokens, settings.forced_eos_token_id = old[1:2], old[0]
    settings.bad_words_ids, settings.sequence_bias = [[old[0], old[1]], [old[2]]], [[[old[1]], -2.0]]
    remarks = move_ids(model, plan_transfer(tokenizer, other, Transplant.mean).find_places())
    mend_special_ids(model, other)
    assert settings.eos_token_id == [other.eos_token_id, new[0]]
    assert (settings.suppress_tokens, settings.forced_eos_token_id) == ([new[1]], new[0])
    assert (settings.bad_words_ids, settings.sequence_bias) == ([[new[0], new[1]]], [[[new[1]], -2.0]])
    assert ["eos_token_id" in remarks[0], "bad_words_ids" in remarks[1]] == [True, True]
    assert "names 1 that the new vocabulary does not have" in remarks[0]


def test_all_ends_of_a_text_stay_when_a_vocabulary_is_extended(build_tiny, tokenizer):
    """A chat model ends a turn and a text with different tokens."""
    model = build_tiny()
    ends = [tokenizer.eos_token_id, 70]
    model.config.eos_token_id = model.generation_config.eos_token_id = ends
    extended = extend_tokenizer(tokenizer, OTHER_TEXTS, 20).tokenizer
    assert not move_ids(model, plan_transfer(tokenizer, extended, Transplant.mean).find_places())
    assert not mend_special_ids(model, extended)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == ends
