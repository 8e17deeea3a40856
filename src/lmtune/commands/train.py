"""`lmtune train`: fine-tune one causal language model.

lmtune train data=bio model=gpt2-small-pt
"""

from pathlib import Path

from lmtune.commands.result import Result
from lmtune.config import TrainConfig
from lmtune.errors import PushError
from lmtune.paths import shorten
from lmtune.reporting.next_steps import render_next, render_shortfall
from lmtune.reporting.tables import render_run
from lmtune.runs import Run
from lmtune.storage import Record
from lmtune.training.publishing import push
from lmtune.training.results import find_objective
from lmtune.training.resume import find_checked, find_run
from lmtune.training.session import Session
from lmtune.training.setup import render_settings


def run(config: TrainConfig) -> Result:
    """Train as configured; a run that has completed is answered from its results.

    Raises PushError, with the result, where the model of a completed run does not get to the Hub.
    """
    with Session.open(config) as session:
        results = session.run()
    result = build_result(config, session.context.run, results)
    try:
        if session.context.is_main:
            push(session.context.run, config, session.setup.target, results)
    except PushError as error:
        error.result = result
        raise
    return result


def build_result(config: TrainConfig, run: Run, results: Record) -> Result:
    """The result of a completed run."""
    return Result(
        {**results, "folder": str(run.folder)},
        lambda: [*render_run(results), f"run folder: {shorten(run.folder)}"],
        find_objective(results, config.objective),
        []
        if config.job_folder
        else [*render_shortfall(results), *render_next(run, [] if config.private else config.prompts)],
    )


def begins(config: TrainConfig) -> bool:
    """True where resume=auto finds no run to go on with."""
    return config.resume == "auto" and find_run(config, render_settings(config)) is None


def find_answer(config: TrainConfig, *, ended: bool) -> Result | None:
    """What a job of a sweep has found, read from its results.json; None where it has not completed.

    ended: its process has run to its end. Otherwise none may have been started yet: only what resume=auto finds counts, unless
    the model is still to be pushed. Raises LmtuneError where the job could not run.
    """
    plain = render_settings(config)
    if ended:
        run = find_run(config, plain) or Run(Path(str(config.job_folder)))
    else:
        found = find_checked(config, plain)
        if found is None or config.resume != "auto" or config.training.get("push_to_hub"):
            return None
        run = found
    results = run.find_results()
    return build_result(config, run, results) if results.get("status") == "completed" else None
