"""report.html: what happened in a run, on one page, from its records alone.

Each build_ function returns the content of one section of report.html.j2, or None for a section that has nothing to show.
"""

from pathlib import Path

from lmtune.hub import is_hub_id
from lmtune.reporting import samples, sections
from lmtune.reporting.forgetting import build_forgetting
from lmtune.reporting.language import LANGUAGES, Language
from lmtune.reporting.learning import (
    SMOOTHED,
    Curve,
    Learning,
    average,
    is_beyond,
    render_learning,
    render_rates,
    tokens_to_bits,
)
from lmtune.reporting.pages import Tile, build_spans, render_page
from lmtune.reporting.record import BITS, RunRecord
from lmtune.reporting.settings import hide_private, list_differences, render_command, render_config, shorten_folder
from lmtune.reporting.svg import Point
from lmtune.storage import Record


def render_report(record: RunRecord, language: Language | None = None) -> str:
    """The page as HTML. Text from files and models is escaped; nothing is fetched when it is opened."""
    language = language or choose_language(record.config)
    settings = hide_private(record.config) if record.private else record.config
    return render_page(
        "report.html.j2",
        language,
        record.name,
        runs=record.status == "running",
        status=record.status if record.status in language.texts else "unknown",
        head=render_head(record, language),
        progress=build_progress(record, language),
        reason=None if record.private else record.results.get("reason"),
        private=record.private,
        scored=bool(record.evaluations or record.results.get("eval")),
        tiles=build_tiles(record, language),
        learning=build_learning(record, language),
        rates=build_rates(record, language),
        sets=build_sets(record, language),
        forgetting=build_forgetting(record, language),
        samples=samples.build_samples(record, language),
        documents=sections.build_documents(record, language),
        flow=sections.build_flow(record, language),
        command=None if record.private else render_command(record),
        facts=sections.list_facts(record, language),
        next=sections.list_next(record, shorten_folder(record.folder), language),
        measures=sections.build_measures(record, language),
        settings=list_differences(settings),
        config=render_config(settings),
    )


def choose_language(config: Record) -> Language:
    """The language of a run's report."""
    chosen = (config.get("report") or {}).get("language")
    return LANGUAGES[chosen or "en"]


def render_head(record: RunRecord, language: Language) -> str:
    """One sentence on what was trained on what, one on how much of it, one on when and where."""
    scratch = record.config["model"]["init"] == "scratch"
    said = language.say(
        "from_scratch" if scratch else "fine_tuned",
        model=_render_model(record, language),
        text=_render_text(record, language),
    )
    return " ".join(part for part in (said, _render_effort(record, language), _render_when(record, language)) if part)


def _render_model(record: RunRecord, language: Language) -> str:
    model = record.config["model"]
    path = model["path"] if model["init"] == "pretrained" else None
    name = model["name"] if path is None else path if is_hub_id(path) else Path(path).name
    if not record.starts:
        return str(name)
    whole, part = (record.starts[-1][key] for key in ("parameters", "trained"))
    key = "model" if whole == part else "model_part"
    return language.say(key, name=name, count=language.amount(whole), part=language.amount(part))


def _render_text(record: RunRecord, language: Language) -> str:
    data = record.config["data"]
    files = data["files"]
    named = data["name"] == "files" and isinstance(files, str) and not record.private
    name = Path(files).name if named else data["name"]
    side = record.ledger.get("sides", {}).get("train", {})
    if not side.get("documents"):
        return language.say("text_streamed", name=name)
    documents = language.say("documents", n=side["documents"])
    return language.say("text", documents=documents, name=name, size=language.size(side["bytes"]))


def _render_effort(record: RunRecord, language: Language) -> str:
    train = record.results.get("train")
    if not train:
        return ""
    tokens = language.say("tokens", n=train["tokens"])
    said = language.say("effort", steps=language.say("steps", n=train["steps"]), tokens=tokens)
    if "tokens_left_out" in train:
        said = language.say("left_out", said=said, n=train["tokens_left_out"])
    epochs = train.get("epochs")
    if epochs and epochs >= 1:
        count = language.number(epochs, 0 if float(epochs).is_integer() else 1)
        said = f"{language.say('epochs', count=count, n=epochs)}, {said}"
    return f"{said}."


