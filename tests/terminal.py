"""A terminal as small as what lmtune paints needs: what stands on it after the characters that came, and what came."""

import io
import os
import pty
import re
import select
import subprocess
import time

CONTROL = re.compile(r"\x1b\[(\d*)([A-Za-z])")


class Written(io.StringIO):
    """What a Screen has written, where no terminal is."""

    encoding = "utf-8"

    def write_plain(self, text):
        self.write(text)

    def fileno(self):
        raise io.UnsupportedOperation


class Pane:
    """A terminal without an end below."""

    def __init__(self, columns):
        self.columns = columns
        self.lines = [""]
        self.row = self.column = 0
        self.wrapped = 0
        """How often a line was longer than the terminal is wide."""

    def feed(self, text):
        place = 0
        while place < len(text):
            control = CONTROL.match(text, place)
            if control:
                self._obey(control[2], int(control[1] or 1))
                place = control.end()
            else:
                self._put(text[place])
                place += 1

    def _obey(self, letter, count):
        line = self.lines[self.row]
        if letter == "A":
            self.row = max(0, self.row - count)
        elif letter == "K":
            self.lines[self.row] = line[: self.column]
        else:
            raise AssertionError(f"a control that no test knows: {letter}")

    def _put(self, letter):
        if letter == "\r":
            self.column = 0
        elif letter == "\n":  # a terminal adds the return, a stream does not
            self.row, self.column = self.row + 1, 0
            self.lines += [""] * (self.row + 1 - len(self.lines))
        else:
            if self.column == self.columns:
                self.wrapped += 1
                self._put("\n")
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


def run_on_terminal(command, columns, **settings):
    """Run a command on a pseudo-terminal: (exit code, pane, seconds of each piece of output since the start, all that came)."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    import fcntl
    import struct
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    began = time.monotonic()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **settings)
    os.close(theirs)
    pane, times, came = Pane(columns), [], b""
    while True:
        select.select([ours], [], [], 0.2)
        try:
            piece = os.read(ours, 65536)
        except BlockingIOError:
            continue
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        times.append(time.monotonic() - began)
        came += piece
    os.close(ours)
    pane.feed(came.decode())
    return process.wait(), pane, times, came.decode()
