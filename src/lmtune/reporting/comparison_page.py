"""The page of a comparison: a section for each text, with all runs that were scored on it."""

from lmtune.measures import LOSS, Measure
from lmtune.reporting.comparison import list_measures
from lmtune.reporting.comparison_tables import name_settings, render_setting
from lmtune.reporting.forest import Row, render_forest
from lmtune.reporting.language import Language
from lmtune.reporting.learning import Curve, Learning, render_learning
from lmtune.reporting.pages import render_page
from lmtune.reporting.record import BITS, RunRecord
from lmtune.storage import Record

COLOURS = 8
"""Runs of a section with a colour of their own: the best ones."""
PLOTTED = 40
"""Runs of a forest plot, at most; the table has all."""


def render_comparison_page(values: Record, records: dict[str, RunRecord], language: Language) -> str:
    """The page as HTML. values: from build_comparison; records: of its runs, by label."""
    groups = [_build_group(values, group, records, language) for group in values["groups"]]
    return render_page(
        "comparison.html.j2",
        language,
        language.say("compare", n=len(values["runs"])),
        lead=_render_lead(values, language),
        groups=groups,
        apart=language.say("compare_apart", n=len(groups)) if len(groups) > 1 else None,
        settings=_build_settings(values),
        not_ranked=values["not_ranked"],
    )


def _render_lead(values: Record, language: Language) -> str | None:
    """The best run, if all runs with a score were scored alike."""
    if len(values["groups"]) != 1:
        return None
    (group,) = values["groups"]
    best = group["rows"][0]
    return language.say("compare_best", run=_label(values, group, best), bits=language.number(best[BITS], 4))


def _build_group(values: Record, group: Record, records: dict[str, RunRecord], language: Language) -> Record:
    protocol = group["protocol"]
    rows = [row for row in group["rows"] if row[BITS] is not None][:PLOTTED]
    with_intervals = any(row["interval"] for row in rows)
    low, high = (language.number(row[BITS], 4) for row in (rows[0], rows[-1])) if rows else ("", "")
    plotted = [
        Row(f"{place + 1}: {_label(values, group, row)}", row[BITS], row["interval"], _colour(place))
        for place, row in enumerate(rows)
    ]
    return {
        "title": f"{', '.join(group['sets'])} {protocol['text'][:6]}",
        "text": language.say(
            "compare_text",
            documents=language.say("documents", n=protocol["documents"]),
            size=language.size(group["bytes"]),
            context=protocol["context"],
            dtype=protocol["dtype"],
        ),
        "forest": render_forest(plotted, language.say("compare_told", n=len(rows), low=low, high=high), language)
        if plotted
        else None,
        "note": language.say("compare_intervals" if with_intervals else "compare_points"),
        "table": _build_table(values, group, language),
        "families": _build_families(group, language) if group["over_seeds"] else None,
        "vocabulary": None if group["same_vocabulary"] else language.say("compare_vocabularies"),
        "versions": "; ".join(f"{name} {', '.join(each)}" for name, each in group["versions"].items()),
        "curves": _render_curves(group, records, language),
    }


def _label(values: Record, group: Record, row: Record) -> str:
    """The settings in which runs of the section differ, with this run's values; without any, its name."""
    told = next(each["settings"] for each in values["runs"] if each["run"] == row["run"])
    names = name_settings(group["differences"])
    return ", ".join(f"{name} {render_setting(key, told.get(key))}" for key, name in names.items()) or str(row["run"])


def _colour(place: int) -> str:
    return f"c{place + 1}" if place < COLOURS else ""


def _build_table(values: Record, group: Record, language: Language) -> Record:
    told = {row["run"]: row["settings"] for row in values["runs"]}
    settings = name_settings(group["differences"])
    measures = _list_shown(group)
    rows = [
        {
            "colour": _colour(place),
            "run": row["run"],
            "settings": [render_setting(key, told[row["run"]].get(key)) for key in settings],
            "numbers": [
                *(language.number(row[measure.name], 4) for measure in measures),
                "" if place == 0 else _render_behind(row, language),
            ],
        }
        for place, row in enumerate(group["rows"])
    ]
    titles = [_title(measure, language) for measure in measures]
    return {"settings": list(settings.values()), "titles": [*titles, language.say("compare_behind")], "rows": rows}


def _render_behind(row: Record, language: Language) -> str:
    return f"+{language.number(row['behind_best'], 4)}{_render_bounds(row['difference'], language)}"


def _render_bounds(found: Record | None, language: Language) -> str:
    if found is None or found["low"] is None:
        return ""
    return f" ({language.number(found['low'], 4)} – {language.number(found['high'], 4)})"


def _build_families(group: Record, language: Language) -> Record:
    kept = name_settings([key for key in group["differences"] if key != "seed"])
    first, *others = _list_shown(group)
    compared = any(family["difference"] for family in group["families"])
    behind = [language.say("compare_runs_behind")] if compared else []
    rows = [
        {
            "settings": [render_setting(key, family["settings"].get(key)) for key in kept],
            "numbers": [
                str(len(family["runs"])),
                _render_spread(family, first.name, language),
                *([_render_mean_behind(family["difference"], language)] if behind else []),
                *(_render_spread(family, each.name, language) for each in others),
            ],
        }
        for family in group["families"]
    ]
    titles = [language.say("compare_seeds"), _title(first, language), *behind]
    titles += [_title(measure, language) for measure in others]
    return {"settings": list(kept.values()), "titles": titles, "rows": rows}


def _render_mean_behind(found: Record | None, language: Language) -> str:
    return "" if found is None else f"+{language.number(found['difference'], 4)}{_render_bounds(found, language)}"


def _render_spread(family: Record, measure: str, language: Language) -> str:
    deviation = family["deviation"][measure]
    mean = language.number(family["mean"][measure], 4)
    return mean if deviation is None else f"{mean} ± {language.number(deviation, 4)}"


def _list_shown(group: Record) -> list[Measure]:
    return [measure for measure in list_measures(group) if measure is not LOSS]


def _title(measure: Measure, language: Language) -> str:
    key = f"measure_{measure.name}"
    return language.say(key) if key in language.texts else measure.label


def _build_settings(values: Record) -> Record | None:
    """Every setting that differs, with its value in each run."""
    keys = [*values["differences"], *values["idle_differences"]]
    if not keys:
        return None
    rows = [[key, *(render_setting(key, run["settings"].get(key)) for run in values["runs"])] for key in keys]
    return {"runs": [run["run"] for run in values["runs"]], "rows": rows}


def _render_curves(group: Record, records: dict[str, RunRecord], language: Language) -> str | None:
    """Held-out bits per byte over the steps, of the best runs that were evaluated on the same text during training."""
    texts: dict[str, list[Curve]] = {}
    for place, row in enumerate(group["rows"][:COLOURS]):
        record = records[row["run"]]
        points = record.list_bits(row["set"])
        scored = record.results["eval"][row["set"]].get("while_training", {}).get("text", "")
        if len(points) > 1:
            end = language.number(points[-1][1], 2)
            texts.setdefault(scored, []).append(Curve(points, f"{place + 1}: {end}", _colour(place)))
    curves = max(texts.values(), key=len, default=[])
    if not curves:
        return None
    steps = max(int(point[0]) for curve in curves for point in curve.points)
    ends = [curve.points[-1][1] for curve in curves]
    told = language.say(
        "compare_curves_told", n=len(curves), low=language.number(min(ends), 2), high=language.number(max(ends), 2)
    )
    return render_learning(Learning(curves[::-1], steps, told=told), language)
