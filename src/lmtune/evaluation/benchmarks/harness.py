"""EleutherAI's lm-evaluation-harness on one of our checkpoints. Its tasks stay its own: nothing of them is rewritten here."""

import importlib.util
from typing import Any

from lmtune.errors import ConfigError, DataError, first_line


def check_installed() -> None:
    """Raise ConfigError where the harness is not there."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(
            "This suite runs EleutherAI's harness, which is not installed. Do: pip install 'lmtune[bench]'."
        )


def run_tasks(
    model: Any,
    tokenizer: Any,
    tasks: list[str],
    context: int,
    batch_size: int,
    dtype: str,
    include: str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Measures of each task by the harness's own names, with the version of the task under `protocol`.

    include: a folder of task files of one's own, which are then looked up first and alone where they hold all tasks.
    Raises ConfigError for tasks that the harness does not know, DataError for data that cannot be had.
    """
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include, include_defaults=False) if include else None
    if manager is None or not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=include)  # reads thousands of task files: seconds
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise ConfigError(
            f"suite.tasks names {', '.join(unknown)}, which lm-eval {lm_eval.__version__} does not have. "
            "List what it has with: lm-eval ls tasks."
        )
    asked = getattr(torch, dtype)
    wrapped = HFLM(
        pretrained=model.to(asked),
        tokenizer=tokenizer,
        batch_size=batch_size,
        max_length=context,
        softmax_dtype=torch.float32,
    )
    try:
        found = lm_eval.simple_evaluate(
            model=wrapped, tasks=tasks, task_manager=manager, bootstrap_iters=0, limit=limit
        )
    except (ConnectionError, FileNotFoundError) as error:  # what datasets raises for a set that it cannot get
        raise DataError(
            f"suite.tasks={','.join(tasks)}: the harness cannot get their data: {first_line(error)}. Check the network, or give "
            "suite.include= a folder with task files that name local copies."
        ) from error
    protocol = {"harness": f"lm-eval {lm_eval.__version__}", "context": context, "dtype": dtype, "limit": limit}
    return {
        task: {
            **{name.removesuffix(",none"): value for name, value in measures.items() if name != "alias"},
            "protocol": {**protocol, "task_version": found["versions"].get(task), "shots": found["n-shot"].get(task)},
        }
        for task, measures in found["results"].items()
    }
