"""A command line of transformers' run_clm.py in lmtune's keys, flag by flag; what lmtune makes of the keys is not asked here.

Source: examples/pytorch/language-modeling/run_clm.py of transformers 5.23 and its argument classes; flags that older
versions had (`--evaluation_strategy`, `--warmup_ratio`) are taken for what they are called now.
"""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lmtune.errors import ConfigError
from lmtune.familiar.huggingface import RUN_CLM, TRAINER, find_renamed

DEFAULTS: Mapping[str, str] = {
    "learning_rate": "5e-5",
    "num_train_epochs": "3",
    "lr_scheduler_type": "linear",
    "warmup_steps": "0",
    "bf16": "false",
    "load_best_model_at_end": "false",
}
"""What run_clm does unless it is told, where lmtune may do something else; all of it changes what is learned."""

INSTEAD: Mapping[str, frozenset[str]] = {
    "num_train_epochs": frozenset(["max_steps"]),
    "bf16": frozenset(["fp16"]),
}
"""Flags beside which such a default has no say."""

SILENT: Mapping[str, str] = {
    "do_train": "lmtune train trains",
    "do_eval": "lmtune train evaluates",
    "do_predict": "lmtune generate ckpt=RUN writes with a finished model",
    "overwrite_output_dir": "each run gets a folder of its own, and none is overwritten",
    "remove_unused_columns": "rows hold what the loss takes",
    "trust_remote_code": "code that comes with a model or a data set is never run",
    "max_predict_samples": "nothing is predicted",
    "log_level": "lmtune says what it does on stderr",
}
"""Flags for which there is nothing to type."""

LAUNCHERS: Mapping[str, str] = {"torchrun": "-m", "accelerate": "-m", "deepspeed": "--module"}
"""Programs that start several processes, and their option for a module in place of a script."""

SEVERAL = frozenset(["debug", "fsdp", "include_for_metrics", "label_names", "report_to"])
"""Flags that take several values, one behind the other."""

OF_DATA: Mapping[str, str] = {"block_size": "data.block_size", "streaming": "data.streaming"}
"""Flags that are called as the keys are, so that RUN_CLM has no need of them."""


class Flag(NamedTuple):
    """One flag of run_clm."""

    name: str
    value: str
    """'true' for one without a value."""
    given: bool = True
    """False for a default of run_clm's that lmtune does not share."""


class Moved(NamedTuple):
    """The translation of a flag."""

    flag: Flag
    typed: tuple[tuple[str, str], ...] = ()
    """(key, value) pairs to type; () where there is nothing to type."""
    remark: str = ""


def read_flags(arguments: list[str]) -> list[Flag]:
    """The flags of a command line, launcher and script before them left out; the last one where one stands twice.

    Raises ConfigError for words that belong to no flag.
    """
    flags: dict[str, Flag] = {}
    strays: list[str] = []
    name = ""
    for argument in arguments:
        if argument.endswith(".py"):
            flags, name, strays = {}, "", []
        elif argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            flags[name] = Flag(name, value if equals else "true")
        elif name:
            before = flags[name].value
            flags[name] = Flag(name, argument if before == "true" else f"{before} {argument}")
            strays += [] if before == "true" or name in SEVERAL else [f"--{name} {before} {argument}"]
    if strays:
        raise ConfigError(
            f"{strays[0]}: expected one value behind a flag, found several. Leave the others out, or quote them."
        )
    return list(flags.values())


