"""A comparison of runs for a terminal, and as CSV, Markdown and LaTeX."""

import csv
import io
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from lmtune.config import ComparisonFormat
from lmtune.config.ranges import render_value
from lmtune.evaluation.gain import plan_seeds
from lmtune.evaluation.intervals import CONFIDENCE
from lmtune.evaluation.side_by_side import SEEDS, TEXT
from lmtune.measures import BITS_PER_BYTE, LOSS, SHOWN, WORD_PERPLEXITY
from lmtune.paths import show
from lmtune.reporting.columns import align
from lmtune.reporting.comparison import list_measures
from lmtune.reporting.tables import render_needed, render_seeds, render_windows
from lmtune.storage import Record, render_number

MOST_SETTINGS = 5
"""Columns of settings in a terminal; further ones are listed below the table."""
SHOWN_RUNS = 4
"""Runs named in a line for a value that they share."""
VALUE_CHARS = 24
"""Characters of a value in a cell."""


class Table(NamedTuple):
    """Cells as text; the first row holds titles, the first columns words, the others numbers."""

    rows: list[list[str]]
    words: int
    """Number of columns that are aligned to the left."""


def render_comparison(values: Record) -> list[str]:
    """Results of `lmtune compare` for a terminal: a table for each text, other differences, and runs that are not ranked."""
    lines: list[str] = []
    for group in values["groups"]:
        settings = group["differences"][:MOST_SETTINGS]
        lines += [*([""] if lines else []), _render_title(group), *_render_shared(values, group)]
        lines += _align(_build_rows(values, group, settings))
        if group["over_seeds"]:
            lines += ["", "over seeds: mean and standard deviation (n-1)", *_align(_build_families(group, settings))]
        lines += _render_notes(group)
    return [*lines, *_render_apart(values), *_render_rest(values), *_render_unranked(values)]


