"""conf/ in the working directory, and the folders of --config-dir: what they add to the groups of lmtune's own configs.

Hydra asks the source here before the package's own files. It answers for groups that lmtune has, and for nothing else: what
else a folder holds, of another project perhaps, neither blocks nor matters. A name in both is an error once it is asked for.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import ClassVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin

from lmtune.cli.user_conf.files import (
    GROUPS,
    build_node,
    check_document,
    find_defaults,
    find_group,
    find_strings,
    refuse,
    resolve_prefix,
)
from lmtune.cli.user_conf.references import References
from lmtune.errors import ConfigError
from lmtune.plain_yaml import Document, load_document

SCHEME = "lmtune-user"
MAX_CONFIGS = 50
"""Configs that one may take in by defaults lists, each counted as often as it is taken in."""
MAX_ENTRIES = 5000
"""Entries of folders that are looked through for a file that is in the wrong place."""


class UserConf(SearchPathPlugin):
    """Puts the user's folders on Hydra's search path. What `register` was given holds for this process."""

    shipped: ClassVar[Path | None] = None
    folders: ClassVar[tuple[Path, ...]] = ()
    blank: ClassVar[References] = References()
    """One for the sources of a search path, which Hydra copies together for each composition."""
    references: ClassVar[References] = References()
    """References of the latest composition: an error in a file is reported with its place."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """First in the row, so that a name in both is noticed; last in effect, since such a name is refused."""
        UserConf.blank = References()
        for folder in reversed(self.folders):
            search_path.prepend("user", f"{SCHEME}://{folder}")


class UserConfSource(ConfigSource):
    """Reads one folder of the user's, each file checked."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self.references = UserConf.blank

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def available(self) -> bool:
        return _is_folder(self.path)

    def is_group(self, config_path: str) -> bool:
        known = not config_path or find_group(f"{config_path}/") or any(g.startswith(f"{config_path}/") for g in GROUPS)
        return bool(known) and _is_folder(self._join(config_path))

    def is_config(self, config_path: str) -> bool:
        """True for a file that is there, whatever it turns out to be. Raise ConfigError where the name is taken."""
        name = config_path.removesuffix(".yaml")
        if find_group(name) is None or not os.path.lexists(self._join(f"{name}.yaml")):
            return False
        return not _is_hydras_own(name) and _check_unique(Path(self.path), name)

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.removesuffix(".yaml")
        document = load_document(_show(Path(self._join(f"{name}.yaml"))))
        group = find_group(name) or ""
        check_document(document, group)
        _count_configs(name, document, ())
        UserConf.references = self.references
        for key, text in find_strings(document.values):
            self.references.add(resolve_prefix(group) + key, text, document.place(key))
        self.references.check()
        package = "_global_" if group == "experiment" else None
        return ConfigResult(self.provider, self.full_path(), build_node(document), header={"package": package})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found = []
        for entry in _entries(Path(self._join(config_path))):
            name = f"{config_path}/{entry.name}" if config_path else entry.name
            if self.is_group(name):
                found += [entry.name] if results_filter is not ObjectType.CONFIG else []
            elif name.endswith(".yaml") and find_group(name) and results_filter is not ObjectType.GROUP:
                found.append(entry.name.removesuffix(".yaml"))
        return sorted(found)

    def _join(self, config_path: str) -> str:
        return f"{self.path}/{config_path}"


def register(shipped: Path, config_dirs: Sequence[str] = ()) -> None:
    """Let Hydra search the user's folders beside `shipped`, the package's own; ConfigError for a folder that is none."""
    UserConf.shipped = shipped
    UserConf.folders = tuple(_find_folders(shipped, config_dirs))
    UserConf.blank = UserConf.references = References()
    for plugin in (UserConf, UserConfSource):
        Plugins.instance().register(plugin)


def find_file(name: str) -> Path | None:
    """The user's file of a config, `conf/data/mine.yaml` of `data/mine`; None where it is one of ours."""
    files = (folder / f"{name.removesuffix('.yaml')}.yaml" for folder in UserConf.folders)
    return next((_show(file) for file in files if find_group(name) and os.path.lexists(file)), None)


def list_choices(group: str) -> dict[str, Path]:
    """The choices of a group and their files: lmtune's own, then those of the user's folders."""
    folders = [folder for folder in (UserConf.shipped, *UserConf.folders) if folder is not None]
    entries = sorted(Path(entry.path) for folder in folders for entry in _entries(folder / group))
    return {file.stem: _show(file) for file in entries if file.suffix == ".yaml" and file.is_file()}


def find_hint(group: str, choice: str) -> str:
    """What may have gone wrong with a file of the user's that was not found; '' where nothing is near."""
    if choice.endswith((".yaml", ".yml")) or choice.startswith("conf/"):
        return f" A choice is the name of a file without folder and ending: {group}={Path(choice).stem}."
    right = [folder / group for folder in UserConf.folders]
    near = sorted(_find_near(group, choice), key=lambda file: (file.parent not in right, str(file)))
    if not near:
        return _explain_no_folder()
    file = _show(near[0])
    if near[0].parent not in right:
        return f" {file} is there; for {group}={choice} it has to be conf/{group}/{choice}.yaml."
    if file.suffix == ".yml":
        return f" {file} is there, but names of configs end in .yaml: call it {file.stem}.yaml."
    return f" {file} is there: {group}={file.stem}."


