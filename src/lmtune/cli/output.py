"""The one place that writes to stdout."""

from enum import Enum
from typing import IO

from lmtune.commands.result import Result
from lmtune.console import is_first_process
from lmtune.storage import render_json


def write_result(result: Result, form: Enum, stdout: IO[str]) -> None:
    """Print a result as one JSON document or in lines, as its format says, from the first process alone.

    Raises OutputError where stdout does not take it.
    """
    if is_first_process():
        lines = [render_json(result.values)] if form.value == "json" else result.render()
        stdout.write("".join(f"{line}\n" for line in lines))
        stdout.flush()
