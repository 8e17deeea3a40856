"""Errors of Hydra and OmegaConf in our words: what was found, what was expected, what to do."""

import re
from collections.abc import Sequence

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException, UnsupportedInterpolationType
from yaml import YAMLError

from lmtune import upstream
from lmtune.cli.overrides import is_path
from lmtune.cli.schemas import RESUMED, SCHEMAS, all_keys, facts_for, find_open, hydra_keys, keys_of, known_keys
from lmtune.cli.user_conf import folders
from lmtune.cli.user_conf.files import find_group
from lmtune.config.keys import holds_list, section_of
from lmtune.config.training_arguments import load_fields
from lmtune.errors import first_line
from lmtune.familiar import RENAMED_TRAINING_ARGUMENTS, find_word

HYDRA_ERRORS: tuple[type[Exception], ...] = (HydraException, OmegaConfBaseException, YAMLError)

KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false", "Boolean": "true or false"}
"""Types by the names that OmegaConf gives them, in words."""
CHOICE = re.compile(r"Invalid value '(.*)', expected one of \[(.*)\]")
"""How OmegaConf refuses a word that an enumeration does not have."""


def explain_error(error: Exception, command: str) -> str:
    """One paragraph for an error of Hydra or OmegaConf."""
    cause = error.__cause__
    key = getattr(cause, "full_key", None) or getattr(error, "full_key", None)
    if isinstance(error, MissingConfigException):
        return explain_missing(error, command)
    if isinstance(error, OverrideParseException):
        return explain_form(str(error.override))
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType):
        return _explain_interpolation(error, command)
    inside_file = re.search(r"In '([^']+)': [^\n]*\n(.*?)\s*full_key: (\S+)", str(error), re.DOTALL)
    if inside_file:
        file, reason, key = inside_file.groups()
        return explain_inside(file, reason, key, command)
    typed = re.match(r"Could not override '([^']+)'", str(error))
    if typed and (cause is None or "not in" in str(cause)) and typed[1] not in known_keys(command):
        return explain_unknown(typed[1], command)
    if isinstance(error, ConfigCompositionException) and key and cause is not None:
        return explain_value(typed[1] if typed and "not in" in str(cause) else key, str(cause), command)
    return " ".join(line.strip() for line in str(cause or error).splitlines() if line.strip())


def explain_form(argument: str) -> str:
    """The text for an argument that is not key=value."""
    return (
        f"{argument!r} is not key=value as Hydra reads it. Expected for instance training.max_steps=100; "
        "a value with blanks, commas or brackets goes between quotes: key=\"'a, b'\"."
    )


def explain_value(key: str, reason: str, command: str) -> str:
    """The text for a value that a key cannot have. reason: the message of OmegaConf."""
    reason = reason.splitlines()[0].rstrip(".").replace("ListConfig", "list").replace("DictConfig", "dict")
    section = section_of(all_keys()[key].type) if key in all_keys() else None
    inside = [item.name for item in keys_of(section)] if section else []
    strange = re.match(r"Key '(.*)' not in", reason)
    if strange and not holds_list(all_keys()[key]):
        return explain_unknown(f"{key}.{strange[1]}", command)
    if strange:
        return f"{key}: {strange[1]} is none of its keys, {', '.join(inside)}.{upstream.render_suggestion(strange[1], inside)}"
    assigned = re.match(r"Invalid type assigned: .* value: (.*)", reason)
    if assigned and inside:
        return f"{key}={assigned[1]}: expected its keys, one by one, such as {key}.{inside[0]}=. Choose one."
    if (choice := CHOICE.match(reason)) is not None:
        return upstream.explain_word(key, choice[1], choice[2].split(", "))
    percent = re.match(r"Value '([\d.]+)%' .* to Float", reason)
    if percent:
        share = float(percent[1]) / 100
        return f"{key}={percent[1]}%: expected a number, found a percentage. Write {key}={share:g}."
    several = re.search(r"(?:convert '|of type '|\(type |\()(list|dict)\b", reason)
    if several:
        found = "a list" if several[1] == "list" else "keys with values"
        shown = re.search(r"[\[{].*[\]}]", reason)
        return (
            f"{key}{'=' + shown[0].replace(chr(39), '') if shown else ''}: expected one value, found {found}. Give one."
        )
    converted = re.match(r"Value '(.*?)' (?:of type '\w+' )?(?:could not be converted to|is not a valid) (\w+)", reason)
    if converted and converted[2] in KINDS:
        return f"{key}={converted[1]}: expected {KINDS[converted[2]]}. Give another value."
    if "is not Optional" in reason:
        return f"{key}=null: expected a value, found none. Leave it out for its default."
    return f"{key}: {reason}."


