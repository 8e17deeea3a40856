"""The engine: each text is the one that model.generate writes with the same settings, whatever is written beside it."""

import functools
import queue
import threading
import time

import hypothesis
import pytest
import torch
from hypothesis import strategies as st

from lmtune.errors import ConfigError
from lmtune.modeling.generation import build_generation_config, check_scores, explaining_settings
from lmtune.serving.cache import ROOM
from lmtune.serving.chooser import CountPenalties
from lmtune.serving.decoder import open_decoder
from lmtune.serving.engine import Engine, Limits, QueueFullError, StoppingError
from lmtune.serving.job import Job
from lmtune.serving.output import Piece
from lmtune.serving.plain import PlainLane
from lmtune.serving.turns import Turns

PROMPTS = ([5, 9, 31, 17], [44], [7] * 20, [3, 1, 4, 1, 5, 9, 2, 6], [250, 90], [12, 13, 14])
SETTINGS = [
    {},
    {"do_sample": True, "temperature": 0.8, "top_k": 20},
    {"repetition_penalty": 1.5},
    {"do_sample": True, "top_p": 0.7, "top_k": 0, "typical_p": 0.9},
    {"no_repeat_ngram_size": 2, "bad_words_ids": [[7], [3, 4]], "min_new_tokens": 6},
    {"do_sample": True, "min_p": 0.05, "epsilon_cutoff": 0.01, "eta_cutoff": 0.01},
    {"do_sample": True, "top_h": 0.5, "renormalize_logits": True},
    {"sequence_bias": [[[11], 3.0]], "suppress_tokens": [1, 2], "begin_suppress_tokens": [9]},
    {"exponential_decay_length_penalty": [3, 1.5], "forced_eos_token_id": 0, "eos_token_id": [0, 3]},
    {"encoder_repetition_penalty": 2.0, "encoder_no_repeat_ngram_size": 2, "remove_invalid_values": True},
]
ALONE = [
    {"num_beams": 3},
    {"num_beams": 2, "num_return_sequences": 2, "length_penalty": 0.5, "early_stopping": True},
    {"do_sample": True, "num_return_sequences": 3},
    {"guidance_scale": 1.5},
    {"prompt_lookup_num_tokens": 2},
]


@pytest.fixture
def open_engine():
    """A function from a model to its engine; all are closed at the end."""
    turns = Turns()
    lane = PlainLane(turns)
    engines = []

    def build(model, slots=4, waiting=64, together=True):
        decoder = open_decoder(model) if together else None
        engines.append(Engine(model, decoder, Limits(slots, waiting), turns, lane))
        return engines[-1]

    yield build
    for engine in engines:
        engine.close()
    lane.close()


class Reader:
    """Takes what comes of a job."""

    def __init__(self):
        self.events = queue.Queue()

    def read(self, texts=1):
        """Text by index; raises what the engine sends."""
        found, left = {}, texts
        while left:
            event = self.events.get(timeout=60)
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Piece):
                found[event.index] = found.get(event.index, "") + event.text
                left -= event.finish is not None
        return [found[index] for index in sorted(found)]


def build_job(model, tokenizer, ids, settings, new=12, seed=7, **given):
    reader = Reader()
    config = build_generation_config(model, {"max_new_tokens": new, "do_sample": False, **settings})
    job = Job(
        index=0,
        ids=list(ids),
        config=config,
        new_tokens=new,
        seed=seed,
        send=reader.events.put,
        tokenizer=tokenizer,
        **given,
    )
    return job, reader


def generate(model, tokenizer, ids, settings, new=12, seed=7, **given):
    """Texts by model.generate itself."""
    config = build_generation_config(model, {"max_new_tokens": new, "do_sample": False, **settings})
    torch.manual_seed(seed)
    rows = torch.tensor([list(ids)])
    given.setdefault("logits_processor", []).append(functools.partial(check_scores, model))
    found = model.generate(rows, attention_mask=torch.ones_like(rows), generation_config=config, **given)
    return [tokenizer.decode(row[len(ids) :], skip_special_tokens=True) for row in found]


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2", "gpt_neox"])
def test_texts_written_side_by_side_are_those_of_generate(open_engine, build_tiny, tokenizer, kind):
    model = build_tiny(kind)
    engine = open_engine(model)
    jobs = [
        build_job(model, tokenizer, ids, settings, new=8 + place % 5, seed=place)
        for place, (ids, settings) in enumerate(zip(PROMPTS * 2, SETTINGS, strict=False))
    ]
    for job, _ in jobs:
        engine.submit([job])
        time.sleep(0.003)  # they join while others run
    texts = [reader.read() for _, reader in jobs]  # before generate draws from the random numbers of the process
    for place, (job, _) in enumerate(jobs):
        settings = SETTINGS[place]
        assert texts[place] == generate(model, tokenizer, job.ids, settings, 8 + place % 5, place), settings


