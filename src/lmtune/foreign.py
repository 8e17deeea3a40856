"""What comes with a third-party model: settings, which are read and checked; code, which is never run.

transformers asks on the terminal whether to run code that comes with a model, and accepts a `y` from any pipe. So
each call here passes trust_remote_code=False, and `sealed` guards the calls that transformers and peft make
themselves: for a part of a model, or for a name in a tokenizer_config.json.
"""

import gc
import json
import pickle
import re
import sys
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lmtune.errors import ConfigError, LmtuneError, ModelError, first_line
from lmtune.paths import GivenPath, show

CONFIG, GENERATION, TOKENIZER, ADAPTER = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "adapter_config.json",
)
GATED = re.compile(r"GatedRepo|gated (repo|dataset)|\b40[13] Client Error", re.IGNORECASE)
"""How the libraries tell that the files of a repository are not given to all."""
NAMES = (CONFIG, GENERATION, TOKENIZER, ADAPTER)
Settings = dict[str, dict[str, Any]]
"""Contents of the settings files that a model has, by file name."""
IMPLEMENTATION = re.compile(r"_?(attn|attention|experts)_implementation(_internal)?")
"""Keys of a config that may name a kernel: compiled code on the Hub, which transformers fetches and loads."""
MODEL = "a causal language model"
"""What is loaded, as messages call it."""
ARCHITECTURE = "Take a model whose architecture transformers has."
MODULES = 5
"""Code files named in a message, at most."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a model or a tokenizer is loaded from, and the key that named it."""

    key: str
    path: str
    """Folder or Hub id."""
    revision: str | None = None
    error: type[LmtuneError] = ModelError
    title: str = ""
    """How messages call it, if not by what was typed."""
    whole: bool = True
    """Refuse it if its files lack weights, hold unknown ones, or have changed since they were sealed."""

    def __str__(self) -> str:
        return self.title or f"{self.key}={show(self.path)}"

    @property
    def given(self) -> GivenPath:
        return GivenPath(self.key, self.path, self.error)

    @property
    def is_folder(self) -> bool:
        return self.given.is_folder(Path(self.path))


def load_settings(source: Source) -> Settings:
    """The settings files of a model, from its folder or the Hub; raise the source's error for one that is no JSON object."""
    found = {}
    for name in NAMES:
        file = find_file(source, name)
        if file is not None:
            found[name] = _load_object(source, file, name)
    return found


def find_file(source: Source, name: str) -> Path | None:
    """A file of a model, in its folder or else fetched into the Hub's cache. None if there is none."""
    if source.is_folder:
        file = Path(source.path) / name
        return file if source.given.is_file(file) else None
    from transformers.utils.hub import cached_file

    quietly = dict.fromkeys(("missing_entries", "connection_errors", "gated_repo"), False)
    try:
        found = cached_file(
            source.path,
            name,
            revision=source.revision,
            **{f"_raise_exceptions_for_{fault}": raised for fault, raised in quietly.items()},
        )
    except (OSError, ValueError):  # the loader will meet the same fault, and explains it
        return None
    return None if found is None else Path(found)


def check_settings(source: Source, settings: Settings) -> None:
    """Raise if a model's settings ask for remote code or kernels, or for a quantisation that transformers does not know.

    A source used for its tokenizer alone may hold any model.
    """
    if source.key == "model.tokenizer":
        return
    config = settings.get(CONFIG, {})
    if "AutoConfig" in (config.get("auto_map") or {}) and str(config.get("model_type")) not in _load_model_types():
        raise _refuse_code(source, settings, MODEL, ARCHITECTURE)
    kernel = next(_walk_kernels(config), None)
    if kernel is not None:
        raise source.error(
            f"{source}: its {CONFIG} asks for the kernel {show(kernel)}, compiled code from the Hub, which lmtune never runs; "
            "expected an implementation that transformers has. Take that line out, and the attention of PyTorch is used."
        )
    packing = config.get("quantization_config")
    method = packing.get("quant_method") if isinstance(packing, dict) else None
    if method is not None and str(method) not in _load_packings():
        raise source.error(
            f"{source}: its weights are packed by {show(method)}, expected a way of packing that transformers knows, or plain "
            "weights. Take a version of the model that is not quantised."
        )


def check_docstrings() -> None:
    """Raise ConfigError if Python runs without docstrings, which transformers needs to build its classes."""
    if sys.flags.optimize >= 2:
        raise ConfigError(
            "Python runs without docstrings (PYTHONOPTIMIZE=2 or -OO), and transformers cannot be imported so; expected at most "
            "PYTHONOPTIMIZE=1. Unset it."
        )


