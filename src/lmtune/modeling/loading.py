"""Models: from weights or from scratch, with special ids and vocabulary that fit the tokenizer."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmtune import keys
from lmtune.config import ModelConfig, ModelInit, SaveDtype, Transplant
from lmtune.errors import CheckpointError, ConfigError, ModelError, first_line
from lmtune.hub import check_available, is_local
from lmtune.modeling import tokenizer as tokenizers
from lmtune.modeling.activations import fuse_activations
from lmtune.modeling.transplant import Move, plan_move, transplant
from lmtune.runs import Run, step_of

MAX_CONTEXT = 1024
"""Longest default window and block; models with more positions are asked for more by name."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `ckpt=` names: where the model lies, and the run it comes from, if any."""

    path: str
    run: Run | None


def check_model_source(config: ModelConfig) -> None:
    """Raise ModelError, within two seconds, for a path or Hub id that cannot be loaded."""
    given = {config.path, None if config.tokenizer == tokenizers.LEARN else config.tokenizer}
    for path in filter(None, given):
        if not is_local(path):
            check_available("model", path, config.revision if path == config.path else None)
        elif not Path(path).expanduser().is_dir():
            found = "a file" if Path(path).exists() else "nothing"
            raise ModelError(f"{path}: expected a folder with a saved model, found {found}. Check the path.")


def find_checkpoint(ckpt: str) -> Checkpoint:
    """Resolve a run folder (its model/, else its newest whole checkpoint), a checkpoint-<step>, a model folder, or a Hub id."""
    folder = Path(ckpt).expanduser()
    if not folder.is_dir():
        if is_local(ckpt):
            found = "a file" if folder.exists() else "nothing"
            raise CheckpointError(f"ckpt={ckpt}: expected a run folder, a checkpoint or a model folder, found {found}.")
        check_available("model", ckpt, None, CheckpointError)
        return Checkpoint(ckpt, None)
    if (folder / "config.yaml").exists():
        return _find_in_run(Run(folder))
    if (folder / "config.json").exists() or (folder / "adapter_config.json").exists():
        inside_run = step_of(folder) >= 0 or folder.name == "model"
        parent = folder.resolve().parent
        run = Run(parent) if inside_run and (parent / "config.yaml").exists() else None
        if run is not None:
            _check_base(run, folder)
        return Checkpoint(str(folder), run)
    raise CheckpointError(
        f"ckpt={ckpt}: expected a run folder, a checkpoint or a saved model, found neither config.yaml nor config.json in it."
    )


def _find_in_run(run: Run) -> Checkpoint:
    if any((run.model_folder / name).exists() for name in ("config.json", "adapter_config.json")):
        return Checkpoint(str(run.model_folder), run)
    newest, complaints = run.find_checkpoint()
    if newest is None:
        found = "; ".join(complaints) or "none was written"
        raise CheckpointError(
            f"{run.folder} holds no model and no whole checkpoint ({found}). Train on with lmtune train resume={run.folder}."
        )
    _check_base(run, newest)
    return Checkpoint(str(newest), run)


def _check_base(run: Run, folder: Path) -> None:
    """Raise CheckpointError for an adapter whose base was made by its own run, and lies nowhere."""
    model = run.load_config()["model"]
    made = model.get("transplant", "off") != "off" or model["init"] == ModelInit.scratch.value
    if made and (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} holds an adapter alone, on weights that its run made (model.transplant= or model.init=scratch). "
            f"Finish the run, which merges it: lmtune train resume={run.folder}."
        )