@pytest.mark.parametrize("settings", [*ALONE, *SETTINGS[:4]])
def test_texts_written_alone_are_those_of_generate(open_engine, build_tiny, tokenizer, settings):
    model = build_tiny()
    engine = open_engine(model, together=settings in ALONE)
    job, reader = build_job(model, tokenizer, PROMPTS[0], settings)
    beside, other = build_job(model, tokenizer, PROMPTS[1], {"do_sample": True}, new=30)
    engine.submit([job, beside])
    texts, beside_it = (
        reader.read(job.sequences),
        other.read(),
    )  # before generate draws from the random numbers of the process
    assert texts == generate(model, tokenizer, PROMPTS[0], settings)
    assert beside_it == generate(model, tokenizer, PROMPTS[1], {"do_sample": True}, new=30)


DRAWN = {
    "temperature": st.floats(0.2, 3.0),
    "top_k": st.integers(0, 400),
    "top_p": st.floats(0.05, 1.0),
    "min_p": st.floats(0.0, 0.9),
    "typical_p": st.floats(0.05, 1.0),
    "top_h": st.floats(0.05, 1.0),
    "epsilon_cutoff": st.floats(0.0, 0.1),
    "eta_cutoff": st.floats(0.0, 0.1),
}
ANY = {
    "repetition_penalty": st.floats(0.5, 3.0),
    "no_repeat_ngram_size": st.integers(0, 4),
    "encoder_repetition_penalty": st.floats(0.5, 2.0),
    "min_new_tokens": st.integers(0, 6),
    "min_length": st.integers(0, 12),
    "suppress_tokens": st.lists(st.integers(0, 319), min_size=1, max_size=5),
    "bad_words_ids": st.lists(st.lists(st.integers(1, 319), min_size=1, max_size=3), min_size=1, max_size=3),
    "forced_eos_token_id": st.integers(0, 319),
    "eos_token_id": st.integers(0, 319) | st.lists(st.integers(0, 319), min_size=1, max_size=3),
    "exponential_decay_length_penalty": st.tuples(st.integers(0, 6), st.floats(0.5, 2.0)).map(list),
    "renormalize_logits": st.booleans(),
    "remove_invalid_values": st.booleans(),
}
REQUESTS = st.tuples(
    st.lists(st.integers(0, 319), min_size=1, max_size=30),
    st.fixed_dictionaries({}, optional=ANY)
    | st.fixed_dictionaries({"do_sample": st.just(True)}, optional={**DRAWN, **ANY}),
    st.integers(0, 2**40),
)


@hypothesis.settings(
    max_examples=12, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), derandomize=True
)
@hypothesis.given(st.lists(REQUESTS, min_size=1, max_size=6))
def test_any_settings_side_by_side_are_those_of_generate(open_engine, build_tiny, tokenizer, requests):
    model = build_tiny()
    engine = open_engine(model)
    readers = []
    for ids, given, seed in requests:
        try:
            job, reader = build_job(model, tokenizer, ids, given, seed=seed)
        except ConfigError:  # settings that contradict each other
            continue
        engine.submit([job])
        readers.append((reader, ids, given, seed))
    for reader, ids, given, seed in readers:
        assert outcome(reader.read) == outcome(lambda: generate(model, tokenizer, ids, given, seed=seed))  # noqa: B023
    engine.close()


def outcome(read):
    """What comes back, or that it is refused: settings can leave nothing to draw from."""
    try:
        with explaining_settings():
            return read()
    except ConfigError:
        return "refused"


def test_a_long_text_outgrows_the_room_of_the_cache(open_engine, build_tiny, tokenizer):
    model = build_tiny(n_positions=256)
    engine = open_engine(model)
    readers = []
    for ids in PROMPTS[:3]:
        job, reader = build_job(model, tokenizer, ids, {"eos_token_id": 319}, new=2 * ROOM + 9)
        engine.submit([job])
        readers.append(reader)
    for ids, reader in zip(PROMPTS, readers, strict=False):
        assert reader.read() == generate(model, tokenizer, ids, {"eos_token_id": 319}, 2 * ROOM + 9)


def test_penalties_count_what_was_written(open_engine, build_tiny, tokenizer):
    model = build_tiny()
    job, reader = build_job(model, tokenizer, PROMPTS[0], {}, penalties=(0.3, 0.5))
    open_engine(model).submit([job])
    own = CountPenalties(0.3, 0.5, len(PROMPTS[0]))
    assert reader.read() == generate(model, tokenizer, PROMPTS[0], {}, logits_processor=[own])
    ids = torch.tensor([[5, 5, 2, 2, 3]])
    assert CountPenalties(1.0, 0.5, 2)(ids, torch.zeros(1, 6)).tolist() == [[0, 0, -2.0, -1.5, 0, 0]]


def test_what_goes_wrong_with_one_text_ends_that_one_alone(open_engine, build_tiny, tokenizer):
    model = build_tiny()
    engine = open_engine(model)
    good, reader = build_job(model, tokenizer, PROMPTS[0], {})
    bad, broken = build_job(model, tokenizer, PROMPTS[1], {"do_sample": True})
    bad.config.top_k = -5
    engine.submit([good, bad])
    with pytest.raises(Exception, match="top_k"):
        broken.read()
    assert reader.read() == generate(model, tokenizer, PROMPTS[0], {})


