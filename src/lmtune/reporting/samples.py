"""Continuations of the same prompts at several stages of training, side by side."""

from lmtune.reporting.language import Language
from lmtune.reporting.record import RunRecord
from lmtune.runs import Run
from lmtune.storage import Record

SHOWN_PROMPTS, SHOWN_CHARS = 6, 700
EARLY = 0.2
"""Fraction of training at which the sample between the first and the last is taken."""


def build_samples(record: RunRecord, language: Language) -> Record | None:
    """For each prompt a row of cards: before the first step, early, and with the weights that the run ends with."""
    if record.private or not record.samples:
        return None
    chosen = choose_steps(record.samples, record.best_step)
    count = min(len(each["samples"]) for each in chosen)
    prompts = [[_build_card(each, number, record, language) for each in chosen] for number in range(count)]
    shown = prompts[:SHOWN_PROMPTS]
    notes = [language.say("samples_more", n=count - SHOWN_PROMPTS)] if count > SHOWN_PROMPTS else []
    if any("\N{MIDDLE DOT}" in card["text"] for cards in shown for card in cards):
        notes.append(language.say("control"))
    return {"prompts": shown, "notes": notes} if shown else None


def choose_steps(samples: list[Record], best_step: int | None) -> list[Record]:
    """At most three: the first, one at about a fifth of the way, and that of the best step, or else the last."""
    last = choose_last(samples, best_step)
    wanted = samples[0]["step"] + EARLY * (last["step"] - samples[0]["step"])
    early = min(samples, key=lambda each: abs(each["step"] - wanted))
    found = {each["step"]: each for each in (samples[0], early, last)}
    return [found[step] for step in sorted(found)]


def load_final(run: Run, results: Record, config: Record) -> list[dict[str, str]]:
    """Prompts with the texts of the weights that the run ends with, for its card; [] for a private run."""
    samples = [] if config.get("private") else run.load_samples()
    found: list[dict[str, str]] = choose_last(samples, results["train"]["best_step"])["samples"] if samples else []
    return found


def choose_last(samples: list[Record], best_step: int | None) -> Record:
    """The samples of the weights that the run ends with: those of the best step, or else the last."""
    return next((each for each in samples if each["step"] == best_step), samples[-1])


def show_text(text: str) -> str:
    """A text with invalid bytes and control characters as dots; newlines stay."""
    kept = "\n\N{NO-BREAK SPACE}"
    shown = "".join(each if each.isprintable() or each in kept else "\N{MIDDLE DOT}" for each in text)
    return shown.replace("\N{REPLACEMENT CHARACTER}", "\N{MIDDLE DOT}")


def _build_card(each: Record, number: int, record: RunRecord, language: Language) -> Record:
    sample = each["samples"][number]
    prompt, text = sample["prompt"], sample["text"]
    known = text.startswith(prompt)
    rest = text[len(prompt) :] if known else text
    cut = rest[:SHOWN_CHARS] + ("\N{HORIZONTAL ELLIPSIS}" if len(rest) > SHOWN_CHARS else "")
    best = each["step"] == record.best_step
    key = "samples_average" if each.get("average") else "samples_best" if best else "samples_step"
    return {
        "label": language.say(key, step=each["step"]),
        "prompt": show_text(prompt) if known else "",
        "text": show_text(cut).rstrip(),
    }
