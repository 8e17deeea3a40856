"""The sections of a run's page below its figure: documents, text, how to repeat it, all measures."""

from lmtune.measures import BY_EVALUATION, REPORTED
from lmtune.reporting.columns import list_columns
from lmtune.reporting.language import Language
from lmtune.reporting.learning import render_histogram
from lmtune.reporting.pages import build_spans
from lmtune.reporting.record import RunRecord
from lmtune.reporting.samples import show_text
from lmtune.reporting.text_flow import describe_lengths, list_parts, list_rows, list_sources
from lmtune.storage import Record

FEW = 12
"""Documents up to which all are listed, and no histogram is drawn."""
WORDS_OF = {"bits_per_byte": "measure_bits_per_byte"}
"""Keys of texts for measures whose name is not the key."""


def find_unigram(record: RunRecord) -> float | None:
    """Bits per byte of a unigram model on the first held-out set."""
    for known in (*record.results.get("eval", {}).values(), *record.starts[-1:]):
        if known.get("unigram_bits_per_byte") is not None:
            return float(known["unigram_bits_per_byte"])
    return None


def find_tokens_per_byte(record: RunRecord) -> float | None:
    """Tokens per byte of the training text; of the held-out text if that is not known, as when streaming."""
    side = record.ledger.get("sides", {}).get("train", {})
    if side.get("bytes"):
        return float(side["text_tokens"] / side["bytes"])
    measured = record.evaluations[-1].sets[record.sets[0]] if record.evaluations else {}
    return float(measured["tokens"] / measured["bytes"]) if measured.get("bytes") else None


def render_scored(record: RunRecord, name: str, language: Language) -> str:
    """How much text the numbers before and after are measured on."""
    final = record.results.get("eval", {}).get(name)
    if final is None:
        return language.say("tokens", n=int(record.evaluations[-1].sets[name]["tokens"]))
    scored = final.get("while_training") or {**final, **final["protocol"]}
    documents = scored.get("documents")
    amount = render_amount(scored, language)
    if documents is None:
        return amount
    return language.say("in_documents", amount=amount, documents=language.say("documents", n=documents))


def render_amount(scored: Record, language: Language) -> str:
    """`all 5,208 held-out tokens`, or `1,000 of 5,208 held-out tokens`."""
    limit = scored.get("limit")
    if limit is None:
        return language.say("all_tokens", n=int(scored["tokens"]))
    return language.say("part_tokens", n=int(scored["tokens"]), whole=limit["of_tokens"])


def list_evaluations(record: RunRecord, language: Language) -> Record:
    """A table with a row for each evaluation of the first set."""
    if not record.evaluations:
        return {"titles": [], "rows": []}
    name = record.sets[0]
    order = sorted(BY_EVALUATION, key=lambda measure: measure.per_token)  # those comparable between all models first
    titles = ["step", "epoch", *(_name_measure(each.name) for each in order), "seconds"]
    rows = [
        [
            language.number(each.step),
            language.number(each.epoch, 2),
            *(language.measure(each.sets[name].get(measure.name)) for measure in order),
            language.duration(each.train_seconds),
        ]
        for each in record.evaluations
    ]
    return {"titles": [language.say(title) for title in titles], "rows": rows}


def build_documents(record: RunRecord, language: Language) -> Record | None:
    """The worst and the best held-out documents, and how all of them changed."""
    found = record.results.get("documents")
    if not found or not found["worst"]:
        return None
    rows = [_build_row(each, private=record.private, language=language) for each in found["worst"] + found["best"]]
    spans, split = build_spans(rows, language, decimals=2), len(found["worst"])
    groups = [
        {"title": language.say("worst" if found["best"] else "listed"), "rows": spans[:split]},
        {"title": language.say("nearest"), "rows": spans[split:]},
    ]
    compares = any(before is not None for _, _, before, _ in rows)
    return {
        "groups": [group for group in groups if group["rows"]],
        "note": language.say("by_document_note" if compares else "by_document_after"),
        **_build_change(found.get("change"), language),
    }


def _build_row(each: Record, *, private: bool, language: Language) -> tuple[str, str, float | None, float]:
    beginning = "" if private else each.get("beginning", "")
    name = f"{language.say('document', number=each['document'])}, {language.size(each['bytes'])}"
    note = f"{show_text(beginning)}\N{HORIZONTAL ELLIPSIS}" if beginning else ""
    return name, note, each.get("before"), each["bits_per_byte"]


def _build_change(change: Record | None, language: Language) -> Record:
    if change is None or sum(change["counts"]) <= FEW:
        return {"figure": None, "change": ""}
    edges, counts = change["edges"], change["counts"]
    said = {"n": sum(counts), "better": change["better"], "worse": change["worse"]}
    told = language.say("change_told", low=language.number(edges[0], 2), high=language.number(edges[-1], 2), **said)
    figure = render_histogram(edges, counts, told, language)
    return {"figure": figure, "change": language.say("change_note", **said)}


