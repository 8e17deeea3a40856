"""Tables for a terminal, from the results of `lmtune train` and `lmtune eval`."""

from pathlib import Path
from statistics import NormalDist

from lmtune.evaluation.comparison import MIN_DOCUMENTS
from lmtune.evaluation.documents import have_same_vocabulary
from lmtune.evaluation.gain import MOST_SEEDS, POWER, SOUGHT
from lmtune.evaluation.intervals import CONFIDENCE
from lmtune.measures import SHOWN, Measure
from lmtune.reporting.average import render_average
from lmtune.reporting.card import render_epochs
from lmtune.reporting.columns import list_columns, render_texts
from lmtune.reporting.forgetting import render_forgetting
from lmtune.storage import Record, render_number
from lmtune.units import render_count

LABEL = 24
"""Characters of the column with the names of the measures."""
NUMBER = 12
"""Characters of a column of numbers, at least."""
LONGEST_NAME = 40
"""Characters of the name of a checkpoint."""
MOST_COLUMNS = 3
"""Checkpoints that have a column each."""
SHOWN_DOCUMENTS = 10
SHOWN_CHARS = 90
"""Characters shown of the beginning of a document."""


def render_run(results: Record) -> list[str]:
    """Results of a training: a table for each held-out set, the epochs if each ends with an evaluation, and the pace."""
    lines = []
    for name, measures in results["eval"].items():
        lines += render_set(name, measures)
    rows = results["epochs"]
    if len(rows) > 1 and all(float(row["epoch"]).is_integer() for row in rows):
        lines += render_epochs(rows)
    if "average" in results:
        lines.append(render_average(results["average"]))
    if "forgetting" in results:
        lines.append(render_forgetting(results["forgetting"]))
    train = results["train"]
    lines.append(
        f"{train['steps']:,} steps, {train['tokens']:,} tokens in {train['seconds']:.1f} s, "
        f"{train['tokens_per_second']:,.0f} tokens/s"
    )
    return lines


def render_set(name: str, measures: Record) -> list[str]:
    """The measures of a held-out set in columns, and below them the text that each column is measured on."""
    columns = list_columns(measures)
    rows = [(f"{name} (held out)", list(columns))]
    for measure in SHOWN:
        numbers = [render_number(column[measure.name]) if measure.name in column else "" for column in columns.values()]
        rows.append((measure.label, numbers))
    if "unigram_bits_per_byte" in measures:
        blank = [""] * (len(columns) - 1)
        rows.append(("unigram bits per byte", [*blank, f"{measures['unigram_bits_per_byte']:.4f}"]))
    return [*_render_rows(rows), render_texts(measures)]


def render_rates(found: Record, curve: Path) -> list[str]:
    """Results of `lmtune lr-find`: the rates tried, and those suggested. curve: the file with the plot."""
    suggestions = found["suggestions"]
    return [
        f"{len(found['rates'])} rates from {found['rates'][0]:.2e} to {found['rates'][-1]:.2e}",
        f"{'a tenth of the rate of the lowest loss':<42}{suggestions['minimum_tenth']:.2e}",
        f"{'where the loss falls fastest':<42}{suggestions['steepest']:.2e}",
        f"try training.learning_rate={suggestions['minimum_tenth']:.1e}",
        f"curve: {curve}",
    ]


def render_evaluation(results: Record) -> list[str]:
    """Results of `lmtune eval` on a text: the numbers of each checkpoint, and their differences below."""
    models = results.get("models") or {"": results}
    scored = {ckpt: next(iter(each["eval"].values())) for ckpt, each in models.items()}
    name, first = next(iter(next(iter(models.values()))["eval"].items()))
    lines = [f"{name} ({first['protocol']['split']}, {render_amount(first)})"]
    same = have_same_vocabulary(scored)
    lines += _render_scores(scored, [measure for measure in SHOWN if same or not measure.per_token])
    if not same:
        lines.append(
            "The checkpoints have different vocabularies, so what they lose per token (loss, perplexity, accuracy) does not "
            "compare and is left out; bits per byte and word perplexity do."
        )
    lines += _render_differences(results)
    lines.append(_render_counts(list(scored.values())))
    return lines + [
        line for ckpt, measures in scored.items() for line in _render_worst(ckpt, measures, len(scored) > 1)
    ]


