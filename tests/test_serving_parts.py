"""What an answer is made of: parameters, text that comes in pieces, stop strings, tokens, names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pydantic")
from lmtune import upstream
from lmtune.config import ServeSettings
from lmtune.errors import ConfigError
from lmtune.modeling.checkpoint import Checkpoint
from lmtune.serving.access import VARIABLE, resolve_access
from lmtune.serving.body import parse_object
from lmtune.serving.completion_request import PARAMETERS, parse_request
from lmtune.serving.faults import FaultError
from lmtune.serving.names import name_token
from lmtune.serving.output import Output, StopSearch, TextStream, Token
from lmtune.serving.parameters import GENERATION, REFUSED, check_parameters
from lmtune.serving.runs import KEYWORDS, parse_run

BESIDES = {"custom_generate", "trust_remote_code"}
NEWER = {"assistant_ensemble_weight", "max_cache_len", "speculation_type", "use_mtp"}
"""Fields that transformers 5.10 does not have yet."""
"""Arguments of generate that are no fields of GenerationConfig."""


def test_every_field_of_a_generation_config_is_taken_or_refused_with_a_reason():
    fields, known = upstream.load_generation_fields(), GENERATION.keys() | REFUSED.keys()
    assert fields | BESIDES <= known
    assert known - fields - BESIDES <= NEWER
    assert not GENERATION.keys() & REFUSED.keys()


@pytest.mark.parametrize("name", sorted({*PARAMETERS, *KEYWORDS}))
@pytest.mark.parametrize(
    "value", [{"a": 1}, [None], ["a", 1], float("nan"), float("inf"), -(10**40), [[[[]]]], "\0" * 500]
)
def test_no_parameter_takes_just_anything(name, value):
    table = {**KEYWORDS, **PARAMETERS}
    if value == "\0" * 500 and name in ("prompt", "model", "user", "suffix"):
        return
    with pytest.raises(FaultError, match=f"^FaultError|{name}"):
        check_parameters({name: value}, table)


def test_null_stands_for_a_parameter_that_is_left_out():
    asked = parse_request(dict.fromkeys(PARAMETERS))
    assert (asked.text.new_tokens, asked.text.prompts, asked.text.settings) == (
        16,
        [""],
        {"do_sample": True, "top_k": 0},
    )


def test_what_openai_calls_otherwise():
    asked = parse_request(
        {"max_tokens": 3, "stop": "x", "logit_bias": {"5": -100}, "temperature": 0, "n": 2, "prompt": ["a", "b"]}
    )
    assert (asked.text.new_tokens, asked.text.stops, asked.text.copies, asked.text.texts) == (3, ["x"], 2, 4)
    assert asked.text.settings == {"do_sample": False, "sequence_bias": [[[5], -100.0]]}
    run = parse_run({"pipeline_id": "p", "data": ["a", {"response_length": 5, "remove_input": True, "num_beams": 2}]})
    assert (run.text.new_tokens, run.keeps_prompt, run.text.settings) == (5, False, {"num_beams": 2})


def test_a_wrong_name_is_met_with_the_right_one():
    with pytest.raises(FaultError) as caught:
        parse_request({"temperatur": 1})
    assert caught.value.message == "temperatur is not a parameter. Did you mean temperature?"


@given(st.text("abc", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_text_is_cut_at_the_first_stop_string_however_it_comes(text, stops, data):
    search, shown, rest = StopSearch(stops), "", text
    while rest and not search.met:
        size = data.draw(st.integers(1, len(rest)))
        shown += search.push(rest[:size])
        rest = rest[size:]
    shown += "" if search.met else search.flush()
    places = [text.find(stop) for stop in stops if stop in text]
    ends = min(places, default=len(text))
    assert shown == text[:ends] or (search.met and text.startswith(shown) and len(shown) >= ends)
    assert search.met == bool(places)


@given(st.text(max_size=30) | st.text("🙂çã日本 a", max_size=30), st.text(max_size=5))
def test_text_in_pieces_is_the_text_as_a_whole(tokenizer, text, before):
    stream = TextStream(tokenizer, tokenizer(before)["input_ids"])
    ids = tokenizer(text, split_special_tokens=True)["input_ids"]
    pieces = [stream.push(index) for index in ids]
    assert "".join(pieces) + stream.flush() == text
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_ids_that_are_no_text_come_at_the_end(tokenizer):
    ids = tokenizer("🙂")["input_ids"][:-1]
    stream = TextStream(tokenizer, [])
    assert [stream.push(index) for index in ids] == [""] * len(ids)
    assert stream.flush() == tokenizer.decode(ids)


def test_log_probabilities_come_with_the_text_they_are_of(tokenizer):
    ids = tokenizer("O paciente voltou para")["input_ids"]
    output = Output(index=0, stream=TextStream(tokenizer, []), stops=StopSearch(["vol"]), ends=frozenset([0]), most=99)
    pieces = []
    while not output.finish:
        index = ids.pop(0)
        pieces.append(output.take(index, Token(tokenizer.decode([index]), -1.0, ())))
    shown = "".join(piece.text for piece in pieces if piece)
    tokens = "".join(token.text for piece in pieces if piece for token in piece.tokens)
    assert (shown, output.finish) == ("O paciente ", "stop")
    assert tokens.startswith(shown)
    assert "vol" not in tokens.removeprefix(shown)[:-1]


def test_a_token_begins_where_the_text_before_it_ends(tokenizer):
    """Parts of a character all begin where it does."""
    text = "é 🙂!"
    ids = tokenizer(text)["input_ids"]
    output = Output(index=0, stream=TextStream(tokenizer, []), stops=StopSearch([]), ends=frozenset(), most=len(ids))
    pieces = [output.take(index, Token(name_token(tokenizer, index), -1.0, ())) for index in ids]
    tokens = [token for piece in pieces if piece for token in piece.tokens]
    ends = [len(tokenizer.decode(ids[:count]).rstrip("\ufffd")) for count in range(len(ids))]
    assert [token.begin for token in tokens] == ends
    assert b"".join(read_name(token.text) for token in tokens).decode() == text


def test_a_token_behind_bytes_that_come_to_nothing_begins_after_what_is_shown_for_them(tokenizer):
    ids = [tokenizer("🙂")["input_ids"][0], *tokenizer("b")["input_ids"]]
    output = Output(index=0, stream=TextStream(tokenizer, []), stops=StopSearch([]), ends=frozenset(), most=2)
    output.take(ids[0], Token(name_token(tokenizer, ids[0]), -1.0, ()))
    piece = output.take(ids[1], Token("b", -1.0, ()))
    assert (piece.text, [token.begin for token in piece.tokens]) == ("\ufffdb", [0, 1])


def read_name(name):
    return bytes.fromhex(name[6:].replace("\\x", "")) if name.startswith("bytes:") else name.encode()


def test_parts_of_characters_have_names_of_their_own(tokenizer):
    names = [name_token(tokenizer, index) for index in range(len(tokenizer))]
    assert len(set(names)) == len(names)
    assert {read_name(name) for name in names} >= {bytes([value]) for value in range(256)}


@pytest.mark.parametrize(
    ("stop", "shown"), [("<|endoftext|>", "ab"), ("<|endoftext|>c", "abab"), ("b<|endoftext|>", "a"), ("z", "ababc")]
)
def test_a_stop_string_may_hold_special_tokens_which_are_not_shown(tokenizer, stop, shown):
    end = tokenizer.eos_token_id
    ids = [*tokenizer("ab")["input_ids"], end, *tokenizer("ab")["input_ids"], end, *tokenizer("c")["input_ids"]]
    output = Output(
        index=0, stream=TextStream(tokenizer, []), stops=StopSearch([stop]), ends=frozenset(), most=len(ids)
    )
    pieces = []
    while not output.finish:
        pieces.append(output.take(ids[output.count]))
    assert ("".join(piece.text for piece in pieces if piece), output.stops.met) == (shown, stop != "z")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b"[" * 100_000, "too deep"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "too deep"),
        (b"7", "found int"),
        (b'{"a": "\\udfff"}', "half of a surrogate pair"),
        (b"\xff", "not JSON"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body, message):
    with pytest.raises(FaultError) as caught:
        parse_object(body)
    assert (caught.value.status, message in caught.value.message) == (400, True)


def test_the_token_comes_from_one_place(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("from-a-file-0123456789\n")
    given = ServeSettings(token_file=str(tmp_path / "token"))
    monkeypatch.delenv(VARIABLE, raising=False)
    made = resolve_access(ServeSettings())
    assert made.made
    assert made.token != resolve_access(ServeSettings()).token
    assert made.token not in repr(made)
    assert resolve_access(given).token == "from-a-file-0123456789"
    for host in ("0.0.0.0", "::", "example.org"):
        with pytest.raises(ConfigError, match="needs a token of your own"):
            resolve_access(ServeSettings(host=host))
    for host in ("127.0.0.2", "::1", "localhost"):
        assert resolve_access(ServeSettings(host=host)).made
    monkeypatch.setenv(VARIABLE, "from-the-environment-0123")
    assert resolve_access(ServeSettings(host="0.0.0.0")).token == "from-the-environment-0123"
    with pytest.raises(ConfigError, match="both give a token"):
        resolve_access(given)
    for token in ("", "short", "with a blank in the middle", "não-é-ascii-0123456789"):
        monkeypatch.setenv(VARIABLE, token)
        with pytest.raises(ConfigError, match="expected 16 or more characters"):
            resolve_access(ServeSettings())


def test_checkpoints_have_short_names_of_their_own(tmp_path):
    from lmtune.serving.models import name_checkpoints

    for name in ("a/model", "b/model", "c"):
        (tmp_path / name).mkdir(parents=True)
    found = {name: Checkpoint(str(tmp_path / name), None) for name in ("a/model", "b/model", "c")}
    found["org/gpt2"] = Checkpoint("org/gpt2", None)
    assert list(name_checkpoints(found).values()) == ["a/model", "b/model", "c", "org/gpt2"]
