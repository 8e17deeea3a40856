"""The one place that writes to stdout."""

from enum import Enum
from typing import IO

from lmtune.commands.result import Result
from lmtune.console import is_first_process
from lmtune.storage import render_json


def write_result(result: Result, form: Enum, stdout: IO[str]) -> None:
    """Print a result as one JSON document or as lines, from the first process only.

    Raises OutputError if stdout cannot be written to.
    """
    if is_first_process():
        lines = [render_json(result.values)] if form.value == "json" else result.render()
        stdout.write("".join(f"{line}\n" for line in lines))
        stdout.flush()
