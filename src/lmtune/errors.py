"""The errors of lmtune, and who can fix them.

    LmtuneError                 the user can fix it: one paragraph, exit code 2
      ConfigError               a key, a value, or two that contradict each other
        MistakesError           several mistakes at once
      DataError                 a file, a column, an encoding, an empty split
      ModelError                a model or a tokenizer that does not load or does not fit
      CheckpointError           a run folder or checkpoint that cannot be used
      TrainingError             the run itself: a NaN or infinite loss
      LostProcessError          another process of the run has gone; exit code 1
      OutputError               a result that cannot be written to stdout
      PushError                 an upload that fails or is not allowed; a completed run stays complete
    LedgerError                 documents or tokens do not add up: a bug in lmtune, exit code 1
    Stopped                     a signal asked the run to end, and its checkpoint is written

The text of an LmtuneError says what was expected, what was found, and what to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def one_line(error: BaseException) -> str:
    """A library's error message in one line."""
    return " ".join(str(error).split())


def describe_error(error: BaseException) -> str:
    """An error in one line, with the name of its class unless it is an LmtuneError."""
    text = one_line(error)
    return text if isinstance(error, LmtuneError) else ": ".join(filter(None, [type(error).__name__, text]))


class LmtuneError(Exception):
    """An error that the user can fix."""

    exit_code = 2
    reported = False
    """True once it has been printed on stderr."""


class ConfigError(LmtuneError):
    """A key that does not exist, a value out of range, or settings that contradict each other."""


class MistakesError(ConfigError):
    """Several errors raised together, each on a line of its own."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__("\n".join([f"{len(texts)} mistakes:", *(f"  - {text}" for text in texts)]))
        self.texts = texts


class Gathering:
    """Collects the errors of several checks and raises them together.

    found = Gathering()
    for name in names:
        with found.noting():
            check(name)
    found.raise_all()
    """

    def __init__(self) -> None:
        self.errors: list[LmtuneError] = []

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Collect an LmtuneError raised inside the block, and continue after it."""
        try:
            yield
        except LmtuneError as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raise the collected errors, if any: a single one as it is, several as a MistakesError."""
        texts = list(dict.fromkeys(text for error in self.errors for text in texts_of(error)))
        if len(texts) == 1:
            raise self.errors[0]
        if texts:
            raise MistakesError(texts) from self.errors[0]


def texts_of(error: LmtuneError) -> list[str]:
    """The messages of an error, one or several."""
    return error.texts if isinstance(error, MistakesError) else [str(error)]


class DataError(LmtuneError):
    """Text that cannot be read, decoded, found or split."""


@contextmanager
def naming_text(name: str) -> Iterator[None]:
    """Say in a DataError raised inside the block which text it is about. name: the key that gives it, with its value."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


class ModelError(LmtuneError):
    """A model or tokenizer that cannot be loaded, or that do not belong together."""


class CheckpointError(LmtuneError):
    """A run folder or checkpoint that is missing, incomplete or in use."""


class TrainingError(LmtuneError):
    """Training cannot go on, though nothing in the program is broken."""


class LostProcessError(LmtuneError):
    """Another process of the run has ended, or does not answer: neither the user's mistake nor a bug in lmtune."""

    exit_code = 1


class OutputError(LmtuneError):
    """A result that could not be written to stdout."""


class PushError(LmtuneError):
    """A model was not pushed to the Hub; if its run completed all the same, `result` holds the results."""

    result: Any = None
    """A lmtune.commands.result.Result."""


class LedgerError(Exception):
    """Documents or tokens do not add up. Never the user's fault."""


class Stopped(BaseException):
    """A signal ended the run after its checkpoint was written.

    Not an Exception, so that no library's `except Exception` swallows it.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by signal {signal_number} after step {step}")
        self.signal_number = signal_number
        self.step = step
        self.exit_code = 128 + signal_number
