"""Models: from weights or from scratch, with special ids and vocabulary that fit the tokenizer."""

import errno
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from lmtune import foreign, upstream
from lmtune.config import ModelConfig, ModelInit, SaveDtype, Transplant
from lmtune.errors import CheckpointError, ConfigError, ModelError, first_line
from lmtune.hub import check_available, is_local
from lmtune.modeling import adapters, behaviour, wholeness
from lmtune.modeling import tokenizer as tokenizers
from lmtune.modeling.activations import fuse_activations
from lmtune.modeling.generation import mend_generation_config
from lmtune.modeling.positions import find_context
from lmtune.modeling.saved_tokenizer import save_tokenizer
from lmtune.modeling.special_ids import mend_special_ids
from lmtune.modeling.transplant import Move, plan_move, transplant
from lmtune.paths import GivenPath, describe, show
from lmtune.runs import Run, step_of
from lmtune.vocabulary import count_ids


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What `ckpt=` names: where the model lies, and the run it comes from, if any."""

    path: str
    run: Run | None


def check_model_source(config: ModelConfig, whole: bool = True) -> None:
    """Raise ModelError, within two seconds, for a path or Hub id that cannot be loaded."""
    foreign.check_docstrings()
    tokenizer = None if config.tokenizer in (tokenizers.LEARN, config.path) else config.tokenizer
    for key, path in (("model.path", config.path), ("model.tokenizer", tokenizer)):
        if path is not None:
            revision = config.revision if key == "model.path" else None
            _check_source(foreign.Source(key, path, revision, whole=whole))


def _check_source(source: foreign.Source) -> None:
    if not is_local(source.given):
        check_available("model", source.path, source.revision, source.error)
    elif not source.is_folder:
        expected = "a folder with a tokenizer" if source.key == "model.tokenizer" else "a folder with a saved model"
        raise source.given.refuse(expected, describe(source.given.expand()), "Check the path.")
    else:
        _check_folder(source)


def _check_folder(source: foreign.Source) -> None:
    """Raise the source's error for settings in its folder that do not read, or ask for code or for a model that is not there.

    So for a folder that was sealed, and is not as it was.
    """
    wholeness.check_sealed(source)
    if source.key == "model.tokenizer":
        foreign.load_settings(source)
        return
    settings, base = adapters.open_source(source)
    foreign.check_settings(source, settings)
    if base is not None:
        adapters.check_base(base)


def find_checkpoint(ckpt: str, whole: bool = True) -> Checkpoint:
    """Resolve a run folder (its model/, else its newest whole checkpoint), a checkpoint-<step>, a model folder, or a Hub id.

    Raises CheckpointError where there is none and, as `whole` asks, where what was sealed is not as it was.
    """
    foreign.check_docstrings()
    given = GivenPath("ckpt", ckpt, CheckpointError)
    folder = given.expand()
    if not given.is_folder(folder):
        if is_local(given):
            raise given.refuse("a run folder, a checkpoint or a model folder", describe(folder), "Check the path.")
        check_available("model", ckpt, None, CheckpointError)
        return Checkpoint(ckpt, None)
    if given.is_file(folder / foreign.CONFIG) or given.is_file(folder / foreign.ADAPTER):
        inside_run = step_of(folder) >= 0 or folder.name == "model"
        run = _find_run(given, given.resolve(folder).parent) if inside_run else None
        if run is not None:
            _check_base(run, folder)
        _check_folder(foreign.Source("ckpt", str(folder), error=CheckpointError, whole=whole))
        return Checkpoint(str(folder), run)
    if given.is_file(folder / "config.yaml"):
        return _find_in_run(Run(folder), whole)
    raise CheckpointError(
        f"{given}: expected a run folder, a checkpoint or a saved model, found neither config.yaml nor {foreign.CONFIG} in it."
    )


def _find_run(given: GivenPath, folder: Path) -> Run | None:
    """The run that a folder holds; None for one whose config.yaml is another program's, or does not read."""
    run = Run(folder)
    try:
        config = run.load_config() if given.is_file(run.config_file) else {}
    except (CheckpointError, yaml.YAMLError, UnicodeDecodeError, OSError):
        return None
    return run if {"model", "data", "seed"} <= config.keys() else None


