"""The model that a run ends with: as it is scored, and as it is saved."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from lmtune.config import FinetuneConfig, FinetuneMethod, SaveDtype, TrainConfig
from lmtune.evaluation.protocol import hash_model
from lmtune.modeling import adapters, saving
from lmtune.modeling.layers import runs_in_step
from lmtune.training.distributed import agree, do_first

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from lmtune.training.trainer import LmTrainer


@dataclass(frozen=True, slots=True)
class FinalModel:
    """A trained model, ready to be scored and saved."""

    scored: "PreTrainedModel"
    saved: "PreTrainedModel | None"
    """The same one, or a whole copy on rank 0 where weights are spread over processes; None on the other ranks."""

    @property
    def whole(self) -> "PreTrainedModel":
        """The model as it is saved, which rank 0 has."""
        assert self.saved is not None, "only rank 0 has it"
        return self.saved

    def identify(self) -> str:
        """The hash of its weights. All processes take part."""
        return agree(lambda: hash_model(self.whole))


def take_final(trainer: "LmTrainer", config: TrainConfig) -> FinalModel:
    """The trained model in the precision it is saved in, its adapter merged in where that is asked for. All processes take part."""
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if not runs_in_step(trained):
        model = _finish(trained, config)
        return FinalModel(model, model)
    from lmtune.training.sharding import gather_model, spread_model

    gathered = gather_model(trained)
    whole = do_first(lambda: _finish(gathered, config))
    spread_model(trained, whole)
    return FinalModel(trained, whole)


def merges(finetune: FinetuneConfig) -> bool:
    """True if an adapter is merged into the weights at the end."""
    return finetune.method is FinetuneMethod.lora and finetune.merge


def is_as_trained(config: TrainConfig) -> bool:
    """True where the final model is the trained one, bit by bit."""
    return config.model.save_dtype is SaveDtype.float32 and not merges(config.finetune)


def _finish(trained: "PreTrainedModel | None", config: TrainConfig) -> "PreTrainedModel":
    assert trained is not None, "rank 0 has it"
    model = adapters.merge_adapter(cast("PeftModel", trained)) if merges(config.finetune) else trained
    saving.round_weights(model, config.model.save_dtype)
    return model
