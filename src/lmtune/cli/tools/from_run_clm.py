"""`lmtune from-run-clm ...`: a command line of transformers' run_clm.py as one of lmtune, each flag answered.

lmtune from-run-clm --model_name_or_path gpt2 --train_file notes.txt --do_train --output_dir out
lmtune from-run-clm torchrun --nproc_per_node 2 run_clm.py --model_name_or_path gpt2 ...
lmtune from-run-clm arguments.json
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig

from lmtune import upstream
from lmtune.cli.composition import register
from lmtune.cli.describe import describe_key
from lmtune.cli.dispatch import Dispatch
from lmtune.cli.options import Options
from lmtune.cli.origins import Composition, composing
from lmtune.cli.overrides import quote
from lmtune.cli.schemas import GROUPS, find_open, known_keys
from lmtune.cli.tools.explain_key import find_value
from lmtune.commands.result import Result
from lmtune.config.ranges import render_value
from lmtune.config.training_arguments import ARGUMENTS, HOMES
from lmtune.errors import ConfigError, LmtuneError, first_line
from lmtune.familiar.run_clm import Flag, Moved, find_launcher, move_flags, read_flags, read_json, render_command

SOURCES = ("model.path", "data.path", "data.files")
"""Keys that choose a group, and with it other defaults."""


CHOSEN = ("training.bf16", "training.fp16", "training.tf32", "training.optim", "training.torch_compile")
"""Keys that lmtune sets for the device if they are left open, so that none of their values may be left out."""

COMPLETED = (
    *("training.save_steps", "training.save_strategy"),
    *("training.per_device_train_batch_size", "training.gradient_accumulation_steps"),
    *("training.dataloader_pin_memory", "training.ddp_find_unused_parameters"),
)
"""Keys that lmtune derives from others or from the memory if they are left open; transformers' defaults of them need not hold."""


class Answer(NamedTuple):
    """What one flag is translated to."""

    flag: str
    outcome: str
    """moved, default, dropped, or added for a default of run_clm's that lmtune does not share."""
    typed: list[tuple[str, str]]
    remark: str


def run(arguments: list[str]) -> Result:
    """Translate a command line. Raises ConfigError for a flag that run_clm does not have, and for an invalid file of arguments."""
    flags = _load_flags(arguments)
    moves = list(move_flags(flags))
    # Models of the Hub and data sets have settings of their own.
    sources = [f"{key}={quote(value)}" for move in moves for key, value in move.typed if key in SOURCES]
    register("train")
    with composing("train", sources) as usual:
        answers = [_answer(move, usual) for move in moves]
    pairs = [pair for answer in answers if answer.outcome in ("moved", "added") for pair in answer.typed]
    command, refusal = render_command(pairs, find_launcher(arguments)), _find_refusal(pairs)
    values = {"command": command, "refused": refusal, "flags": [answer._asdict() for answer in answers]}
    said = ["", f"lmtune train would not take it yet: {refusal}"] if refusal else []
    return Result(values, lambda: [command, "", *_render(answers), *said])


def _find_refusal(pairs: list[tuple[str, str]]) -> str | None:
    """The error that `lmtune train` would raise for the new command before it looks for any file; None if there is none."""
    try:
        Dispatch("train", Options()).compose([f"{key}={value}" for key, value in pairs])
    except LmtuneError as error:
        return str(error)
    return None


def _load_flags(arguments: list[str]) -> list[Flag]:
    if len(arguments) == 1 and arguments[0].endswith(".json"):
        try:
            return read_json(Path(arguments[0]).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"{arguments[0]}: expected a JSON file of run_clm's arguments, found: {first_line(error)}. Give another."
            ) from error
    flags = read_flags(arguments)
    if not flags:
        raise ConfigError(
            "from-run-clm: expected the flags of run_clm.py, found none. For instance: "
            "lmtune from-run-clm --model_name_or_path gpt2 --train_file notes.txt --do_train."
        )
    return flags


def _answer(moved: Moved, usual: Composition) -> Answer:
    """The outcome for one flag. Raises ConfigError for one that run_clm does not have."""
    name, value = moved.flag.name, moved.flag.value
    shown = f"--{name}" if value == "true" else f"--{name} {value}"
    known = known_keys("train") | set(GROUPS)
    pairs = [(HOMES.get(key.removeprefix("training."), key), setting) for key, setting in moved.typed]
    for key, _ in pairs:
        if key not in known and find_open(key) is None:
            said = upstream.suggest(name, known_keys("train"), "train")
            raise ConfigError(f"--{name}: expected a flag of run_clm.py, found none of that name.{said}")
    for key, setting in pairs:
        if setting == "true" and key in known_keys("train") and not _is_switch(key):
            raise ConfigError(f"--{name}: expected a value behind it, found none. Give one: --{name} VALUE.")
    refusal = ARGUMENTS[name].refusal if f"training.{name}" in dict(pairs) else ""
    if not pairs or refusal:
        return Answer(shown, "dropped", [], moved.remark or refusal.removesuffix(" Leave it out."))
    if all(_is_usual(key, setting, usual) for key, setting in pairs):
        return Answer(shown, "default", pairs, "what lmtune does unasked")
    if moved.flag.given:
        return Answer(shown, "moved", pairs, moved.remark)
    ours = [render_value(_find_usual(key, usual)) for key, _ in pairs if key not in CHOSEN]
    remark = f"lmtune's is {', '.join(ours)}" if ours else "lmtune chooses it for the device"
    return Answer(shown, "added", pairs, f"run_clm's default; {remark}")


def _is_switch(key: str) -> bool:
    """True for a key that may be true, so that its flag needs no value."""
    return any(word in describe_key("train", key).kind for word in ("true", "False"))


def _is_usual(key: str, value: str, usual: Composition) -> bool:
    """True for lmtune's own default; numbers are compared as numbers."""
    if key in (*SOURCES, *CHOSEN, *COMPLETED):
        return False
    return _read(value) == _read(render_value(_find_usual(key, usual)))


def _find_usual(key: str, usual: Composition) -> Any:
    if key in GROUPS:
        return HydraConfig.get().runtime.choices[key]
    if key not in known_keys("train"):
        return None
    return find_value(usual.node, key, describe_key("train", key))


def _read(text: str) -> object:
    """Text as YAML reads it, so that 5e-5 equals 0.00005 and "linear" equals linear."""
    lowered = text.strip("\"'")
    try:
        return float(lowered)
    except ValueError:
        return lowered.lower()


def _render(answers: list[Answer]) -> Iterator[str]:
    width = max(len(answer.flag) for answer in answers) + 2
    for answer in answers:
        typed = " ".join(f"{key}={value}" for key, value in answer.typed)
        yield f"{answer.flag:<{width}}{answer.outcome:<9}{'; '.join(filter(None, [typed, answer.remark]))}".rstrip()
