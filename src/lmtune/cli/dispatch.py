"""From the keys of a command to its configuration, composed by Hydra, and to its result."""

import importlib
import logging
import math
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtune import console, launcher, patience
from lmtune.cli.commands import COMMANDS
from lmtune.cli.options import Options
from lmtune.environment import set_waiting
from lmtune.errors import ConfigError, LmtuneError, PushError
from lmtune.secrets import hide_secrets
from lmtune.upstream import Typed

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lmtune.commands.result import Result

logger = logging.getLogger(__name__)


class Dispatch:
    """A command with its options: composes its configuration with Hydra, and runs it."""

    def __init__(self, name: str, options: Options, *, checks: bool = False) -> None:
        self.name = name
        self.checks = checks
        """`lmtune check` reports on the command instead of running it."""
        self.options = options
        self.exit_code = 0
        self.keys: list[str] = []
        self.typed = Typed()
        """What was typed on the command line."""
        self.told: dict[str, Any] = {}
        """The recorded configuration of the run that resume= names."""
        self.jobs: list[Path] = []
        """Run folders of the jobs of a sweep that ran in this process."""
        self.origins: dict[str, str] = {}
        """The place that each key's value comes from, for `lmtune check`."""

    def run(self, keys: list[str]) -> int:
        """Run the command, or each job of a sweep; return the exit code."""
        with self._gathering(keys), ExitStack() as stack:
            overrides = self._prepare(keys, stack)
            try:
                self._run_hydra(overrides)
            except LmtuneError as error:
                if not error.reported:
                    raise
                self.exit_code = error.exit_code
            if self.name == "train" and self.options.multirun and not self.options.shows:
                self._print_sweep(overrides)
        return self.exit_code

    def compose(self, keys: list[str]) -> Any:
        """The checked configuration of one job, which is not run. Raises ConfigError for settings that cannot work."""
        from lmtune.cli.schemas import find_conf
        from lmtune.cli.sweeps import composed

        with _suggesting(keys), explained(self.name), ExitStack() as stack:
            overrides = self._prepare(keys, stack)
            return self._build_config(stack.enter_context(composed(self.name, overrides, find_conf())))

    @contextmanager
    def _gathering(self, keys: list[str]) -> Iterator[None]:
        """Raise errors of composition in our words, together with every other mistake in the keys."""
        with _suggesting(keys):
            try:
                with explained(self.name):
                    yield
            except LmtuneError as error:
                from lmtune.cli.faults import gather

                found = gather(error, self.name, keys)
                if found is error:
                    raise
                raise found from error

    def _prepare(self, keys: list[str], stack: ExitStack) -> list[str]:
        """Overrides as Hydra reads them. Makes the folder of a sweep, once all its jobs have been checked."""
        from lmtune.cli import composition, sweeps
        from lmtune.cli.effects.typed import check_sections
        from lmtune.cli.origins import trace
        from lmtune.cli.overrides import (
            check_forms,
            find_typed,
            gather_words,
            list_implied,
            prepare_overrides,
            spell_out,
        )
        from lmtune.cli.run_names import settle_names
        from lmtune.cli.schemas import find_conf
        from lmtune.cli.strays import check_strays
        from lmtune.cli.user_conf.typed import check_hydra_overrides

        os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise instead of printing and exiting by itself
        keys = spell_out(settle_names(self.name, gather_words(self.name, keys)))
        self.keys = keys
        composition.register(self.name, self.options.config_dir)
        check_hydra_overrides(keys)
        check_strays(self.name, keys)
        check_forms(keys)
        self.typed = find_typed(keys)
        check_sections(self.name, self.typed)
        overrides = prepare_overrides([*list_implied(self.name, keys), *self._restore(keys, stack)])
        if not self.options.multirun:
            sweeps.check_single(overrides)
            if (self.name == "check" or self.checks) and not self.told:
                self.origins = trace(self.name, keys)
        elif not self.options.shows:
            conf = find_conf()
            overrides = sweeps.settle_launcher(overrides)
            sweeps.check_jobs(sweeps.list_jobs(overrides, conf) or [], self.name, conf, self._check_job)
            settle = sweeps.settled_folder if self.name == "train" else sweeps.passing_folder
            overrides = stack.enter_context(settle(overrides))
        return overrides

    def _restore(self, keys: list[str], stack: ExitStack) -> list[str]:
        """For `resume=RUN`, put the recorded configuration of RUN before the keys that are typed now."""
        from lmtune.runs import find_resumed

        typed = dict(text.split("=", 1) for text in keys if "=" in text)
        folder = typed.get("resume") or typed.get("training.resume_from_checkpoint") or "off"
        if not COMMANDS[self.name].resumes or folder in ("off", "auto", "null"):
            return keys
        from lmtune.cli import resumption

        self.told = find_resumed(folder).load_config()
        stack.callback(resumption.forget)
        return [*resumption.restore_overrides(self.told, keys), *resumption.drop_repeated(self.told, keys)]

    def _run_hydra(self, overrides: list[str]) -> None:
        import hydra

        from lmtune.cli.schemas import find_conf

        sys.argv = ["lmtune", *self.options.render(), *overrides]
        main = hydra.main(version_base="1.3", config_path=str(find_conf()), config_name=self.name)
        with ExitStack() as stack:
            if self.options.shows:  # Hydra prints it to stdout
                stack.enter_context(redirect_stdout(stack.enter_context(console.lend_results())))
            main(self.run_job)()

    def _check_job(self, node: "DictConfig") -> None:
        """Raise the errors of a job that can be found before any is run."""
        config = self._build_config(node)
        if COMMANDS[self.name].trains:
            from lmtune.training.setup import check_training

            check_training(config)

    def _build_config(self, node: "DictConfig") -> Any:
        from lmtune.cli.composition import build_config
        from lmtune.cli.schemas import SCHEMAS

        config: Any = build_config(node, SCHEMAS[self.name], self.typed, self.told)
        if self.name == "check":
            config.origins = self.origins or _trace_job()
        return config

    def run_job(self, node: "DictConfig") -> float | None:
        """Hydra's task function: run one job. Returns the value that a sweeper minimises."""
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        sweeping = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            with self._gathering(self.keys):
                config = self._build_config(node)
            if self.name == "train":
                _choose_hydra_folder(config, sweeping)
            with _suggesting(self.keys):
                return self._run_command(config)
        except LmtuneError as error:
            return self._end_job(error, sweeping)

    def answer_job(self, whole: "DictConfig", *, ended: bool) -> float | None:
        """Print the results of a job that another process has completed.

        Returns the value that a sweeper minimises, or None without results.
        whole: its configuration with Hydra's. ended: the process belonged to this sweep, so the results are in the job's folder;
        otherwise they are those that resume=auto finds.
        """
        from lmtune.commands.train import find_answer

        config = self._build_job_config(whole)
        result = find_answer(config, ended=ended)
        return None if result is None else self._print_result(config, result)

    def begins_job(self, whole: "DictConfig") -> bool:
        """True for a job of a sweep that resume=auto finds no run of, so that it begins one."""
        from lmtune.commands.train import begins

        return begins(self._build_job_config(whole))

    def _build_job_config(self, whole: "DictConfig") -> Any:
        """The configuration of a job of a sweep, from its own with Hydra's."""
        from lmtune.cli.sweeps import in_force

        with in_force(whole) as node:
            config = self._build_config(node)
            _choose_hydra_folder(config, sweeping=True)
        return config

    def note_failure(self, code: int) -> None:
        """Record that a job in another process has failed: the sweep ends with 2 if any job did, else with 1."""
        self.exit_code = 2 if 2 in (code, self.exit_code) else 1

    def _run_command(self, config: Any) -> float | None:
        set_waiting()
        patience.turn_to("loading libraries")
        run = importlib.import_module(COMMANDS[self.name].module).run
        if self.checks:
            from lmtune.commands.check import run_range

            run = partial(run_range, origins=self.origins or _trace_job())
        with console.lend_results():  # in a process that a launcher has started, this sets up the console
            try:
                result: Result = run(config)
            except PushError as error:
                if error.result is not None:  # the run has completed, whatever became of the push
                    self._print_result(config, error.result)
                raise
            return self._print_result(config, result)

    def _print_result(self, config: Any, result: "Result") -> float | None:
        from lmtune.cli.output import write_result

        with console.lend_results() as stdout:
            write_result(result, config.format, stdout)
        if self.name == "train" and isinstance(result.values, dict):
            self.jobs.append(Path(result.values["folder"]))
        for hint in result.hints:
            logger.info("%s", hint)
        return result.objective

    def _print_sweep(self, overrides: list[str]) -> None:
        """Print the jobs of a sweep side by side after their own results.

        As JSON, only the results are printed, one document per job.
        """
        from lmtune.cli.output import write_result
        from lmtune.cli.sweeps import find_folder
        from lmtune.commands.compare import compare, find_folders
        from lmtune.config import ComparisonFormat
        from lmtune.paths import shorten

        sweep = find_folder(overrides)
        if sweep is None or not sweep.is_dir() or not console.is_first_process():
            return
        folders = find_folders(map(str, dict.fromkeys([sweep, *self.jobs])))
        if len(folders) < 2:
            return
        if self.typed.values.get("format") != "json":
            with console.lend_results() as stdout:
                stdout.write("\n")
                write_result(compare(folders, ComparisonFormat.table), ComparisonFormat.table, stdout)
        logger.info("side by side again, and as a page: lmtune compare %s output=comparison.html", shorten(sweep))

    def _end_job(self, error: LmtuneError, sweeping: bool) -> float | None:
        """Report at once what ended a job, which Hydra would keep until the end of the sweep; the others go on."""
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        if sweeping:
            logger.info("job %s of the sweep (%s):", hydra.job.num, hydra.job.override_dirname)
        self.exit_code = report(error)
        if isinstance(error, PushError) and error.result is not None:
            return error.result.objective
        if not sweeping:
            return None
        if hydra.runtime.choices["hydra/launcher"] in ("basic", "processes"):
            return math.nan
        error.reported = True  # another process has reported it; the launcher must still see it
        raise error


