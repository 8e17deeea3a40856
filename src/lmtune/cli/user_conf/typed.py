"""Settings of Hydra itself that are typed."""

import re
from collections.abc import Iterator

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from lmtune.errors import ConfigError

_HYDRA_SETTINGS: dict[str, tuple[tuple[object, ...], str]] = {
    "hydra.output_subdir": ((None,), "The run folder keeps a record of its own, in config.yaml and .hydra/"),
    "hydra.job.chdir": (
        (None, False, "false"),
        "Paths are meant from where you stand; output=FOLDER says where a run is written",
    ),
    "hydra.job_logging": (
        ("none", "disabled"),
        "Logs go to stderr, and those of a training to train.log in its run folder",
    ),
    "hydra.hydra_logging": (("none", "disabled"), "Logs go to stderr"),
    "hydra.searchpath": ((None,), "--config-dir FOLDER adds a folder of configs"),
}
"""Settings of Hydra that write to the working directory, change folders under lmtune, or read files around its checks: their
harmless values, and what to do instead."""


def check_hydra_overrides(arguments: list[str]) -> None:
    """Raise ConfigError for settings of Hydra that write files, change folders or bypass lmtune's checks."""
    for argument in arguments:
        for key, value in _parse_hydra(argument):
            name = next((name for name in _HYDRA_SETTINGS if f"{key}.".startswith(f"{name}.")), None)
            harmless, remedy = _HYDRA_SETTINGS.get(name or "", ((value,), ""))
            if value not in harmless:
                raise ConfigError(f"{argument}: expected {name} as lmtune sets it. {remedy}. Leave it out.")


def _parse_hydra(argument: str) -> Iterator[tuple[str, object]]:
    """Yield Hydra's own keys that an override sets, with their values; groups count as keys, such as `hydra/job_logging`."""
    if not re.match(r"[+~]*hydra\b", argument):
        return
    try:
        override = OverridesParser.create().parse_override(argument)
        value = None if override.is_sweep_override() else override.value()
    except HydraException:
        return  # refused where all overrides are parsed
    if not override.is_delete():
        yield from _flatten(override.key_or_group.replace("/", "."), value)


def _flatten(key: str, value: object) -> Iterator[tuple[str, object]]:
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        yield from _flatten(f"{key}.{name}", inner)