def _find_in_run(run: Run, whole: bool) -> Checkpoint:
    given = GivenPath("ckpt", str(run.folder), CheckpointError)
    if any(given.is_file(run.model_folder / name) for name in (foreign.CONFIG, foreign.ADAPTER)):
        wholeness.check_sealed(foreign.Source("ckpt", str(run.model_folder), error=CheckpointError, whole=whole))
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
    if made and GivenPath("ckpt", str(folder), CheckpointError).is_file(folder / foreign.ADAPTER):
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
        length = int(settings.get("n_positions") or settings.get("max_position_embeddings") or find_context(config))
        return tokenizers.learn_tokenizer(texts(), config.vocab_size, length)
    source = config.tokenizer or config.path
    if source is None:
        raise ConfigError(
            "model.init=scratch without model.path= needs model.tokenizer=, a folder, a Hub id or learn; found none."
        )
    own = source == config.path
    key = "model.path" if own else "model.tokenizer"
    tokenizer = tokenizers.load_tokenizer(source, config.revision if own else None, key=key)
    if config.tokenizer and config.path and config.init is ModelInit.pretrained and not moves:
        tokenizers.check_same_vocabulary(tokenizer, _load_own_tokenizer(config), config.tokenizer)
    return tokenizer


def _load_own_tokenizer(config: ModelConfig) -> Any:
    return tokenizers.load_tokenizer(str(config.path), config.revision, key="model.path")


def find_move(config: ModelConfig, tokenizer: Any) -> Move | None:
    """How the model's embeddings move to the vocabulary of `tokenizer`; None where they do not."""
    if config.transplant is Transplant.off:
        return None
    return plan_move(_load_own_tokenizer(config), tokenizer, config.transplant)


def build_model(
    config: ModelConfig, tokenizer: Any, move: Move | None = None, whole: bool = True
) -> tuple[Any, list[str]]:
    """(model, remarks): a causal language model in float32 on the CPU, its special ids those of the tokenizer.

    Raises ModelError as load_model does, ConfigError for a model.config that describes none.
    """
    if config.init is ModelInit.pretrained:
        model, remarks = _load_to_train(foreign.Source("model.path", str(config.path), config.revision, whole=whole))
    else:
        model, remarks = _build_from_scratch(config, tokenizer), []
        behaviour.check_causal(model, foreign.Source("model.config", str(model.config.model_type)))
    if move is not None:
        transplant(model, move)
    rows = model.get_input_embeddings().weight.shape[0]
    ids = count_ids(tokenizer)
    if ids > rows:
        raise ModelError(
            f"The tokenizer has {len(tokenizer):,} entries and ids up to {ids - 1:,}, the embedding of the model only {rows:,} "
            "rows. "
            "Name the tokenizer that belongs to these weights with model.tokenizer=, or leave out model.config.vocab_size."
        )
    if move is not None:
        remarks.append(move.render())
    if config.legacy_ids:
        return model, [
            *remarks,
            "model.legacy_ids=true: special ids of the model's config stay those of its old vocabulary",
        ]
    return model, remarks + mend_special_ids(model, tokenizer, moved=move is not None)


def load_model(path: str, revision: str | None = None, key: str = "ckpt", whole: bool = True) -> Any:
    """A causal language model from a folder or the Hub, in float32, with an adapter on it where that is what lies there.

    key: what named it, for messages. Raises ModelError where it does not load, or only with code of its own; where it is not
    causal; and, as `whole` asks, where its files lack weights or hold others.
    """
    source = foreign.Source(key, path, revision, whole=whole)
    settings, base = adapters.open_source(source)
    if base is not None and foreign.find_file(source, adapters.WEIGHTS) is None:
        return _load_to_train(source)[0]  # transformers reads no adapter from a pickle; peft does
    model = _load_weights(source, settings) if base is None else _load_with_adapter(source, base)
    behaviour.check_causal(model, source)
    mend_generation_config(model)
    return model


