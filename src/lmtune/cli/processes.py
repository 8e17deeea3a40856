"""`hydra/launcher=processes`: each job of a sweep in a process of its own, as many at once as there are devices.

lmtune train -m seed=1,2,3,4 sweep.jobs=2

What a job says stands in <job>.log beside its folder. A job that has completed is answered from its results.json.
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
from omegaconf import DictConfig, OmegaConf, open_dict

from lmtune import stopping
from lmtune.cli.job import compose_job
from lmtune.cli.overrides import quote
from lmtune.cli.sweep_table import JobLine, SweepWork
from lmtune.errors import LmtuneError, Stopped
from lmtune.paths import shorten
from lmtune.patience import doing
from lmtune.units import render_count, render_duration
from lmtune.upstream import Typed

if TYPE_CHECKING:
    from lmtune.cli.dispatch import Dispatch

logger = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds between two looks at the jobs."""
LAST_LINES = 5
"""Lines of a job's output that are shown if it did not end with an error of lmtune's."""


@dataclass
class Job:
    """A job of a sweep."""

    number: int
    name: str
    """The overrides that are its own."""
    overrides: list[str]
    """All of them, with Hydra's own."""
    config: DictConfig
    objective: float = math.nan
    """What the sweeper minimises; nan for a job that has not completed."""

    @property
    def folder(self) -> Path:
        """The run folder, unless resume= finds another."""
        return Path(self.config.hydra.runtime.output_dir)

    @property
    def log(self) -> Path:
        """The file that its process logs to."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def __str__(self) -> str:
        return f"job {self.number} of the sweep ({self.name})"


@dataclass
class Running:
    """A job that has a process."""

    job: Job
    process: subprocess.Popen[bytes]
    device: str | None
    said: int
    """Bytes that an earlier process has left in the log."""
    line: JobLine


class ProcessesLauncher(Launcher):
    """Hydra makes one for each sweep, from its name below hydra_plugins."""

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
        """Run a batch of jobs to their end; those that fail leave the others alone."""
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
                    stopping.check()  # a signal that came in the middle of something may have been swallowed there
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
        folder = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir).absolute()
        with open_dict(config):
            config.hydra.runtime.output_dir = str(folder)
        settled = f"hydra.sweep.subdir={quote(config.hydra.sweep.subdir)}"
        return Job(number, own, [*overrides, settled], config)

    def _begin(self, job: Job, devices: deque[str | None], threads: int | None) -> None:
        """Answer a job that has completed, or start a process for it on the first of the devices."""
        try:
            objective = self.dispatch.answer_job(job.config, ended=False)
        except LmtuneError as error:
            self._tell_failure(job, "cannot run", f"error: {error}", error.exit_code)
            return
        if objective is not None:
            job.objective = objective
            logger.info("%s: this run has completed", job)
            return
        device = devices.popleft()
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lmtune.cli.job", str(job)],  # the last for those who look at processes
                env=build_environment(device, threads),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # or Ctrl-C would reach it twice, which ends it without a checkpoint
            )
            line = JobLine(job.number, job.name, job.folder)
            self.running.append(Running(job, process, device, log.tell(), line))
        told = pickle.dumps((self.dispatch, job.overrides, job.number))
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which is told in its turn
            process.stdin.write(b"%d\n" % len(told) + told)
            process.stdin.flush()  # and stays open: the job ends when it closes
        logger.info("%s begins; what it says: %s", job, shorten(job.log))

    def _end(self, ended: Running) -> None:
        job, code = ended.job, ended.process.returncode
        assert ended.process.stdin is not None
        ended.process.stdin.close()
        objective = self.dispatch.answer_job(job.config, ended=True)
        job.objective = math.nan if objective is None else objective
        if code != 0:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._tell_failure(job, how, find_reason(job.log, ended.said), code)
            return
        took = render_duration(time.monotonic() - ended.line.begun)
        logger.info("%s is done after %s; run folder: %s", job, took, shorten(self.dispatch.jobs[-1]))

    def _tell_failure(self, job: Job, how: str, reason: str, code: int) -> None:
        logger.info("%s %s:", job, how)
        sys.stderr.write(f"{reason}\n")
        self.dispatch.note_failure(code)
        self.work.failed += 1

    def _stop(self, number: int) -> None:
        """Hand a signal on to the jobs and wait for them, which save a checkpoint; a second one ends them at once."""
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


def name_own(overrides: Sequence[str], typed: Typed) -> str:
    """Those that a sweep varies; where another sweeper than Hydra's chose them, those that nobody typed."""
    keys = {text: text.partition("=")[0].lstrip("+") for text in overrides}
    swept = [text for text in overrides if keys[text] in typed.swept]
    return ", ".join(swept or [text for text in overrides if keys[text] not in typed.keys])


def list_slots(config: DictConfig, jobs: int) -> list[str | None]:
    """For each of the jobs that run at once, what it sees as CUDA_VISIBLE_DEVICES; None on a machine without GPUs."""
    import torch

    use_cpu = OmegaConf.select(config, "training.use_cpu", throw_on_missing=False)
    count = 0 if use_cpu else torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(number) for number in range(count)]
    devices: list[str | None] = [*names[:count]] or [None]
    at_once = min(config.sweep.jobs or len(devices), jobs)
    return [devices[number % len(devices)] for number in range(at_once)]


def count_threads(at_once: int) -> int | None:
    """Threads for each of several jobs; None where each has all, or the user has said how many."""
    import torch

    if at_once == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, torch.get_num_threads() // at_once)


def build_environment(device: str | None, threads: int | None) -> dict[str, str]:
    """The environment of a job, which finds its modules where this process does, and not where the user stands."""
    places = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    environment = {**os.environ, "PYTHONPATH": places, "PYTHONSAFEPATH": "1"}
    if device is not None:
        environment["CUDA_VISIBLE_DEVICES"] = device
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def find_reason(log: Path, said: int) -> str:
    """What ended a job: the error that its log ends with, or its last lines. said: bytes to pass over."""
    text = log.read_bytes()[said:].decode(errors="replace").strip()
    _, error, reason = f"\n{text}".rpartition("\nerror: ")
    return f"error: {reason}" if error else "\n".join([*text.splitlines()[-LAST_LINES:], f"all of it: {shorten(log)}"])


def _signal_of(error: BaseException) -> int:
    """The signal to hand on to the jobs where this ends the sweep."""
    usual = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
    return getattr(error, "signal_number", usual)


def _build_return(job: Job) -> JobReturn:
    done = JobReturn(overrides=job.overrides, cfg=job.config, status=JobStatus.COMPLETED)
    done.return_value = job.objective
    return done
