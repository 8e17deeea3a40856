"""EleutherAI's lm-evaluation-harness on one of our checkpoints. Its tasks stay its own: nothing of them is rewritten here.

Task files of one's own are data: they may build on the harness's own tasks, and bring no code.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from lmtune.errors import ConfigError, DataError, first_line
from lmtune.foreign import sealed
from lmtune.paths import GivenPath, describe, show
from lmtune.versions import render_install
from lmtune.vocabulary import encode_opening

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CODE_KEYS = {
    "class": "a Python class",
    "unsafe_code": "the running of code that the model writes",
    "use_prompt": "prompts of another package",
    "custom_dataset": "a function that loads data",
}
"""Keys of a task file, each with the code that it would run."""
PLAIN_METADATA = frozenset(["version", "description"])
"""The other entries of a task's metadata reach the harness's own functions, where a text can name a model to load."""


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # as the harness reads them
    """A YAML loader that refuses `!function`."""


class FunctionError(yaml.YAMLError):
    """A task file names a Python function."""


def _refuse_function(loader: Any, node: Any) -> NoReturn:
    raise FunctionError(f"!function {node.value}")


Loader.add_constructor("!function", _refuse_function)


def check_installed() -> None:
    """Raise ConfigError where the harness is not there."""
    if importlib.util.find_spec("lm_eval") is None:
        raise ConfigError(f"This suite runs EleutherAI's harness, which is not installed. {render_install('lm-eval')}")


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: list[str],
    context: int,
    batch_size: int,
    dtype: str,
    include: str | None = None,
    limit: int | None = None,
) -> dict[str, Any]:
    """Measures of each task by the harness's own names, with the version of the task under `protocol`.

    include: a folder of task files of one's own, which are then looked up first and alone where they hold all tasks.
    Raises ConfigError for tasks that the harness does not know or that run code, DataError for data that cannot be had.
    """
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM

    from lmtune.evaluation.scorer import plain_experts

    manager = _load_tasks(tasks, include)
    wrapped = HFLM(
        pretrained=model.to(getattr(torch, dtype)),
        tokenizer=tokenizer,
        batch_size=batch_size,
        max_length=context,
        softmax_dtype=torch.float32,
        trust_remote_code=False,
    )
    with _explained(tasks), sealed(), _sandboxed(), plain_experts(model, dtype):
        found = lm_eval.simple_evaluate(
            model=wrapped,
            tasks=tasks,
            task_manager=manager,
            bootstrap_iters=0,
            limit=limit,
            confirm_run_unsafe_code=False,
        )
    protocol = {
        "harness": f"lm-eval {lm_eval.__version__}",
        "context": context,
        "dtype": dtype,
        "limit": limit,
        "opening": list(encode_opening(tokenizer)),
    }
    return {task: _describe(found, task, protocol) for task in found["results"]}


def _describe(found: dict[str, Any], task: str, protocol: dict[str, Any]) -> dict[str, Any]:
    """The measures of a task with their protocol."""
    return {
        **{name.removesuffix(",none"): value for name, value in found["results"][task].items() if name != "alias"},
        "protocol": {
            **protocol,
            "limited": _describe_limit(found, task, protocol["limit"]),
            "task_version": found["versions"].get(task),
            "shots": found["n-shot"].get(task),
        },
    }


def _describe_limit(found: dict[str, Any], task: str, limit: int | None) -> dict[str, int | None] | None:
    """How many examples were scored, and of how many where the harness says so (not of groups); None where that is all."""
    counts = found.get("n-samples", {}).get(task)
    if not counts:
        return None if limit is None else {"examples": limit, "of_examples": None}
    if counts["effective"] >= counts["original"]:
        return None
    return {"examples": int(counts["effective"]), "of_examples": int(counts["original"])}


def _load_tasks(tasks: list[str], include: str | None) -> Any:
    """The harness's TaskManager that knows all tasks."""
    import lm_eval
    from lm_eval.api.registry import METRIC_REGISTRY
    from lm_eval.tasks import TaskManager

    if include is not None:
        include = str(
            resolve_task_folder(GivenPath("suite.include", include), Path(lm_eval.__file__).parent, METRIC_REGISTRY)
        )
    manager = TaskManager(include_path=include, include_defaults=False) if include else None
    if manager is None or not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=include)  # reads thousands of task files: seconds
    unknown = [task for task in tasks if task not in manager.all_tasks]
    if unknown:
        raise ConfigError(
            f"suite.tasks names {', '.join(unknown)}, which lm-eval {lm_eval.__version__} does not have. "
            "List what it has with: lm-eval ls tasks."
        )
    return manager