def build_tokenizer(config: ModelConfig, texts: Any) -> Any:
    """The tokenizer that the configuration asks for. `texts` is called for the training text if one is to be learned."""
    moves = config.transplant is not Transplant.off
    if config.tokenizer == tokenizers.LEARN:
        if config.init is ModelInit.pretrained and not moves:
            raise ConfigError(
                "model.tokenizer=learn needs model.init=scratch, or model.transplant=mean: pretrained embeddings belong to the "
                "vocabulary they came with."
            )
        settings = config.config
        positions = int(settings.get("n_positions") or settings.get("max_position_embeddings") or find_context(config))
        return tokenizers.learn_tokenizer(texts(), config.vocab_size, positions)
    source = config.tokenizer or config.path
    if source is None:
        raise ConfigError(
            "model.init=scratch without model.path= needs model.tokenizer=, a folder, a Hub id or learn; found none."
        )
    tokenizer = tokenizers.load_tokenizer(source, config.revision if source == config.path else None)
    if config.tokenizer and config.path and config.init is ModelInit.pretrained and not moves:
        tokenizers.check_same_vocabulary(
            tokenizer, tokenizers.load_tokenizer(config.path, config.revision), config.tokenizer
        )
    return tokenizer


def find_move(config: ModelConfig, tokenizer: Any) -> Move | None:
    """How the model's embeddings move to the vocabulary of `tokenizer`; None where they do not."""
    if config.transplant is Transplant.off:
        return None
    return plan_move(tokenizers.load_tokenizer(str(config.path), config.revision), tokenizer, config.transplant)


def build_model(config: ModelConfig, tokenizer: Any, move: Move | None = None) -> tuple[Any, list[str]]:
    """(model, remarks): a causal language model in float32 on the CPU, its special ids those of the tokenizer."""
    model = (
        load_model(str(config.path), config.revision)
        if config.init is ModelInit.pretrained
        else _build_from_scratch(config, tokenizer)
    )
    if move is not None:
        transplant(model, move)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"The tokenizer has {len(tokenizer):,} entries, the embedding of the model only {rows:,} rows. "
            "Name the tokenizer that belongs to these weights with model.tokenizer=, or leave out model.config.vocab_size."
        )
    remarks = [] if move is None else [move.render()]
    if config.legacy_ids:
        return model, [
            *remarks,
            "model.legacy_ids=true: special ids of the model's config stay those of its old vocabulary",
        ]
    return model, remarks + mend_special_ids(model, tokenizer)


