"""Results of `lmtune check`, on one page for a terminal."""

from collections.abc import Iterator

from lmtune.config.ranges import render_value
from lmtune.console import wrap
from lmtune.gauges import FINE
from lmtune.storage import Record
from lmtune.units import render_bytes, render_count, render_duration

LABEL = 12
"""Width of the labels, in characters."""
LONG = 60.0
"""Seconds of a run beyond which it is said that evaluations take most of it."""
OWN = "lmtune's conf/"
BARS = FINE.levels


def render_foresight(found: Record) -> list[str]:
    """The page: settings that are not defaults first, costs last."""
    parts = {
        "settings": _render_settings(found["settings"], found["chosen"]),
        "hub": _render_hub(found["hub"]),
        "text": _render_text(found["text"]),
        "forgetting": _render_budget(found.get("forgetting")),
        "model": _render_model(found["model"]),
        "steps": _render_course(found["course"]),
        "rate": _render_schedule(found["schedule"]),
        "memory": _render_memory(found["memory"], found.get("probe")),
        "disk": _render_disk(found["disk"], found.get("probe")) if "disk" in found else iter(()),
        "forecast": _render_forecast(found.get("forecast")),
        "time": _render_costs(found.get("cost", {})),
        "note": iter(found["remarks"]),
    }
    return [
        part
        for title, lines in parts.items()
        for number, line in enumerate(lines)
        for part in (_keep if title == "settings" else wrap)(line, f"{'' if number else title:<{LABEL}}")
    ]


def _keep(line: str, label: str) -> list[str]:
    """A row of a table, not wrapped."""
    return [label + line]


def _render_settings(settings: list[Record], chosen: Record) -> Iterator[str]:
    told = [row for row in settings if not row["from"].startswith(OWN)]
    rows = [(f"{row['key']}={render_value(row['value'])}", row["from"]) for row in told]
    rows += [(f"training.{key}={render_value(value)}", "chosen for this device") for key, value in chosen.items()]
    width = min(48, max((len(typed) for typed, _ in rows), default=0)) + 2
    for typed, place in rows:
        yield f"{typed if len(typed) < width else typed[: width - 5] + '...':<{width}}{place}"
    if len(told) < len(settings):
        yield f"{len(settings) - len(told)} more that lmtune's own configs give: format=json lists them, with file and line"


def _render_hub(fetched: list[Record]) -> Iterator[str]:
    for each in fetched:
        typed = f"{each['key']}={each['repository']}"
        if each["cached"]:
            yield f"{typed} is in the cache, and nothing of it has to be fetched"
        elif each["files"] is None:
            yield f"{typed} was fetched just now; the Hub gave no list of its files"
        else:
            yield f"{typed}: {each['files']:,} files, at most {render_bytes(each['bytes'])}, fetched just now"


def _render_text(text: Record) -> Iterator[str]:
    if text["blocks"]:
        yield f"{text['documents']:,} documents ({text['documents_are']}), {text['tokens']:,} tokens to learn"
        yield f"{text['blocks']:,} blocks of {text['block_size']:,} tokens an epoch; held out by {text['split_by']}"
    else:
        yield f"streamed in blocks of {text['block_size']:,}; how many there are is not known; held out by {text['split_by']}"
    for name, held in text["held_out"].items():
        yield (
            f"{name}: {held['tokens']:,} tokens held out; {held['scored']:,} scored at each evaluation, "
            f"{held['scored_at_the_end']:,} at the end"
        )


def _render_budget(budget: Record | None) -> Iterator[str]:
    if budget is None:
        return
    yield (
        f"{budget['on']} may rise by {budget['budget']:.2%}; old text is up to {budget['most']:.1%} of a step, which then takes "
        f"{budget['longer_steps']:.0%} longer, {budget['replayed_tokens']:,} tokens in all at most"
    )
    if budget["written"] is None:
        yield f"{budget['replay']}: {budget['tokens']:,} tokens to learn again"
    else:
        where = "are in the cache" if budget["written"] else "are written before the first step"
        yield f"{budget['tokens']:,} tokens of the untouched model's own {where}"