def _render_scores(scored: dict[str, Record], shown: list[Measure]) -> list[str]:
    """A column for each checkpoint; a row for each if there are more than MOST_COLUMNS."""
    table = [["", *(measure.label for measure in shown)]]
    table += [[shorten(ckpt), *(render_number(found[each.name]) for each in shown)] for ckpt, found in scored.items()]
    if len(scored) <= MOST_COLUMNS:
        table = [list(row) for row in zip(*table, strict=True)][len(scored) == 1 :]  # a single one needs no heading
    return _render_rows([(label, cells) for label, *cells in table])


def render_amount(measures: Record) -> str:
    """How much of a text was scored, and the total if that was limited."""
    protocol = measures["protocol"]
    limit = protocol["limit"]
    if limit is None:
        return f"{protocol['documents']:,} documents"
    return (
        f"{protocol['documents']:,} of {limit['of_documents']:,} documents, {measures['tokens']:,} of {limit['of_tokens']:,} "
        f"tokens: a part, by eval.max_tokens={limit['max_tokens']:,}"
    )


def render_answers(answers: list[Record]) -> list[str]:
    """Results of `lmtune generate`, a paragraph each: texts, a heading above those of a grid, or the likeliest next tokens."""
    return [_render_next(answer) if "next" in answer else _render_texts(answer) for answer in answers]


def _render_rows(rows: list[tuple[str, list[str]]]) -> list[str]:
    """Rows of a label and cells; a column is as wide as its widest cell, with two spaces before it."""
    longest = max([LABEL, *(len(label) + 2 for label, _ in rows)])
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    widths = [
        max(NUMBER, *(len(cell) + (2 if place else 0) for cell in column)) for place, column in enumerate(columns)
    ]
    return [
        f"{label:<{longest}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        for label, cells in rows
    ]


def _render_differences(results: Record) -> list[str]:
    if "comparison" not in results:
        return []
    comparison = results["comparison"]
    if "over_runs" in comparison:
        return render_over_runs(comparison)
    found = {ckpt: next(iter(sets.values())) for ckpt, sets in comparison["differences"].items()}
    return [
        f"{shorten(ckpt)} less {shorten(comparison['baseline'])}: {difference['difference']:+.4f} bits per byte, "
        f"{_render_interval(difference)}"
        for ckpt, difference in found.items()
    ]


def _render_interval(difference: Record, over: str = "") -> str:
    """over: what it is an interval over besides documents."""
    count, low, high = difference["documents"], difference["low"], difference["high"]
    documents = render_count(count, "document")
    if low is None or high is None:
        few = count < MIN_DOCUMENTS
        why = "" if few else f", which weigh as much as {difference['effective_documents']:.1f} of one size,"
        return f"without an interval: {documents}{why} {'is' if count == 1 else 'are'} too few for one (expected {MIN_DOCUMENTS})"
    return (
        f"{difference['confidence']:.0%} interval {low:+.4f} to {high:+.4f} ({over}paired bootstrap over {documents})"
    )


def render_over_runs(comparison: Record) -> list[str]:
    """The difference between runs of two ways of training, with its interval, its meaning, and how many runs would show more."""
    found = next(iter(comparison["over_runs"].values()))
    runs, others = found["runs"]
    sides = [
        f"{shorten(side[0])}{f' and {len(side) - 1} more' if len(side) > 1 else ''}"
        for side in (comparison["runs"], comparison["against"])
    ]
    share = found["difference"] / found["baseline"]
    return [
        f"{sides[0]} less {sides[1]}: {found['difference']:+.4f} bits per byte ({share:+.2%}), "
        f"{_render_interval(found, f'{runs} runs against {others}, ')}",
        *render_gain(found),
    ]