def explain_unknown(key: str, command: str) -> str:
    """The text for a key that a command does not have."""
    renamed = RENAMED_TRAINING_ARGUMENTS.get(key.removeprefix("training."))
    if renamed and key.startswith("training."):
        return f"{key} is gone from transformers. Use {renamed}."
    above, _, name = key.rpartition(".")
    if above.startswith("training.") and "dict" in load_fields().get(above.removeprefix("training."), ""):
        return f"{key}: expected all of {above} at once, found one name of it. Write {above}={{{name}:...}}."
    said = upstream.suggest(key, hydra_keys() if key.startswith("hydra.") else known_keys(command), command)
    owners = [other for other in SCHEMAS if key in known_keys(other)]
    if owners and find_word(key, command) is None:
        said = f" It belongs to lmtune {', '.join(owners)}."
    return f"{key} is not a key of lmtune {command}.{said} See lmtune {command} --help."


def explain_missing(error: MissingConfigException, command: str) -> str:
    """The text for a choice that a group does not have, or a config that does not exist."""
    name = error.missing_cfg_file or "?"
    group = find_group(name) or name.rpartition("/")[0]
    choice = name.removeprefix(f"{group}/")
    parent = re.match(r"In '([^']+)'", str(error))
    file = folders.find_file(parent[1]) if parent else None
    where = f"{file}: " if file else ""
    hint = folders.find_hint(group, choice)
    if group.startswith("hydra/"):
        hint += " Those of a plugin are there once it is installed, such as hydra-submitit-launcher."
    if set(error.options or []) - {RESUMED}:
        return where + explain_choice(group, choice, error.options or [], hint)
    if file:
        return f"{where}its defaults list names {name}, which is no config. Name one that is there.{hint}"
    return f"{name} is not a config of lmtune {command}. See lmtune {command} --help.{hint}"


def explain_choice(group: str, choice: str, options: Sequence[str], hint: str | None = None) -> str:
    """The text for a choice that a group does not have. hint: what may have gone wrong; by default it is searched for."""
    known = sorted(option for option in options if option != RESUMED)
    said = _suggest_choice(group, choice, known)
    hint = folders.find_hint(group, choice) if hint is None else hint
    return f"{group}={choice}: expected one of {', '.join(known)}.{said}{hint}"


def explain_named(key: str, name: str, error: MissingConfigException, remedy: str) -> str:
    """The text for a data set that there is not, where `key` names it. remedy: what to do if no name is similar."""
    options = [*facts_for(key).words, *sorted(set(error.options or []) - {RESUMED})]
    nearest = upstream.find_nearest(name, options)
    said = f"Did you mean {nearest}?" if nearest else remedy
    return f"{key} names {name}: expected one of {', '.join(options)}. {said}{folders.find_hint('data', name)}"


def spell_out(name: str, command: str) -> str:
    """What to type instead of `--name`: the key, or why there is none."""
    known = known_keys(command)
    plain = name if name in known else name.replace("-", "_")
    if plain in known or find_open(plain):
        return f"{plain}=..."
    meant = upstream.find_meant(plain, known, command)
    if not meant.what:
        return f"{plain}=... {meant.remark}".rstrip()
    typed = meant.what if "=" in meant.what else f"{meant.what}=..."
    return f"{typed} ({meant.remark})" if meant.remark else typed


def _suggest_choice(group: str, choice: str, options: list[str]) -> str:
    nearest = upstream.find_nearest(choice, options)
    if nearest:
        return f" Did you mean {group}={nearest}?"
    if group == "data" and is_path(choice):
        return f" Files of your own are named by data.files={choice}."
    return f" One of the Hub or disk is named by its path: {group}.path={choice}." if group in ("data", "model") else ""


def explain_inside(name: str, reason: str, key: str, command: str) -> str:
    """The text for a file that Hydra cannot merge: an unknown key, or a value of the wrong kind."""
    file = folders.find_file(name) or f"{name}.yaml"
    if "not in" in reason:
        said = upstream.suggest(key, known_keys(command), command)
        return f"{file} sets {key}, which is not a key of lmtune {command}.{said}"
    return f"{file} sets {explain_value(key, reason.strip(), command)}"


def _explain_interpolation(error: Exception, command: str) -> str:
    """The text for a `${...}` that cannot be resolved, with the user's file that contains it."""
    key = str(getattr(error, "full_key", None) or "a value")
    place = folders.UserConf.references.find_place(key.replace("[", ".").replace("]", ""))
    where = f"{place}: {key}" if place else key
    reason = first_line(error)
    variable = re.search(r"Environment variable '(.*)' not found", reason)
    name = re.search(r"Interpolation key '(.*)' not found", reason)
    if variable:
        return (
            f"{where} needs the environment variable {variable[1]}, found none of that name. "
            f"Set it, or write ${{oc.env:{variable[1]},VALUE}} with a value for where there is none."
        )
    if name:
        wanted = f" Write ${{oc.env:{name[1]}}} for the environment variable." if name[1].isupper() else ""
        said = wanted or upstream.suggest(name[1], known_keys(command), command)
        return f"{where}: ${{{name[1]}}} is no key of lmtune {command}.{said}"
    return f"{where}: expected ${{key}} of a key with a fitting value, found: {reason}. Write the value itself."
