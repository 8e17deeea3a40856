"""What a budget is refused beside, what a model writes to keep it, and how the page of a run shows it."""

import os
import signal
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, TrainerState

from lmtune import load_config
from lmtune.data import cache
from lmtune.data.written import build_key, is_kept, load_written
from lmtune.errors import CheckpointError, ConfigError
from lmtune.modeling.writing import FEWEST_ROWS, MOST_ROWS, choose_rows, write_rows
from lmtune.reporting.forgetting import build_forgetting, render_forgetting
from lmtune.reporting.language import EN, PT
from lmtune.reporting.record import RunRecord
from lmtune.training.budget import Gauge
from lmtune.training.callbacks import PatienceUnderBudget
from lmtune.training.lengthening import find_obstacle
from lmtune.training.replay import Replay
from lmtune.training.resume import _check_same_world

MODEL = ("data=bio", "model=gpt2-small-pt", "forgetting.on=pt-wiki")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["forgetting.most=99.99%"], r"forgetting\.most=99\.99%: expected a share above 0 and at most 90%"),
        (["data=pt-wiki"], r"forgetting\.on=pt-wiki: expected older text than what is learned"),
        (["forgetting.replay=bio"], r"forgetting\.replay=bio: expected older text"),
        (
            ["data.mix={bio:1,wikitext:1}", "forgetting.replay=wikitext"],
            r"forgetting\.replay=wikitext: .* data\.mix learns it anyway",
        ),
        (["data.mix={bio:1,pt-wiki:1}"], r"forgetting\.on=pt-wiki: .* data\.mix learns it anyway"),
        (["model=gpt2-tiny"], r"found model\.init=scratch"),
        (["model.tokenizer=x", "model.transplant=mean"], r"found model\.transplant="),
        (["training.fsdp=true"], r"has not been tried with training\.fsdp"),
        (["training.eval_strategy=no"], r"found training\.eval_strategy=no"),
        (["data.validation_fraction=0"], r"needs held-out text of data= too"),
        (["forgetting.replay=self", "data.isolate_documents=true"], r"data\.isolate_documents=true do not go together"),
        (["forgetting.tokens=100"], r"forgetting\.tokens has no effect: nothing is written"),
        (["forgetting.budget=one"], r"forgetting\.budget=one: expected a share"),
        (["forgetting.on=nowhere"], r"forgetting\.on names "),
        (["forgetting.on=old/my text.txt"], r"expected the name of a data set.*conf/data/my-text\.yaml"),
        (["forgetting.on="], r"expected the name of a data set, found ''"),
        (
            ["forgetting.on=null", "forgetting.budget=2%"],
            r"forgetting\.budget has no effect: there is no budget without",
        ),
    ],
)
def test_what_a_budget_cannot_be_held_beside_is_refused_at_once(given, words):
    with pytest.raises(ConfigError, match=words):
        load_config("train", [*MODEL, *given])


@pytest.mark.parametrize("key", ["on", "replay"])
def test_the_text_that_is_learned_is_no_older_text_under_another_name(tmp_path, monkeypatch, key):
    monkeypatch.chdir(tmp_path)
    Path("conf/data").mkdir(parents=True)
    Path("new.txt").write_text("Uma linha.\n")
    Path("conf/data/same.yaml").write_text("defaults: [files]\nfiles: new.txt\n")
    told = [*MODEL, "data.files=new.txt", f"forgetting.{key}=same"]
    with pytest.raises(ConfigError, match=rf"forgetting\.{key}=same: expected older text than what is learned"):
        load_config("train", told)


def test_old_text_is_not_mixed_in_under_another_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("conf/data").mkdir(parents=True)
    for name in ("old", "same"):
        Path(f"conf/data/{name}.yaml").write_text("defaults: [files]\nfiles: old.txt\n")
    told = [*MODEL, "data.mix={bio:1,same:1}", "forgetting.on=old"]
    with pytest.raises(
        ConfigError, match=r"forgetting\.on=old: .* data\.mix learns the same text as same anyway\. Leave same out"
    ):
        load_config("train", told)
    assert load_config("train", [*told, "forgetting.replay=self"]).replay_sets == {}


def test_watched_text_that_has_changed_is_noticed_at_a_resume():
    """What was measured before would be of another text."""
    run, text = SimpleNamespace(folder="run"), {"corpus": "a", "tokenizer": "b"}
    now = {"facts": {**text, "watched": {"old": "x"}}, "machine": {"threads": 1}, "told": {"data": {}}}
    _check_same_world(run, now, now, force=False)
    _check_same_world(run, {**now, "facts": text}, now, force=False)  # begun by a version that recorded none
    with pytest.raises(CheckpointError, match=r"the text of eval_data= or forgetting\.on= changed since"):
        _check_same_world(run, {**now, "facts": {**text, "watched": {"old": "y"}}}, now, force=False)


