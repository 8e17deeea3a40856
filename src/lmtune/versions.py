"""Library versions that lmtune works with, and names that differ in older ones.

The ranges come from pyproject.toml by way of the installed package's metadata; constraints/ names the versions that
the tests pass with.
"""

import shlex
from collections.abc import Iterable, Mapping
from importlib import metadata
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import normalize

from lmtune.errors import LmtuneError

if TYPE_CHECKING:
    import pyarrow as pa
    from transformers import PreTrainedModel, TrainingArguments

Value = TypeVar("Value")

RENAMED = {
    "activation_checkpointing": "gradient_checkpointing",
    "activation_checkpointing_kwargs": "gradient_checkpointing_kwargs",
}
"""Training arguments, and their names in transformers before 5.23."""

WITHDRAWN = frozenset(["logging_dir", "warmup_ratio"])
"""Training arguments that transformers has removed since: lmtune does not accept them, whatever version is installed."""


def check_versions() -> None:
    """Raise LmtuneError if a library is missing, or in a version that lmtune does not work with.

    Only metadata is read. If lmtune itself is not installed (a folder on PYTHONPATH), nothing is checked.
    """
    from packaging.requirements import Requirement

    try:
        required = metadata.requires("lmtune") or []
    except metadata.PackageNotFoundError:
        return
    for wanted in map(Requirement, required):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = _find_version(wanted.name)
        if found is None or not wanted.specifier.contains(found, prereleases=True):
            have = f"{wanted.name} {found}" if found else "none"
            raise LmtuneError(
                f"lmtune works with {wanted.name}{_render_bounds(str(wanted.specifier))}, found {have}. "
                f'pip install "{wanted}"'
            )


def render_install(*packages: str) -> str:
    """The command that installs packages in versions that lmtune works with, wherever lmtune itself came from.

    packages: their names on PyPI. Any version of one that lmtune does not require, and of all if lmtune is not installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    try:
        required = [Requirement(line) for line in metadata.requires("lmtune") or []]
    except metadata.PackageNotFoundError:
        required = []
    bounds = {canonicalize_name(wanted.name): _render_bounds(str(wanted.specifier)).strip() for wanted in required}
    wanted = (f"{package}{bounds.get(canonicalize_name(package), '')}" for package in packages)
    return f"pip install {' '.join(map(shlex.quote, wanted))}"


def add_newer_names(fields: Mapping[str, Value]) -> dict[str, Value]:
    """Training arguments of the installed transformers under lmtune's names."""
    newer = {name: fields[old] for name, old in RENAMED.items() if name not in fields and old in fields}
    return {name: value for name, value in {**fields, **newer}.items() if name not in WITHDRAWN}


def use_installed_names(settings: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Training arguments under the names of the installed transformers, which are `known`."""
    known = set(known)
    return {name if name in known else RENAMED.get(name, name): value for name, value in settings.items()}


def get_argument(arguments: "TrainingArguments", name: str) -> Any:
    """A training argument by lmtune's name for it."""
    return getattr(arguments, _name_in(arguments, name))


def set_argument(arguments: "TrainingArguments", name: str, value: object) -> None:
    """Set a training argument by lmtune's name for it."""
    setattr(arguments, _name_in(arguments, name), value)


def enable_checkpointing(model: "PreTrainedModel", for_torch: Mapping[str, Any] | None, **own: Any) -> None:
    """Enable activation checkpointing. Raises TypeError for transformers' `own` settings if the installed version has none yet."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(for_torch, **own)
    else:
        model.gradient_checkpointing_enable(for_torch, **own)


def disable_checkpointing(model: "PreTrainedModel") -> None:
    """Disable activation checkpointing."""
    if hasattr(model, "activation_checkpointing_disable"):
        model.activation_checkpointing_disable()
    else:
        model.gradient_checkpointing_disable()


def find_precision_switches() -> tuple[list[tuple[Any, str]], str | bool]:
    """(objects and names of torch's switches for rounding in float32 products, the value that turns rounding off)."""
    from torch import backends

    if hasattr(backends, "fp32_precision"):  # transformers uses these for TF32, and reading the older ones then raises
        places = (backends, *attrgetter("cuda.matmul", "cudnn.conv", "mkldnn.matmul")(backends))
        return [(place, "fp32_precision") for place in places], "ieee"
    return [(backends.cuda.matmul, "allow_tf32"), (backends.cudnn, "allow_tf32")], False  # before torch 2.9


def compose_letters(texts: "pa.StringArray | pa.LargeStringArray") -> "pa.StringArray | pa.LargeStringArray":
    """Texts in Unicode NFC. pyarrow before 26 only decomposes letters, and does not compose them again."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.utf8_normalize(pa.scalar("e\u0301"), form="NFC").as_py() == "\u00e9":
        return pc.utf8_normalize(texts, form="NFC")
    composed = (None if text is None else normalize("NFC", text) for text in texts.to_pylist())
    return pa.array(composed, type=texts.type)


def use_known_experts(model: "PreTrainedModel") -> None:
    """Compute the experts of a mixture one by one before torch 2.9, whose grouped products need a recent GPU."""
    import torch

    older = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 9)
    if older and getattr(model.config, "_experts_implementation", None) not in (None, "eager"):
        model.set_experts_implementation("eager")


def find_older(name: str, tried: str) -> str | None:
    """The installed version of a library if it is older than `tried`, else None."""
    from packaging.version import Version

    found = _find_version(name)
    return found if found is not None and Version(found) < Version(tried) else None


def _find_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _name_in(arguments: "TrainingArguments", name: str) -> str:
    return name if hasattr(arguments, name) else RENAMED[name]


def _render_bounds(specifier: str) -> str:
    """`>=2.8,<3` with a leading space; in the order of metadata it would be `<3,>=2.8`."""
    bounds = sorted(filter(None, specifier.split(",")), key=lambda bound: not bound.startswith(">"))
    return f" {','.join(bounds)}" if bounds else ""
