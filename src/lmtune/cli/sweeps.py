"""Before the first job of a sweep: check the keys of all jobs, and settle one folder for all jobs, ranks and launchers."""

import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from lmtune import launcher
from lmtune.cli.overrides import quote
from lmtune.cli.schemas import facts_for
from lmtune.errors import CheckpointError, ConfigError, LmtuneError, MistakesError, texts_of
from lmtune.paths import GivenPath
from lmtune.runs.folder import remove_empty
from lmtune.runs.search import OUTPUTS, SWEEP_MARK, make_dated, make_given
from lmtune.storage import checksum_of, load_json, write_json

SWEEPS = OUTPUTS / "sweeps"
SWEEP_FOLDER = "hydra.sweep.dir"
LAUNCHER = "hydra/launcher"
AT_ONCE = "sweep.jobs"
ABOUT = "lmtune made this folder for the jobs of one sweep, each in a folder of its own."
RECORDS = frozenset([SWEEP_MARK, "multirun.yaml"])
"""Files in the folder of a sweep besides the folders of its jobs."""


def check_single(overrides: list[str]) -> None:
    """Raise ConfigError for several values of a key, or sweep.jobs=, if no sweep was asked for."""
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.get_key_element() == AT_ONCE:
            raise ConfigError(f"{AT_ONCE} has no effect: there is one job. Leave it out, or sweep with -m.")
        if override.is_sweep_override():
            text = override.input_line or override.get_key_element()
            raise ConfigError(
                f"{text}: several values, which -m tries one after the other; found no -m. Add it, or quote the value as one: "
                f"{override.get_key_element()}=\"'{text.partition('=')[2]}'\"."
            )


def settle_launcher(overrides: list[str]) -> list[str]:
    """The overrides, with Hydra's own launcher if torchrun has started the processes that share the jobs.

    Raises ConfigError if sweep.jobs= would have no effect.
    """
    typed = {each.get_key_element(): each for each in OverridesParser.create().parse_overrides(overrides)}
    own, ranks = typed.get(LAUNCHER), launcher.count_processes()
    name = "processes" if own is None and ranks == 1 else "basic" if own is None else str(own.value())
    if name == "processes" and ranks > 1:
        raise ConfigError(
            f"{LAUNCHER}=processes starts processes of its own, found {ranks} of another launcher (WORLD_SIZE is set). Leave it "
            "out, and they share each job, one job after the other."
        )
    if AT_ONCE in typed and typed[AT_ONCE].is_sweep_override():
        raise ConfigError(f"{typed[AT_ONCE].input_line}: expected one number for all jobs, found several. Give one.")
    if AT_ONCE in typed and name != "processes":
        raise ConfigError(
            f"{AT_ONCE} has no effect: it is for {LAUNCHER}=processes, found {name}. Leave one of the two out."
        )
    return [*overrides, f"{LAUNCHER}=basic"] if own is None and ranks > 1 else overrides


def list_jobs(overrides: list[str], conf: Path) -> list[list[str]] | None:
    """The overrides of each job; None if a sweeper other than Hydra's own decides what comes next.

    conf: the folder of configs, whose choices `glob(*)` of a group stands for.

    Raises ConfigError for a sweep without jobs, and for jobs that would share a folder.
    """
    with initialize_config_dir(str(conf), version_base="1.3"):
        parsed = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(overrides)
    if any(override.get_key_element().startswith("hydra/sweeper") for override in parsed):
        return None
    jobs = list(itertools.chain.from_iterable(BasicSweeper.split_arguments(parsed, max_batch_size=None)))
    if not jobs:
        swept = ", ".join(override.input_line or "" for override in parsed if override.is_sweep_override())
        raise ConfigError(f"{swept} names no value, so the sweep has no jobs. Expected values such as seed=1,2.")
    for override in parsed:
        one_per_job = facts_for(override.get_key_element()).one_per_job
        if one_per_job and not override.is_sweep_override() and len(jobs) > 1:
            raise ConfigError(
                f"{override.input_line} names one folder for {len(jobs)} jobs. Leave it out, and each gets its own below "
                f"{SWEEPS}; {SWEEP_FOLDER}= names the folder that they lie in."
            )
    return jobs


def check_jobs(jobs: list[list[str]], command: str, conf: Path, check: Callable[[DictConfig], None]) -> None:
    """Compose each job as Hydra will, and check it. Raises ConfigError, or the error of the check, naming the job."""
    for number, overrides in enumerate(jobs):
        own = [text for text in overrides if not text.startswith("hydra.")]
        with composed(command, overrides, conf) as node:
            try:
                check(node)
            except LmtuneError as error:
                job = f"job {number} of the sweep ({', '.join(own)})"
                texts = [f"{job}: {text}" for text in texts_of(error)]
                raise (type(error)(*texts) if len(texts) == 1 else MistakesError(texts)) from error