def build_flow(record: RunRecord, language: Language) -> Record | None:
    """The ledger, to the byte."""
    ledger = record.ledger
    if not ledger:
        return None
    sources, more = list_sources(ledger, language, private=record.private)
    if not ledger["bytes_read"]:
        notes, rows = [language.say("flow_streamed")], []
    else:
        rows = list_rows(ledger, language)
        said = language.say("flow_closes", documents_are=language.translate(ledger["documents_are"]))
        if ledger["sides"]["validation"]["documents"]:
            said += " " + language.say("flow_held", rule=language.translate(ledger["split_by"]))
        notes = [said]
    notes += filter(None, [describe_lengths(ledger, language)])
    seen = _find_seen(record)
    if seen is not None:
        notes.append(language.say("seen", share=language.share(seen, 3)))
    return {
        "rows": rows,
        "parts": list_parts(ledger) if rows else [],
        "notes": notes,
        "sources": sources,
        "more": more,
    }


def _find_seen(record: RunRecord) -> float | None:
    for measures in record.results.get("eval", {}).values():
        share = measures.get("seen_in_training", {}).get("share")
        if share is not None:
            return float(share)
    return None


def list_facts(record: RunRecord, language: Language) -> list[tuple[str, str]]:
    """What is needed to repeat the run: versions, machine, seed, memory, checksums."""
    facts = {"seed": str(record.config["seed"])}
    if record.starts:
        start = record.starts[-1]
        machine = start["machine"]
        names = ("lmtune", "transformers", "torch", "python")
        facts["versions"] = ", ".join(f"{name} {machine[name]}" for name in names)
        facts["machine"] = language.say(
            "machine_is",
            device=machine["device"],
            threads=language.say("cpu", n=machine["threads"]),
            attention=machine["attention"],
            compiled=language.say("compiled") if machine["compiled"] else "",
        )
        if start["memory"] is not None:
            facts["memory"] = language.say("memory_predicted", predicted=language.size(start["memory"]))
            used = max((value for _, value in record.list_points("memory_gb")), default=None)
            if used is not None:
                facts["memory"] += "; " + language.say("memory_used", used=language.size(used * 1e9))
        if len(record.starts) > 1:
            moments = (
                language.say("start", date=language.date(each["began"]), steps=each["step"]) for each in record.starts
            )
            facts["starts"] = "; ".join(moments)
    facts |= {"text_sum": record.results.get("text", {}).get("corpus", "")}
    facts |= {"settings_sum": record.results.get("fingerprint", "")}
    return [(language.say(key), value) for key, value in facts.items() if value]


def list_next(record: RunRecord, folder: str, language: Language) -> list[tuple[str, str]]:
    """(purpose, command) of possible next steps."""
    if record.status == "completed":
        prompt = '"..."'
        return [
            (language.say("next_generate"), f"lmtune generate ckpt={folder} prompt={prompt}"),
            *([(language.say("next_eval"), f"lmtune eval ckpt={folder}")] if record.sets else []),
            (language.say("next_train"), f"lmtune train model.path={folder} data.files=..."),
        ]
    if record.status in ("stopped", "failed"):
        return [(language.say("next_resume"), f"lmtune train resume={folder}")]
    return []


def build_measures(record: RunRecord, language: Language) -> list[Record]:
    """All measures of each set, with four decimals, and the protocol that they rest on."""
    return [_build_set(name, measures, language) for name, measures in record.results.get("eval", {}).items()]


def _build_set(name: str, measures: Record, language: Language) -> Record:
    columns = list_columns(measures)
    rows = [
        [
            language.say(_name_measure(measure.name)),
            *(language.measure(column.get(measure.name)) for column in columns.values()),
        ]
        for measure in REPORTED
    ]
    if "unigram_bits_per_byte" in measures:
        blank = [""] * (len(columns) - 1)
        rows.append([language.say("unigram_bits"), *blank, language.number(measures["unigram_bits_per_byte"], 4)])
    protocol = measures["protocol"]
    said = language.say(
        "protocol",
        tokens=language.say("tokens", n=measures["tokens"]),
        words=measures["words"],
        bytes=measures["bytes"],
        context=protocol["context"],
        dtype=protocol["dtype"],
        split_by=protocol.get("split_by", "-"),
    )
    return {
        "name": name,
        "titles": [language.say(title) for title in columns],
        "rows": rows,
        "notes": [render_texts(measures, list(columns), language) + ".", said],
    }


def render_texts(measures: Record, columns: list[str], language: Language) -> str:
    """The text that each column is measured on."""
    final = render_amount({**measures, "limit": measures["protocol"].get("limit")}, language)
    if len(columns) == 1:
        return language.say("texts_one", final=final)
    if len(columns) == 2:
        return language.say("texts_same", final=final)
    return language.say("texts_two", part=render_amount(measures["while_training"], language), final=final)


def _name_measure(name: str) -> str:
    return WORDS_OF.get(name, name)