def _render_when(record: RunRecord, language: Language) -> str:
    seconds = record.results.get("train", {}).get("seconds")
    if record.began is None:
        return ""
    if seconds is None or not record.starts:
        return f"{language.date(record.began)}."
    machine = record.starts[-1]["machine"]
    return language.say(
        "on_machine",
        date=language.date(record.began),
        duration=language.duration(seconds),
        machine=render_devices(machine, language),
    )


def render_devices(machine: Record, language: Language) -> str:
    """What a run was trained on, in words."""
    if machine["device"].startswith("cpu"):
        return language.say("cpu", n=machine["threads"] * machine["processes"])
    return language.say("devices", n=machine["processes"], name=machine["device"])


def build_progress(record: RunRecord, language: Language) -> Record | None:
    """Progress of a run that is still going on, else None."""
    if record.status != "running" or not record.starts:
        return None
    whole = record.starts[-1]["steps"]
    text = language.say("progress", step=record.steps, steps=whole)
    return {"percent": 100 * record.steps / max(1, whole), "text": text}


def build_tiles(record: RunRecord, language: Language) -> list[Tile]:
    """The numbers that matter: bits per byte and perplexity before and after on the same text, and the pace."""
    tiles = []
    if record.sets:
        name = record.sets[0]
        before, after = record.find_before(name), record.find_after(name)
        if record.status == "running" and len(record.evaluations) == 1:
            before = {}  # there is one evaluation so far
        if BITS in after:
            tiles.append(_build_bits_tile(record, before.get(BITS), after[BITS], language))
        if "perplexity" in after:
            was = [language.say("was", value=language.short(before["perplexity"]))] if "perplexity" in before else []
            tiles.append(Tile(language.say("perplexity"), language.short(after["perplexity"]), notes=was))
    pace = record.results.get("train", {}).get("tokens_per_second")
    pace = pace or next((value for _, value in reversed(record.list_points("tokens_per_second"))), None)
    if pace:
        notes = [said] if (said := render_memory(record, language)) else []
        tiles.append(Tile(language.say("speed"), language.number(pace), notes=notes))
    return tiles


def _build_bits_tile(record: RunRecord, before: float | None, after: float, language: Language) -> Tile:
    amount = sections.render_scored(record, record.sets[0], language)
    notes = [language.say("one_text" if before is None else "same_text", amount=amount)]
    unigram = sections.find_unigram(record)
    if unigram is not None:
        notes.append(language.say("unigram_is", bits=language.number(unigram, 2)))
    if before is None:
        return Tile(language.say("bits_per_byte"), language.number(after, 2), notes=notes)
    return Tile(
        language.say("bits_per_byte"),
        language.number(after, 2),
        before=language.number(before, 2),
        change=language.change(before, after),
        better=after <= before,
        notes=notes,
    )


def render_memory(record: RunRecord, language: Language) -> str:
    """Memory that was used and predicted."""
    used = max((value for _, value in record.list_points("memory_gb")), default=None)
    predicted = record.starts[-1]["memory"] if record.starts else None
    if used is None:
        return ""
    key = "memory_used" if predicted is None else "memory_both"
    return language.say(key, used=language.size(used * 1e9), predicted=language.size(predicted or 0))


def build_learning(record: RunRecord, language: Language) -> Record | None:
    """The figure of the training with its notes, and the table of all evaluations."""
    held = record.list_bits(record.sets[0]) if record.sets else []
    ratio = sections.find_tokens_per_byte(record)
    training = tokens_to_bits(record.list_points("loss"), ratio) if ratio else []
    if len(training) + len(held) < 2:
        return None
    curves = _build_curves(training, held, language)
    unigram = sections.find_unigram(record)
    beyond = unigram is not None and is_beyond(unigram, curves)
    levels = {} if unigram is None or beyond else {_label("unigram", unigram, language): unigram}
    best = _find_best(record, held)
    shown = Learning(
        curves=curves,
        steps=record.starts[-1]["steps"] if record.status == "running" and record.starts else record.steps,
        levels=levels,
        ring=best,
        resumes=[start["step"] for start in record.starts[1:] if start["step"] > 0],
        rate=record.list_points("learning_rate"),
        told=_tell_learning(record, held, curves[-1 if not held else 0], best, unigram, language),
    )
    notes = _list_notes(record, held, best, ratio if training else None, language)
    if beyond:
        notes.append(language.say("unigram_beyond", bits=language.number(unigram, 2)))
    return {"figure": render_learning(shown, language), "notes": notes, **sections.list_evaluations(record, language)}


