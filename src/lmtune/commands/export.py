"""`lmtune export`: a checkpoint in the form that other programs load, proven by reading it back.

lmtune export ckpt=outputs/... to=gguf dtype=q8_0        llama.cpp, Ollama
lmtune export ckpt=outputs/... to=safetensors            transformers, vLLM
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.commands.result import Result
from lmtune.config import ExportConfig, ExportFormat, SaveDtype
from lmtune.errors import CheckpointError
from lmtune.exporting import gguf_names, proof
from lmtune.exporting.gguf_file import TYPES, check_installed, write_gguf
from lmtune.exporting.gguf_vocabulary import collect_vocabulary
from lmtune.exporting.modelfile import render_modelfile
from lmtune.exporting.staging import staged
from lmtune.foreign import CONFIG, Source
from lmtune.modeling import loading, saving
from lmtune.modeling.behaviour import run as run_model
from lmtune.modeling.checkpoint import Checkpoint, resolve_checkpoint
from lmtune.modeling.generation import build_generation_config
from lmtune.modeling.layers import count_rows
from lmtune.modeling.model_config import load_config
from lmtune.modeling.read_back import check_reads_back
from lmtune.modeling.special_ids import mend_special_ids
from lmtune.modeling.tokenizer import load_tokenizer
from lmtune.paths import GivenPath
from lmtune.patience import saying
from lmtune.reporting.export import render_export, render_export_card
from lmtune.runs.search import check_creatable, new_folder
from lmtune.storage import Record, slug, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

CARD, MODELFILE = "README.md", "Modelfile"


def run(config: ExportConfig) -> Result:
    """Write a checkpoint in another form; what does not read back as the model is not left behind."""
    assert config.to is not None, "a configuration that was checked names a form"
    if config.output is not None:
        check_creatable(GivenPath("output", config.output, CheckpointError))
    checkpoint = resolve_checkpoint(str(config.ckpt), config.check_weights)
    if config.to is ExportFormat.gguf:
        check_installed()
        gguf_names.find_architecture(load_config(Source("ckpt", checkpoint.path)), str(config.ckpt))
    tokenizer = load_tokenizer(checkpoint.path)
    model = loading.load_merged(checkpoint.path, whole=config.check_weights).eval()
    for remark in mend_special_ids(model, tokenizer):
        logger.info(remark)
    to, name = config.to.value, name_checkpoint(checkpoint)
    export = export_gguf if config.to is ExportFormat.gguf else export_safetensors
    with new_folder(config.output, f"{name}-{to}") as folder:
        account = export(config, checkpoint, model, tokenizer, folder, name)
    account |= {"ckpt": config.ckpt, "to": to, "dtype": config.dtype.value, **describe(model, folder)}
    return Result(account, lambda: render_export(account))


def name_checkpoint(checkpoint: Checkpoint) -> str:
    """The name of the run that a checkpoint is of, else of its folder or repository."""
    run = checkpoint.run
    return slug(checkpoint.path if run is None else run.find_name())


def export_gguf(
    config: ExportConfig,
    checkpoint: Checkpoint,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    name: str,
) -> Record:
    """One file, proven, and a Modelfile beside it; return what was found."""
    architecture = gguf_names.find_architecture(model.config, str(config.ckpt))
    vocabulary = collect_vocabulary(tokenizer, count_rows(model))
    told = {} if checkpoint.run is None else checkpoint.run.load_config().get("generation", {})
    settings = build_generation_config(model, told)
    file = f"{name}-{TYPES[config.dtype][0]}.gguf"
    with staged(folder, last=MODELFILE) as aside:
        with saying(f"writing {file}"):
            types = write_gguf(aside / file, model, architecture, vocabulary, config.dtype, name)
        with saying(f"reading {file} back"):
            found = proof.prove_gguf(aside / file, model, tokenizer, architecture, vocabulary, config.dtype)
        write_text(aside / MODELFILE, render_modelfile(file, model, tokenizer, settings))
    known = {
        "tokens": len(vocabulary.tokens),
        "unused": vocabulary.unused,
        "missing_bytes": vocabulary.missing,
        "splitter": vocabulary.splitter,
    }
    return {"architecture": architecture.name, "types": types, "vocabulary": known, "proof": found.as_dict()}


def export_safetensors(
    config: ExportConfig,
    checkpoint: Checkpoint,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    name: str,
) -> Record:
    """A folder that loads without lmtune, proven, with its card; return what was found."""
    dtype = SaveDtype(config.dtype.value)
    ids = proof.encode_text(model, tokenizer)
    before = run_model(model, ids)
    saving.round_weights(model, dtype)
    found = proof.compare(before, run_model(model, ids))
    proof.check_bounds(name, found, config.dtype)
    with staged(folder, last=CONFIG) as aside:
        with saying("writing the weights"):
            saving.save_model(model, tokenizer, aside, dtype)
        with saying("reading the weights back"):
            check_reads_back(model, aside)
        card = render_export_card(checkpoint.path, name, checkpoint.find_finished(), dtype.value, found.as_dict())
        write_text(aside / CARD, card)
    return {
        "architecture": type(model).__name__,
        "types": {dtype.value: len(list(model.parameters()))},
        "proof": found.as_dict(),
    }


def describe(model: PreTrainedModel, folder: Path) -> Record:
    """The files of an export, and the number of parameters."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "folder": str(folder),
        "files": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
    }
