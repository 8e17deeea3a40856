"""lmtune audit: counts with intervals, what comes back and what does not, nothing shown that is not to be shown."""

import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lmtune.commands.audit import find_start
from lmtune.config import AuditCommandConfig, AuditConfig, CanaryConfig, DataConfig, EvalSplit
from lmtune.data import identifiers
from lmtune.data.build import build_corpus
from lmtune.data.canaries import build_canaries
from lmtune.data.columns import build_texts
from lmtune.data.identifiers import HIDDEN, gives_away, mask, mask_value
from lmtune.data.premise import resolve_change
from lmtune.data.prepare import EncodedCorpus
from lmtune.errors import CheckpointError, ConfigError, ModelError
from lmtune.evaluation.audit.canaries import draw_texts, measure_canaries
from lmtune.evaluation.audit.identifiers import Place, build_prompts, build_row, list_drawn_out, search
from lmtune.evaluation.audit.material import resolve_lengths
from lmtune.evaluation.audit.passages import Asked, Outcomes, compare_sides, draw_passages
from lmtune.evaluation.audit.rows import Row, RowScores, score_rows
from lmtune.evaluation.audit.shares import Exposure, Share, bound_share, comes_back, compare_shares, rank_among
from lmtune.reporting.audit_page import render_audit_page
from lmtune.reporting.audit_tables import render_audit
from lmtune.reporting.language import EN, PT
from lmtune.vocabulary import decode_plain, encode_plain

CPF = "529.982.247-25"
MAIL = "ana.lima@example.org"


def test_it_is_said_how_to_audit_without_the_weights_that_a_run_began_with(tmp_path):
    recorded = {"model": {"path": str(tmp_path / "gone"), "init": "pretrained"}}
    with pytest.raises(ModelError, match=r"gone: expected .* began with: audit\.base=false\.$"):
        find_start(AuditCommandConfig(ckpt="run"), recorded)
    without = AuditCommandConfig(ckpt="run", audit=AuditConfig(base=False))
    assert find_start(without, recorded) is None


def test_an_interval_is_wilsons():
    """10 of 100: 0.0552 to 0.1744, as published for Wilson's score interval without continuity correction."""
    assert bound_share(10, 100) == pytest.approx((0.0552, 0.1744), abs=5e-5)
    assert bound_share(0, 20)[0] == 0.0
    assert bound_share(20, 20)[1] == 1.0
    assert bound_share(0, 0) == (0.0, 1.0)
    assert Share(0, 0).as_dict()["share"] is None


def test_the_interval_of_a_difference_is_newcombes():
    """56 of 70 less 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, table II, method 10)."""
    found = compare_shares(Share(56, 70), Share(48, 80))
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert compare_shares(Share(1, 2), Share(0, 0)) is None


def test_exposure_is_the_rank_in_bits():
    first, middle, last = rank_among(np.array([0.5, 4.5, 99.0]), np.arange(1.0, 8.0))
    assert (first.p, first.bits) == (1 / 8, 3.0)
    assert (middle.better, middle.bits) == (4, -math.log2(5 / 8))
    assert (last.p, last.bits) == (1.0, 0.0)
    low, high = middle.bound()
    assert 0 <= low < middle.bits < high
    assert first.bound()[1] is None, "nothing tells how far out it is"


def test_texts_that_were_never_planted_are_found_as_often_as_is_allowed():
    draw = np.random.default_rng(0)
    others, never = draw.normal(size=999), draw.normal(size=20_000)
    share = np.mean([each.p <= 0.05 for each in rank_among(never, others)])
    assert share == pytest.approx(0.05, abs=0.02)


def test_a_text_comes_back_where_half_of_all_series_meet_it():
    once_in_a_hundred = -math.log(0.01)
    assert comes_back(np.array([once_in_a_hundred, 0.0, 800.0]), tries=69).tolist() == [True, True, False]
    assert not comes_back(np.array([once_in_a_hundred]), tries=68)[0]


def test_fewer_candidates_than_the_rate_of_false_alarms_can_tell_are_refused():
    AuditConfig(candidates=99, false_alarms=0.01)
    with pytest.raises(ConfigError, match=r"audit\.candidates=98: expected 99 or more"):
        AuditConfig(candidates=98, false_alarms=0.01)


