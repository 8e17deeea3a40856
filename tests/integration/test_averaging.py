"""average.last=: the mean of the last weights, scored beside the last, kept if better, resumed to the same bits."""

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from test_resume import STEPS, stop_halfway, weights

from lmtune import load_config
from lmtune.errors import ConfigError
from lmtune.reporting.record import load_record
from lmtune.runs import Run
from lmtune.training.averaging import MOST_POINTS, TailAverage, build_average, takes

FAST = (*STEPS, "training.lr_scheduler_type=constant", "training.learning_rate=0.1", "training.logging_steps=4")


def list_points(steps, share):
    return [step for step in range(1, steps + 1) if takes(step, steps, share)]


@pytest.mark.parametrize(
    ("steps", "share", "expected"),
    [(10, 0.2, [9, 10]), (10, 1.0, list(range(1, 11))), (3, 0.01, [3]), (1, 0.5, [1]), (10, 0.25, [9, 10])],
)
def test_the_end_is_the_last_part_of_the_steps(steps, share, expected):
    assert list_points(steps, share) == expected


@pytest.mark.parametrize("steps", [500, 501, 12_345])
def test_of_many_steps_some_are_taken_at_equal_distances(steps):
    points = list_points(steps, 0.2)
    assert points[-1] == steps
    assert MOST_POINTS / 2 < len(points) <= MOST_POINTS
    assert len({later - earlier for earlier, later in pairwise(points)}) == 1


def test_the_mean_is_that_of_the_weights_and_comes_back_from_a_checkpoint(build_tiny, tmp_path):
    model = build_tiny()
    average = TailAverage(model, 0.5)
    name, weight = next(iter(model.named_parameters()))
    taken = []
    for step in (3, 4, 5):
        with torch.no_grad():
            weight.add_(0.1 * step)
        taken.append(weight.detach().clone())
        average.add(step)
        if step == 4:
            (tmp_path / "checkpoint").mkdir()
            average.save(tmp_path / "checkpoint")
    torch.testing.assert_close(average.means[name], torch.stack(taken).mean(0))
    again = TailAverage(model, 0.5)
    again.load(tmp_path / "checkpoint")
    again.add(5)
    assert (again.points, again.first) == (3, 3)
    assert all(torch.equal(again.means[each], average.means[each]) for each in average.means)
    again.load(None)
    assert (again.points, again.means) == (0, {})


@pytest.mark.slow
def test_a_run_is_resumed_to_the_same_average_and_ends_with_the_better_weights(lmtune, tmp_path):
    answer = lmtune("train", *FAST, "average.last=0.75", "output=run", "samples.enabled=true", "prompts=Era uma vez")
    assert answer.code == 0, answer.err
    run = Run(tmp_path / "run")
    expected, results = weights(run), run.load_results()
    found = results["average"]
    assert (found["points"], found["first_step"], found["kept"]) == (3, 2, True)
    evaluated = [line["eval_bits_per_byte"] for line in run.load_metrics() if "eval_bits_per_byte" in line]
    assert found["bits_per_byte"] < found["without"] == min(evaluated)
    assert results["eval"]["sample"]["while_training"]["after"]["bits_per_byte"] == found["bits_per_byte"]
    assert "the average of 3 steps from step 2 on has" in answer.out
    assert load_record(run.folder).faults == []
    means = load_file(run.folder / "checkpoint-4" / "average" / "weights.safetensors")
    model = load_file(run.model_folder / "model.safetensors")
    assert all(torch.equal(model[name], mean) for name, mean in means.items())
    assert json.loads(run.samples_file.read_text().splitlines()[-1])["average"] is True
    assert "The model is the average of the weights of 3 steps" in (run.model_folder / "README.md").read_text()
    assert "The run ends with the average of the weights of 3 steps" in run.report_file.read_text()
    stop_halfway(run.folder)
    answer = lmtune("train", f"resume={run.folder}")
    assert answer.code == 0, answer.err
    assert weights(run) == expected
    assert run.load_results()["average"] == found
    longer = lmtune("train", f"resume={run.folder}", "training.max_steps=6")
    assert longer.code == 2
    assert "the average of its weights began where the end was planned" in longer.err


@pytest.mark.slow
def test_an_average_that_is_worse_is_left(lmtune, tmp_path):
    """While the rate is small, each step is better than those before it."""
    slow = (*STEPS, "training.lr_scheduler_type=constant", "training.learning_rate=0.0005")
    plain = lmtune("train", *slow, "output=plain")
    answer = lmtune("train", *slow, "average.last=1", "output=run")
    assert (plain.code, answer.code) == (0, 0), answer.err
    found = Run(tmp_path / "run").load_results()["average"]
    assert (found["points"], found["kept"]) == (4, False)
    assert "it is not kept" in answer.out
    assert weights(Run(tmp_path / "run")) == weights(Run(tmp_path / "plain"))


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("average.last=20%",), "average.last=20%: expected a number, found a percentage. Write average.last=0.2."),
        (("average.last=20",), "average.last=20.0: expected more than 0 and at most 1"),
        (("average.last=0.2", "data.validation_fraction=0"), "average.last needs held-out text"),
    ],
)
def test_what_no_average_can_be_of_is_refused(lmtune, typed, words):
    answer = lmtune("train", *STEPS, *typed)
    assert answer.code == 2
    assert words in answer.err


def test_divided_weights_have_no_average(build_tiny):
    config = load_config("train", ["average.last=0.2"])
    config.training["deepspeed"] = "zero2.json"
    with pytest.raises(ConfigError, match=r"found training\.deepspeed, which divides them"):
        config._check_average()
    trainer = SimpleNamespace(is_deepspeed_enabled=True, model=build_tiny())
    with pytest.raises(ConfigError, match="needs whole weights in each process"):
        build_average(trainer, 0.2)
    assert build_average(trainer, None) is None