def report(error: BaseException) -> int:
    """Write what went wrong to stderr in one paragraph, once for all processes of a launcher; return the exit code."""
    if os.environ.get("LMTUNE_DEBUG") == "1":
        traceback.print_exception(error, file=sys.stderr)
    if launcher.is_first_to_say(str(error)):
        sys.stderr.write(hide_secrets(f"error: {error}\n"))
    return getattr(error, "exit_code", 1)


@contextmanager
def _suggesting(keys: list[str]) -> Iterator[None]:
    """Add to an error the word that was probably meant where a key takes names and words."""
    try:
        yield
    except LmtuneError as error:
        from lmtune.cli.faults import suggest_word

        suggest_word(error, keys)
        raise


@contextmanager
def explained(command: str) -> Iterator[None]:
    """Turn errors that Hydra and OmegaConf raise during composition into LmtuneError in our words."""
    from lmtune.cli.explain import HYDRA_ERRORS, explain_error

    try:
        yield
    except HYDRA_ERRORS as error:
        raise LmtuneError(explain_error(error, command)) from error
    except RecursionError as error:
        raise ConfigError(
            "The configuration names itself: a value that takes its own, or a file that lists itself."
        ) from error
    except ValueError as error:
        if "Config group override" in str(error):
            raise LmtuneError(
                f"{error}: a group takes the name of one of its files, such as training=default."
            ) from error
        raise


def _trace_job() -> dict[str, str]:
    """For a job of a sweep: the origins of the keys that it, or every job, was given; {} otherwise."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if HydraConfig.get().mode != RunMode.MULTIRUN:
        return {}
    task = HydraConfig.get().overrides.task
    return {text.partition("=")[0].lstrip("+"): "the command line" for text in task}


def _choose_hydra_folder(config: Any, sweeping: bool) -> None:
    """Use the folder that Hydra gives to a job of a sweep, or that the user set by hydra.run.dir=."""
    from hydra.core.hydra_config import HydraConfig

    folder = str(HydraConfig.get().runtime.output_dir)
    if sweeping:
        config.job_folder = folder
    elif config.output is None and not Path(folder).samefile(Path.cwd()):
        config.output = folder