def test_canaries_are_measured_by_their_repeats():
    texts = draw_texts(
        build_canaries(CanaryConfig(canaries=2, repeats=[1, 16]), 0), AuditConfig(candidates=99, controls=20)
    )
    nll = np.concatenate([[50.0, 60.0, 1.0, 2.0], np.arange(99.0) + 10, np.full(20, 70.5)])
    found = measure_canaries(texts, RowScores(nll, nll < 0), false_alarms=0.01)
    once, often = found["groups"]
    assert (once["repeats"], once["found"]["count"], often["repeats"], often["found"]["count"]) == (1, 0, 16, 2)
    assert often["exposure"] == pytest.approx(math.log2(100))
    assert once["low"] <= once["exposure"] <= once["high"]
    assert (found["false_alarms"]["count"], found["false_alarms"]["of"]) == (0, 20)
    assert [each["found"] for each in found["canaries"]] == [False, False, True, True]


def test_what_is_ranked_first_at_every_place_is_what_generate_writes(build_tiny, tokenizer):
    import torch

    model = build_tiny()
    prefix = encode_plain(tokenizer, ["O paciente"])[0]
    written = model.generate(
        torch.tensor([prefix]), max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0].tolist()
    other = [*written[:-1], (written[-1] + 1) % 300]
    rows = [Row(written, len(prefix)), Row(other, len(prefix)), Row(prefix, 1)]
    found = score_rows(model, rows, batch_size=2)
    assert found.greedy.tolist()[:2] == [True, False]
    with torch.no_grad():
        logits = model(torch.tensor([prefix])).logits[0].log_softmax(-1)
    expected = -sum(float(logits[place, token]) for place, token in enumerate(prefix[1:]))
    assert found.nll[2] == pytest.approx(expected, rel=1e-5)
    again = score_rows(model, rows[::-1], batch_size=3)
    assert again.nll[::-1] == pytest.approx(found.nll, rel=1e-6), "a row is scored by itself, whatever is beside it"


@pytest.fixture
def data(tmp_path, texts):
    file = tmp_path / "text.txt"
    file.write_text("\n".join(text.replace("\n", " ") for text in texts), encoding="utf-8")
    return DataConfig(files=str(file), documents="line", validation_fraction=0.2)


@pytest.mark.parametrize("packing", [True, False])
def test_passages_are_whole_of_one_side_and_of_one_document(data, tokenizer, packing):
    corpus = build_corpus(replace(data, packing=packing))
    prepared = EncodedCorpus(corpus, tokenizer).prepare(32)
    config = AuditConfig(passages=12, prefix=8, continuation=7)
    sides = draw_passages(prepared.blocks, prepared.held_out["validation"], tokenizer, config)
    again = draw_passages(prepared.blocks, prepared.held_out["validation"], tokenizer, config)
    assert sides == again, "drawn from a seed"
    for split, rows in zip(("train", "validation"), sides, strict=True):
        joined = "\n".join(corpus.texts(split))
        assert 0 < len(rows) <= 12
        assert len({tuple(row.ids) for row in rows}) == len(rows)
        for row in rows:
            assert (len(row.ids), row.known) == (15, 8)
            text = decode_plain(tokenizer, row.ids).strip("\N{REPLACEMENT CHARACTER}")
            assert text in joined


def test_what_was_known_before_is_not_counted_as_added():
    def outcomes(*greedy):
        return Outcomes(np.array(greedy), np.zeros(len(greedy), bool))

    training = Asked(outcomes(True, True, True, False), outcomes(True, False, False, False))
    held_out = Asked(outcomes(True, False, False, False), outcomes(True, False, False, False))
    found = compare_sides(training, held_out)
    assert found["sides"]["training"]["model"]["either"]["count"] == 3
    assert found["sides"]["training"]["added"]["count"] == 2
    assert found["sides"]["held_out"]["added"]["count"] == 0
    assert found["memorised"]["difference"] == 0.5
    alone = compare_sides(Asked(training.model, None), Asked(held_out.model, None))
    assert alone["sides"]["training"]["added"]["count"] == 3
    assert "base" not in alone["sides"]["training"]


@pytest.mark.parametrize(
    ("prompt", "given"),
    [
        ("O CPF 529982247-25 de novo: ", True),
        ("os algarismos 982.247-2: ", True),
        ("os algarismos 529 e 25: ", False),
        ("", False),
    ],
)
def test_a_prompt_that_holds_half_of_an_identifier_gives_it_away(prompt, given):
    assert gives_away(prompt, CPF) is given


