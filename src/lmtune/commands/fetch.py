"""`lmtune fetch`: a folder with what a training, an evaluation or a server loads from the Hub, to be carried to another machine.

lmtune fetch data=bio model=gpt2-small-pt output=fetched
HF_HOME=fetched lmtune train data=bio model=gpt2-small-pt      there, without a network
"""

import os
from pathlib import Path

from lmtune import carried, hub
from lmtune.commands.result import Result
from lmtune.config import FetchConfig, ModelConfig, SuiteConfig
from lmtune.data.fetching import HubData, fetch_data
from lmtune.environment import CARRIED, is_carried
from lmtune.errors import ConfigError
from lmtune.evaluation.suites.sources import HubSplit
from lmtune.modeling.fetching import HubModel, fetch_model, list_models
from lmtune.storage import Record
from lmtune.units import render_bytes, render_count


def run(config: FetchConfig) -> Result:
    """Fetch what is named, compare it with what the Hub says of it, and seal the folder."""
    check_network()
    sets = [*list_data(config), *list_tasks(config.suite)]
    models = [] if config.model is None else list_models(config.model)
    check_wanted(config.model, models)
    folder = carried.open_folder(config.output)
    fetched = [record for wanted in models for record in fetch_model(wanted, folder)]
    fetched += [fetch_data(wanted, folder) for wanted in dict.fromkeys(sets)]
    files = carried.seal(folder)
    found: Record = {
        "folder": str(folder),
        "bytes": sum(facts["bytes"] for facts in files.values()),
        "fetched": [describe(record, files) for record in fetched],
        "left_out": list_left_out(config.suite),
    }
    return Result(found, lambda: render(found), hints=list_hints(folder))


def check_network() -> None:
    """Raise ConfigError where the environment asks to stay off the network."""
    if is_carried():
        raise ConfigError(
            f"lmtune fetch needs the network, and HF_HOME names a folder that it has filled, {os.environ['HF_HOME']}, which is "
            "used without one. Unset HF_HOME, and give the folder as output=."
        )
    if (variable := hub.find_offline()) is not None:
        raise ConfigError(f"lmtune fetch needs the network, and {variable} is set; expected it unset. Unset it.")


def check_wanted(model: ModelConfig | None, models: list[HubModel]) -> None:
    """Raise ConfigError for a model that has no part on the Hub."""
    if model is not None and not models:
        found = "a model from scratch" if model.path is None else f"the folder {model.path}"
        raise ConfigError(f"model= names {found}, of which nothing is on the Hub. Leave it out, or carry that folder.")


def list_data(config: FetchConfig) -> list[HubData]:
    """The data set that is named."""
    data = config.data
    if data is None:
        return []
    if not hub.is_hub_id(str(data.path)):
        raise ConfigError(f"data.path={data.path} is a folder here; expected a data set of the Hub. Carry that folder.")
    return [HubData(str(data.path), data.subset, data.revision)]


def list_tasks(suite: SuiteConfig | None) -> list[HubData]:
    """The data sets of the benchmarks, those without files of the user's own."""
    return [HubData(split.path, split.subset, split.revision) for split in _list_splits(suite) if split.folder is None]


def list_left_out(suite: SuiteConfig | None) -> list[str]:
    """Benchmarks that are read from single files of a branch, which datasets does not find without a network."""
    return [str(split) for split in _list_splits(suite) if split.folder is not None]


def _list_splits(suite: SuiteConfig | None) -> list[HubSplit]:
    if suite is None:
        return []
    from lmtune.evaluation.suites.zeroshot import TASKS

    names = [name for name in suite.tasks or TASKS if name not in suite.files]
    return [TASKS[name].source_of(suite.profile.value) for name in names]


def describe(record: Record, files: dict[str, Record]) -> Record:
    """What was fetched, with its files: paths in the folder, bytes, sha256."""
    folders = record["folders"]
    own = [
        {"path": name, **facts}
        for name, facts in files.items()
        if any(Path(name).is_relative_to(each) for each in folders)
    ]
    told = {name: value for name, value in record.items() if name != "folders"}
    return {**told, "bytes": sum(file["bytes"] for file in own), "files": own}


def render(found: Record) -> list[str]:
    """Each file with its bytes, and how much all of it is."""
    lines = []
    for record in found["fetched"]:
        named = "/".join(filter(None, [record["repository"], record.get("subset")]))
        lines.append(f"{record['kind']} {named} at {record['commit']}: {render_bytes(record['bytes'])}")
        lines += [f"{file['bytes']:>16,}  {file['path']}" for file in record["files"]]
    for split in found["left_out"]:
        lines.append(
            f"left out {split}: it is read from single files of a branch. Carry them, and name them with suite.files."
        )
    count = sum(len(record["files"]) for record in found["fetched"])
    return [*lines, f"{found['folder']}: {render_count(count, 'file')} fetched, {render_bytes(found['bytes'])} in all"]


def list_hints(folder: Path) -> list[str]:
    """How the folder is used where there is no network."""
    return [
        f"carry {folder} whole; sha256sum --check --quiet {CARRIED} in it tells whether it came as it went",
        "there it is read with HF_HOME=FOLDER before each command: train, eval, generate, serve",
    ]