def _load_with_adapter(source: foreign.Source, base: foreign.Source) -> Any:
    """The base with the adapter beside its weights, as transformers puts it there."""
    model = _load_weights(base, adapters.open_base(base))
    with foreign.explained(source, {}, "an adapter", "Check the files in it, and that it belongs to its base."):
        revision = {} if source.revision is None else {"revision": source.revision}
        info = model.load_adapter(source.path, adapter_kwargs=revision)
    wholeness.check_complete(source, model, info.to_dict(), foreign.ADAPTER)
    return model.float()


def _load_to_train(source: foreign.Source) -> tuple[Any, list[str]]:
    """(model, remarks): a whole model all of whose weights learn. An adapter is added into those that it lies on."""
    model, remarks = _load_whole(source)
    behaviour.check_causal(model, source)
    return model, remarks + mend_generation_config(model)


def _load_whole(source: foreign.Source) -> tuple[Any, list[str]]:
    settings, base = adapters.open_source(source)
    if base is not None:
        model = adapters.apply_adapter(_load_weights(base, adapters.open_base(base)), source)
        remark = f"the adapter {show(source.path)} is added into the weights that it lies on, {show(base.path)}"
        return model, [remark]
    if foreign.ADAPTER in settings:
        raise ModelError(
            f"{source} holds an adapter beside a whole model, expected one of the two. Move {foreign.ADAPTER} and the weights of "
            "the adapter elsewhere."
        )
    return _load_weights(source, settings), []


def _load_weights(source: foreign.Source, settings: foreign.Settings) -> Any:
    foreign.check_settings(source, settings)
    import torch
    from transformers import AutoModelForCausalLM

    _hide_bars()
    reported = wholeness.speaking_for_transformers(source)
    with reported, foreign.explained(source, settings, foreign.MODEL, "Check the files in it."):
        model, info = AutoModelForCausalLM.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=torch.float32,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
        )
    wholeness.check_complete(source, model, info)
    return _refine(model)


def load_config(source: foreign.Source) -> Any:
    """The config of a model, of its base for an adapter, without its weights. Raises ModelError where it does not load."""
    settings, base = adapters.open_source(source)
    if base is not None:
        source, settings = base, adapters.open_base(base)
    foreign.check_settings(source, settings)
    from transformers import AutoConfig

    with foreign.explained(source, settings, "the config of a model", f"Check its {foreign.CONFIG}."):
        return AutoConfig.from_pretrained(source.path, revision=source.revision, trust_remote_code=False)


def _build_from_scratch(config: ModelConfig, tokenizer: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    _hide_bars()
    lent = None if config.path is None else load_config(foreign.Source("model.path", config.path, config.revision))
    settings = {name: value for name, value in config.config.items() if name != "model_type"}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    try:
        if lent is not None:
            described = lent
            upstream.check_names(
                settings, upstream.load_model_config_fields(described.model_type) or settings, "model.config."
            )
            described.update({**settings, **ids, "vocab_size": count_ids(tokenizer)})
        else:
            described = AutoConfig.for_model(
                config.config["model_type"], **{"vocab_size": count_ids(tokenizer), **ids, **settings}
            )
        with foreign.sealed():
            return _refine(AutoModelForCausalLM.from_config(described, trust_remote_code=False))
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
    save_tokenizer(tokenizer, folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes 0600


def check_saveable(model: Any, tokenizer: Any) -> None:
    """Raise ModelError where config, generation config or tokenizer could not be saved: now, not after the training.

    They are written into a temporary folder; where there is no room for one, nothing is learned of them.
    """
    try:
        with TemporaryDirectory(prefix="lmtune-") as folder:
            for what in (model.config, getattr(model, "generation_config", None), tokenizer):
                if what is not None:
                    _try_to_save(what, folder)
            save_tokenizer(tokenizer, Path(folder))
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT):
            raise


def _try_to_save(what: Any, folder: str) -> None:
    try:
        what.save_pretrained(folder)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _refuse_to_save(what, fault) from fault
    except Exception as fault:  # each class of transformers refuses in its own way
        raise _refuse_to_save(what, fault) from fault


def _refuse_to_save(what: Any, fault: Exception) -> ModelError:
    reason = " ".join(str(fault).split()).rstrip(".")
    return ModelError(
        f"The {type(what).__name__} of the model cannot be saved: {reason}. Expected one that save_pretrained writes, since the "
        "training ends with that; mend its file beside the model."
    )


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
