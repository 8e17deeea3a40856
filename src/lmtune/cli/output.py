"""The one place that writes to stdout."""

from typing import IO

from lmtune.commands.result import Result
from lmtune.config import OutputFormat
from lmtune.console import is_first_process
from lmtune.storage import render_json


def write_result(result: Result, form: OutputFormat, stdout: IO[str]) -> None:
    """Print a result as one JSON document or as a table, from the first process alone.

    Raises OutputError where stdout does not take it.
    """
    if is_first_process():
        lines = [render_json(result.as_dict())] if form is OutputFormat.json else result.lines()
        stdout.write("".join(f"{line}\n" for line in lines))
        stdout.flush()
