"""What is said to people never ends a run; a result that cannot be delivered is an error of its own."""

import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtune import console, stopping
from lmtune.cli import main
from lmtune.errors import OutputError, Stopped

logger = logging.getLogger("lmtune.test")


class Broken(io.RawIOBase):
    """A descriptor that fails."""

    def __init__(self, number):
        self.number = number

    def writable(self):
        return True

    def write(self, data):
        raise OSError(self.number, os.strerror(self.number))


def broken(number):
    return io.TextIOWrapper(io.BufferedWriter(Broken(number), 1), encoding="utf-8", write_through=True)


def encoded(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF])
def test_words_that_cannot_be_written_are_dropped(number):
    stream = console.WordStream(broken(number))
    assert stream.write("loss 3.2\n") == 9
    stream.flush()
    print("more", file=stream, flush=True)


def test_words_to_nobody_are_dropped():
    stream = console.WordStream(None)
    assert stream.write("loss") == 4
    stream.flush()
    assert not stream.isatty()
    with pytest.raises(io.UnsupportedOperation):
        stream.fileno()


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8", "utf-16"]))
def test_words_find_a_way_through_any_encoding(text, encoding):
    below = encoded(encoding)
    console.WordStream(below).write(text)
    assert below.buffer.getvalue() or not text


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]))
def test_json_stays_json_in_any_encoding(text, encoding):
    with console.speaking():  # registers how letters are written that an encoding lacks
        below = encoded(encoding)
        console.ResultStream(below).write(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(below.buffer.getvalue().decode(encoding)) == {"text": text}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EBADF])
def test_a_result_that_cannot_be_written_is_an_error(number):
    with console.speaking(), pytest.raises(OutputError, match=os.strerror(number)):
        console.ResultStream(broken(number)).write("3.2")


def test_a_result_whose_reader_has_gone_ends_as_a_pipe_does():
    with console.speaking(), pytest.raises(BrokenPipeError):
        console.ResultStream(broken(errno.EPIPE)).write("3.2")


def test_lines_come_once_from_rank_0(capfd, monkeypatch):
    with console.speaking() as stdout:
        logger.info("one")
        monkeypatch.setenv("RANK", "1")
        logger.info("three")
        stdout.write("result\n")
        print("a library")  # noqa: T201
    out, err = capfd.readouterr()
    assert (out, err) == ("result\n", "one\na library\n")


def test_a_log_file_whose_disk_is_full_is_said_once(tmp_path, capfd):
    with console.speaking():
        handler = console.QuietFileHandler(tmp_path / "train.log")
        logging.getLogger("lmtune").addHandler(handler)
        handler.stream.close()
        handler.stream = broken(errno.ENOSPC)
        logger.info("one")
        logger.info("two")
        logging.getLogger("lmtune").removeHandler(handler)
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == ["one", "train.log could not be written: [Errno 28] No space left on device", "two"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_disk_that_takes_no_more_is_told_by_whichever_command(capfd, number):
    def write(stdout):
        raise OSError(number, os.strerror(number), "outputs/page.html")

    assert main.run_guarded(write) == 2
    said = capfd.readouterr().err
    assert said.startswith(
        f"error: outputs/page.html: expected a disk that takes what is written, found: {os.strerror(number)}."
    )


def test_other_errors_of_the_system_are_faults_of_ours():
    def write(stdout):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    with pytest.raises(OSError, match="Bad file descriptor"):
        main.run_guarded(write)


def test_a_signal_that_is_swallowed_is_heard_later():
    with pytest.raises(Stopped):
        stopping.request(signal.SIGTERM, None)
    with pytest.raises(Stopped) as heard:
        stopping.check()
    assert heard.value.exit_code == 143
    stopping.forget()
    stopping.check()


def test_ctrl_c_that_was_swallowed_is_not_forgotten():
    class Callback:
        def __del__(self):
            with suppress(KeyboardInterrupt):  # as Python does here, with a word on stderr
                stopping.interrupt(signal.SIGINT, None)

    Callback()
    with pytest.raises(KeyboardInterrupt):
        stopping.check()
    stopping.forget()
    stopping.check()


SHELL = {
    "closed stdout": ("data cache=list >&-", 0, ""),
    "full stdout": ("data cache=list >/dev/full", 2, "could not be written to stdout: No space left on device"),
    "closed stdin": ("data cache=list <&-", 0, ""),
    "all closed": ("data cache=list <&- >&- 2>&-", 0, ""),
    "closed stderr": ("train seed=-1 2>&-", 2, ""),
    "full stderr": ("train seed=-1 2>/dev/full", 2, ""),
    "help to nobody": ("--help | true", 141, ""),
    "help of a command to nobody": ("train --help | true", 141, ""),
    "a folder that is gone": ("data cache=list", 2, "The folder where you stand is not there any more"),
}


@pytest.mark.parametrize("case", SHELL)
def test_a_shell_may_close_fill_or_leave_what_it_likes(tmp_path, case):
    line, code, words = SHELL[case]
    gone = "mkdir gone && cd gone && rmdir ../gone && " if "gone" in case else ""
    status = '"${PIPESTATUS[0]}"'
    script = f"{gone}{sys.executable} -m lmtune {line}; exit {status}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_command_leaves_the_streams_of_its_caller(capfd):
    before = sys.stdout, sys.stderr
    assert main.run(["--version"]) == 0
    assert (sys.stdout, sys.stderr) == before
    assert capfd.readouterr().out.startswith("lmtune ")