def render_csv(values: Record) -> list[str]:
    """A line for each run and held-out set, with all settings that differ; numbers are comparable within a group."""
    settings = [*values["differences"], *values["idle_differences"]]
    rows = {row["run"]: row for row in values["runs"]}
    measures = [*(measure.name for measure in SHOWN), "behind_best"]
    titles = ["group", "run", "set", "text", *settings, *measures, "steps", "tokens", "seconds", "folder"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(titles)
    for number, group in enumerate(values["groups"], start=1):
        for score in group["rows"]:
            told = rows[score["run"]]
            cells = [_render_plain(told["settings"].get(key)) for key in settings]
            numbers = [score.get(name, "") for name in measures]
            rest = [told[name] for name in ("steps", "tokens", "seconds", "folder")]
            writer.writerow([number, score["run"], score["set"], group["protocol"]["text"], *cells, *numbers, *rest])
    return stream.getvalue().rstrip("\n").split("\n")


def render_markdown(values: Record) -> list[str]:
    """A table for each text, aggregated over seeds if runs differ in nothing else."""
    lines: list[str] = []
    for group, table in _list_papers(values):
        title, *rows = table.rows
        lines += [*([""] if lines else []), _render_title(group), "", _pipe(title)]
        lines += ["|" + "".join(" --- |" if place < table.words else " ---: |" for place in range(len(title)))]
        lines += [_pipe(row) for row in rows]
    return [*lines, *(["", *left] if (left := _render_unranked(values)) else [])]


def render_latex(values: Record) -> list[str]:
    """A tabular for each text, with the rules of booktabs, aggregated over seeds if runs differ in nothing else."""
    lines = ["% \\usepackage{booktabs}"]
    for group, table in _list_papers(values):
        title, *rows = table.rows
        columns = "l" * table.words + "r" * (len(title) - table.words)
        lines += [
            f"% {_render_title(group)}",
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            _row(title),
            "\\midrule",
        ]
        lines += [*(_row(row) for row in rows), "\\bottomrule", "\\end{tabular}"]
    return [*lines, *(f"% {line}" for line in _render_unranked(values))]


RENDERERS: dict[ComparisonFormat, Callable[[Record], list[str]]] = {
    ComparisonFormat.table: render_comparison,
    ComparisonFormat.json: render_comparison,
    ComparisonFormat.csv: render_csv,
    ComparisonFormat.markdown: render_markdown,
    ComparisonFormat.latex: render_latex,
}
"""Renderers by format; JSON is the values themselves."""


def name_settings(keys: list[str]) -> dict[str, str]:
    """Column titles by key: the last part of the key if that is unique."""
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def render_setting(key: str, value: object) -> str:
    """A value of a setting in a cell."""
    if value is None:
        return "-"
    text = str(value)[:6] if key == TEXT else render_value(value)
    return show(text if len(text) <= VALUE_CHARS else f"{text[: VALUE_CHARS // 2 - 1]}..{text[1 - VALUE_CHARS // 2 :]}")


def _list_papers(values: Record) -> list[tuple[Record, Table]]:
    """(group, table) for a paper: a row per run, or per family of runs that differ in the seed alone."""
    return [
        (group, (_build_families if group["over_seeds"] else partial(_build_rows, values))(group, group["differences"]))
        for group in values["groups"]
    ]


def _build_rows(values: Record, group: Record, settings: list[str]) -> Table:
    measures = [measure for measure in list_measures(group) if measure is not LOSS]
    told = {row["run"]: row["settings"] for row in values["runs"]}
    sets = ["set"] if len(group["sets"]) > 1 else []
    labels = [measure.label for measure in measures]
    titles = ["run", *sets, *name_settings(settings).values(), *labels, "behind the best"]
    rows = [
        [
            show(row["run"]),
            *([show(row["set"])] if sets else []),
            *(render_setting(key, told[row["run"]].get(key)) for key in settings),
            *(render_measure(measure.name, row[measure.name]) for measure in measures),
            "" if place == 0 else _render_behind(row),
        ]
        for place, row in enumerate(group["rows"])
    ]
    return Table([titles, *rows], 1 + len(sets) + len(settings))


def _render_behind(row: Record) -> str:
    """The difference from the best run, with its interval over documents if there is one."""
    return f"{row['behind_best']:+.4f}{_render_bounds(row['difference'])}"


def _render_bounds(found: Record | None) -> str:
    return "" if found is None or found["low"] is None else f" ({found['low']:+.4f} to {found['high']:+.4f})"


def _build_families(group: Record, settings: list[str]) -> Table:
    measures = [measure for measure in list_measures(group) if measure is not LOSS]
    kept = [key for key in settings if key not in SEEDS]
    behind = ["behind the best"] if any(family["difference"] for family in group["families"]) else []
    titles = [*name_settings(kept).values(), "seeds", *(measure.label for measure in measures), *behind]
    rows = [
        [
            *(render_setting(key, family["settings"].get(key)) for key in kept),
            str(len(family["runs"])),
            *(_render_spread(measure.name, family) for measure in measures),
            *([_render_mean_behind(family)] if behind else []),
        ]
        for family in group["families"]
    ]
    return Table([titles, *rows], len(kept))


def _render_mean_behind(family: Record) -> str:
    """The difference from the best mean, with its interval over runs and documents."""
    found = family["difference"]
    return "" if found is None else f"{found['difference']:+.4f}{_render_bounds(found)}"


def render_measure(name: str, value: float | None, mean: float | None = None) -> str:
    """A number in a table; large word perplexities have no decimals, which would mean nothing.

    mean: for a deviation, the mean that decides its decimals.
    """
    size = value if mean is None else mean
    if name == WORD_PERPLEXITY.name and value is not None and math.isfinite(value) and size and abs(size) >= 1e4:
        return f"{value:,.0f}"
    return render_number(value)


def _render_spread(name: str, family: Record) -> str:
    mean, deviation = family["mean"][name], family["deviation"][name]
    spread = "" if deviation is None else f" ± {render_measure(name, deviation, mean)}"
    return render_measure(name, mean) + spread


def _align(table: Table) -> list[str]:
    return align(table.rows, right=range(table.words, len(table.rows[0])))


def _render_title(group: Record) -> str:
    protocol = group["protocol"]
    return (
        f"{', '.join(group['sets'])} {protocol['text'][:6]}: {protocol['documents']:,} documents, {group['bytes']:,} bytes held "
        f"out; {render_windows(protocol)}"
    )


def _render_notes(group: Record) -> list[str]:
    lines = []
    if (found := next(filter(None, (row["difference"] for row in group["rows"])), None)) and found["low"] is not None:
        lines.append(f"behind the best: with its {found['confidence']:.0%} interval (paired bootstrap over documents)")
    lines += _render_seeds(group["families"])
    if not group["same_vocabulary"]:
        lines.append("different vocabularies: perplexity and accuracy are per token, do not compare, and are left out")
    if group["versions"]:
        found = (f"{name} {', '.join(each)}" for name, each in group["versions"].items())
        lines.append(f"different versions: {'; '.join(found)}")
    repeated = sum(family["repeated"] for family in group["families"])
    if repeated:
        repeat = "1 run repeats a seed" if repeated == 1 else f"{repeated:,} runs repeat a seed"
        lines.append(f"{repeat} with the same settings, counted once in means")
    return lines


def _render_seeds(families: list[Record]) -> list[str]:
    """Notes on the intervals over seeds, and on how many seeds would show half a percent."""
    found = next((family["difference"] for family in families if family["difference"]), None)
    if found is not None and found["low"] is not None:
        return [
            f"over seeds, behind the best: with its {found['confidence']:.0%} interval (over runs and documents); "
            f"{render_needed(found)}"
        ]
    if families[0]["interval"] is None:
        return []
    (low, high), name = families[0]["interval"], BITS_PER_BYTE.name
    mean, deviation = families[0]["mean"][name], families[0]["deviation"][name]
    return [
        f"bits per byte over seeds: {CONFIDENCE:.0%} interval {low:.4f} to {high:.4f} (over runs and documents)",
        f"by the spread of seeds alone, {render_seeds(plan_seeds(deviation, mean), mean)}",
    ]


def _render_apart(values: Record) -> list[str]:
    """Why there are several tables."""
    groups = values["groups"]
    if len(groups) < 2:
        return []
    texts = {group["protocol"]["text"] for group in groups}
    why = f"{len(texts):,} texts" if len(texts) > 1 else "one text, scored in different ways"
    return [
        "",
        f"{len(groups):,} tables of {why}: numbers compare within one table. To rank all runs, score them alike: "
        "lmtune eval ckpt=[A,B] data=...",
    ]


def _render_shared(values: Record, group: Record) -> list[str]:
    """Settings that all runs of a group share, and that differ between groups."""
    labels = {row["run"] for row in group["rows"]}
    told = next(row["settings"] for row in values["runs"] if row["run"] in labels)
    shared = [key for key in values["differences"] if key not in group["differences"]]
    names = name_settings(shared)
    told_of = (f"{name} {render_setting(key, told.get(key))}" for key, name in names.items())
    return [f"all with {', '.join(told_of)}"] if shared else []


def _render_rest(values: Record) -> list[str]:
    """Differences without a column: each value with its runs."""
    hidden = dict.fromkeys(key for group in values["groups"] for key in group["differences"][MOST_SETTINGS:])
    lines = [_render_difference(values, key) for key in hidden]
    if values["idle_differences"]:
        lines.append(f"without effect on the weights: {', '.join(values['idle_differences'])}")
    return ["", "differed too:", *(f"  {line}" for line in lines)] if lines else []


def _render_difference(values: Record, key: str) -> str:
    runs: dict[str, list[str]] = {}
    for row in values["runs"]:
        runs.setdefault(render_setting(key, row["settings"].get(key)), []).append(show(row["run"]))
    shown = (
        f"{value} ({', '.join(names[:SHOWN_RUNS])}{', ...' if len(names) > SHOWN_RUNS else ''})"
        for value, names in runs.items()
    )
    return f"{key}: {'; '.join(shown)}"


def _render_unranked(values: Record) -> list[str]:
    return [f"not ranked: {show(run)}: {reason}" for run, reason in values["not_ranked"].items()]


def _render_plain(value: object) -> str:
    return "" if value is None else value if isinstance(value, str) else render_value(value)


def _pipe(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
}  # fmt: skip


def _row(cells: list[str]) -> str:
    return " & ".join("".join(_LATEX.get(each, each) for each in cell) for cell in cells) + r" \\"
