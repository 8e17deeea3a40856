"""`hydra/launcher=processes`: each job of a sweep in a process of its own, as many at once as there are devices.

lmtune train -m seed=1,2,3,4 sweep.jobs=2

The output of a job is in <job>.log beside its folder. A job that has completed is not run again: its results.json is used.
"""

import logging
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, cast

from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from lmtune import stopping
from lmtune.cli.job import compose_job
from lmtune.cli.overrides import quote
from lmtune.cli.sweep_table import JobLine, SweepWork
from lmtune.errors import CheckpointError, LmtuneError, Stopped
from lmtune.paths import shorten
from lmtune.patience import doing
from lmtune.storage import number_names
from lmtune.units import render_count, render_duration
from lmtune.upstream import Typed

if TYPE_CHECKING:
    from lmtune.cli.dispatch import Dispatch

logger = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds between two checks of the jobs."""
LAST_LINES = 5
"""Lines of a job's log to show if it did not end with one of lmtune's own errors."""


@dataclass
class Job:
    """A job of a sweep."""

    number: int
    name: str
    """The overrides that are its own."""
    overrides: list[str]
    """All overrides, Hydra's own included."""
    config: DictConfig
    objective: float = math.nan
    """The value that the sweeper minimises; nan if the job has not completed."""

    @property
    def folder(self) -> Path:
        """The run folder, unless resume= finds another."""
        return Path(self.config.hydra.runtime.output_dir)

    def move(self, subdir: str) -> None:
        """Use this folder, below that of the sweep."""
        folder = Path(self.config.hydra.sweep.dir, subdir).absolute()
        with read_write(self.config.hydra), open_dict(self.config.hydra):  # Hydra makes its config read-only
            self.config.hydra.runtime.output_dir = str(folder)
            self.config.hydra.sweep.subdir = subdir
        key = "hydra.sweep.subdir="
        others = [text for text in self.overrides if not text.startswith(key)]
        self.overrides = [*others, f"{key}{quote(subdir)}"]

    @property
    def log(self) -> Path:
        """The output of its process."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def __str__(self) -> str:
        return f"job {self.number} of the sweep ({self.name})"


@dataclass
class Running:
    """A job whose process is running."""

    job: Job
    process: subprocess.Popen[bytes]
    device: str | None
    said: int
    """Bytes in the log that an earlier process wrote."""
    line: JobLine


class ProcessesLauncher(Launcher):
    """The launcher; Hydra creates one for each sweep, by its name in hydra_plugins."""

    dispatch: "Dispatch"
    context: HydraContext
    config: DictConfig
    running: list[Running]
    work: SweepWork

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before the first batch of jobs."""
        assert isinstance(task_function, MethodType)
        self.dispatch = cast("Dispatch", task_function.__self__)
        self.context, self.config, self.running = hydra_context, config, []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs to their end; a job that fails does not stop the others."""
        setup_globals()
        jobs = [self._build_job(list(each), number) for number, each in enumerate(job_overrides, initial_job_idx)]
        waiting, devices = deque(jobs), deque(list_slots(self.config, len(jobs)))
        threads = count_threads(len(devices))
        shared = "" if threads is None else f", {threads} of the CPU threads for each"
        logger.info("%s, %d at once%s", render_count(len(jobs), "job"), len(devices), shared)
        self.work = SweepWork(len(jobs), lambda: [each.line for each in self.running])
        with doing(self.work):
            try:
                while waiting or self.running:
                    stopping.check()  # a signal may have been swallowed by the code that it interrupted
                    if waiting and devices:
                        self._begin(waiting.popleft(), devices, threads)
                    for each in [each for each in self.running if each.process.poll() is not None]:
                        self.running.remove(each)
                        devices.append(each.device)
                        self._end(each)
                    self.work.count = len(jobs) - len(waiting) - len(self.running)
                    time.sleep(0 if waiting and devices else PAUSE)
            except BaseException as error:
                self._stop(_signal_of(error))
                raise
        return [_build_return(job) for job in jobs]

    def _build_job(self, overrides: list[str], number: int) -> Job:
        own = name_own(filter_overrides(overrides), self.dispatch.typed)
        for_all = cast("list[str]", OmegaConf.to_container(self.config.hydra.overrides.hydra, resolve=False))
        overrides = [*for_all, *overrides]
        config = compose_job(self.context.config_loader, self.dispatch.name, overrides, number)
        job = Job(number, own, overrides, config)
        job.move(str(config.hydra.sweep.subdir))
        return job

    def _begin(self, job: Job, devices: deque[str | None], threads: int | None) -> None:
        """Report the results of a job that has completed, or start a process for it on the first of the devices."""
        try:
            self._settle_folder(job)
            objective = self.dispatch.answer_job(job.config, ended=False)
            if objective is None:
                self._start(job, devices[0], threads)
                devices.popleft()
        except LmtuneError as error:
            self._tell_failure(job, "cannot run", f"error: {error}", error.exit_code)
            return
        if objective is not None:
            job.objective = objective
            logger.info("%s: this run has completed", job)
            return
        logger.info("%s begins; what it says: %s", job, shorten(job.log))

    def _settle_folder(self, job: Job) -> None:
        """Give a job the next free folder if its own holds another job's run and resume=auto finds no run of it.

        Jobs are renumbered if a sweep is resumed with another value, or with its values in another order.
        """
        taken = is_taken(job.folder)
        if not taken or not self.dispatch.begins_job(job.config):
            return
        parent, name = job.folder.parent, job.folder.name
        free = next(each for each in number_names(name) if not is_taken(parent / each))
        job.move(str(Path(job.config.hydra.sweep.subdir).with_name(free)))
        logger.info("%s: %s holds the run of another job, so it gets %s", job, shorten(parent / name), free)

    def _start(self, job: Job, device: str | None, threads: int | None) -> None:
        """Start the process of a job. Raises CheckpointError if it cannot be started, or its log cannot be written."""
        try:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            with job.log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "lmtune.cli.job", str(job)],  # the last argument is for lists of processes
                    env=build_environment(device, threads),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # else Ctrl-C would reach it twice and end it without a checkpoint
                )
                line = JobLine(job.number, job.name, job.folder)
                self.running.append(Running(job, process, device, log.tell(), line))
        except OSError as error:
            raise CheckpointError(
                f"{job}: expected a process for it, and {shorten(job.log)} for what it says; found: {error.strerror or error}. "
                f"Make room or mend the folder, then give the same command with hydra.sweep.dir={self.config.hydra.sweep.dir} "
                "resume=auto."
            ) from error
        told = pickle.dumps((self.dispatch, job.overrides, job.number))
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which is reported later
            process.stdin.write(b"%d\n" % len(told) + told)
            process.stdin.flush()  # and stays open: the job ends when it closes

    def _end(self, ended: Running) -> None:
        job, code = ended.job, ended.process.returncode
        assert ended.process.stdin is not None
        ended.process.stdin.close()
        try:
            objective = self.dispatch.answer_job(job.config, ended=True)
        except LmtuneError as error:  # the folder is not as the job has left it
            self._tell_failure(job, "has ended, and its results do not read", f"error: {error}", error.exit_code)
            return
        job.objective = math.nan if objective is None else objective
        if code != 0:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._tell_failure(job, how, find_reason(job.log, ended.said), code)
        elif objective is None:
            reason = f"error: {shorten(job.folder)}: expected the results of a run, found none. Was the folder moved?"
            self._tell_failure(job, "has ended, and left no results", reason, CheckpointError.exit_code)
        else:
            took = render_duration(time.monotonic() - ended.line.begun)
            logger.info("%s is done after %s; run folder: %s", job, took, shorten(self.dispatch.jobs[-1]))

    def _tell_failure(self, job: Job, how: str, reason: str, code: int) -> None:
        logger.info("%s %s:", job, how)
        sys.stderr.write(f"{reason}\n")
        self.dispatch.note_failure(code)
        self.work.failed += 1

    def _stop(self, number: int) -> None:
        """Forward a signal to the jobs, which save a checkpoint, and wait for them; a second signal ends them at once."""
        while self.running:
            logger.info("handing %s on to %d jobs", signal.Signals(number).name, len(self.running))
            for each in self.running:
                each.process.send_signal(number)
            try:
                for each in self.running:
                    each.process.wait()
                    logger.info("%s has ended; its log: %s", each.job, shorten(each.job.log))
                self.running.clear()
            except (Stopped, KeyboardInterrupt) as again:
                number = _signal_of(again)
        logger.info("to go on: the same command with hydra.sweep.dir=%s resume=auto", self.config.hydra.sweep.dir)


def is_taken(folder: Path) -> bool:
    """True if something other than an empty folder has this name."""
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False
    except OSError:  # a file, or a folder that may not be read
        return True


def name_own(overrides: Sequence[str], typed: Typed) -> str:
    """The overrides that a sweep varies or, if a sweeper other than Hydra's own chose them, those that were not typed."""
    keys = {text: text.partition("=")[0].lstrip("+") for text in overrides}
    swept = [text for text in overrides if keys[text] in typed.swept]
    return ", ".join(swept or [text for text in overrides if keys[text] not in typed.keys])