def load_model(path: str, revision: str | None = None) -> Any:
    """A causal language model from a folder or the Hub, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    _hide_bars()
    try:
        model = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype=torch.float32)
    except (
        Exception
    ) as error:  # a missing file, a broken download, an architecture without a causal head: it does not load
        line = first_line(error)
        raise ModelError(
            f"{path} does not load as a causal language model: {line}. Check model.path and the files in it."
        ) from error
    return _refine(model)


def _build_from_scratch(config: ModelConfig, tokenizer: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    _hide_bars()
    settings = {name: value for name, value in config.config.items() if name != "model_type"}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    try:
        if config.path is not None:
            described = AutoConfig.from_pretrained(config.path, revision=config.revision)
            keys.check_names(settings, keys.load_model_config_fields(described.model_type) or settings, "model.config.")
            described.update({**settings, **ids, "vocab_size": len(tokenizer)})
        else:
            described = AutoConfig.for_model(
                config.config["model_type"], **{"vocab_size": len(tokenizer), **ids, **settings}
            )
        return _refine(AutoModelForCausalLM.from_config(described))
    except (ValueError, OSError, TypeError, KeyError, ArithmeticError, RuntimeError) as error:
        what = first_line(error)
        raise ConfigError(f"model.config does not describe a causal language model: {what}") from error


def _hide_bars() -> None:
    """No progress bar for reading and writing weights, which takes a blink; downloads keep theirs."""
    from huggingface_hub import utils as hub_utils
    from transformers.utils import logging

    logging.disable_progress_bar()
    hub_utils.enable_progress_bars()  # type: ignore[attr-defined]


def _refine(model: Any) -> Any:
    """The same model, with its loss named and its activations fused.

    GPT2LMHeadModel's class name does not tell its loss. Without it Trainer 5.23 counts a target for the first place of
    each row, which has none, and every loss comes out (T-1)/T of the true one; the fix of
    huggingface/transformers#46204 misses GPT-2.
    """
    model.loss_type = "ForCausalLM"
    fuse_activations(model)
    return model


def mend_special_ids(model: Any, tokenizer: Any) -> list[str]:
    """Set the special ids of config and generation config to the tokenizer's; say what disagreed.

    A padding id that is also the separator's stays out of the model's config: models that hand it to nn.Embedding
    would never learn the separator's row, and forward would warn of padding at every document's end.
    """
    remarks = []
    for name in ("bos_token_id", "eos_token_id"):
        wanted = getattr(tokenizer, name)
        found = getattr(model.config, name, None)
        if found is not None and found != wanted:
            remarks.append(
                f"{name} of the model's config is {found}, of its tokenizer {wanted}; the tokenizer's is used and saved"
            )
        setattr(model.config, name, wanted)
        setattr(model.generation_config, name, wanted)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.config.pad_token_id = None if tokenizer.pad_token_id == tokenizer.eos_token_id else tokenizer.pad_token_id
    embedding = model.get_input_embeddings()
    if getattr(embedding, "padding_idx", None) == tokenizer.eos_token_id:
        embedding.padding_idx = None
    return remarks


def context_of(model_config: Any) -> int:
    """Positions of the model, at most MAX_CONTEXT."""
    positions = getattr(model_config, "max_position_embeddings", None)
    return min(MAX_CONTEXT, int(positions)) if positions else MAX_CONTEXT


def find_context(config: ModelConfig) -> int:
    """Positions that the model would have, at most MAX_CONTEXT, without loading its weights."""
    return context_of(load_config(config))


def load_config(config: ModelConfig) -> Any:
    """The config that the model has or would have; raise ModelError where it does not load."""
    from transformers import AutoConfig

    settings = {name: value for name, value in config.config.items() if name != "model_type"}
    if config.path is None:
        return AutoConfig.for_model(config.config["model_type"], **settings)
    try:
        described = AutoConfig.from_pretrained(config.path, revision=config.revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{config.path} does not load as a causal language model: {first_line(error)}. Check model.path and the files in it."
        ) from error
    described.update(settings)
    return described


def check_length(key: str, value: int | None, model_config: Any) -> int:
    """`value`, or the default context; raise ConfigError where the model has fewer positions."""
    positions = getattr(model_config, "max_position_embeddings", None)
    if value is not None and positions and value > positions:
        raise ConfigError(f"{key}={value}: the model has {positions} positions. Give at most {positions}.")
    return value or context_of(model_config)


def check_isolation(model: Any) -> None:
    """Raise ConfigError for a model that takes no positions: nothing could tell it where a document begins."""
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise ConfigError(
            f"data.isolate_documents=true: {type(model).__name__} takes no position_ids, so documents of a row cannot be kept "
            "apart. Leave it out."
        )


def round_weights(model: Any, dtype: SaveDtype) -> None:
    """Round float32 weights in place to those that `dtype` can hold, so that scores are of what save_model will write.

    Of a model with an adapter only what learns: its base is not written.
    """
    import torch

    if dtype is not SaveDtype.float32:
        with torch.no_grad():
            written = [
                parameter
                for parameter in model.parameters()
                if parameter.requires_grad or not hasattr(model, "get_base_model")
            ]
            for parameter in written:
                parameter.copy_(parameter.to(getattr(torch, dtype.value)))


def save_model(model: Any, tokenizer: Any, folder: Path, dtype: SaveDtype = SaveDtype.float32) -> None:
    """Write a folder that from_pretrained and pipeline("text-generation") load as it is; the model is in `dtype` then."""
    import torch

    model.config.use_cache = True  # Trainer switches it off for training; generation without it is quadratic
    model.to(getattr(torch, dtype.value)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes 0600


def choose_device(name: str) -> Any:
    """A torch device from `auto`, cpu, cuda, cuda:1 or mps."""
    import torch

    available = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(available if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={name}: expected auto, cpu, cuda, cuda:<n> or mps; this machine has {available}."
        ) from error
    return device
