"""Models: from weights or from scratch, with special ids and vocabulary that fit the tokenizer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

from lmtune import foreign, hub, upstream
from lmtune.config import ModelConfig, ModelInit, Transplant
from lmtune.errors import ConfigError, ModelError, first_line
from lmtune.modeling import adapters, behaviour, wholeness
from lmtune.modeling.activations import fuse_activations
from lmtune.modeling.base import check_same_base
from lmtune.modeling.generation import mend_generation_config
from lmtune.modeling.layers import count_rows
from lmtune.modeling.model_config import load_config
from lmtune.modeling.positions import resolve_context
from lmtune.modeling.special_ids import mend_special_ids, move_ids
from lmtune.modeling.tokenizer import LEARN, check_same_vocabulary, learn_tokenizer, load_tokenizer
from lmtune.modeling.transplant import EmbeddingTransfer, plan_transfer, sum_as, transplant
from lmtune.paths import show
from lmtune.patience import turn_to
from lmtune.versions import use_known_experts
from lmtune.vocabulary import count_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def build_tokenizer(config: ModelConfig, texts: Callable[[], Iterable[str]]) -> PreTrainedTokenizerBase:
    """The tokenizer that the configuration asks for. `texts` is called for the training text if one is to be learned.

    Raises ConfigError for settings that name none, ModelError for one that does not load or does not belong to the weights.
    """
    moves = config.transplant is not Transplant.off
    if config.tokenizer == LEARN:
        check_learned(config)
        return learn_tokenizer(texts(), config.vocab_size, resolve_positions(config))
    source = config.tokenizer or config.path
    if source is None:
        raise ConfigError(
            "model.init=scratch without model.path= needs model.tokenizer=, a folder, a Hub id or learn; found none."
        )
    own = source == config.path
    key = "model.path" if own else "model.tokenizer"
    tokenizer = load_tokenizer(source, config.revision if own else None, key=key)
    if config.tokenizer and config.path and config.init is ModelInit.pretrained and not moves:
        check_same_vocabulary(tokenizer, _load_own_tokenizer(config), config.tokenizer)
    return tokenizer


def check_learned(config: ModelConfig) -> None:
    """Raise ConfigError if a vocabulary is to be learned for weights that have one."""
    if config.init is ModelInit.pretrained and config.transplant is Transplant.off:
        raise ConfigError(
            "model.tokenizer=learn needs model.init=scratch, or model.transplant=mean: pretrained embeddings belong to the "
            "vocabulary they came with."
        )


def resolve_positions(config: ModelConfig) -> int:
    """Positions of the model that is to be built."""
    settings = config.config
    return int(settings.get("n_positions") or settings.get("max_position_embeddings") or resolve_context(config))


def _load_own_tokenizer(config: ModelConfig) -> PreTrainedTokenizerBase:
    return load_tokenizer(str(config.path), config.revision, key="model.path")


def find_transfer(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> EmbeddingTransfer | None:
    """How the model's embeddings are carried over to the vocabulary of `tokenizer`; None if they are not."""
    if config.transplant is Transplant.off:
        return None
    transfer = plan_transfer(_load_own_tokenizer(config), tokenizer, config.transplant)
    return sum_as(_load_donor(config), transfer) if config.transplant is Transplant.omp else transfer


def _load_donor(config: ModelConfig) -> PreTrainedModel:
    """The model whose tokenizer is adopted."""
    path = str(config.tokenizer)
    return _load_to_train(foreign.Source("model.transplant", path, title=f"model.tokenizer={show(path)}"))[0]


def build_model(
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerBase,
    transfer: EmbeddingTransfer | None = None,
    whole: bool = True,
) -> tuple[PreTrainedModel, list[str]]:
    """(model, remarks): a causal language model in float32 on the CPU, its special ids those of the tokenizer.

    Raises ModelError as load_model does, ConfigError for a model.config that describes none.
    """
    if config.init is ModelInit.pretrained:
        model, remarks = _load_to_train(foreign.Source("model.path", str(config.path), config.revision, whole=whole))
    else:
        model, remarks = _build_from_scratch(config, tokenizer), []
        adapters.forget_origin(model)
        behaviour.check_causal(model, foreign.Source("model.config", str(model.config.model_type)))
    if transfer is not None:
        transplant(model, transfer)
        adapters.forget_origin(model)
    rows = count_rows(model)
    ids = count_ids(tokenizer)
    if ids > rows:
        raise ModelError(
            f"The tokenizer has {len(tokenizer):,} entries and ids up to {ids - 1:,}, the embedding of the model only {rows:,} "
            "rows. "
            "Name the tokenizer that belongs to these weights with model.tokenizer=, or leave out model.config.vocab_size."
        )
    if transfer is not None:
        remarks.append(transfer.render())
    if config.legacy_ids:
        return model, [
            *remarks,
            "model.legacy_ids=true: special ids of the model's config stay those of its old vocabulary",
        ]
    if transfer is not None:
        remarks += move_ids(model, transfer.find_places())
    return model, remarks + mend_special_ids(model, tokenizer)