def test_patience_counts_evaluations_that_break_the_budget_too():
    """Such a run has no best checkpoint, with which the original would compare."""
    args = SimpleNamespace(metric_for_best_model="eval_loss", greater_is_better=False)
    patience, state = PatienceUnderBudget(2), TrainerState()
    counted = []
    for step, loss in ((0, 1.0), (2, 5.0), (4, 6.0), (6, 4.0), (8, 4.0), (10, 4.5)):
        state.global_step = step
        state.log_history.append({"step": step, "eval_loss": loss})
        patience.check_metric_value(args, state, None, loss)
        counted.append(patience.early_stopping_patience_counter)
    assert counted == [0, 0, 1, 0, 1, 2]  # the untouched model, at step 0, is none of them


def test_a_budget_watches_its_text_and_replays_its_training_part():
    config = load_config("train", [*MODEL, "eval_data=[wikitext]"])
    assert list(config.eval_sets) == ["wikitext", "pt-wiki"]
    assert list(config.replay_sets) == ["pt-wiki"]
    assert config.replay_sets["pt-wiki"].seed == config.data.seed
    assert load_config("train", [*MODEL, "forgetting.budget=0.5%"]).forgetting.rise == 0.005
    assert load_config("train", [*MODEL, "forgetting.replay=self"]).replay_sets == {}
    assert list(load_config("train", [*MODEL, "forgetting.replay=wikitext"]).replay_sets) == ["wikitext"]


def test_a_run_with_a_budget_is_not_made_longer():
    told = {"training": {"lr_scheduler_type": "constant"}, "finetune": {"method": "full"}, "forgetting": {"on": "old"}}
    assert "forgetting.on" in find_obstacle(None, told, told)


def test_a_model_writes_the_same_rows_again_and_leaves_no_trace(build_tiny, tokenizer):
    model = build_tiny().train()
    before = torch.get_rng_state()
    batches = list(write_rows(model, tokenizer, 9, FEWEST_ROWS + 2, seed=0))
    assert [batch.shape for batch in batches] == [(FEWEST_ROWS, 9), (2, 9)]
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    again = list(write_rows(model, tokenizer, 9, FEWEST_ROWS + 2, seed=0))
    assert all(np.array_equal(one, two) for one, two in zip(batches, again, strict=True))
    assert not np.array_equal(batches[0], next(write_rows(model, tokenizer, 9, FEWEST_ROWS, seed=1)))
    rows = np.concatenate(batches)
    assert set(rows[:, 0]) == {tokenizer.eos_token_id}
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_an_accelerator_writes_more_rows_at_once_as_far_as_they_are_small():
    def rows(device, length, **shape):
        model = GPT2LMHeadModel(GPT2Config(vocab_size=8, n_layer=1, n_embd=8, n_head=1))
        model.config.update(shape)
        return choose_rows(model, device, length)

    assert rows("cpu", 129) == FEWEST_ROWS
    assert rows("cuda", 129, n_layer=2, n_embd=64) == MOST_ROWS
    assert rows("cuda", 1025, n_layer=12, n_embd=768) == 2**32 // (2 * 12 * 768 * 1025 * 4) == 56
    assert rows("cuda", 1025, n_layer=32, n_embd=4096) == FEWEST_ROWS


def test_what_is_written_follows_the_probabilities_of_the_model(build_tiny, tokenizer):
    """Of a model that knows two tokens, with odds of three to one, whatever its generation config says."""
    model = build_tiny()
    model.generation_config.repetition_penalty, model.generation_config.do_sample = 5.0, False
    scores = torch.full((model.config.vocab_size,), -1e9)
    scores[5], scores[7] = np.log(3.0), 0.0
    model.lm_head.register_forward_hook(lambda module, given, answer: answer * 0 + scores)
    rows = next(write_rows(model, tokenizer, 60, 16, seed=0))[:, 1:]
    assert set(np.unique(rows)) == {5, 7}
    assert (rows == 5).mean() == pytest.approx(0.75, abs=0.06)


def test_rows_are_written_once_and_learned_whole(build_tiny, tokenizer):
    key = build_key(tokenizer, {"model": "a", "rows": 3})
    assert key != build_key(tokenizer, {"model": "b", "rows": 3})
    model, calls = build_tiny(), []

    def write(start):
        calls.append(start)
        return write_rows(model, tokenizer, 9, 3, 0, start)

    assert not is_kept(key)
    first = load_written(key, tokenizer, 8, 3, write)
    assert is_kept(key)
    second = load_written(key, tokenizer, 8, 3, write)
    assert calls == [0]
    assert first.checksum == second.checksum
    assert second.tokens == 24
    rows = next(write_rows(model, tokenizer, 9, 3, seed=0))
    batch = second.blocks.__getitems__([0, 1, 2])
    assert np.array_equal(batch["input_ids"], rows[:, :-1])
    assert np.array_equal(batch["shift_labels"], rows[:, 1:])