def test_weights_that_are_no_numbers_fail_and_the_engine_goes_on(open_engine, build_tiny, tokenizer):
    model = build_tiny()
    with torch.no_grad():
        model.transformer.wpe.weight[20] = torch.nan
    engine = open_engine(model)
    job, reader = build_job(model, tokenizer, PROMPTS[0], {"eos_token_id": 319}, new=40)
    short, other = build_job(model, tokenizer, PROMPTS[1], {}, new=5)
    engine.submit([job, short])
    with pytest.raises(Exception, match="no finite numbers"):
        reader.read()
    assert len(other.read()) == 1
    again, last = build_job(model, tokenizer, PROMPTS[1], {}, new=5)
    engine.submit([again])
    assert last.read() == generate(model, tokenizer, PROMPTS[1], {}, new=5)


def test_a_cancelled_text_frees_its_slot(open_engine, build_tiny, tokenizer):
    model = build_tiny(n_positions=4096)
    engine = open_engine(model, slots=1)
    long, _ = build_job(model, tokenizer, PROMPTS[0], {"eos_token_id": 319}, new=4000)
    short, reader = build_job(model, tokenizer, PROMPTS[1], {}, new=2)
    engine.submit([long, short])
    long.cancelled = True
    assert reader.read() == generate(model, tokenizer, PROMPTS[1], {}, new=2)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}])
def test_a_text_ends_when_its_time_is_up(open_engine, build_tiny, tokenizer, settings):
    model = build_tiny(n_positions=4096)
    job, reader = build_job(
        model, tokenizer, PROMPTS[0], {"eos_token_id": 319, **settings}, new=4000, deadline=time.monotonic() + 0.2
    )
    open_engine(model).submit([job])
    reader.read()
    assert 0 < job.outputs[0].count < 4000


def test_the_queue_has_an_end(open_engine, build_tiny, tokenizer):
    model = build_tiny(n_positions=4096)
    engine = open_engine(model, slots=1, waiting=2)
    jobs = [build_job(model, tokenizer, PROMPTS[0], {"eos_token_id": 319}, new=4000)[0] for _ in range(4)]
    engine.submit(jobs[:3])
    with pytest.raises(QueueFullError):
        engine.submit(jobs[3:])
    engine.stop_taking()
    with pytest.raises(StoppingError):
        engine.submit(jobs[3:])
    for job in jobs:
        job.cancelled = True


def test_logprobs_are_those_of_the_model(open_engine, build_tiny, tokenizer):
    model = build_tiny()
    settings = {"do_sample": True, "temperature": 3.0, "top_k": 3}
    job, reader = build_job(model, tokenizer, PROMPTS[0], settings, new=4, top=2, scores_prompt=True)
    open_engine(model).submit([job])
    events = []
    while not events or not getattr(events[-1], "finish", None):
        events.append(reader.events.get(timeout=60))
    prompt, *pieces = events
    tokens = [token for piece in pieces for token in piece.tokens]
    ids = torch.tensor([PROMPTS[0]])
    true = model(input_ids=ids).logits[0].log_softmax(-1).detach()
    assert prompt.tokens[0].logprob is None
    expected = [float(true[place, token]) for place, token in enumerate(PROMPTS[0][1:])]
    assert [token.logprob for token in prompt.tokens[1:]] == pytest.approx(expected, abs=1e-5)
    assert [value for _, value in tokens[0].top] == pytest.approx(true[-1].topk(2).values.tolist(), abs=1e-5)
    assert [len(token.top) for token in tokens] == [2] * len(tokens)


def test_a_model_that_remembers_otherwise_has_no_decoder(build_tiny):
    from transformers import AutoModelForCausalLM, MambaConfig

    small = MambaConfig(vocab_size=320, hidden_size=16, num_hidden_layers=1, state_size=4)
    assert open_decoder(AutoModelForCausalLM.from_config(small).eval()) is None
    assert open_decoder(build_tiny("qwen2")) is not None


def test_turns_are_taken_in_order():
    turns, seen = Turns(), []

    def work(name):
        for _ in range(3):
            with turns:
                seen.append(name)
                time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    with turns:
        for thread in threads:
            thread.start()
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert seen == list("ababab")


@pytest.mark.parametrize("fault", ["positions", "mask"])
def test_a_model_whose_rows_disturb_each_other_is_found_out(build_tiny, monkeypatch, fault):
    model = build_tiny("llama")
    forward = model.forward

    def wrong(*given, attention_mask=None, position_ids=None, **rest):
        mask = None if fault == "mask" else attention_mask
        places = None if fault == "positions" else position_ids
        return forward(*given, attention_mask=mask, position_ids=places, **rest)

    monkeypatch.setattr(model, "forward", functools.wraps(forward)(wrong))
    assert open_decoder(model) is None


def test_what_a_token_takes_is_known(build_tiny):
    assert open_decoder(build_tiny()).values_of_token == 2 * 2 * 32
    assert open_decoder(build_tiny("llama")).values_of_token == 2 * 2 * 16, "one of two heads for keys and values"