def render_gain(found: Record) -> list[str]:
    """The meaning of a difference over runs, in words, and how many runs would show half a percent; nothing without an interval."""
    if found["low"] is None:
        return []
    shown = not found["low"] <= 0 <= found["high"]
    return [
        f"{'More than chance' if shown else 'May be chance'}: of comparisons of equally good models, {_render_chance(found['p'])} "
        "would show a difference as large.",
        f"Runs of one side differ by {found['run_deviation']:.4f} bits per byte (standard deviation); {render_needed(found)}.",
    ]


def render_needed(found: Record) -> str:
    """How many runs would show half a percent."""
    least = (NormalDist().inv_cdf((1 + CONFIDENCE) / 2) + NormalDist().inv_cdf(POWER)) * found["document_error"]
    if found["seeds_needed"] is None and least > SOUGHT * found["baseline"]:
        return f"no number of seeds would show {SOUGHT:.1%} of {found['baseline']:.4f} on so few documents"
    return render_seeds(found["seeds_needed"], found["baseline"])


def render_seeds(needed: int | None, bits: float) -> str:
    """How many seeds would show half a percent of so many bits per byte; needed: None for more than MOST_SEEDS."""
    if needed is None:
        return f"more than {MOST_SEEDS} seeds a side would be needed to show {SOUGHT:.1%} of {bits:.4f}"
    return f"about {needed} seeds a side would show {SOUGHT:.1%} of {bits:.4f}"


def _render_chance(p: float) -> str:
    if p < 0.001:
        return "fewer than 1 in 1,000"
    return f"{1000 * p:.0f} in 1,000" if p < 0.01 else f"{100 * p:.0f} in 100"


def _render_counts(scored: list[Record]) -> str:
    """Amounts, windows and seconds; each of them once if all checkpoints have the same."""
    first = scored[0]
    tokens = " and ".join(dict.fromkeys(f"{measures['tokens']:,}" for measures in scored))
    windows = " and ".join(dict.fromkeys(render_windows(measures["protocol"]) for measures in scored))
    seconds = sum(measures["seconds"] for measures in scored)
    return f"{tokens} tokens, {first['words']:,} words, {first['bytes']:,} bytes; {windows}, {seconds:.1f} s"


def render_windows(protocol: Record) -> str:
    """`windows of 1,024 every 512, float32`."""
    stride = "" if protocol["windows"] == "disjoint" else f" every {protocol['stride']:,}"
    return f"windows of {protocol['context']:,}{stride}, {protocol['dtype']}"


def _render_worst(ckpt: str, measures: Record, several: bool) -> list[str]:
    """The documents with the most bits per byte; nothing without eval.per_document."""
    listed = measures.get("documents", [])
    if not listed:
        return []
    title = f"the worst documents{f' of {shorten(ckpt)}' if several else ''}, bits per byte"
    more = len(listed) - SHOWN_DOCUMENTS
    if more > 0:
        title += f" ({more:,} more; output=FOLDER writes all of them)"
    return ["", title] + [
        f"{each['bits_per_byte']:>9.4f}  {each['document']:>6}  {each.get('beginning', '')[:SHOWN_CHARS]}".rstrip()
        for each in listed[:SHOWN_DOCUMENTS]
    ]


def _render_texts(answer: Record) -> str:
    cell = ", ".join(f"{name} {value}" for name, value in answer.items() if name not in ("prompt", "texts"))
    return "\n\n".join([f"== {cell} ==", *answer["texts"]] if cell else answer["texts"])


def _render_next(answer: Record) -> str:
    return "\n".join([answer["prompt"], *(f"{probability:>8.4f}  {token!r}" for token, probability in answer["next"])])


def shorten(ckpt: str) -> str:
    """The end of a path or id, long enough to recognise it: whole parts if two fit, such as a run's name before its date."""
    parts = ckpt.split("/")
    ends = ["/".join(parts[-count:]) for count in range(len(parts), 1, -1)]
    return next((end for end in [ckpt, *ends] if len(end) <= LONGEST_NAME), f"...{ckpt[3 - LONGEST_NAME :]}")