@contextmanager
def composed(command: str, overrides: list[str], conf: Path) -> Iterator[DictConfig]:
    """The configuration that Hydra composes for one job, with Hydra's own in force meanwhile."""
    with (
        initialize_config_dir(str(conf), version_base="1.3"),
        in_force(compose(command, overrides=overrides, return_hydra_config=True)) as node,
    ):
        yield node


@contextmanager
def in_force(whole: DictConfig) -> Iterator[DictConfig]:
    """The configuration of a job without Hydra's own, which is in force meanwhile."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(whole)
    try:
        yield _without_hydra(whole)
    finally:
        HydraConfig.instance().cfg = before


def _without_hydra(node: DictConfig) -> DictConfig:
    bare = node.copy()
    with open_dict(bare):
        bare.pop("hydra")
    OmegaConf.set_struct(bare, True)
    return bare


@contextmanager
def passing_folder(overrides: list[str]) -> Iterator[list[str]]:
    """The overrides with a temporary folder for what Hydra writes during a sweep whose jobs have no run folders."""
    with TemporaryDirectory(prefix="lmtune-sweep-") as folder:
        given = any(text.startswith(f"{SWEEP_FOLDER}=") for text in overrides)
        yield overrides if given else [*overrides, f"{SWEEP_FOLDER}={quote(folder)}"]


@contextmanager
def settled_folder(overrides: list[str]) -> Iterator[list[str]]:
    """The overrides with the folder of the sweep: made now, and the same for every job, rank and launcher.

    A folder that holds no job in the end is removed. Raises CheckpointError for a folder that holds anything but a sweep.
    """
    given = find_folder(overrides)
    made: list[Path] = []
    folder = Path(_agree(lambda: str(_make_sweep(given, made))))
    others = [text for text in overrides if not text.startswith(f"{SWEEP_FOLDER}=")]
    try:
        yield [*others, f"{SWEEP_FOLDER}={quote(str(folder))}"]
    finally:
        if made and {path.name for path in folder.iterdir()} <= RECORDS:
            for name in RECORDS:
                (folder / name).unlink(missing_ok=True)
            remove_empty(made)


def find_folder(overrides: list[str]) -> Path | None:
    """The folder that hydra.sweep.dir= names, with ${now:...} resolved as Hydra does; None if it was not typed."""
    typed = [text for text in overrides if text.startswith(f"{SWEEP_FOLDER}=")]
    if not typed:
        return None
    value = OverridesParser.create().parse_override(typed[-1]).value()
    setup_globals()  # registers ${now:...}
    try:
        return Path(str(OmegaConf.create({"folder": str(value)}).folder)).expanduser().absolute()
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{typed[-1]}: expected a folder that is the same for all jobs, found one that depends on them. What differs from job "
            "to job goes into hydra.sweep.subdir=."
        ) from error


def _make_sweep(given: Path | None, made: list[Path]) -> Path:
    if given is not None and _is_sweep(given):
        return given
    named = None if given is None else GivenPath(SWEEP_FOLDER, str(given), CheckpointError)
    made += make_dated(SWEEPS, datetime.now()) if named is None else make_given(named)
    folder = given or made[0]
    _mark(folder)
    return folder


def _mark(folder: Path) -> None:
    identity = secrets.token_hex(8)
    write_json(folder / SWEEP_MARK, {"about": ABOUT, "id": identity, "xxh3_128": checksum_of(ABOUT + identity)})


def _is_sweep(folder: Path) -> bool:
    try:
        mark = load_json(folder / SWEEP_MARK)
    except (OSError, CheckpointError):
        return False
    return mark.get("xxh3_128") == checksum_of(ABOUT + str(mark.get("id")))


def _agree(choose: Callable[[], str]) -> str:
    """What rank 0 chooses, on every rank of a launcher; ranks learn it from the store that torchrun keeps for them."""
    if launcher.count_processes() == 1:
        return choose()
    if not launcher.has_store():
        raise ConfigError(
            "-m under several processes needs torchrun, whose ranks can agree on one folder; found another launcher "
            "(WORLD_SIZE is set), or a torchrun that keeps no store for them (TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1). Start the "
            "sweep alone, one process a job, or each job by itself."
        )
    store, key = launcher.open_store(), launcher.name_key("sweep")
    if os.environ.get("RANK") == "0":
        store.set(key, choose())
    chosen: str = store.get(key).decode()
    return chosen
