"""`lmtune completion bash|zsh|fish`: a script by which the shell completes commands, keys, choices, paths and run folders.

eval "$(lmtune completion bash)"                    in ~/.bashrc
eval "$(lmtune completion zsh)"                     in ~/.zshrc, behind compinit
lmtune completion fish | source                     in ~/.config/fish/config.fish
"""

from importlib.resources import files
from string import Template

from lmtune import upstream
from lmtune.cli.commands import COMMANDS
from lmtune.cli.reference import list_words
from lmtune.cli.schemas import GROUPS, SCHEMAS, find_conf, known_keys
from lmtune.cli.tools import TOOLS
from lmtune.cli.user_conf.folders import list_choices, register
from lmtune.commands.result import Result
from lmtune.config.keys import KeyField, holds_list, section_of, walk
from lmtune.config.training_arguments import ARGUMENTS
from lmtune.errors import ConfigError

SWITCH = ["true", "false"]
SHELLS = ("bash", "zsh", "fish")


def run(arguments: list[str]) -> Result:
    """The completion script of a shell. Raises ConfigError for a shell that is not supported."""
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        found = " ".join(arguments) or "nothing"
        raise ConfigError(f"completion: expected one of {', '.join(SHELLS)}, found {found}. Give one of them.")
    script = render_script(arguments[0])
    return Result({"script": script}, lambda: [script])


def render_script(shell: str) -> str:
    """The script of a shell. It contains commands, keys and choices, so that completion starts no lmtune process.

    The shell itself looks up what the user adds: configs in conf/ and runs in outputs/.
    """
    template = files("lmtune.cli.tools").joinpath(f"completion.{shell}").read_text(encoding="utf-8")
    register(find_conf())
    return Template(template).substitute(
        commands=" ".join([*COMMANDS, *TOOLS]),
        keys="\n".join(f"{command} {' '.join(_list_keys(command))}" for command in COMMANDS),
        values="\n".join(f"{key} {' '.join(values)}" for key, values in _list_values().items()),
    )


def _list_keys(command: str) -> list[str]:
    """Keys and groups of a command that take a value; sections of keys do not."""
    items = dict(walk(SCHEMAS[command]))
    sections = {name for name, item in items.items() if section_of(item.type) is not None and not holds_list(item)}
    return sorted((known_keys(command) - sections) | (known_keys(command) & set(GROUPS)))


def _list_values() -> dict[str, list[str]]:
    """The words that keys and groups accept, for those that accept a few words only."""
    found = {name: list(list_choices(name)) for name in GROUPS}
    for schema in SCHEMAS.values():
        found |= {name: words for name, item in walk(schema) if (words := _list_key(item))}
    return found | {f"training.{name}": words for name in ARGUMENTS if (words := _list_argument(name))}


def _list_argument(name: str) -> list[str]:
    """The words that a training argument accepts."""
    switch = upstream.load_training_fields().get(name) in ("bool", "bool | None")
    return list(ARGUMENTS[name].words) or (SWITCH if switch else [])


def _list_key(item: KeyField) -> list[str]:
    """The words that a key of lmtune's own accepts."""
    switch = bool in getattr(item.type, "__args__", (item.type,))
    return list_words(item) or (SWITCH if switch else [])