def read_json(text: str) -> list[Flag]:
    """The flags of the JSON file that run_clm takes instead. Raises ValueError for anything but one mapping."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("no mapping of flags to values")
    strange = next((name for name, value in content.items() if isinstance(value, dict)), None)
    if strange is not None:
        raise ValueError(f"a mapping under {strange}, which is no value of a flag")
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in content.items()}
    return [Flag(name, value) for name, value in values.items() if value != "null"]


def move_flags(flags: list[Flag]) -> Iterator[Moved]:
    """What becomes of each flag, then of the defaults that run_clm has and lmtune may not have.

    Raises ConfigError for a value that cannot be converted.
    """
    moves = [_move(flag) for flag in flags]
    yield from moves
    typed = {key for move in moves for key, _ in move.typed}
    for name, value in DEFAULTS.items():
        if not typed & {f"training.{other}" for other in (name, *INSTEAD.get(name, ()))}:
            yield _move(Flag(name, value, given=False))


def find_launcher(arguments: list[str]) -> list[str]:
    """What starts several processes, with its options, as before the script: `torchrun --nproc_per_node 2`; [] for none."""
    script = next((place for place, argument in enumerate(arguments) if argument.endswith(".py")), 0)
    words = arguments[:script]
    return words if words and (words[0] in LAUNCHERS or "torch.distributed" in " ".join(words[1:3])) else []


def render_command(pairs: list[tuple[str, str]], launcher: list[str]) -> str:
    """The command of lmtune, as it is typed in a shell. launcher: what starts its processes, [] for one process alone."""
    module = LAUNCHERS.get(launcher[0], "-m") if launcher else ""
    head = f"{shlex.join(launcher)} {module} lmtune train" if launcher else "lmtune train"
    return " ".join([head, *(f"{key}={shlex.quote(value)}" for key, value in pairs)])


def _divide(percent: str) -> str:
    try:
        return f"{float(percent) / 100:g}"
    except ValueError as error:
        raise ConfigError(
            f"--validation_split_percentage {percent}: expected a number of percent, found none. Give one, such as 5."
        ) from error


def _read_overrides(text: str) -> tuple[tuple[str, str], ...]:
    """n_layer=2,n_embd=32 as keys and values."""
    pairs = [part.partition("=") for part in text.split(",")]
    wrong = next((name for name, equals, setting in pairs if not (name.strip() and equals and setting)), None)
    if wrong is not None:
        raise ConfigError(
            f"--config_overrides {text}: expected name=value,name=value, found {wrong!r}. For instance n_layer=2,n_embd=32."
        )
    return tuple((f"model.config.{name.strip()}", setting) for name, _, setting in pairs)


def _name_trackers(flag: Flag) -> Moved:
    named = flag.value.split()
    if not set(named) <= {"none", "tensorboard", "wandb", "mlflow", "trackio", "codecarbon"}:
        return Moved(flag, (), "tracker= takes one or several of tensorboard, wandb, mlflow, trackio and codecarbon")
    return Moved(flag, (("tracker", named[0] if len(named) == 1 else f"[{','.join(named)}]"),))


def _move(flag: Flag) -> Moved:
    name, value = flag.name, flag.value
    if (name, value.lower()) == ("do_train", "false"):
        return Moved(flag, (), "lmtune train trains; to evaluate alone: lmtune eval ckpt=...")
    if (name, value.lower()) == ("do_eval", "false"):
        return Moved(flag, (("training.eval_strategy", "no"),))
    if name in SILENT:
        return Moved(flag, (), SILENT[name])
    if name == "config_overrides":
        return Moved(flag, _read_overrides(value))
    if name == "model_type":
        return Moved(flag, (("model.init", "scratch"), ("model.config.model_type", value)), "a new model")
    if name == "config_name":
        return Moved(flag, (("model.path", value), ("model.init", "scratch")), "a new model with that configuration")
    if name == "validation_split_percentage":
        remark = "whole documents, where run_clm cuts off the first rows"
        return Moved(flag, (("data.validation_fraction", _divide(value)),), remark)
    if name == "report_to":
        return _name_trackers(flag)
    return _move_by_name(flag)


def _move_by_name(flag: Flag) -> Moved:
    """A flag by what it is called here; by its own name, as an argument of Trainer, where nothing else is known of it."""
    name, value = flag.name, flag.value
    word = RUN_CLM.get(name) or find_renamed(name) or TRAINER.get(name)
    if word is None:
        return Moved(flag, ((OF_DATA.get(name, f"training.{name}"), value),))
    key, _, choice = word.keys[0].partition("=") if word.keys else ("", "", "")
    if choice and value.lower() != "true":
        return Moved(flag, (), f"{word.keys[0]}; {word.remark}" if word.remark else f"not {word.keys[0]}")
    return Moved(flag, ((key, choice or value),) if key else (), word.remark)
