"""model/README.md: the model card, with the numbers and the protocol they rest on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmtune import __version__
from lmtune.measures import BY_EVALUATION, PUBLISHED, SHOWN
from lmtune.reporting.card_facts import (
    find_base,
    find_dataset,
    is_adapter,
    list_languages,
    list_sets,
    name_text,
    render_citations,
    render_data,
    render_environment,
    render_overview,
    render_statements,
    render_training,
)
from lmtune.reporting.columns import list_columns, render_amount, render_evaluated, render_seen, render_texts
from lmtune.reporting.samples import show_text
from lmtune.storage import Record, render_number

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData


def render_card(
    name: str,
    results: Record,
    config: Record,
    samples: list[dict[str, str]],
    repo: str | None = None,
    ledger: Record | None = None,
) -> str:
    """The card as Markdown with the Hub's metadata on top.

    repo: where on the Hub the model is loaded from. ledger: ledger.json of the run. Paths of the machine where it was
    trained stay out: they say nothing to a reader.
    """
    metadata = _build_metadata(name, results, config, samples)
    return f"---\n{metadata.to_yaml()}\n---\n\n" + "\n".join(_body(name, results, config, samples, repo, ledger)) + "\n"


def _build_metadata(name: str, results: Record, config: Record, samples: list[dict[str, str]]) -> ModelCardData:
    from huggingface_hub import ModelCardData

    languages = list_languages(config)
    stated = {key: config.get("card", {}).get(key) for key in ("license", "license_name", "license_link")}
    prompts = dict.fromkeys(sample["prompt"] for sample in samples if "prompt" in sample)
    return ModelCardData(
        model_name=name,
        language=languages[0] if len(languages) == 1 else languages or None,
        base_model=find_base(config),
        datasets=list(dict.fromkeys(filter(None, map(find_dataset, list_sets(config))))) or None,
        library_name="peft" if is_adapter(config) else "transformers",
        pipeline_tag="text-generation",
        tags=["lmtune"],
        eval_results=_eval_results(results, config),
        **stated,
        widget=[{"text": prompt} for prompt in prompts] or None,
    )


def _body(
    name: str,
    results: Record,
    config: Record,
    samples: list[dict[str, str]],
    repo: str | None,
    ledger: Record | None,
) -> list[str]:
    lines = [f"# {name}", "", *_introduce(results, config), *render_overview(config), *render_statements(config)]
    lines += render_data(config, results, ledger)
    lines += [*render_training(config, results), *_render_transplant(results.get("transplant"))]
    lines += [*render_environment(config, results), "## Evaluation", ""]
    for key, measures in results["eval"].items():
        lines += _table(key, measures)
    lines += ["## By evaluation", "", *_say_evaluated(results), *render_epochs(results["epochs"]), ""]
    if samples:
        lines += ["## Samples", ""]
        lines += [f"> {show_text(sample['text'].strip())}".replace("\n", "\n> ") + "\n" for sample in samples]
    needs = ["It needs the package `peft`, and loads its base by itself.", ""] if is_adapter(config) else []
    prompt = next((sample["prompt"] for sample in samples if "prompt" in sample), "...")
    return [*lines, *render_use(repo, needs, prompt), "", *render_citations(config)]


def _introduce(results: Record, config: Record) -> list[str]:
    source = find_base(config) or "a model of its author's own"
    start = "trained from scratch" if config["model"]["init"] == "scratch" else f"fine-tuned from {source}"
    kind = "A low-rank adapter (LoRA) for a" if is_adapter(config) else "A"
    text, train = " and ".join(map(name_text, list_sets(config))), results["train"]
    summary = config.get("card", {}).get("summary")
    return [
        *([summary, ""] if summary else []),
        f"{kind} causal language model, {start} on {text} with lmtune {__version__}: "
        f"{train['steps']:,} steps, {train['tokens']:,} tokens learned.",
        "",
    ]


def render_use(repo: str | None = None, needs: Sequence[str] = (), prompt: str = "...") -> list[str]:
    """How a model is loaded, from the Hub or from the folder of the card. needs: lines on what that takes."""
    model = json.dumps(repo or ".", ensure_ascii=False)
    return [
        "## Use",
        "",
        *needs,
        "```python",
        "from transformers import pipeline",
        "",
        *([] if repo else ["# in the folder of this file; from elsewhere its path"]),
        f'write = pipeline("text-generation", model={model})',
        f'print(write({json.dumps(prompt, ensure_ascii=False)}, max_new_tokens=60)[0]["generated_text"])',
        "```",
    ]


def render_epochs(epochs: list[Record]) -> list[str]:
    """The table of GPorTuguese-2's card in Markdown, bits per byte added."""
    titles = ["epoch", *(measure.label for measure in BY_EVALUATION), "seconds", "cumulative seconds"]
    lines = [f"| {' | '.join(titles)} |", "|" + "---:|" * len(titles)]
    for row in epochs:
        numbers = [render_number(row[measure.name]) for measure in BY_EVALUATION]
        cells = [f"{row['epoch']:.2f}", *numbers, f"{row['seconds']:.1f}", f"{row['cumulative_seconds']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _render_transplant(counts: Record | None) -> list[str]:
    if counts is None:
        return []
    return [
        f"Its vocabulary is another than that of the model it comes from: of {counts['new_entries']:,} embeddings "
        f"{counts['shared']:,} were copied and {counts['initialised']:,} initialised (`model.transplant={counts['method']}`); "
        f"{counts['lost']:,} old ones were left behind.",
        "",
    ]


def _table(key: str, measures: Record) -> list[str]:
    protocol, columns = measures["protocol"], list_columns(measures)
    limit = protocol.get("limit")
    part = f", a part of {limit['of_tokens']:,} tokens" if limit else ""
    lines = [
        f"Held-out text of `{key}`: {measures['tokens']:,} tokens, {measures['words']:,} words, {measures['bytes']:,} bytes{part}.",
        "",
    ]
    lines += [f"| measure | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
    for measure in SHOWN:
        numbers = (render_number(column.get(measure.name)) for column in columns.values())
        lines.append(f"| {measure.card_label} | {' | '.join(numbers)} |")
    return [
        *lines,
        "",
        *([f"The columns are of {render_texts(measures)}.", ""] if len(columns) > 1 else []),
        *([seen, ""] if (seen := render_seen(measures)) is not None else []),
        f"Windows of {protocol['context']:,} tokens, each token scored once, {protocol['dtype']}, split by {protocol['split_by']}. "
        "Perplexities per token compare only between models of one vocabulary; bits per byte compare between all.",
        "",
    ]


def _say_evaluated(results: Record) -> list[str]:
    """Which text the numbers while training are of, which need not be all of the held-out text."""
    name, measures = next(iter(results["eval"].items()), (None, None))
    if measures is None or not results["epochs"]:
        return []
    return [f"On the same text of `{name}` each time: {render_evaluated(measures)}.", ""]


def _dataset_of(key: str, config: Record) -> str:
    """The Hub id of a held-out set, or its name."""
    data = config["data"] if key == config["data"]["name"] else config["eval_sets"][key]
    return find_dataset(data) or key


def _name_metric(name: str, measures: Record) -> str | None:
    """What a number of a part of the held-out text is called, so that it is not taken for one of all of it."""
    limit = measures["protocol"].get("limit")
    return f"{name} ({render_amount(measures, limit)})" if limit else None


def _eval_results(results: Record, config: Record) -> list[EvalResult] | None:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=_dataset_of(key, config),
            dataset_name=key,
            metric_type=measure.name,
            metric_name=_name_metric(measure.name, measures),
            metric_value=measures[measure.name],
        )
        for key, measures in results["eval"].items()
        for measure in PUBLISHED
        if math.isfinite(measures[measure.name])
    ] or None
