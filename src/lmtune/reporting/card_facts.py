"""Sections of the model card that describe a run: its text, its training, its hardware, and citations.

What the run did not record and its author did not state appears as not stated.
"""

from lmtune.config.forgetting import SELF
from lmtune.config.optimizers import SCHEDULE_FREE
from lmtune.data.ledger import LEFT_OUT
from lmtune.hub import is_hub_id
from lmtune.storage import Record
from lmtune.units import render_count, render_duration

NOT_STATED = "*Not stated.*"
OPEN = "*not stated*"
UNKNOWN = "*not recorded*"

PRECISIONS = {
    "bf16": "bfloat16 where that is safe (autocast), weights in float32",
    "fp16": "float16 where that is safe (autocast), weights in float32",
}
"""Precisions in words; others appear under their own name."""

MOST_SOURCES = 20
"""Files whose checksums are listed, at most."""


def find_base(config: Record) -> str | None:
    """The Hub id of the model that a run began with; None for new weights and for folders."""
    path = config["model"]["path"]
    return path if config["model"]["init"] == "pretrained" and path and is_hub_id(path) else None


def find_dataset(data: Record) -> str | None:
    """The Hub id that a data configuration reads from, None for files and folders."""
    path = data["path"]
    return str(path) if path and not data["files"] and not data.get("sources") and is_hub_id(path) else None


def list_sets(config: Record) -> list[Record]:
    """Data configurations: that of data= first, then those that are mixed in or replayed."""
    return [config["data"], *config.get("mixed_sets", {}).values(), *config.get("replay_sets", {}).values()]


def name_text(data: Record) -> str:
    """The name of a text: its Hub id, the name of its group, or whose it is."""
    return find_dataset(data) or ("texts of its author's own" if data["name"] in ("files", "hub") else data["name"])


def list_languages(config: Record) -> list[str]:
    """Codes of the languages: those that are stated, else those of the text."""
    stated = config.get("card", {}).get("language")
    return list(stated or dict.fromkeys(data["language"] for data in list_sets(config) if data.get("language")))


def is_adapter(config: Record) -> bool:
    """True if the model is an adapter alone."""
    finetune = config["finetune"]
    return finetune["method"] == "lora" and not finetune["merge"]


def render_overview(config: Record) -> list[str]:
    """A table of the basic facts."""
    card, base = config.get("card", {}), find_base(config)
    license = card.get("license_name") or card.get("license")
    if license and card.get("license_link"):
        license = f"[{license}]({card['license_link']})"
    origin = "its author's own" if config["model"]["init"] == "pretrained" else "none, trained from scratch"
    revision = f", revision {config['model'].get('revision')}" if config["model"].get("revision") else ""
    rows = {
        "base model": f"[{base}](https://huggingface.co/{base}){revision}" if base else origin,
        "licence of the base": config["model"].get("license") or OPEN if base else "",
        "licence of this model": license or OPEN,
        "languages": ", ".join(list_languages(config)) or OPEN,
        "made by": card.get("authors") or OPEN,
        "contact": card.get("contact") or OPEN,
        "approved by a board": card.get("ethics") or OPEN,
    }
    return ["| | |", "|---|---|", *(f"| {name} | {cell(text)} |" for name, text in rows.items() if text), ""]


def render_statements(config: Record) -> list[str]:
    """The author's statements on use, limits and personal data."""
    card = config.get("card", {})
    return [
        *("## Intended use", "", card.get("intended_use") or NOT_STATED, ""),
        *("## Not to be used for", "", card.get("out_of_scope") or NOT_STATED, ""),
        *("## Limits", "", card.get("limits") or NOT_STATED, ""),
        "Like any language model it goes on with what is likely, true or not, and may repeat passages of the text it learned from.",
        *("", "## Personal data", "", card.get("personal_data") or NOT_STATED, ""),
    ]


def render_data(config: Record, results: Record, ledger: Record | None) -> list[str]:
    """Training and held-out data: origin, licence, amounts, and checksums of the sources."""
    card = config.get("card", {})
    origin = card.get("data") or f"Where it comes from, and who may use it: {OPEN}."
    lines = ["## Training data", "", origin, "", "| text | languages | licence | described at |"]
    lines.append("|---|---|---|---|")
    for number, data in enumerate(list_sets(config)):
        stated = card.get("data_license") if number == 0 else None
        cells = (name_text(data), data.get("language"), stated or data.get("license"), data.get("homepage"))
        lines.append(f"| {' | '.join(cell(each or OPEN) for each in cells)} |")
    lines.append("")
    return lines if ledger is None else [*lines, *_render_amounts(ledger), *_render_sources(config, results, ledger)]


