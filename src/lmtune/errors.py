"""What can go wrong, and whose turn it is.

    LmtuneError                 the user can mend it: one paragraph, exit code 2
      ConfigError               a key, a value, or two that contradict each other
      DataError                 a file, a column, an encoding, an empty side
      ModelError                a model or a tokenizer that does not load or does not fit
      CheckpointError           a run folder or checkpoint that cannot be used
      TrainingError             the run itself: a NaN or infinite loss
      LostProcessError          another process of the run has gone; exit code 1
      OutputError               a result that stdout does not take
      PushError                 the Hub, or what must not go there; a run that has completed stays so
    LedgerError                 documents or tokens do not add up: a fault of ours, exit code 1
    Stopped                     a signal asked the run to end, and its checkpoint is written

The text of an LmtuneError says what was expected, what was found, and what to do.
"""

from typing import Any


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def one_line(error: BaseException) -> str:
    """All that a library's error says, with blanks for line ends."""
    return " ".join(str(error).split())


def describe_error(error: BaseException) -> str:
    """An error in one line, with its kind where that is not one of ours."""
    text = one_line(error)
    return text if isinstance(error, LmtuneError) else ": ".join(filter(None, [type(error).__name__, text]))


class LmtuneError(Exception):
    """A mistake that the user can mend."""

    exit_code = 2
    reported = False
    """It has been said on stderr."""


class ConfigError(LmtuneError):
    """A key that does not exist, a value out of range, or settings that contradict each other."""


class DataError(LmtuneError):
    """Text that cannot be read, decoded, found or split."""


class ModelError(LmtuneError):
    """A model or tokenizer that cannot be loaded, or that do not belong together."""


class CheckpointError(LmtuneError):
    """A run folder or checkpoint that is missing, incomplete or in use."""


class TrainingError(LmtuneError):
    """Training cannot go on, though nothing in the program is broken."""


class LostProcessError(LmtuneError):
    """Another process of the run has ended, or does not answer: nothing to mend here, and nothing of ours is broken."""

    exit_code = 1


class OutputError(LmtuneError):
    """A result that could not be written to stdout."""


class PushError(LmtuneError):
    """A model does not get to the Hub; where a run has completed all the same, `result` is what it found."""

    result: Any = None
    """A lmtune.commands.result.Result."""


class LedgerError(Exception):
    """Documents or tokens do not add up. Never the user's fault."""


class Stopped(BaseException):
    """A signal ended the run after its checkpoint was written.

    Not an Exception, so that no library on the way up takes it for a failure of its own.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"stopped by signal {signal_number} after step {step}")
        self.signal_number = signal_number
        self.step = step
        self.exit_code = 128 + signal_number
