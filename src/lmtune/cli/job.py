"""One job of a sweep, in the process that the launcher starts for it: `python -m lmtune.cli.job`.

It reads what to do from stdin. When stdin closes, the job is asked to stop, as by SIGTERM, so no job outlives its sweep, however
that ends.
"""

import os
import pickle
import signal
import sys
import threading
from typing import IO, TYPE_CHECKING

from lmtune.cli import main
from lmtune.cli.schemas import find_conf

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from omegaconf import DictConfig

    from lmtune.cli.dispatch import Dispatch


def compose_job(loader: "ConfigLoader", command: str, overrides: list[str], number: int) -> "DictConfig":
    """The configuration of a job of a sweep together with Hydra's, identical here and in the process of the sweep."""
    from hydra.types import RunMode
    from omegaconf import open_dict

    config = loader.load_configuration(command, overrides, run_mode=RunMode.RUN)
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    return config


def run(_: IO[str]) -> int:
    """Run the job described on stdin; return its exit code."""
    main.prepare_process()
    size = int(sys.stdin.buffer.readline())
    dispatch, overrides, number = pickle.loads(sys.stdin.buffer.read(size))
    dispatch.exit_code = 0  # it was copied from the sweep, where other jobs may have failed
    threading.Thread(target=_end_with_sweep, daemon=True).start()

    from hydra import initialize_config_dir

    from lmtune.cli import composition, resumption

    composition.register(dispatch.name, dispatch.options.config_dir)
    if dispatch.told:
        resumption.restore_overrides(dispatch.told, dispatch.keys)
    with initialize_config_dir(str(find_conf()), version_base="1.3"):
        return _run(dispatch, overrides, number)


def _run(dispatch: "Dispatch", overrides: list[str], number: int) -> int:
    from hydra._internal.callbacks import Callbacks
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.utils import run_job
    from hydra.types import HydraContext

    loader = GlobalHydra.instance().config_loader()
    config = compose_job(loader, dispatch.name, overrides, number)
    done = run_job(
        task_function=dispatch.run_job,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=HydraContext(loader, Callbacks(config)),
    )
    _ = done.return_value  # raises the exception of a job that crashed
    return int(dispatch.exit_code)


def _end_with_sweep() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock this thread would hold when the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main.leave(main.run_guarded(run, main.begun(["train"])))