def load_model(path: str, key: str = "ckpt", whole: bool = True) -> PreTrainedModel:
    """A causal language model from a folder or the Hub, in float32 on the CPU; with its adapter on it if that is what was saved.

    key: the key that named it, for messages. Raises ModelError if it does not load, or only with code of its own; if it is not
    causal; and, with `whole`, if its files lack weights or hold others.
    """
    source = foreign.Source(key, path, whole=whole)
    settings, base = adapters.open_source(source)
    if base is not None and foreign.find_file(source, adapters.WEIGHTS) is None:
        return _load_to_train(source)[0]  # transformers reads no adapter from a pickle; peft does
    model = _load_weights(source, settings) if base is None else _load_with_adapter(source, base)
    behaviour.check_causal(model, source)
    mend_generation_config(model)
    return model


def load_writer(path: str, whole: bool = True) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """(tokenizer, model) of a checkpoint for generation, on the CPU; corrections of its special ids are logged.

    Raises as load_tokenizer and load_model do.
    """
    tokenizer = load_tokenizer(path)
    model = load_model(path, whole=whole)
    for remark in mend_special_ids(model, tokenizer):
        logger.info(remark)
    return tokenizer, model


def load_merged(path: str, whole: bool = True) -> PreTrainedModel:
    """As load_model, from what ckpt= names; an adapter is merged into its base, in float32."""
    return _load_to_train(foreign.Source("ckpt", path, whole=whole))[0]


def _load_with_adapter(source: foreign.Source, base: foreign.Source) -> PreTrainedModel:
    """The base with the adapter loaded beside its weights, by transformers' own integration of peft."""
    model = _load_base(source, base)
    with foreign.explained(source, {}, "an adapter", "Check the files in it, and that it belongs to its base."):
        revision = {} if source.revision is None else {"revision": source.revision}
        info = model.load_adapter(source.path, adapter_kwargs=revision)
    wholeness.check_complete(source, model, info.to_dict(), foreign.ADAPTER)
    return model.float()


def _load_to_train(source: foreign.Source) -> tuple[PreTrainedModel, list[str]]:
    """(model, remarks): a whole model, all of whose weights are trainable. An adapter is merged into its base."""
    model, remarks = _load_whole(source)
    behaviour.check_causal(model, source)
    return model, remarks + mend_generation_config(model)


def _load_whole(source: foreign.Source) -> tuple[PreTrainedModel, list[str]]:
    settings, base = adapters.open_source(source)
    if base is not None:
        model = adapters.apply_adapter(_load_base(source, base), source)
        remark = f"the adapter {show(source.path)} is added into the weights that it lies on, {show(base.path)}"
        return model, [remark]
    if foreign.ADAPTER in settings:
        raise ModelError(
            f"{source} holds an adapter beside a whole model, expected one of the two. Move {foreign.ADAPTER} and the weights of "
            "the adapter elsewhere."
        )
    return _load_weights(source, settings), []


def _load_base(source: foreign.Source, base: foreign.Source) -> PreTrainedModel:
    """The base of an adapter; raise if it is not the one that the adapter was trained on."""
    model = _load_weights(base, adapters.open_base(base))
    check_same_base(source, base, model)
    return model


def _load_weights(source: foreign.Source, settings: foreign.Settings) -> PreTrainedModel:
    foreign.check_settings(source, settings)
    turn_to("loading the weights")
    import torch
    from transformers import AutoModelForCausalLM

    _hide_bars()
    reported = wholeness.speaking_for_transformers(source)
    with reported, foreign.explained(source, settings, foreign.MODEL, _advise(source)):
        loaded = AutoModelForCausalLM.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=torch.float32,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
        )
    model, info = cast("tuple[PreTrainedModel, dict[str, list[str]]]", loaded)
    wholeness.check_complete(source, model, info)
    return _refine(model)


def _advise(source: foreign.Source) -> str:
    """What to do about a model that does not load. The cache may hold its vocabulary alone, as `lmtune tokenizer` leaves it."""
    if source.is_folder or not hub.is_offline():
        return "Check the files in it."
    return (
        "The network is not asked, and the cache may hold a part of it: fetch all of it where there is a network, "
        f"lmtune fetch model.path={source.path}."
    )


def _build_from_scratch(config: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
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
    """No progress bar for reading and writing weights, which takes no time; downloads keep theirs."""
    from huggingface_hub import utils as hub_utils
    from transformers.utils import logging

    logging.disable_progress_bar()
    hub_utils.enable_progress_bars()  # type: ignore[attr-defined]


def _refine(model: PreTrainedModel) -> PreTrainedModel:
    """The same model, with its loss named and its activations fused.

    GPT2LMHeadModel's class name does not show its loss. Without one, Trainer 5.23 counts a target for the first position of
    each row, which has none, and every loss comes out (T-1)/T of the true one; the fix of
    huggingface/transformers#46204 misses GPT-2.
    """
    model.loss_type = "ForCausalLM"
    fuse_activations(model)
    use_known_experts(model)
    return model
