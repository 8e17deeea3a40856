"""Canaries: drawn from a seed, planted between training documents alone, counted; without them nothing changes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lmtune.config import CanaryConfig, DataConfig, SplitRule
from lmtune.data import canaries
from lmtune.data.build import build_corpus, prepare_training
from lmtune.data.canaries import build_canaries, draw_candidates, load_canaries, save_canaries
from lmtune.data.columns import build_texts
from lmtune.data.ledger import Ledger
from lmtune.errors import CheckpointError, ConfigError
from lmtune.reporting.language import EN
from lmtune.reporting.text_flow import list_rows
from lmtune.runs import Run
from lmtune.vocabulary import decode_plain

FEW = CanaryConfig(canaries=2, repeats=[1, 3])


@pytest.fixture
def data(tmp_path, texts):
    file = tmp_path / "text.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    return DataConfig(files=str(file), documents="line", validation_fraction=0.2)


def read_documents(prepared, tokenizer):
    ids = np.concatenate(list(prepared.blocks.read()))[: prepared.ledger.targets + 1]
    return decode_plain(tokenizer, ids).split(tokenizer.eos_token)[:-1]


def test_canaries_are_drawn_from_the_seed_each_once():
    drawn = build_canaries(FEW, seed=7)
    assert [canary.repeats for canary in drawn] == [1, 1, 3, 3]
    assert len({canary.text for canary in drawn}) == 4
    assert drawn == build_canaries(FEW, seed=7)
    assert not {canary.text for canary in drawn} & {canary.text for canary in build_canaries(FEW, seed=8)}
    assert [canary.repeats for canary in build_canaries(CanaryConfig(canaries=1), 0)] == [1, 4, 16, 64]
    assert build_canaries(CanaryConfig(), 0) == []


def test_no_candidate_was_planted_and_all_have_the_form(monkeypatch):
    monkeypatch.setattr(canaries, "DIGITS", 1)
    drawn = build_canaries(CanaryConfig(canaries=4, repeats=[1]), seed=0)
    left = draw_candidates(6, drawn, seed=0)
    assert len({canary.text for canary in drawn} | set(left)) == 10, "all ten that there are"


def test_the_ledger_closes_and_what_is_held_out_is_as_without(data, tokenizer):
    planted = build_canaries(FEW, data.seed)
    plain, other = (prepare_training(build_corpus(data), {}, tokenizer, 16, chosen) for chosen in ((), planted))
    other.ledger.check()
    rows = {row.label: row.documents for row in list_rows(other.ledger.as_dict(), EN)}
    assert rows["canaries, planted to be looked for"] == "8"
    assert "canaries, planted to be looked for" not in {row.label for row in list_rows(plain.ledger.as_dict(), EN)}
    assert (other.ledger.documents_planted, plain.ledger.documents_planted) == (8, 0)
    assert other.ledger.bytes_planted == sum(len(canary.text) * canary.repeats for canary in planted)
    assert other.ledger.documents_kept == plain.ledger.documents_kept
    assert (other.held_out["validation"].ids == plain.held_out["validation"].ids).all()
    before, after = read_documents(plain, tokenizer), read_documents(other, tokenizer)
    assert [text for text in after if "canary" not in text] == before, "documents stay whole and in their order"
    for canary in planted:
        assert after.count(canary.text) == canary.repeats
    places = [number for number, text in enumerate(after) if "canary" in text]
    assert places != list(range(places[0], places[0] + 8)), "spread over the text"
    assert not any("canary" in decode_plain(tokenizer, stream.ids) for stream in other.held_out.values())


@pytest.mark.parametrize("rule", [SplitRule.hash, SplitRule.stretches])
def test_the_ledger_closes_for_both_rules_and_for_rows_of_their_own(data, tokenizer, rule):
    planted = build_canaries(FEW, data.seed)
    for packing in (True, False):
        told = replace(data, split_by=rule, packing=packing)
        ledger = prepare_training(build_corpus(told), {}, tokenizer, 16, planted).ledger
        assert (
            ledger.sides["train"].bytes + ledger.sides["validation"].bytes == ledger.bytes_kept + ledger.bytes_planted
        )


def test_every_copy_is_planted_whatever_the_batches_are():
    planted = build_canaries(FEW, 0)
    batches = [["a" * 10, "b" * 20], [], ["c" * 5], ["d" * 30, "e"]]
    for size in (1, 40, 66, 10_000):
        ledger = Ledger()
        texts = [
            text
            for batch in canaries.plant(map(build_texts, batches), planted, size, 3, ledger)
            for text in batch.to_pylist()
        ]
        assert [text[0] for text in texts if "canary" not in text] == list("abcde")
        assert len(texts) == 5 + 8
        assert ledger.documents_planted == 8


def test_text_without_canaries_is_prepared_under_the_same_name(data, tokenizer):
    from lmtune.data.prepare import EncodedCorpus

    corpus = build_corpus(data)
    names = [EncodedCorpus(corpus, tokenizer, chosen).build_key(16) for chosen in ((), build_canaries(FEW, 1))]
    assert names[0] == EncodedCorpus(corpus, tokenizer).build_key(16) != names[1]


def test_a_run_knows_its_canaries(tmp_path, begin_run):
    run = begin_run(tmp_path / "run")
    told = {"data": {}, "model": {}, "training": {}}
    run.write_config(told)
    assert load_canaries(run) == []
    run.write_config({**told, "audit": {"canaries": 1}})
    with pytest.raises(CheckpointError, match="expected the canaries that the run planted, found none"):
        load_canaries(run)
    planted = build_canaries(FEW, 5)
    save_canaries(run, planted)
    assert load_canaries(Run(tmp_path / "run")) == planted
    run.canaries_file.write_text(json.dumps({"canaries": [{"text": "a"}]}))
    with pytest.raises(CheckpointError, match="expected the canaries that the run planted"):
        load_canaries(run)


def test_repeats_are_checked():
    for repeats in ([], [4, 4], [0]):
        with pytest.raises(ConfigError, match=r"audit\.repeats"):
            CanaryConfig(canaries=1, repeats=repeats)


def test_what_canaries_do_not_go_with_is_refused(lmtune):
    answer = lmtune("train", "audit.canaries=1", "data.streaming=true", "training.max_steps=4")
    assert answer.code == 2
    assert "audit.canaries and data.streaming=true do not go together" in answer.err
    answer = lmtune("train", "audit.repeats=[4]")
    assert answer.code == 2
    assert "audit.repeats has no effect: no canaries are planted" in answer.err