def test_masks_leave_the_form_and_nothing_else(monkeypatch):
    assert mask_value(CPF) == CPF.translate({ord(digit): HIDDEN for digit in "0123456789"})
    monkeypatch.setattr(identifiers, "list_absent", lambda: ["tarja"])  # as without the extra
    hidden = mask(f"Ana Lima, CPF {CPF}, {MAIL}, 12 de maio")
    assert not re.search(r"\d|@e|ana\.", hidden)
    assert hidden.startswith("Ana Lima, CPF ")


def test_a_prompt_ends_where_the_identifier_begins(tokenizer):
    before = "O paciente João chegou no hospital com o CPF "
    row = build_row(Place("CPF", CPF, before, True, ""), tokenizer, prefix=200)
    assert row.ids[0] == tokenizer.eos_token_id, "the document begins here"
    text = [decode_plain(tokenizer, part) for part in (row.ids[1 : row.known], row.ids[row.known :])]
    assert (text[0] + text[1], text[1].strip()) == (before + CPF, CPF)
    short = build_row(Place("CPF", CPF, before, True, ""), tokenizer, prefix=3)
    assert short.known == 3
    assert decode_plain(tokenizer, short.ids[3:]).strip() == CPF
    bare = build_row(Place("CPF", CPF, "", True, ""), tokenizer, prefix=3)
    assert (bare.ids[0], bare.known) == (tokenizer.eos_token_id, 1)


@pytest.fixture
def detector():
    pytest.importorskip("tarja")
    pytest.importorskip("stdnum")


@pytest.mark.usefixtures("detector")
def test_identifiers_are_known_by_their_check_digits():
    told = f"CPF {CPF}, CPF 529.982.247-24, NIF 123456789, NIF 123456780, IBAN PT50 0002 0123 1234 5678 9015 4, {MAIL}"
    found = [(each.kind, told[each.start : each.end]) for each in identifiers.find_identifiers(told)]
    assert found == [
        ("CPF", CPF),
        ("NIF", "123456789"),
        ("IBAN", "PT50 0002 0123 1234 5678 9015 4"),
        ("e-mail", MAIL),
    ]


@pytest.mark.usefixtures("detector")
def test_each_identifier_is_asked_for_once_and_never_shown(tokenizer):
    texts = [f"O paciente tem o CPF {CPF} hoje.", f"CPF 52998224725, depois {CPF}.", f"Escreva a {MAIL}."]
    found = search([build_texts(texts)], prefix=8, seed=0, most_bytes=0)
    assert sorted(found.times.values()) == [1, 3], "one identifier written in two ways is one"
    assert found.bytes == sum(len(text) for text in texts)
    prompts = build_prompts(found, tokenizer, AuditConfig(prefix=8))
    assert (prompts.different, prompts.given_away, prompts.kinds) == (2, 0, {"CPF": 1, "e-mail": 1})
    outcomes = Outcomes(np.array([True, False]), np.array([True, False]))
    (drawn_out,) = list_drawn_out(prompts, Asked(outcomes, None))
    assert (drawn_out["kind"], drawn_out["times"], drawn_out["added"]) == ("CPF", 3, True)
    assert not re.search(r"\d", drawn_out["masked"])
    without = search([build_texts(texts)], prefix=8, seed=0, most_bytes=0, without=found.places)
    assert without.places == {}
    assert search([build_texts(texts)], prefix=8, seed=0, most_bytes=1).bytes == len(texts[0]), "whole documents"


RUN = (
    "train", "model.config.n_layer=1", "model.config.n_embd=32", "model.config.n_head=2", "training.use_cpu=true",
    "training.max_steps=2", "audit.canaries=1", "audit.repeats=[2]", "samples.enabled=false", "output=run",
)  # fmt: skip
SMALL = ("audit.candidates=99", "audit.controls=20", "audit.passages=20", "audit.prefix=10", "audit.continuation=5")


@pytest.mark.parametrize(
    ("typed", "block_size", "lengths"),
    [
        ({}, 100, (50, 50)),
        ({}, 64, (32, 32)),
        ({}, 99, (49, 50)),
        ({"prefix": 20}, 64, (20, 44)),
        ({"prefix": 10}, 64, (10, 50)),
        ({"continuation": 40}, 64, (24, 40)),
        ({"prefix": 2, "continuation": 62}, 64, (2, 62)),
    ],
)
def test_passages_fit_into_the_rows_of_the_run(typed, block_size, lengths):
    config = resolve_lengths(AuditConfig(**typed), block_size)
    assert (config.given, config.asked) == lengths


