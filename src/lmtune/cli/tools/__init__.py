"""Commands about the command line itself: they compose and read, and run nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tool:
    """A command about the command line."""

    name: str
    module: str
    """The module whose `run` takes the arguments and returns a Result."""
    summary: str


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("explain", "lmtune.cli.tools.explain_key", "what a key means, its value, and where that comes from"),
        Tool(
            "completion",
            "lmtune.cli.tools.completion",
            "a script that completes commands and keys in bash, zsh or fish",
        ),
        Tool("from-run-clm", "lmtune.cli.tools.from_run_clm", "a command line of run_clm.py as one of lmtune"),
        Tool("config", "lmtune.cli.tools.configs", "the choices of each group: list, show, copy"),
    )
}