@contextmanager
def _explained(tasks: list[str]) -> Iterator[None]:
    """Turn the harness's errors about unsafe tasks and missing data into lmtune's."""
    try:
        yield
    except ValueError as error:
        if "marked as unsafe" not in str(error):
            raise
        raise ConfigError(
            f"suite.tasks={','.join(tasks)}: some of them run code that the model writes, which lmtune never does "
            f"({first_line(error)}). Leave them out."
        ) from error
    except (ConnectionError, FileNotFoundError) as error:  # what datasets raises for a set that it cannot get
        raise DataError(
            f"suite.tasks={','.join(tasks)}: the harness cannot get their data: {first_line(error)}. Check the network, or give "
            "suite.include= a folder with task files that name local copies."
        ) from error


def resolve_task_folder(given: GivenPath, harness: Path, metrics: Container[str]) -> Path:
    """The folder that `given` names; raise ConfigError where a task file in it would run code that is not the harness's own.

    harness: the folder of its package, whose task files may be included. metrics: names of those that it computes itself.
    """
    folder = given.expand()
    if not given.is_folder(folder):
        raise given.refuse("a folder with task files of the harness", describe(folder), "Check the path.")
    for file in given.walk_files(folder):
        if file.suffix == ".yaml":
            _check_file(given, file, harness, metrics, set())
    return folder


def _check_file(given: GivenPath, file: Path, harness: Path, metrics: Container[str], seen: set[Path]) -> None:
    real = given.resolve(file)
    if real in seen or real.is_relative_to(harness.resolve()) or not given.is_file(file):
        return
    seen.add(real)
    try:
        loaded = yaml.load(given.read_text(file, "a task file"), Loader=Loader)
    except FunctionError as fault:
        raise _refuse(given, file, str(fault)) from fault
    except (yaml.YAMLError, ValueError, RecursionError):
        return  # the harness passes over what does not read
    for task in _walk_tasks(loaded):
        _check_task(given, file, task, metrics)
        included = task.get("include") or []
        for name in included if isinstance(included, list) else [included]:
            _check_file(given, file.parent / str(name), harness, metrics, seen)


def _walk_tasks(loaded: Any) -> Iterator[dict[str, Any]]:
    """The task or group of a file, and the tasks written out inside a group."""
    if isinstance(loaded, dict):
        yield loaded
        inner = loaded.get("task")
        for each in inner if isinstance(inner, list) else []:
            yield from _walk_tasks(each)


def _check_task(given: GivenPath, file: Path, task: dict[str, Any], metrics: Container[str]) -> None:
    for key, what in CODE_KEYS.items():
        if task.get(key):
            raise _refuse(given, file, f"{key}, {what}")
    for metric in task.get("metric_list") or []:
        name = metric.get("metric") if isinstance(metric, dict) else metric
        if not isinstance(name, str) or name not in metrics or (isinstance(metric, dict) and metric.get("hf_evaluate")):
            raise _refuse(given, file, f"the metric {name}, which the harness would fetch as a script")
    metadata = task.get("metadata")
    for name, value in (metadata if isinstance(metadata, dict) else {}).items():
        if name not in PLAIN_METADATA and not isinstance(value, (int, float, type(None))):
            raise _refuse(given, file, f"metadata.{name}, which may name a model with code of its own")


def _refuse(given: GivenPath, file: Path, found: str) -> Exception:
    return given.refuse(
        "task files that bring no code, which lmtune never runs",
        f"{show(found)} in {show(file)}",
        "To use the harness's own functions, let the file include a task file of lm-eval.",
    )


@contextmanager
def _sandboxed() -> Iterator[None]:
    """Render the templates of task files in Jinja's sandbox, where they reach nothing but their row."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    plain = utils.env
    utils.env = ImmutableSandboxedEnvironment(
        loader=plain.loader, undefined=plain.undefined, keep_trailing_newline=plain.keep_trailing_newline
    )
    utils.env.filters.update(plain.filters)
    try:
        yield
    finally:
        utils.env = plain