def _render_amounts(ledger: Record) -> list[str]:
    """Documents, bytes and tokens of each split, and what was left out."""
    lines = ["| | documents | bytes | tokens |", "|---|---:|---:|---:|"]
    titles = {"train": "learned from", "validation": "held out", "test": "kept for a test"}
    for side, title in titles.items():
        counts = ledger["sides"].get(side, {})
        if counts.get("documents"):
            lines.append(f"| {title} | {counts['documents']:,} | {counts['bytes']:,} | {counts['tokens']:,} |")
    left_out = [
        f"{LEFT_OUT[kind]} ({count:,})"
        for kind, count in ledger.get("left_out", {}).items()
        if count and kind in LEFT_OUT
    ]
    documents = ledger.get("documents_are")
    lines += ["", f"Documents are {documents}, held out by {ledger['split_by']}." if documents else ""]
    if left_out:
        lines += ["", f"Of {ledger['bytes_read']:,} bytes that were read these were left out: {'; '.join(left_out)}."]
    return [*lines, ""]


def _render_sources(config: Record, results: Record, ledger: Record) -> list[str]:
    """The sources with size and checksum. Names of local files are left out, since they may identify persons."""
    published = [name for data in list_sets(config) if (name := find_dataset(data)) is not None]
    lines = ["| source | bytes | xxh3-128 or revision |", "|---|---:|---|"]
    for number, source in enumerate(ledger["sources"][:MOST_SOURCES], 1):
        name = source["name"] if any(source["name"].startswith(each) for each in published) else f"file {number}"
        size = f"{source['bytes']:,}" if source.get("bytes") is not None else OPEN
        lines.append(f"| {name} | {size} | {source.get('xxh3_128') or source.get('revision') or OPEN} |")
    if len(ledger["sources"]) > MOST_SOURCES:
        lines.append(f"| and {len(ledger['sources']) - MOST_SOURCES:,} more | | |")
    corpus = results.get("text", {}).get("corpus")
    return [*lines, "", *([f"Checksum of the text and of how it was read and split: {corpus}.", ""] if corpus else [])]


def render_training(config: Record, results: Record) -> list[str]:
    """How the model was trained, in words."""
    train = results["train"]
    settings = train.get("settings")
    sentences = [_say_method(config)]
    if settings is not None:
        rows, length = settings["rows_per_step"], settings["block_size"]
        text = " of new text" if results.get("forgetting") else ""
        sentences += [
            f"Each of the {train['steps']:,} steps learned from at most {rows:,} rows of {length:,} tokens{text}; "
            f"{train['tokens']:,} tokens were learned in all, {train['epochs']:.2f} passes over the text.",
            *_say_left_out(config, train),
            *_say_kept(results.get("forgetting")),
            _say_rate(config, settings),
            f"Steps were computed in {PRECISIONS.get(settings['precision'], settings['precision'])}. The seed is {config['seed']}.",
            _say_weights(results),
        ]
    return ["## Training", "", " ".join(sentences), "", *_render_phases(config)]


def _say_left_out(config: Record, train: Record) -> list[str]:
    """Tokens left out of the loss to limit memorisation."""
    if "tokens_left_out" not in train:
        return []
    return [
        f"{train['tokens_left_out']:,} more were left out of the loss, one in {config['training']['goldfish']} by a hash of the "
        "tokens before it (goldfish loss, arXiv:2406.10209), so that passages that are met often are not learned by heart."
    ]


def _say_kept(found: Record | None) -> list[str]:
    """Old text that was replayed, and its purpose."""
    if found is None:
        return []
    source = "text that the model had written before" if found["replay"] == SELF else f"text of {found['replay']}"
    said = f"{found['tokens']:,} of them are {source}, learned again so that {found['on']} is not forgotten"
    return [f"{said}." if found["rise"] is None else f"{said}: its bits per byte moved by {found['rise']:+.2%}."]