def import_transformers() -> None:
    """Import torch and what every model of transformers needs, with garbage collection disabled.

    An import leaves no garbage, and collection takes a seventh of its time. What has been imported stays alive, so it is
    frozen: later collections skip it.
    """
    if "transformers.modeling_utils" in sys.modules or not gc.isenabled():
        return
    gc.disable()
    try:
        import transformers.modeling_utils  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def sealed() -> Iterator[None]:
    """Inside the context, make transformers raise instead of asking, importing remote code or fetching kernels."""
    from transformers import dynamic_module_utils
    from transformers.integrations import hub_kernels

    doors: list[tuple[Any, str, Any]] = [
        (dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 0),  # seconds that it would wait for an answer
        (dynamic_module_utils, "get_cached_module_file", _shut),
        (hub_kernels, "get_kernel", _shut),
    ]
    kept = [getattr(module, name) for module, name, _ in doors]
    for module, name, shut in doors:
        setattr(module, name, shut)
    try:
        yield
    finally:
        for (module, name, _), before in zip(doors, kept, strict=True):
            setattr(module, name, before)


@contextmanager
def explained(source: Source, settings: Settings, what: str, remedy: str) -> Iterator[None]:
    """Turn any exception raised while `what` is loaded from the source into one paragraph that names the key.

    Anything can be raised: a missing file, a broken download, a class without a causal head.
    """
    try:
        with sealed():
            yield
    except LmtuneError:
        raise
    except Exception as fault:
        raise _explain(source, settings, what, remedy, fault) from fault


def explain_refusal(title: str, fault: BaseException | None) -> str | None:
    """What to do where the Hub knows what `title` names and does not give its files: it is gated. None for any other fault."""
    told = ""
    while fault is not None:  # the libraries above huggingface_hub raise errors of their own, from its
        told += f"{type(fault).__name__} {fault}\n"
        fault = fault.__cause__ or fault.__context__
    if not GATED.search(told):
        return None
    return (
        f"{title} is gated: the Hub knows it, and gives its files only to accounts that were let in. Ask for access on its page, "
        "and set HF_TOKEN to a token of the account that has it."
    )


def _explain(source: Source, settings: Settings, what: str, remedy: str, fault: Exception) -> LmtuneError:
    if "trust_remote_code" in str(fault):  # the argument that transformers asks for wherever it meets code
        return _refuse_code(source, settings, what, ARCHITECTURE if what == MODEL else remedy)
    if isinstance(fault, pickle.UnpicklingError) or re.search("weights.only", str(fault), re.IGNORECASE):
        return source.error(
            f"{source}: its weights are a pickle that holds more than tensors, which lmtune never runs; expected {what} in "
            "safetensors. Take a version of the model that has them."
        )
    if not source.is_folder and (refusal := explain_refusal(str(source), fault)) is not None:
        return source.error(refusal)
    if "ignore_mismatched_sizes" in str(fault):
        return source.error(
            f"{source} does not load as {what}: its weights have other shapes than its settings say. Fetch all of it again."
        )
    return source.error(f"{source} does not load as {what}: {first_line(fault).rstrip(':!')}. {remedy}")


def _refuse_code(source: Source, settings: Settings, what: str, remedy: str) -> LmtuneError:
    modules = _list_modules(settings) or ["not named"]
    kind = settings.get(CONFIG, {}).get("model_type")
    found = f", found the model type {show(kind)}" if kind and what == MODEL else ""
    return source.error(
        f"{source} needs code of its own ({', '.join(modules[:MODULES])}), which lmtune never runs; expected {what} that "
        f"transformers has{found}. {remedy}"
    )


def _load_object(source: Source, file: Path, name: str) -> dict[str, Any]:
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise source.error(
            f"{source}: its {name} does not read as JSON ({first_line(fault)}), so it was cut off or changed. Fetch the "
            "model again."
        ) from fault
    if not isinstance(loaded, dict):
        raise source.error(
            f"{source}: its {name} holds {type(loaded).__name__}, expected a JSON object. Fetch the model again."
        )
    return loaded


def _walk_kernels(config: dict[str, Any]) -> Iterator[str]:
    """Implementations chosen anywhere in a config whose names have a slash, as Hub ids do."""
    return (text for keys, text in _walk(config) if "/" in text and any(map(IMPLEMENTATION.fullmatch, keys)))


def _load_model_types() -> Container[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING


def _load_packings() -> set[str]:
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    return {*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"}


def _list_modules(settings: Settings) -> list[str]:
    """Code files that the settings name; `auto_map` has them as module.Class or repository--module.Class."""
    found: dict[str, None] = {}
    for content in settings.values():
        for _, reference in _walk(content.get("auto_map")):
            repository, _, name = reference.rpartition("--")
            module = f"{name.rpartition('.')[0] or name}.py"
            found[show(f"{module} of {repository}" if repository else module)] = None
    return list(found)


def _walk(value: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """(keys, text) of each string in a JSON value, the outermost key first."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while waiting:
        keys, inner = waiting.pop(0)
        if isinstance(inner, str):
            yield keys, inner
        elif isinstance(inner, dict):
            waiting += [((*keys, name), each) for name, each in inner.items()]
        elif isinstance(inner, list):
            waiting += [(keys, each) for each in inner]


def _shut(name: str, *arguments: object, **settings: object) -> NoReturn:
    raise ValueError(f"{name} brings code of its own, which trust_remote_code=False forbids")