def test_what_a_killed_process_has_written_is_not_written_again(build_tiny, tokenizer, caplog):
    model, rows, calls = build_tiny(), 2 * FEWEST_ROWS + 2, []

    def write(start):
        calls.append(start)
        return write_rows(model, tokenizer, 9, rows, 0, start)

    def write_and_die(start):
        yield from first
        os.kill(os.getpid(), signal.SIGKILL)

    keys = [build_key(tokenizer, {"model": name, "rows": rows}) for name in ("killed", "straight")]
    straight = load_written(keys[1], tokenizer, 8, rows, write)
    entries = len(cache.list_entries())
    first = list(islice(write_rows(model, tokenizer, 9, rows, 0), 2))  # torch would wait for its threads after a fork
    killed = os.fork()
    if killed == 0:
        load_written(keys[0], tokenizer, 8, rows, write_and_die)
    assert os.WTERMSIG(os.waitpid(killed, 0)[1]) == signal.SIGKILL
    assert not is_kept(keys[0])
    with caplog.at_level("INFO"):
        went_on = load_written(keys[0], tokenizer, 8, rows, write)
    assert calls == [0, 2 * FEWEST_ROWS]
    assert "32 of 34 rows of the old text were written before" in caplog.text
    assert went_on.checksum == straight.checksum
    assert len(cache.list_entries()) == entries + 1, "batches go once the whole is there"


def test_a_damaged_batch_is_written_again(tokenizer):
    key, calls = build_key(tokenizer, {"model": "damaged"}), []
    batches = [np.full((2, 9), number) for number in range(3)]

    def write(start):
        calls.append(start)
        return iter(batches[start // 2 :])

    def fail(start):
        yield from batches[:2]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        load_written(key, tokenizer, 8, 6, fail)
    second = cache.find_folder() / cache.key_of({"written": key, "first": 2}) / "rows.npy"
    second.write_bytes(second.read_bytes()[:-1] + b"x")
    written = load_written(key, tokenizer, 8, 6, write)
    assert calls == [2]
    assert np.array_equal(written.blocks.__getitems__(range(6))["shift_labels"][:, 0], [0, 0, 1, 1, 2, 2])


def test_the_share_of_old_text_is_one_of_the_tokens_learned(build_tiny, tokenizer):
    """Rows of new text that are filled up hold fewer: 2 rows of old text in 8, but 16 tokens in 36."""
    key = build_key(tokenizer, {"model": "share", "rows": 3})
    written = load_written(key, tokenizer, 8, 3, lambda start: write_rows(build_tiny(), tokenizer, 9, 3, 0, start))
    replay = Replay(written.blocks, "old", 0.01, 0.25, "self", past=[Gauge(0, 2.0, 0.25)])
    found = replay.describe(rows=3, steps=2, learned=16 + 20, after=None)
    assert (found["rows"], found["tokens"], found["share"]) == (2, 16, 16 / 36)


def line(step, bits, share):
    return {"step": step, "eval_loss": 1.0, "train_seconds": 1.0, "eval_old_bits_per_byte": bits, "replay_share": share}


@pytest.fixture
def record():
    metrics = [line(0, 2.0, 0.25), line(10, 2.01, 0.125), line(20, 2.015, 0.125)]
    found = {"on": "old", "budget": 0.01, "rise": 0.0075, "kept": True, "replay": "self", "share": 0.16, "tokens": 5120}
    config = {"forgetting": {"on": "old", "budget": "1%", "most": "25%"}}
    results = {"status": "completed", "eval": {"new": {}, "old": {}}, "train": {"steps": 20}, "forgetting": found}
    return RunRecord(Path("run"), config, results, metrics=metrics)


def test_the_page_draws_the_gauge_its_budget_and_the_shares(record):
    shown = build_forgetting(record, EN)
    for words in ("before 2.000", "budget 2.020", "old 2.015", "old text 25.0"):
        assert words in shown["figure"], words
    assert "5,120 tokens of old text (written by the untouched model)" in shown["notes"][1]
    assert "within the budget" in shown["notes"][1]
    assert "dentro do limite" in build_forgetting(record, PT)["notes"][1]
    record.results["forgetting"] |= {"kept": False, "rise": 0.02}
    assert "over the budget" in build_forgetting(record, EN)["notes"][1]
    assert "forgetting.most=" in render_forgetting(record.results["forgetting"])


def test_a_run_without_a_budget_has_no_such_section(record):
    record.config.pop("forgetting")
    assert build_forgetting(record, EN) is None
