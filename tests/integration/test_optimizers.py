"""Every optimizer that transformers has a name for is one of three: it resumes to the same bits, is refused, or lacks something."""

import importlib.util

import pytest
from test_resume import STEPS, stop_halfway, weights

from lmtune.config.optimizers import SCHEDULE_FREE, UNFIT_OPTIMIZERS
from lmtune.runs import Run

PACKAGES = {
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"), "torch"),
    **dict.fromkeys(("adamw_torch_4bit", "adamw_torch_8bit"), "torchao"),
    "stable_adamw": "optimi",
    **dict.fromkeys(SCHEDULE_FREE, "schedulefree"),
    **dict.fromkeys(
        (
            *(
                "adamw_bnb_8bit",
                "adamw_8bit",
                "ademamix",
                "ademamix_8bit",
                "lion_8bit",
                "lion_32bit",
                "paged_adamw_32bit",
            ),
            *("paged_adamw_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "paged_lion_32bit", "paged_lion_8bit"),
            *("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
        ),
        "bitsandbytes",
    ),
}
"""By optimizer, what it is from."""
ELSEWHERE = {"adamw_torch_xla", "adamw_torch_npu_fused", "adamw_anyprecision"}
"""For TPUs and NPUs, and of torchdistx, which torch of today has no build of."""


OF_ITS_OWN = {"muon"}
"""No name of transformers', and answered with the key that it has here."""


def test_every_name_is_tried_refused_or_for_other_machines():
    from transformers.training_args import OptimizerNames

    tried = PACKAGES.keys() | UNFIT_OPTIMIZERS.keys() | ELSEWHERE
    assert {name.value for name in OptimizerNames} | OF_ITS_OWN == tried
    assert not PACKAGES.keys() & UNFIT_OPTIMIZERS.keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", PACKAGES)
def test_a_run_that_was_stopped_ends_with_the_same_bits(lmtune, tmp_path, name):
    if importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    answer = lmtune("train", f"training.optim={name}", *STEPS, "output=run")
    assert answer.code == 0, answer.err
    expected = weights(Run(tmp_path / "run"))
    stop_halfway(tmp_path / "run")
    answer = lmtune("train", f"resume={tmp_path / 'run'}")
    assert answer.code == 0, answer.err
    assert "resuming from checkpoint-2" in answer.err
    assert weights(Run(tmp_path / "run")) == expected
