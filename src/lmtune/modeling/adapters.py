"""finetune=lora: low-rank adapters (Hu et al. 2021, arXiv:2106.09685) by peft, added before training and merged after it.

Saved adapters are recognised by their adapter_config.json, which names their base model.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from lmtune.config import FinetuneConfig, ModelConfig, ModelInit, Transplant
from lmtune.errors import ConfigError, LmtuneError, ModelError, first_line, one_line
from lmtune.foreign import (
    ADAPTER,
    CONFIG,
    Settings,
    Source,
    check_docstrings,
    check_settings,
    explained,
    find_file,
    load_settings,
)
from lmtune.hub import check_available, is_local
from lmtune.modeling.behaviour import TOKENS, choose_ids, trying
from lmtune.modeling.layers import below_adapter, is_tied, tie_again
from lmtune.modeling.wholeness import check_adapter_complete
from lmtune.paths import describe, show
from lmtune.versions import render_install

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
OLD_WEIGHTS = "adapter_model.bin"
"""A pickle, from which peft reads only tensors."""
NOT_ALONE = frozenset(["XLORA", "SHADOW"])
"""Kinds of adapters that name further models, which peft would load by itself."""
NOT_WEIGHTS = frozenset(
    ["ADAPTION_PROMPT", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING"]
)
"""Kinds of adapters that add to the model's input, not to its weights."""


def check_adapter(finetune: FinetuneConfig, model: ModelConfig) -> None:
    """Raise ConfigError, before anything is loaded, if peft is missing or the adapter could never be loaded again."""
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(f"finetune=lora needs the package peft, which is not installed. {render_install('peft')}")
    made = None if finetune.merge else _find_making(model)
    if made is not None:
        raise ConfigError(
            "finetune.merge=false keeps the adapter alone, which needs its base as it lies at model.path=; found weights made for "
            f"this run ({made}). Leave finetune.merge=true."
        )


def _find_making(model: ModelConfig) -> str | None:
    """The setting that makes a run begin with weights that are stored nowhere; None if they are those at model.path."""
    if model.init is ModelInit.scratch:
        return "model.init=scratch"
    if model.transplant is not Transplant.off:
        return f"model.transplant={model.transplant.value}"
    if open_source(Source("model.path", str(model.path), model.revision))[1] is not None:
        return f"model.path={show(model.path)} is an adapter, which is added into the weights below it"
    return None


def forget_origin(model: PreTrainedModel) -> None:
    """Remove the origin from a model whose weights are stored nowhere as they are.

    An adapter saved from it then names no base. With one, peft and transformers would silently put it on other weights.
    """
    model.name_or_path = ""