def _build_curves(training: list[Point], held: list[Point], language: Language) -> list[Curve]:
    curves = []
    if training:
        mean = average(training, len(training) // 40) if len(training) > SMOOTHED else training
        if mean is not training:
            curves.append(Curve(training, "", "faint"))
        curves.append(Curve(mean, _label("training", mean[-1][1], language), "" if held else "main"))
    if held:
        curves.append(Curve(held, _label("held_out", held[-1][1], language), "main"))
    return curves


def _label(key: str, value: float, language: Language) -> str:
    return f"{language.say(key)} {language.number(value, 2)}"


def _find_best(record: RunRecord, held: list[Point]) -> Point | None:
    """The point of the step whose weights the run ends with, else the lowest."""
    known = next((point for point in held if point[0] == record.best_step), None)
    return known or min(held, key=lambda point: (point[1], point[0]), default=None)


def _list_notes(
    record: RunRecord, held: list[Point], best: Point | None, ratio: float | None, language: Language
) -> list[str]:
    notes = [] if held else [language.say("only_training")]
    if best is not None and len(held) > 1:
        key = "learning_note" if record.best_step == best[0] else "learning_note_last"
        notes.append(language.say(key, best_step=best[0], best=language.number(best[1], 3)))
    notes += _tell_average(record, language)
    if ratio is not None:
        notes.append(language.say("training_note", ratio=language.number(ratio, 3)))
    return notes


def _tell_average(record: RunRecord, language: Language) -> list[str]:
    found = record.results.get("average")
    if not found or not found["points"]:
        return []
    bits, without = (language.number(found[name], 4) for name in (BITS, "without"))
    key = "average_kept" if found["kept"] else "average_left"
    return [language.say(key, points=found["points"], first=found["first_step"], bits=bits, without=without)]


def _tell_learning(
    record: RunRecord,
    held: list[Point],
    training: Curve,
    best: Point | None,
    unigram: float | None,
    language: Language,
) -> str:
    """The figure in words, for those who cannot see it."""
    first, last = (language.number(training.points[place][1], 2) for place in (0, -1))
    said = "" if training.kind == "main" and held else language.say("training_told", first=first, last=last)
    if not held or best is None:
        return said.strip()
    return language.say(
        "learning_told",
        name=record.sets[0],
        first=language.number(held[0][1], 2),
        start=held[0][0],
        last=language.number(held[-1][1], 2),
        end=held[-1][0],
        best=language.number(best[1], 2),
        best_step=best[0],
        training=said,
        unigram="" if unigram is None else language.say("unigram_told", bits=language.number(unigram, 2)),
    )


def build_rates(record: RunRecord, language: Language) -> Record | None:
    """The learning rates of layer groups, if there are several."""
    groups: list[list[Point]] = []
    while points := record.list_points(f"learning_rate_group_{len(groups)}"):
        groups.append(points)
    if len(groups) < 2:
        return None
    note = language.say("rates_note", start=groups[0][0][0], end=groups[0][-1][0])
    return {"figure": render_rates(groups, record.steps, language), "note": note}


def build_sets(record: RunRecord, language: Language) -> Record | None:
    """The change on each held-out text of a run with several: a measure of what it has forgotten."""
    found = [(name, record.find_before(name).get(BITS), record.find_after(name).get(BITS)) for name in record.sets]
    pairs = [(name, before, after) for name, before, after in found if before is not None and after is not None]
    if len(record.sets) < 2 or not pairs:
        return None
    key = "sets_note_running" if record.status == "running" else "sets_note"
    rows = [(name, "", before, after) for name, before, after in pairs]
    return {"rows": build_spans(rows, language), "note": language.say(key)}
