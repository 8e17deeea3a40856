"""`lmtune completion bash|zsh|fish`: a script by which the shell completes commands, keys, choices, paths and run folders.

eval "$(lmtune completion bash)"                    in ~/.bashrc
eval "$(lmtune completion zsh)"                     in ~/.zshrc, behind compinit
lmtune completion fish | source                     in ~/.config/fish/config.fish

Everything that is lmtune's own stands in the script, so that completing starts no process; configs in conf/ where you stand
and folders in outputs/ are looked up by the shell.
"""

from importlib.resources import files
from string import Template

from lmtune import upstream
from lmtune.cli.commands import COMMANDS
from lmtune.cli.describe import list_choices_of
from lmtune.cli.schemas import GROUPS, SCHEMAS, known_keys
from lmtune.cli.tools import TOOLS
from lmtune.cli.user_conf.folders import list_choices, register
from lmtune.cli.schemas import find_conf
from lmtune.commands.result import Result
from lmtune.config.keys import facts_of, section_of, walk
from lmtune.errors import ConfigError

SHELLS = ("bash", "zsh", "fish")


def run(arguments: list[str]) -> Result:
    """The script of a shell. Raises ConfigError for another shell."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        found = " ".join(arguments) or "nothing"
        raise ConfigError(f"completion: expected one of {', '.join(SHELLS)}, found {found}. For instance: lmtune completion bash.")
    script = render_script(arguments[0])
    return Result({"script": script}, lambda: [script])


def render_script(shell: str) -> str:
    """The template of a shell with lmtune's commands, keys and choices in it."""
    template = files("lmtune.cli.tools").joinpath(f"completion.{shell}").read_text(encoding="utf-8")
    register(find_conf())
    table = {
        "commands": " ".join([*COMMANDS, *TOOLS]),
        "keys": "\n".join(f"{command} {' '.join(_list_keys(command))}" for command in COMMANDS),
        "values": "\n".join(f"{key} {' '.join(values)}" for key, values in _list_values().items()),
        "groups": " ".join(GROUPS),
    }
    return Template(template).substitute(table)