def add_adapter(model: PreTrainedModel, config: FinetuneConfig, revision: str | None = None) -> PeftModel:
    """`model` with an adapter on it. Only the adapter is trained, and embeddings and head if the config says so.

    revision: of the repository that `model` comes from. Raises ConfigError for modules that no adapter fits.
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
        lora_alpha=cast(int, config.alpha),  # any number works, whatever its annotation says
        lora_dropout=config.dropout,
        target_modules=config.target_modules or "all-linear",
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        # With the embedding alone in here, peft silently unties the head, which then keeps its old rows.
        modules_to_save=[*whole] if config.embeddings else None,
        ensure_weight_tying=config.embeddings and is_tied(model),
    )
    try:
        with _hiding_renamed():
            adapted = get_peft_model(model, settings, revision=revision if model.name_or_path else None)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ConfigError(f"finetune=lora: {one_line(error)}") from error
    if config.embeddings:  # peft takes the head out, and would not find what is tied when it reads the settings again
        cast("LoraConfig", adapted.peft_config[adapted.active_adapter]).modules_to_save = whole
    # By itself peft would ask the Hub at each save how large the vocabulary of the base is.
    adapted.save_pretrained = partial(adapted.save_pretrained, save_embedding_layers=False)  # type: ignore[method-assign]
    _check_runs(adapted)
    return adapted


def _check_runs(adapted: PeftModel) -> None:
    """Raise ConfigError if a model does not run with its adapter: some modules return more than a product."""
    inner = below_adapter(adapted)
    if inner.device.type == "meta":  # without values nothing runs; the process that has them tries it
        return
    try:
        with trying(inner):
            adapted(input_ids=choose_ids(inner, TOKENS), use_cache=False)
    except Exception as fault:  # each module fails in its own way
        name = type(inner).__name__
        raise ConfigError(
            f"finetune=lora: {name} does not run with adapters on these modules ({first_line(fault)}). Name others with "
            "finetune.target_modules=, such as those of its attention."
        ) from fault


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """The model with its adapter added into the weights, in float32. Raises ModelError if that gives non-finite numbers."""
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(f"The adapter cannot be merged: {error}. Keep it apart with finetune.merge=false.") from error


def open_source(source: Source) -> tuple[Settings, Source | None]:
    """(settings, base): the settings of a model, and the source of its base if it is an adapter alone; None for a whole model.

    Raises the source's error for unreadable settings, for an adapter that names no base or further models, and if peft
    is missing.
    """
    check_docstrings()
    settings = load_settings(source)
    if ADAPTER not in settings:
        return settings, None
    if importlib.util.find_spec("peft") is None:
        raise source.error(
            f"{source} is an adapter, which the package peft reads, and that is not installed; expected a whole model without it. "
            + render_install("peft")
        )
    _check_kind(source, settings[ADAPTER].get("peft_type"))
    return settings, None if CONFIG in settings else _resolve_base(source, settings)


def _check_kind(source: Source, kind: object) -> None:
    from peft import PeftType

    if not isinstance(kind, str) or kind in NOT_ALONE | NOT_WEIGHTS or kind not in [each.value for each in PeftType]:
        raise source.error(
            f"{source} is an adapter of the kind {show(kind)}; expected one that peft knows, that adds to weights and needs no "
            "further model, such as LORA. Merge it into its model where it was made."
        )
    if source.is_folder and not any(find_file(source, name) for name in (WEIGHTS, OLD_WEIGHTS)):
        raise source.error(
            f"{source} is an adapter without its weights; expected {WEIGHTS} beside its {ADAPTER}. Fetch it again."
        )


def _resolve_base(source: Source, settings: Settings) -> Source:
    base, revision = (settings[ADAPTER].get(name) for name in ("base_model_name_or_path", "revision"))
    if not isinstance(base, str) or not base or base == source.path:
        raise source.error(
            f"{source} is an adapter: expected the model that it lies on as base_model_name_or_path in its {ADAPTER}, found "
            f"{'none' if not base else show(base)}. Write it there."
        )
    title = f"{source}, an adapter on {show(base)}"
    named = revision if isinstance(revision, str) else None
    return Source(source.key, base, named, source.error, title, source.whole)


def open_base(base: Source) -> Settings:
    """The settings of an adapter's base; raise its error if that is an adapter too."""
    settings, further = open_source(base)
    if further is not None:
        raise base.error(
            f"{base}, which is an adapter itself; expected a whole model. Merge the one below into its model first."
        )
    return settings


def check_base(base: Source) -> None:
    """Raise its error if an adapter's base is neither on this machine nor available on the Hub."""
    if not is_local(base.given):
        try:
            check_available("model", base.path, base.revision, base.error)
        except LmtuneError as fault:
            raise base.error(f"{base}: {fault}") from fault
    elif not base.is_folder:
        raise base.error(
            f"{base}: expected a folder with that model, found {describe(base.given.expand())}. Write where it lies into "
            f"base_model_name_or_path of {ADAPTER}."
        )
    else:
        check_settings(base, open_base(base))


def apply_adapter(model: PreTrainedModel, source: Source) -> PreTrainedModel:
    """`model` with the adapter at `source` merged into its weights; its parameters stay trainable or frozen as before."""
    still, tied = [name for name, parameter in model.named_parameters() if not parameter.requires_grad], is_tied(model)
    with explained(source, {}, "an adapter", "Check the files in it, and that it belongs to its base."):
        from peft import PeftModel
        from peft.utils import get_peft_model_state_dict, load_peft_weights

        # peft reads .safetensors, and pickles with weights_only=True; it runs no code of an adapter or its base.
        with _hiding_renamed():
            adapted = PeftModel.from_pretrained(model, source.path, revision=source.revision)
        stored = load_peft_weights(source.path, "cpu", revision=source.revision)
        check_adapter_complete(source, stored, get_peft_model_state_dict(adapted))
        merged = adapted.merge_and_unload(safe_merge=True)
    forget_origin(merged)
    if tied:  # peft puts an embedding that learned whole, and its head, into two places
        tie_again(merged)
    for name, parameter in merged.named_parameters():
        parameter.requires_grad_(name not in still)
    return merged


@contextmanager
def _hiding_renamed() -> Iterator[None]:
    """Hide transformers' warning that peft reads a property by its former name: nothing that a user could change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield


def _check_targets(model: PreTrainedModel, targets: list[str], whole: list[str]) -> None:
    """Refuse adapters on the embedding or the head: merged into tied weights they come out wrong."""
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
