"""A run that is killed anywhere ends with the bits of the run that was not."""

import random
import shutil

import killing
import pytest

EPOCHS = ("training.eval_strategy=epoch", "training.num_train_epochs=2", "training.max_steps=-1")
OFTEN = ("training.save_steps=2", "training.load_best_model_at_end=false", "training.max_steps=30")
PATIENCE = ("early_stopping.patience=1", "training.learning_rate=0.1")


def survive(folder, kills, *overrides, world_size=1, seed=0):
    (folder / "straight").mkdir()
    seconds, expected = killing.undisturbed(folder / "straight", overrides, world_size)
    draw, total = random.Random(seed), killing.Tally()
    while total.kills < kills:
        life = folder / f"{total.ended}"
        life.mkdir()
        tally, differences = killing.disturb(
            life, kills - total.kills, draw, expected, seconds, overrides, world_size=world_size
        )
        assert differences == [], tally
        total += tally
    assert (total.kills, total.lost, total.equal) == (kills, 0, total.ended), total


def test_five_kills_leave_no_trace(tmp_path):
    """60 steps, 40 to an epoch, with accumulation; saves fall within epochs and between two logs."""
    accumulate = ("training.per_device_train_batch_size=4", "training.gradient_accumulation_steps=2")
    survive(tmp_path, 5, *accumulate, "training.logging_steps=7", "training.eval_steps=12")


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), EPOCHS, OFTEN, PATIENCE], ids=["steps", "epochs", "often", "patience"])
def test_kills_leave_no_trace_whatever_the_schedule(tmp_path, overrides):
    survive(tmp_path, 8, *overrides)


@pytest.mark.slow
def test_kills_leave_no_trace_in_two_processes(tmp_path):
    survive(tmp_path, 6, "training.per_device_train_batch_size=4", "training.logging_steps=3", world_size=2)


@pytest.mark.slow
@pytest.mark.parametrize("world_size", [1, 2])
def test_a_run_killed_after_its_last_save_only_ends(tmp_path, world_size):
    overrides = ("training.max_steps=10", "training.per_device_train_batch_size=4")
    training = killing.Training(tmp_path, overrides, world_size)
    training.start()
    training.finish()
    (run,) = training.runs
    expected = killing.load_outcome(run)
    run.write_results({**run.find_results(), "status": "running"})
    shutil.rmtree(run.model_folder)
    training.start("resume=auto")
    training.finish()
    assert expected.differences(killing.load_outcome(run)) == []