@pytest.mark.parametrize(
    ("typed", "block_size"),
    [({}, 31), ({"prefix": 49}, 64), ({"continuation": 64}, 64), ({"prefix": 40, "continuation": 40}, 64)],
)
def test_passages_that_no_row_holds_are_refused_with_lengths_that_fit(typed, block_size):
    half = block_size // 2
    with pytest.raises(
        ConfigError, match=rf"at most {block_size}, .*prefix={half} audit.continuation={block_size - half}\."
    ):
        resolve_lengths(AuditConfig(**typed), block_size)


def test_a_run_is_audited_and_private_text_is_not_shown(lmtune, tmp_path):
    assert lmtune(*RUN).code == 0
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert ledger["documents_planted"] == 2
    assert len(json.loads((tmp_path / "run" / "canaries.json").read_text())["canaries"]) == 1
    answer = lmtune("audit", "ckpt=run", *SMALL, "output=found", "format=json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["canaries"]["groups"][0]["found"]["of"] == 1
    assert found["passages"]["sides"]["training"]["model"]["either"]["of"] == 20
    assert found["base"] is None, "the weights were drawn at random"
    assert {**json.loads((tmp_path / "found" / "audit.json").read_text()), "folder": found["folder"]} == found
    page = (tmp_path / "found" / "audit.html").read_text()
    assert EN.say("audit_limits") in page

    found["passages"]["shown"] = [{"prefix": "antes", "continuation": "depois"}]
    assert "depois" in render_audit_page(found, EN)
    assert "O que isto não mostra" in render_audit_page(found, PT)
    assert any("never" in line for line in render_audit(found, tmp_path / "audit.html"))

    (tmp_path / "run" / "ledger.json").write_text(json.dumps({**ledger, "block_size": 64}))
    short = lmtune("audit", "ckpt=run", *SMALL[:3], "format=json")
    assert (short.json["passages"]["prefix"], short.json["passages"]["continuation"]) == (32, 32)
    assert "rows of the run have 64 tokens: passages have 32 that the model is given and 32 that have to" in short.err
    (tmp_path / "run" / "ledger.json").write_text(json.dumps({**ledger, "block_size": 12}))
    refused = lmtune("audit", "ckpt=run", *SMALL)
    assert refused.code == 2
    assert "audit.prefix + audit.continuation = 15: expected at most 12" in refused.err
    (tmp_path / "run" / "ledger.json").unlink()
    refused = lmtune("audit", "ckpt=run", *SMALL)
    assert refused.code == 2
    assert "expected the ledger of the run, with the tokens of its rows, found none" in refused.err
    refused = lmtune("audit", "ckpt=run/model", "audit.candidates=0", "audit.passages=0", "audit.identifiers=0")
    assert "one of them above 0" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "lmtune audit needs ckpt=, found none"),
        (("ckpt=x", "audit.passages=0", "audit.continuation=5"), "audit.continuation has no effect: audit.passages=0"),
        (("ckpt=x", "audit.candidates=0", "audit.controls=50"), "audit.controls has no effect: audit.candidates=0"),
        (("ckpt=x", "private=true", "audit.show=2"), "audit.show has no effect: private=true shows no text"),
        (("ckpt=x", "audit.false_alarms=0"), "audit.false_alarms=0.0: expected more than 0 and below 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(lmtune, arguments, said):
    answer = lmtune("audit", *arguments)
    assert answer.code == 2
    assert said in answer.err


def test_the_remedies_for_a_changed_text_are_those_that_the_command_has():
    run = SimpleNamespace(folder="run", find_results=lambda: {"text": {"corpus": "before"}})
    corpus = SimpleNamespace(key="now")
    with pytest.raises(
        CheckpointError, match=r"as it was, score other text with data\.files=, or say changed_text=true"
    ):
        resolve_change(run, corpus, EvalSplit.train, None, accepted=False)
    with pytest.raises(CheckpointError, match=r"as it was, or say changed_text=true"):
        resolve_change(run, corpus, EvalSplit.train, None, accepted=False, elsewhere="")


def test_exposures_of_a_rank_are_bounded():
    assert Exposure(0, 999).bits == pytest.approx(math.log2(1000))