def list_slots(config: DictConfig, jobs: int) -> list[str | None]:
    """The CUDA_VISIBLE_DEVICES of each job that runs at the same time; None on a machine without GPUs."""
    import torch

    use_cpu = OmegaConf.select(config, "training.use_cpu", throw_on_missing=False)
    count = 0 if use_cpu else torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(number) for number in range(count)]
    devices: list[str | None] = [*names[:count]] or [None]
    at_once = min(config.sweep.jobs or len(devices), jobs)
    return [devices[number % len(devices)] for number in range(at_once)]


def count_threads(at_once: int) -> int | None:
    """CPU threads for each of several jobs; None if a job has all of them, or the user has set the number."""
    import torch

    if at_once == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, torch.get_num_threads() // at_once)


def build_environment(device: str | None, threads: int | None) -> dict[str, str]:
    """The environment of a job, which imports modules from where this process does, not from the working directory."""
    places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"}
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def find_reason(log: Path, said: int) -> str:
    """What ended a job: the error at the end of its log, or the last lines. said: bytes to skip."""
    try:
        text = log.read_bytes()[said:].decode(errors="replace").strip()
    except OSError as fault:
        return f"what it has said is lost: {shorten(log)}: {fault.strerror}"
    _, error, reason = f"\n{text}".rpartition("\nerror: ")
    return f"error: {reason}" if error else "\n".join([*text.splitlines()[-LAST_LINES:], f"all of it: {shorten(log)}"])


def _signal_of(error: BaseException) -> int:
    """The signal to forward to the jobs if this error ends the sweep."""
    usual = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
    return getattr(error, "signal_number", usual)


def _build_return(job: Job) -> JobReturn:
    done = JobReturn(overrides=job.overrides, cfg=job.config, status=JobStatus.COMPLETED)
    done.return_value = job.objective
    return done