def _say_weights(results: Record) -> str:
    train, average = results["train"], results.get("average") or {"kept": False}
    if average["kept"]:
        return (
            f"The model is the average of the weights of {render_count(average['points'], 'step')} from step "
            f"{average['first_step']:,} on, which did better on held-out text than what training ended with."
        )
    said = "The model is that of the last step."
    if train["best_step"] is not None:
        said = f"The model is that of step {train['best_step']:,}, the best by {train['settings']['best_by']} on held-out text."
    if train["settings"]["optim"] in SCHEDULE_FREE:
        said += " Its weights are the average that the optimizer takes."
    return said


def _say_method(config: Record) -> str:
    finetune = config["finetune"]
    if finetune["method"] == "lora" and "rank" in finetune:
        kept = "was merged into the weights" if finetune["merge"] else "is what is published"
        targets = ", ".join(finetune["target_modules"]) or "the layers that its library chooses"
        return (
            f"A low-rank adapter (LoRA) of rank {finetune['rank']}, alpha {finetune['alpha']:g} and dropout "
            f"{finetune['dropout']:g} on {targets} learned, and {kept}."
        )
    if finetune["method"] == "gradual":
        return "Layer groups learned one after another, the top ones first (gradual unfreezing)."
    return "All parameters learned."


def _say_rate(config: Record, settings: Record) -> str:
    optimizer = f"The optimizer was {settings['optim']} with a weight decay of {settings['weight_decay']:g}"
    cut = f", gradients cut at a norm of {settings['max_grad_norm']:g}" if settings["max_grad_norm"] else ""
    if config["finetune"]["method"] == "gradual":
        return f"{optimizer}{cut}; rates are those of the phases below."
    warmup = settings["warmup_steps"]
    length = f"{100 * warmup:g} % of the steps" if 0 < warmup < 1 else render_count(warmup, "step")
    rise = f", reached after a warm-up of {length}" if warmup else ""
    return (
        f"{optimizer}{cut} and a highest learning rate of {settings['learning_rate']:g}{rise}; "
        f"the schedule was {settings['lr_scheduler_type']}."
    )


def _render_phases(config: Record) -> list[str]:
    phases = config["finetune"].get("phases")
    if config["finetune"]["method"] != "gradual" or not phases:
        return []
    lines = ["| phase | epochs | layer groups | highest rate | of the lowest group |", "|---:|---:|---:|---:|---:|"]
    for number, phase in enumerate(phases, 1):
        top = phase["learning_rate"]
        lowest = phase["lowest_learning_rate"] or top
        lines.append(f"| {number} | {phase['epochs']:g} | {phase['groups']} | {top:g} | {lowest:g} |")
    return [*lines, ""]


def render_environment(config: Record, results: Record) -> list[str]:
    """Hardware, training time and energy."""
    train = results["train"]
    machine = results["starts"][-1]["machine"] if results.get("starts") else {}
    software = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "transformers") if name in machine)
    rows = {
        "device": machine.get("device") or UNKNOWN,
        "processes": f"{machine['processes']:,}, {machine['threads']:,} threads each" if machine else UNKNOWN,
        "software": software or UNKNOWN,
        "time of training": render_duration(train["seconds"]) if "seconds" in train else UNKNOWN,
        "tokens learned a second": f"{train['tokens_per_second']:,.0f}" if "tokens_per_second" in train else UNKNOWN,
        "energy": _say_energy(config, train),
    }
    return [
        "## Hardware, time and energy",
        "",
        "| | |",
        "|---|---|",
        *(f"| {n} | {cell(t)} |" for n, t in rows.items()),
        "",
    ]


def _say_energy(config: Record, train: Record) -> str:
    """The stated energy, else what a tracker measured."""
    stated, found = config.get("card", {}).get("energy"), train.get("energy")
    if stated is not None:
        return f"{stated:g} kWh"
    return OPEN if found is None else f"{found['kilowatt_hours']:.3g} kWh of the whole machine, by {found['method']}"


def render_citations(config: Record) -> list[str]:
    """How the model, its base and its text are cited."""
    cited = {"This model": config.get("card", {}).get("citation")}
    if find_base(config):
        cited["Base model"] = config["model"].get("citation")
    cited |= {f"Text, {name_text(data)}": data.get("citation") for data in list_sets(config)}
    return [
        "## Citation",
        "",
        *(f"- {name}: {' '.join(text.split()) if text else OPEN}" for name, text in cited.items()),
        "",
    ]


def cell(text: str) -> str:
    """A text escaped for a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")
