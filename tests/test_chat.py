"""lmtune chat: lines and what they ask for, settings that change, texts of one checkpoint and of two."""

import io
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from lmtune.chat.lines import Change, Order, Prompt, Reset, parse_line
from lmtune.chat.screen import render_columns
from lmtune.errors import ConfigError
from lmtune.gauges import make_harmless

SHORT = "generation.max_new_tokens=5"


@pytest.fixture
def chat(lmtune, tmp_path, build_tiny, tokenizer, monkeypatch):
    """A function that types lines into a chat with two models."""
    for seed, name in enumerate(("one", "two")):
        build_tiny(seed=seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)

    def call(lines, *arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return lmtune("chat", *arguments)

    return call


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("", None), ("   ", None), ("O paciente = bom", Prompt("O paciente = bom")), (" /x", Prompt(" /x")),
        ("//etc", Prompt("/etc")), ("/temperature=0.5", Change("temperature", 0.5)), ("/seed = 7", Change("seed", 7)),
        ("/do_sample=false", Change("do_sample", False)), ("/top_k=null", Change("top_k", None)),
        ('/stop_strings=["."]', Change("stop_strings", ["."])), ("/stop_strings=fim", Change("stop_strings", "fim")),
        ("/temperature=", Reset("temperature")), ("/more", Order("more")), ("/exit", Order("quit")), ("/?", Order("help")),
    ],
)  # fmt: skip
def test_a_line_is_a_prompt_a_setting_or_an_order(line, asked):
    assert parse_line(line) == asked


@pytest.mark.parametrize(("line", "said"), [("/agian", "Did you mean /again?"), ("/etc/passwd", "with two: //text.")])
def test_an_unknown_order_is_told_what_there_is(line, said):
    with pytest.raises(ConfigError, match=r"expected one of /more, /again") as caught:
        parse_line(line)
    assert str(caught.value).endswith(said)


def test_texts_are_those_of_generate(chat, lmtune):
    written = chat(["O paciente", "A médica"], "ckpt=one", SHORT)
    each = [lmtune("generate", "ckpt=one", SHORT, f"prompt={prompt}").out for prompt in ("O paciente", "A médica")]
    assert (written.code, written.out) == (0, "\n".join(f"{text}" for text in each) + "\n")


def test_settings_hold_from_where_they_are_changed(chat, lmtune):
    lines = [
        "O paciente",
        "/seed=7",
        "/generation.temperature=0.5",
        "O paciente",
        "/seed=",
        "/temperature=",
        "O paciente",
    ]
    texts = [each["texts"][0] for each in chat([*lines, "/again"], "ckpt=one", SHORT, "format=json").json]
    asked = ("generate", "ckpt=one", SHORT, "prompt=O paciente", "format=json")
    usual = lmtune(*asked).json["texts"][0]
    assert texts[0] == texts[2] == usual
    assert texts[1] == lmtune(*asked, "seed=7", "generation.temperature=0.5").json["texts"][0]
    assert texts[3] == lmtune(*asked, "seed=43").json["texts"][0]


def test_more_goes_on_where_the_text_ended(chat):
    first, second = chat(["O paciente", "/more"], "ckpt=one", SHORT, "format=json").json
    assert second["prompt"] == first["texts"][0]
    assert second["texts"][0].startswith(first["texts"][0])


def test_a_text_in_two_halves_is_the_text_at_once(chat, lmtune):
    """Its first half may end within a character, and in ids that no text is encoded to."""
    greedy = ("ckpt=one", "generation.do_sample=false")
    halves = chat(["O paciente", "/more", "/again"], *greedy, "generation.max_new_tokens=7", "format=json").json
    whole = lmtune("generate", *greedy, "prompt=O paciente", "generation.max_new_tokens=14", "format=json").json
    assert [each["texts"] for each in halves[1:]] == [whole["texts"]] * 2


