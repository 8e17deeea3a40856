"""Resuming a run: its recorded config.yaml is given to Hydra again, and overridden by what is typed now.

config.yaml is the only record that is read, and its paths are absolute. So a run can be resumed from any directory, from a
copy, and without the conf/ that its names came from. Hydra gets each section as a choice of its group that replaces the
shipped one, so that no setting of another choice remains.
"""

from typing import Any

from hydra.core.config_store import ConfigStore

from lmtune.cli.overrides import escape
from lmtune.cli.schemas import GROUPS, RESUMED, keys_of
from lmtune.config import FinetuneMethod, TrainConfig
from lmtune.config.keys import Plain, facts_of
from lmtune.config.train import FOLLOWERS
from lmtune.config.training_arguments import PHASED
from lmtune.errors import ConfigError

SECTIONS = tuple(name for name in GROUPS if name in {item.name for item in keys_of(TrainConfig)})
"""Groups of a training that each have a section of its configuration."""


def restore_overrides(told: Plain, typed: list[str]) -> list[str]:
    """Overrides that restore the recorded configuration, to be put before those typed now; stores its sections in the ConfigStore.

    typed: overrides from the command line. A group that is chosen anew replaces the recorded section. Raises ConfigError for
    another experiment, which could mean anything.
    """
    told = follow(told)
    chosen = dict(text.split("=", 1) for text in typed if "=" in text)
    recorded = recorded_choices(told)
    _check_experiment(chosen.get("experiment"), recorded.get("experiment"))
    kept = [name for name in SECTIONS if chosen.get(name, recorded.get(name)) == recorded.get(name)]
    store = ConfigStore.instance()
    for name in kept:
        store.store(group=name, name=RESUMED, node=literal(told[name]))
    store.store(group="experiment", name=RESUMED, package="_global_", node=_build_rest(told, kept))
    return [*(f"{name}={RESUMED}" for name in kept), f"experiment={RESUMED}"]


def forget() -> None:
    """Remove the recorded sections from the ConfigStore, which the next command in this process must not see."""
    repository = ConfigStore.instance().repo
    for name in (*SECTIONS, "experiment"):
        repository.get(name, {}).pop(f"{RESUMED}.yaml", None)


def drop_repeated(told: Plain, typed: list[str]) -> list[str]:
    """The typed overrides without choices of groups that equal the recorded ones, which restore_overrides restores."""
    recorded = recorded_choices(told)
    return [text for text in typed if text.partition("=")[0] not in recorded or not _repeats(text, recorded)]


def recorded_choices(told: Plain) -> dict[str, str | None]:
    """The recorded choice of each group and of `experiment`."""
    named = {name: told[name]["name"] for name in SECTIONS if "name" in told[name]}
    return {**dict.fromkeys((*SECTIONS, "experiment")), **told.get("groups", {}), **named}


def _repeats(text: str, recorded: dict[str, str | None]) -> bool:
    group, _, choice = text.partition("=")
    return choice in (recorded[group], "null" if recorded[group] is None else None)


def follow(told: Plain) -> Plain:
    """The recorded configuration as it was before keys took the values of others and phases set theirs."""
    training = dict(told["training"])
    if told["finetune"]["method"] == FinetuneMethod.gradual.value:
        training |= dict.fromkeys(PHASED)
    free = {**told, "training": training}
    for key, source in FOLLOWERS.items():  # what is typed now for the source has to reach them too
        section, _, name = key.rpartition(".")
        owner = free[section] if section else free
        group, _, other = source.partition(".")
        if name in owner and owner[name] == told[group].get(other):
            owner[name] = Follow(source)
    return free


class Follow(str):
    """The key that another one takes its value from."""


def literal(value: object) -> Any:
    """A value as a configuration that resolves to exactly that value: interpolations in a record are not resolved again."""
    if isinstance(value, Follow):
        return f"${{{value}}}"
    if isinstance(value, dict):
        return {key: literal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [literal(each) for each in value]
    return escape(value) if isinstance(value, str) else value


def _build_rest(told: Plain, kept: list[str]) -> Plain:
    """Everything besides the groups, and the names that conf/train.yaml takes from their choices."""
    known = {item.name for item in keys_of(TrainConfig) if not facts_of(item).of_start}
    rest = {key: literal(value) for key, value in told.items() if key in known - {*SECTIONS}}
    return {**rest, **{name: {"name": literal(told[name]["name"])} for name in kept if "name" in told[name]}}


def _check_experiment(typed: str | None, recorded: str | None) -> None:
    if typed not in (None, "null", recorded):
        raise ConfigError(
            f"experiment={typed}: the run was begun with {f'experiment={recorded}' if recorded else 'none'}, and goes on with what "
            "it was told. Leave it out, or change single keys with resume_force=true."
        )
