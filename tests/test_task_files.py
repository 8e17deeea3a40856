"""Task files of one's own for EleutherAI's harness are data: they may include its own tasks, and bring no code."""

import sys
import types

import pytest

from lmtune.errors import ConfigError
from lmtune.evaluation.suites import harness
from lmtune.paths import GivenPath

METRICS = {"acc", "perplexity"}
TASKS = {
    "a function": ("process_docs: !function code.f", "!function code.f in "),
    "a function of Python's": ("metric_list: [{metric: !function os.system}]", "!function os.system in "),
    "a function deep inside": ("fewshot_config: {samples: [{a: !function code.f}]}", "!function code.f in "),
    "a class": ("class: Task", "class, a Python class in "),
    "code that the model writes": ("unsafe_code: true", "unsafe_code, the running of code that the model writes"),
    "prompts of elsewhere": ("use_prompt: prompts.yaml:a", "use_prompt, prompts of another package"),
    "a metric that is a script": ("metric_list: [{metric: ./code}]", "the metric ./code, which the harness would fetch as a script"),
    "a metric of the Hub": ("metric_list: [{metric: acc, hf_evaluate: true}]", "the metric acc, which"),
    "a model for the tokenizer": ("metadata: {version: 1, tokenizer: ./strange}", "metadata.tokenizer, which may name a model"),
    "an inclusion": ("include: ../other", "!function code.f in "),
    "a group": ("group: mine", None),
    "a group with a task in it": ("group: mine\ntask: [acc_task, {task: x, metric_list: [{metric: ./code}]}]", "the metric ./code"),
    "data": ("dataset_path: json\nmetric_list: [{metric: acc}]\nmetadata: {version: 2.0}\ndoc_to_text: '{{text}}'", None),
    "the harness's own": ("include: {harness}/tasks/own.yaml", None),
    "what does not read": ("!strange {", None),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_task_files_bring_no_code(tmp_path, name):
    content, expected = TASKS[name]
    (tmp_path / "harness" / "tasks").mkdir(parents=True)
    (tmp_path / "harness" / "tasks" / "own.yaml").write_text("task: own\nprocess_docs: !function own.f\n")
    (tmp_path / "other").write_text("process_docs: !function code.f\n")
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    task = "" if content.startswith("group") else "task: mine\n"
    (tmp_path / "mine" / "deep" / "task.yaml").write_text(
        task + content.replace("{harness}", str(tmp_path / "harness"))
    )
    if name == "an inclusion":
        (tmp_path / "mine" / "deep" / "task.yaml").write_text("task: mine\ninclude: ../../other\n")
    given = GivenPath("suite.include", str(tmp_path / "mine"))
    if expected is None:
        assert harness.resolve_task_folder(given, tmp_path / "harness", METRICS) == tmp_path / "mine"
        return
    with pytest.raises(ConfigError) as refused:
        harness.resolve_task_folder(given, tmp_path / "harness", METRICS)
    message = str(refused.value)
    assert message.startswith(f"suite.include={tmp_path / 'mine'}: expected task files that bring no code")
    assert expected in message
    assert "\n" not in message


def test_templates_of_task_files_reach_their_row_and_nothing_else(monkeypatch):
    import jinja2
    from jinja2.exceptions import SecurityError

    module = types.ModuleType("lm_eval.utils")
    module.env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    module.env.filters["shout"] = str.upper
    package = types.ModuleType("lm_eval")
    package.utils = module
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.utils", module)
    plain = module.env
    with harness._sandboxed():
        assert module.env.from_string("{{text.split(' ')[0]|shout}}\n").render(text="um dois") == "UM\n"
        with pytest.raises(SecurityError):
            module.env.from_string("{{ ''.__class__.__mro__[1].__subclasses__() }}").render()
        with pytest.raises(jinja2.UndefinedError):
            module.env.from_string("{{ absent }}").render()
    assert module.env is plain