def test_two_checkpoints_answer_the_same_line(chat):
    answers = chat(["O paciente", "/top=2", "O paciente"], "ckpt=[one,two]", SHORT, "format=json").json
    assert [each["ckpt"] for each in answers] == ["one", "two", "one", "two"]
    assert answers[0]["texts"] != answers[1]["texts"]
    assert [len(each["next"]) for each in answers[2:]] == [2, 2]
    out = chat(["O paciente"], "ckpt=[one,two]", SHORT).out
    assert out.startswith("== one ==\n\nO paciente")
    assert "\n\n== two ==\n\nO paciente" in out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/temprature=1", "/temprature is not a key. Did you mean /temperature?"),
        ("/temperature=0", "generation.temperature=0: expected more than 0"), ("/seed=-1", "seed=-1: expected a whole number from 0"),
        ("/top=many", "top=many: expected a number"), ("/max_new_tokens=100000", "the model has 64 positions"),
        ("/more", "expected a text before it"), ("/again", "expected a prompt before it"), ("/fly", "expected one of /more"),
        ("/output_scores=true", "Leave it out."),
    ],
)  # fmt: skip
def test_what_cannot_work_ends_a_chat_from_a_file(chat, line, said):
    answer = chat([line, "O paciente"], "ckpt=one", SHORT)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "ckpt="), (("ckpt=[one,one]",), "expected each checkpoint once"), (("ckpt=one", "top=-1"), "top=-1")],
)
def test_a_command_that_cannot_work_is_refused(chat, arguments, said):
    answer = chat(["O paciente"], *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_bytes_that_are_no_text_cost_one_paragraph(chat, lmtune, monkeypatch):
    chat([], "ckpt=one")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("médica\n".encode("latin-1")), encoding="utf-8"))
    answer = lmtune("chat", "ckpt=one", SHORT)
    assert (answer.code, answer.out) == (2, "")
    assert "stdin: expected prompts in utf-8, found other bytes" in answer.err
    odd = io.TextIOWrapper(io.BytesIO(b"m\xe9dica\n"), encoding="utf-8", errors="surrogateescape")  # as in the C locale
    monkeypatch.setattr(sys, "stdin", odd)
    answer = lmtune("chat", "ckpt=one", SHORT)
    assert (answer.code, answer.out) == (2, "")
    assert "expected a text in UTF-8, found bytes that are none" in answer.err
    monkeypatch.setattr(sys, "stdin", None)
    assert "found it closed" in lmtune("chat", "ckpt=one").err


def test_columns_keep_each_text_to_its_half():
    shown = render_columns({"one": "palavra " * 12, "two": "日本語" * 20}, 80).splitlines()
    assert shown[0].split() == ["one", "two"]
    assert len(shown) > 3
    assert all(line[39:40] in ("", " ") for line in shown), "a gap between the columns"


def test_what_steers_a_terminal_is_shown_and_not_sent():
    assert make_harmless("a\x1b[31mb\x07\x9b\n\tc\u202e\ufffd") == "a␛[31mb␇·\n\tc··"


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, *command):
        pid, self.descriptor = pty.fork()
        if pid == 0:
            os.execv(command[0], command)
        self.pid = pid
        self.seen = ""

    def wait_for(self, text, seconds=120):
        end = time.monotonic() + seconds
        begun = len(self.seen)
        while text not in self.seen[begun:]:
            assert time.monotonic() < end, self.seen
            if select.select([self.descriptor], [], [], 1)[0]:
                self.seen += os.read(self.descriptor, 65536).decode()

    def type(self, keys, then="\n> "):
        os.write(self.descriptor, keys.encode())
        self.wait_for(then)


@pytest.mark.slow
def test_at_a_terminal_a_mistake_costs_a_line_and_the_chat_goes_on(chat):
    chat([], "ckpt=one")
    terminal = Terminal(sys.executable, "-m", "lmtune", "chat", "ckpt=one", SHORT)
    terminal.wait_for("> ")
    terminal.type("O paciente\n")
    assert "\x1b[1mO paciente\x1b[0m" in terminal.seen, "the prompt is set off from what the model writes"
    terminal.type("/temprature=2\n", then="Did you mean /temperature?")
    terminal.type("never mind\x03")
    terminal.type("/again\n")
    os.write(terminal.descriptor, b"\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]) == 0
    assert "Traceback" not in terminal.seen


@pytest.mark.slow
def test_a_chat_is_ended_by_a_signal(chat):
    chat([], "ckpt=one")
    command = [sys.executable, "-m", "lmtune", "chat", "ckpt=one", SHORT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        running.stdin.write("O paciente\n")
        running.stdin.flush()
        assert running.stdout.readline().startswith("O paciente")
        running.terminate()
        assert running.wait(60) == 143
