"""finetune=lora: low-rank adapters (Hu et al. 2021, arXiv:2106.09685) by peft, put on before training and merged after it."""

import importlib.util
from typing import Any

from lmtune.config import FinetuneConfig, ModelConfig, ModelInit, Transplant
from lmtune.errors import ConfigError, ModelError


def check_adapter(finetune: FinetuneConfig, model: ModelConfig) -> None:
    """Raise ConfigError, before anything is loaded, where peft is missing or the adapter could never be loaded again."""
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("finetune=lora needs the package peft, which is not installed. pip install 'lmtune[lora]'")
    if not finetune.merge and (model.init is ModelInit.scratch or model.transplant is not Transplant.off):
        raise ConfigError(
            "finetune.merge=false keeps the adapter alone, which needs its base as it lies at model.path=; found weights made for "
            "this run (model.init=scratch or model.transplant=). Leave finetune.merge=true."
        )


def add_adapter(model: Any, config: FinetuneConfig) -> Any:
    """`model` with an adapter on it, as a PeftModel; only the adapter learns, and embeddings and head where asked for.

    Raises ConfigError for modules that no adapter fits.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    whole = [names[id(module)].rpartition(".")[2] for module in (embedding, head)]
    _check_targets(model, config.target_modules, whole)
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules or "all-linear",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        # With the embedding alone in here, peft unties the head without a word, and it keeps its old rows.
        modules_to_save=whole if config.embeddings else None,
        ensure_weight_tying=config.embeddings and head.weight is embedding.weight,
    )
    try:
        return get_peft_model(model, settings)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"finetune=lora: {' '.join(str(error).split())}") from error


def merge_adapter(model: Any) -> Any:
    """The model with its adapter added into the weights, in float32. Raises ModelError where that gives no finite number."""
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(f"The adapter cannot be merged: {error}. Keep it apart with finetune.merge=false.") from error


def _check_targets(model: Any, targets: list[str], whole: list[str]) -> None:
    """Adapters on embedding or head are refused: merged into tied weights they come out wrong."""
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    for target in targets:
        last = target.rpartition(".")[2]
        if last in whole:
            raise ConfigError(
                f"finetune.target_modules names {target}, an embedding or the head, whose merged weights would be wrong. "
                "Let them learn whole with finetune.embeddings=true, and leave it out here."
            )
        if last not in present:
            raise ConfigError(
                f"finetune.target_modules names {target}, which {type(model).__name__} does not have. Leave it out for all "
                "linear layers of the blocks."
            )
