"""A model and its vocabulary in one GGUF file, as llama.cpp and Ollama load it; and what stands in such a file."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtune.config import ExportDtype
from lmtune.errors import ConfigError
from lmtune.exporting.gguf_names import Architecture, Sizes, collect_sizes, lay_out, name_weights, take_back
from lmtune.exporting.gguf_vocabulary import Vocabulary, write_vocabulary
from lmtune.versions import render_install

if TYPE_CHECKING:
    import torch
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from transformers import PreTrainedConfig, PreTrainedModel

TYPES = {
    ExportDtype.float32: ("F32", "ALL_F32"),
    ExportDtype.float16: ("F16", "MOSTLY_F16"),
    ExportDtype.q8_0: ("Q8_0", "MOSTLY_Q8_0"),
}
"""GGUF's names of a precision: of a weight, and of a whole file."""
POSITIONS = "position_embd.weight"
"""It is small, added to every token, and stays in float32, as in files of llama.cpp's own."""
HEAD = "output.weight"
"""Not in the file of a tied model: llama.cpp takes the embedding for it."""


def check_installed() -> None:
    """Raise ConfigError where the package that writes GGUF is missing."""
    if importlib.util.find_spec("gguf") is None:
        raise ConfigError(f"to=gguf needs the package gguf, which is not installed. {render_install('gguf')}")


def write_gguf(
    file: Path,
    model: PreTrainedModel,
    architecture: Architecture,
    vocabulary: Vocabulary,
    dtype: ExportDtype,
    name: str,
) -> dict[str, int]:
    """Write a model in float32 on the CPU, one weight at a time; return how many weights are of each type.

    name: what the file says that the model is called.
    """
    from gguf import GGUFWriter, LlamaFileType

    writer = GGUFWriter(file, architecture.name)
    try:
        writer.add_name(name)
        writer.add_file_type(LlamaFileType[TYPES[dtype][1]])
        writer.add_quantization_version(2)
        _add_sizes(writer, architecture.name, collect_sizes(architecture, model.config), len(vocabulary.tokens))
        write_vocabulary(writer, vocabulary)
        return _write_weights(writer, model, architecture, dtype)
    finally:
        writer.close()


def _add_sizes(writer: GGUFWriter, name: str, sizes: Sizes, rows: int) -> None:
    for key, value in {**sizes, "vocab_size": rows}.items():
        if isinstance(value, float):
            writer.add_float32(f"{name}.{key}", value)
        else:
            writer.add_uint32(f"{name}.{key}", value)


def _write_weights(
    writer: GGUFWriter, model: PreTrainedModel, architecture: Architecture, dtype: ExportDtype
) -> dict[str, int]:
    import numpy as np
    from gguf import GGML_QUANT_SIZES
    from gguf.quants import quantize

    weights = dict(model.named_parameters())  # tied ones once
    names = name_weights(architecture, model.config, list(weights))
    kinds = {}
    for name, weight in weights.items():
        laid = lay_out(architecture, model.config, name, weight.detach())
        kinds[name] = _choose_type(names[name], laid.shape, dtype)
        block, size = GGML_QUANT_SIZES[kinds[name]]
        writer.add_tensor_info(names[name], laid.shape, np.dtype(np.float32), laid.numel() // block * size, kinds[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, weight in weights.items():
        laid = lay_out(architecture, model.config, name, weight.detach())
        writer.write_tensor_data(quantize(laid.contiguous().numpy(), kinds[name]))
    return dict(Counter(kind.name for kind in kinds.values()))


def _choose_type(name: str, shape: torch.Size, dtype: ExportDtype) -> GGMLQuantizationType:
    """Vectors stay in float32; rows that are no whole blocks of 8-bit numbers, in float16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) < 2 or name == POSITIONS:
        return GGMLQuantizationType.F32
    wanted = GGMLQuantizationType[TYPES[dtype][0]]
    return wanted if shape[-1] % GGML_QUANT_SIZES[wanted][0] == 0 else GGMLQuantizationType.F16


def read_sizes(reader: GGUFReader, architecture: Architecture) -> Sizes:
    """The sizes of a model, from its file."""
    return {key: read_field(reader, f"{architecture.name}.{key}") for key in architecture.sizes}


def read_field(reader: GGUFReader, key: str) -> Any:
    """The value of a key; raise KeyError where the file does not have it."""
    found = reader.get_field(key)
    if found is None:
        raise KeyError(key)
    return found.contents()


def read_weight(
    reader: GGUFReader, architecture: Architecture, config: PreTrainedConfig, name: str, theirs: str
) -> torch.Tensor:
    """A weight in float32 with its rows as transformers has them. theirs: its name in the file."""
    import torch
    from gguf.quants import dequantize

    tensor = next(each for each in reader.tensors if each.name == theirs)
    return take_back(architecture, config, name, torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy()))