def _find_folders(shipped: Path, config_dirs: Sequence[str]) -> Iterator[Path]:
    """The user's folders, each once, without lmtune's own."""
    seen = {shipped.resolve()}
    for folder in [_find_conf(), *map(_load_config_dir, config_dirs)]:
        if folder is not None and folder.resolve() not in seen:
            seen.add(folder.resolve())
            yield folder


def _load_config_dir(given: str) -> Path:
    folder = os.path.abspath(os.path.expanduser(given))  # noqa: PTH100, PTH111 (pathlib's raises for ~nobody)
    if not _is_folder(folder) or _is_closed(Path(folder)):
        raise ConfigError(
            f"--config-dir {given}: expected a folder of configs that may be read, found none. Give another."
        )
    return Path(folder)


def _find_conf() -> Path | None:
    """conf/ in the working directory, unless that is a checkout of lmtune itself."""
    here = _load_here()
    own = os.path.lexists(here / "src" / "lmtune" / "cli" / "composition.py")
    return here / "conf" if not own and _is_folder(here / "conf") else None


def _check_unique(folder: Path, name: str) -> bool:
    """True; ConfigError where another folder has the same name, which would be read in its place or hide it."""
    others = [UserConf.shipped, *UserConf.folders]
    rivals = (other / f"{name}.yaml" for other in others if other is not None and other != folder)
    ours = next((str(file) for file in rivals if os.path.lexists(file)), None) or _find_plugins(name)
    if ours is None:
        return True
    file = folder / f"{name}.yaml"
    raise ConfigError(
        f"{file} and {ours} have the same name; expected a name of its own for yours. "
        f"Rename your file: my-{file.name} gives {name.rpartition('/')[0]}=my-{file.stem}."
    )


def _is_hydras_own(name: str) -> bool:
    """True for the choices that Hydra takes unasked, which a file of another project must not block."""
    return name in ("hydra/launcher/basic", "hydra/sweeper/basic")


def _find_plugins(name: str) -> str | None:
    group, _, choice = name.rpartition("/")
    known = group.startswith("hydra/") and f"{choice}.yaml" in _list_stored(group)
    return f"{group}={choice} of an installed plugin" if known else None


def _list_stored(group: str) -> Sequence[str]:
    try:
        return ConfigStore.instance().list(group)
    except OSError:  # as Hydra says that there is no such group
        return []


def _count_configs(name: str, document: Document, above: tuple[str, ...]) -> int:
    """How many configs of the user's one takes in; ConfigError for one that takes in itself, or too many."""
    count = 1
    for inner in (listed.removesuffix(".yaml") for listed in find_defaults(document, name)):
        if inner in (*above, name):
            circle = " -> ".join([*above, name, inner])
            refuse(document, "defaults", f"comes back to where it began: {circle}. Take one of the names out")
        file = find_file(inner)
        count += _count_configs(inner, load_document(file), (*above, name)) if file else 0
        if count > MAX_CONFIGS:
            refuse(document, "defaults", f"takes in over {MAX_CONFIGS} configs; expected few. Take some out")
    return count


def _find_near(group: str, choice: str) -> Iterator[Path]:
    """Files of the user's whose name is that of the choice, but for case, ending or folder."""
    here = _load_here()
    confs = dict.fromkeys([*UserConf.folders, here / "conf", here / "config", here / "configs"])
    folders = [here, here / group, *(folder for conf in confs for folder in _folders_below(conf, 2))]
    entries = (entry for folder in folders for entry in _entries(folder))
    for entry in islice(entries, MAX_ENTRIES):
        file = Path(entry.path)
        if file.suffix in (".yaml", ".yml") and file.stem.casefold() == choice.rpartition("/")[2].casefold():
            yield file


def _folders_below(folder: Path, levels: int) -> Iterator[Path]:
    yield folder
    for entry in _entries(folder) if levels else []:
        if entry.is_dir(follow_symlinks=False):
            yield from _folders_below(Path(entry.path), levels - 1)


def _explain_no_folder() -> str:
    conf = Path("conf")
    if os.path.lexists(conf) and not _is_folder(conf):
        return " conf is there, but it is no folder; yours go into a folder of that name."
    closed = [folder for folder in (conf, *(conf / group for group in GROUPS)) if _is_closed(folder)]
    return f" {closed[0]} is there, but may not be read." if closed else ""


def _is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (pathlib's raises where a folder above may not be entered)


def _is_closed(folder: Path) -> bool:
    return _is_folder(folder) and not os.access(folder, os.R_OK | os.X_OK)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    """What a folder holds; nothing where it is none or may not be read."""
    try:
        with os.scandir(folder) as entries:
            return list(islice(entries, MAX_ENTRIES))
    except OSError:
        return []


def _show(file: Path) -> Path:
    """A path as the user would write it: relative if it is below the working directory."""
    here = _load_here()
    return file.relative_to(here) if file.is_relative_to(here) else file


def _load_here() -> Path:
    """The working directory; one that was removed has no name."""
    try:
        return Path.cwd()
    except OSError:
        return Path(os.curdir)
