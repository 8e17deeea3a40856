"""`lmtune train`: fine-tune one causal language model.

lmtune train data=bio model=gpt2-small-pt
"""

from lmtune.commands.result import Result
from lmtune.config import TrainConfig
from lmtune.errors import PushError
from lmtune.paths import shorten
from lmtune.reporting.next_steps import render_next
from lmtune.reporting.tables import render_run
from lmtune.training.publishing import push
from lmtune.training.results import find_objective
from lmtune.training.session import Session


def run(config: TrainConfig) -> Result:
    """Train as configured; a run that has completed is answered from its results.

    Raises PushError, with the result, where the model of a completed run does not get to the Hub.
    """
    with Session.open(config) as session:
        results = session.run()
    folder = session.context.run.folder
    result = Result(
        {**results, "folder": str(folder)},
        lambda: [*render_run(results), f"run folder: {shorten(folder)}"],
        find_objective(results, config.objective),
        [] if config.job_folder else render_next(session.context.run, [] if config.private else config.prompts),
    )
    try:
        if session.context.is_main:
            push(session.context.run, config, session.setup.target, results)
    except PushError as error:
        error.result = result
        raise
    return result