def _render_model(model: Record) -> Iterator[str]:
    share = model["trained"] / model["parameters"]
    learn = "all learn" if share == 1 else f"{model['trained']:,} ({share:.2%}) learn"
    extras = [name.replace("_", " ") for name in ("activation_checkpointing", "torch_compile") if model[name]]
    yield f"{model['parameters']:,} parameters, {learn}"
    yield ", ".join([f"{model['devices']} x {model['device']}", model["precision"], *extras])


def _render_course(course: Record) -> Iterator[str]:
    done = f" from step {course['first']:,}" if course["first"] else ""
    yield f"{course['steps']:,} steps{done} of {course['tokens_per_step']:,} tokens, {course['tokens']:,} in all"
    epochs = course["steps"] / course["steps_per_epoch"]
    yield (
        f"{epochs:,.3g} epoch{'' if epochs == 1 else 's'} of {course['steps_per_epoch']:,} steps; "
        f"{course['evaluations']:,} evaluations, {course['saves']:,} checkpoints"
    )


def _render_schedule(schedule: Record) -> Iterator[str]:
    for number, phase in enumerate(schedule["phases"], start=1):
        rates = ", ".join(f"{rate:.2g}" for rate in phase["rates"][-phase["groups"] :])
        yield f"phase {number}: {phase['steps']:,} steps, {phase['groups']} layer groups, highest rates {rates}"
    if schedule["rates"] is None:
        yield f"{schedule['name']}: follows what is measured"
        return
    highest = max(schedule["rates"])
    curve = "".join(BARS[round((len(BARS) - 1) * rate / highest)] if highest else BARS[0] for rate in schedule["rates"])
    yield f"{curve}  at most {highest:.3g}, in the end {schedule['rates'][-1]:.3g}"


def _render_memory(memory: Record, probe: Record | None) -> Iterator[str]:
    step = memory["step"]
    if step is None:
        yield f"a step of this model cannot be measured beforehand; {render_bytes(memory['free'])} are free"
    else:
        parts = ", ".join(f"{name} {render_bytes(count)}" for name, count in step.items() if name != "total")
        yield f"a step takes about {render_bytes(step['total'])} of {render_bytes(memory['free'])} that are free"
        yield f"({parts})"
    if probe is not None:
        yield f"the probe's peak was {render_bytes(probe['peak_memory'])}"


def _render_disk(disk: Record, probe: Record | None) -> Iterator[str]:
    size = max(disk["checkpoint"], (probe or {}).get("checkpoint_bytes") or 0)
    yield (
        f"{disk['checkpoints']} checkpoints of {render_bytes(size)} and a model of {render_bytes(disk['model'])}, "
        f"{render_bytes(disk['total'])} in all; {render_bytes(disk['free'])} are free"
    )


def _render_forecast(forecast: Record | None) -> Iterator[str]:
    if forecast is None:
        return
    if "refused" in forecast:
        yield f"none: {forecast['refused']}"
        return
    yield f"held-out bits per byte at the end, from {forecast['steps']:,} steps each; 9 of 10 within what stands in brackets:"
    for row in forecast["rates"]:
        rate = f"learning rate {row['learning_rate']:.3g}"
        if "low" in row:
            yield f"{rate}: {row['bits_per_byte']:.3g} ({row['low']:.3g} to {row['high']:.3g})"
        else:
            yield f"{rate}: the loss became no finite number within them"


def _render_costs(costs: Record) -> Iterator[str]:
    for cost in costs.values():
        seconds, parts = cost["seconds"], cost["seconds_of"]
        devices = render_count(cost["devices"], "device")
        yield (
            f"{render_duration(seconds['median'])} on {devices} (between {render_duration(seconds['low'])} and "
            f"{render_duration(seconds['high'])}): {cost['steps']:,} steps {render_duration(parts['steps'])}, "
            f"evaluations {render_duration(parts['evaluations'])}, samples {render_duration(parts['samples'])}, "
            f"checkpoints {render_duration(parts['saves'])}"
            + (f", writing old text {render_duration(parts['writing'])}" if parts["writing"] else "")
        )
        if seconds["median"] > LONG and 2 * parts["evaluations"] > seconds["median"]:
            yield "Evaluations are most of it: eval.max_tokens= with less, or training.eval_steps= further apart, shortens them."
        spent = [f"{cost['kwh']:.3g} kWh"] if cost["kwh"] is not None else []
        spent += [f"{cost['price']:,.2f} at your price"] if cost["price"] is not None else []
        if spent:
            yield ", ".join(spent)
