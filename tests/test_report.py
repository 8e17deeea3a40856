"""The page of a run: its figures show the numbers that were recorded, and nothing is shown that was not."""

import json
import re
import string
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from lmtune.evaluation.by_document import choose_edges
from lmtune.reporting import svg
from lmtune.reporting.language import EN, LANGUAGES, PT
from lmtune.reporting.learning import average
from lmtune.reporting.page import render_report
from lmtune.reporting.record import RunRecord, load_record
from lmtune.reporting.samples import choose_steps, load_final, show_text
from lmtune.reporting.settings import render_command, render_overrides
from lmtune.reporting.sweep_page import Job, render_sweep
from lmtune.reporting.text_flow import list_rows

HELD = {0: 4.0, 10: 3.5, 20: 3.1, 30: 3.2, 40: 3.25}
"""Bits per byte by step."""
MACHINE = {
    "processes": 1, "threads": 2, "device": "cpu x86_64", "attention": "sdpa", "compiled": False,
    "python": "3.12", "torch": "2.13", "transformers": "5.23", "lmtune": "0.1",
}  # fmt: skip
START = {
    "began": "2026-11-26T11:57:00+00:00", "step": 0, "steps": 40, "sets": ["bio"], "parameters": 957_184, "trained": 957_184,
    "memory": 39_600_000, "unigram_bits_per_byte": 3.4, "machine": MACHINE,
}  # fmt: skip
SIDE = {"documents": 90, "bytes": 9_000, "text_tokens": 3_000, "tokens": 3_090}
LEDGER = {
    "sources": [{"name": "/home/ana/texts/Maria.txt", "bytes": 10_120, "modified": "2026-11-01T10:00:00+00:00", "xxh3_128": "ab12"}],
    "documents_are": "stretches between blank lines", "split_by": "hash", "bytes_read": 10_120, "bytes_kept": 10_000,
    "documents_read": 101, "documents_kept": 100, "left_out": {"blank_lines": 130, "joined": -10},
    "sides": {"train": SIDE, "validation": {**SIDE, "documents": 10, "bytes": 1_000}, "test": {**SIDE, "documents": 0, "bytes": 0}},
}  # fmt: skip
SETTINGS = {
    "name": None, "seed": 7, "private": False, "groups": {"data": "bio"}, "prompts": ["O paciente"],
    "data": {"name": "bio", "path": None, "files": None, "documents": "blank_line"},
    "model": {"name": "gpt2-tiny", "path": None, "init": "scratch"}, "report": {"language": "en"},
    "training": {"max_steps": 40}, "generation": {},
}  # fmt: skip


def evaluation(step, bits, prefix="eval_"):
    measured = {
        "loss": bits,
        "perplexity": 2**bits,
        "accuracy": 0.1,
        "bits_per_byte": bits,
        "tokens": 300,
        "bytes": 1_000,
    }
    return {"step": step, "epoch": step / 20, "train_seconds": step / 2} | {
        prefix + key: each for key, each in measured.items()
    }


def document(number, bits, before):
    return {
        "document": number,
        "bits_per_byte": bits,
        "before": before,
        "bytes": 100,
        "tokens": 30,
        "beginning": "Maria foi <b>",
    }


@pytest.fixture
def record():
    """A run that has completed, with everything that a page can show."""
    losses = [
        {
            "step": step,
            "loss": 9 - step / 20,
            "learning_rate": 1e-3 - step * 2e-5,
            "memory_gb": 0.6,
            "tokens_per_second": 1580,
        }
        for step in range(1, 41)
    ]
    lines = [evaluation(step, bits) for step, bits in HELD.items()]
    before, after = ({"bits_per_byte": bits, "perplexity": 2**bits} for bits in (4.0, 3.1))
    measures = {
        **after, "tokens": 300, "words": 150, "bytes": 1_000, "unigram_bits_per_byte": 3.4,
        "while_training": {"text": "t", "documents": 10, "tokens": 300, "limit": None, "before": before, "after": after},
        "protocol": {"context": 256, "dtype": "float32", "split_by": "hash", "limit": None, "text": "t"},
    }  # fmt: skip
    results = {
        "name": "mine", "status": "completed", "starts": [START], "fingerprint": "f00", "eval": {"bio": measures},
        "text": {"corpus": "c0", "held_out": {"validation": {"text": "t"}}},
        "train": {"steps": 40, "epochs": 2.0, "tokens": 6_000, "seconds": 155.0, "tokens_per_second": 1580.0, "best_step": 20},
        "documents": {"documents": 2, "worst": [document(1, 3.4, 3.9), document(2, 3.0, 2.9)], "best": []},
    }  # fmt: skip
    samples = [
        {"step": step, "samples": [{"prompt": "O paciente", "text": f"O paciente <script>{step}\x07"}]} for step in HELD
    ]
    metrics = sorted([*losses, *lines], key=lambda line: line["step"])
    return RunRecord(
        Path("/home/ana/outputs/mine/1"), SETTINGS, results, LEDGER, metrics, samples, START["began"], ["seed=7"]
    )


class Page(HTMLParser):
    """The text below each heading, what is fetched, and the elements with their attributes."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.below, self._heading, self._into = [], {}, "", ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._into = tag
        if tag == "h2":
            self._heading = ""

    def handle_data(self, data):
        if self._into == "h2" and not self._heading:
            self._heading = data
            self.below[data] = ""
        elif self._heading and self._into != "style":
            self.below[self._heading] += data
        self._into = ""

    def list(self, tag, kind=""):
        return [
            attributes for each, attributes in self.elements if each == tag and kind in (attributes.get("class") or "")
        ]


def read_curves(html):
    """(steps, values) of the line of the held-out text in the wide figure, read back by its axes."""
    figure = html[html.index('class="figure wide"') :].partition("</svg>")[0]
    grid = re.findall(
        r'<line x1="[\d.]+" y1="([\d.]+)" x2="[\d.]+" y2="[\d.]+" class="grid"/><text [^>]*>([\d.]+)</text>', figure
    )
    (y0, low), *_, (y1, high) = [(float(y), float(label)) for y, label in grid]
    steps = re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="soft" text-anchor="middle">(\d+)</text>', figure)
    (x0, first), *_, (x1, last) = [(float(x), int(label)) for x, label in steps]
    points = re.search(r'<polyline points="([^"]+)" class="curve main"/>', figure)[1].split()
    places = [tuple(map(float, point.split(","))) for point in points]
    return {
        round(first + (x - x0) * (last - first) / (x1 - x0)): low + (y - y0) * (high - low) / (y1 - y0)
        for x, y in places
    }


def test_the_figure_shows_what_was_measured(record):
    html = render_report(record)
    assert read_curves(html) == pytest.approx(HELD, abs=0.01)
    ring = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="6" class="ring"/>', html)
    points = re.search(r'<polyline points="([^"]+)" class="curve main"/>', html)[1].split()
    assert f"{ring[1]},{ring[2]}" == ",".join(f"{float(each):g}" for each in points[2].split(","))
    told = re.search(r'aria-label="([^"]+)"', html)[1]
    assert "from 4.00 bits per byte at step 0 to 3.25 at step 40, the lowest 3.10 at step 20" in told
    assert "A unigram model has 3.40" in told
    # 9 nats a token less 1/20, 0.333 tokens a byte
    assert "Training text from 4.30 to 3.37" in told


def test_the_page_tells_before_and_after_on_the_same_text(record):
    page = render_report(record).replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "gpt2-tiny (0.96 M parameters), trained from scratch on 90 documents of bio (9.00 kB).",
        "2 epochs, 40 steps, 6,000 tokens learned.",
        "26 Nov 2026, 11:57 UTC, 2 min 35 s on 2 CPU threads.",
        "on the same text before and after: all 300 held-out tokens in 10 documents",
    ):
        assert words in page
    assert "4.00 → 3.10" in re.sub(r"<[^>]+>", "", page)


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_a_page_fetches_nothing_and_is_small(record, language):
    html = render_report(record, language)
    page = Page(html)
    assert not re.findall(r'(?:src|href)="(?!data:,")[^"]*"|url\(|@import', html)
    assert not page.list("script")
    assert len(html) < 100_000
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in page.list("svg"))
    assert len(page.list("svg", "wide")) == len(page.list("svg", "narrow")) > 0


def test_what_others_wrote_is_escaped(record):
    html = render_report(record)
    assert "<script>" not in html
    assert "&lt;script&gt;0\N{MIDDLE DOT}" in html
    assert "Maria foi &lt;b&gt;" in html


def test_a_page_is_loaded_anew_only_while_its_run_goes_on(record):
    running = replace(record, results={"status": "running", "starts": [START]}, metrics=record.metrics[:15])
    html = render_report(running)
    assert 'http-equiv="refresh"' in html
    assert "Step 13 of 40." in html or "Step 14 of 40." in html
    assert 'http-equiv="refresh"' not in render_report(record)


def strip(record, **without):
    results = {key: value for key, value in record.results.items() if key not in ("eval", "documents")}
    start = {**START, "sets": [], "unigram_bits_per_byte": None}
    metrics = [line for line in record.metrics if "loss" in line]
    return replace(record, results={**results, "starts": [start]}, metrics=metrics, samples=[], **without)


@pytest.mark.parametrize("metrics", [True, False])
def test_no_heading_is_empty_without_evaluations(record, metrics):
    bare = strip(record) if metrics else replace(strip(record), metrics=[], ledger={}, overrides=[])
    page = Page(render_report(bare))
    assert all(len(text.split()) > 2 for text in page.below.values()), page.below
    assert "Where it is good and bad" not in page.below
    assert ("Learning, in bits per byte" in page.below) == metrics
    assert "Nothing has been held out" in render_report(bare)


def test_a_run_of_an_older_lmtune_has_a_page(record):
    results = {key: value for key, value in record.results.items() if key not in ("starts", "documents")}
    assert "gpt2-tiny, trained from scratch" in render_report(
        replace(record, results=results, began=None, overrides=[])
    )


def test_each_resume_is_marked(record):
    starts = [START, {**START, "step": 13}, {**START, "step": 26}]
    html = render_report(replace(record, results={**record.results, "starts": starts}))
    assert html.count('class="resume"') == 2 * 2, "each in two figures"
    assert "from step 13" in html


def test_forgotten_text_is_told_apart(record):
    metrics = [
        line | evaluation(line["step"], 1.0 + line["step"] / 100, "eval_wiki_") if "eval_loss" in line else line
        for line in record.metrics
    ]
    results = {**record.results, "eval": {**record.results["eval"], "wiki": {
        **record.results["eval"]["bio"], "while_training": {"before": {}, "after": {"bits_per_byte": 1.4}, "tokens": 3, "text": "t"},
    }}}  # fmt: skip
    page = Page(render_report(replace(record, metrics=metrics, results=results)))
    assert "1.000 → 1.400 +40\N{NO-BREAK SPACE}%" in page.below["What else it was watched on"]
    assert len(page.list("div", "track up")) == 2, "that set, and a document"


def test_layer_groups_have_a_strip_each(record):
    metrics = [
        line | {f"learning_rate_group_{group}": 1e-3 / (group + 1) for group in range(3)} if "loss" in line else line
        for line in record.metrics
    ]
    html = render_report(replace(record, metrics=metrics))
    assert [f"group {number}" in html for number in (1, 2, 3, 4)] == [True, True, True, False]


def test_the_ledger_adds_up_on_the_page(record):
    numbers = [int(row.bytes.replace(",", "").replace("\N{MINUS SIGN}", "-")) for row in list_rows(record.ledger, EN)]
    read, blank, joined, kept, train, held = numbers
    assert read + blank + joined == kept == train + held


def test_a_private_page_has_no_text_and_no_name_of_a_file(record):
    config = {**SETTINGS, "private": True, "data": {**SETTINGS["data"], "files": ["/home/ana/texts/Maria.txt"]}}
    results = {**record.results, "reason": "Maria.txt is gone"}
    html = render_report(replace(record, config=config, results=results))
    assert not re.findall("Maria|paciente|home/ana", html)
    assert "ab12" in html, "what it was trained on can still be proven"
    assert "3.40" in html


def test_a_command_can_be_typed_again(record):
    overrides = ["data.files='/home/ana/a b.txt'", "++model.config.n_layer=2", "output='x'", "resume='off'"]
    assert (
        render_command(replace(record, overrides=overrides))
        == "lmtune train 'data.files=/home/ana/a b.txt' model.config.n_layer=2"
    )


def test_samples_are_of_the_start_of_the_way_and_of_the_weights_that_stay():
    samples = [{"step": step} for step in range(0, 110, 10)]
    assert [each["step"] for each in choose_steps(samples, 60)] == [0, 10, 60]
    assert [each["step"] for each in choose_steps(samples, None)] == [0, 20, 100]
    assert [each["step"] for each in choose_steps(samples[:1], None)] == [0]


def test_a_card_has_the_samples_of_the_weights_that_stay(tmp_path, begin_run):
    run = begin_run(tmp_path / "run")
    lines = [{"step": step, "samples": [{"prompt": "O", "text": f"O {step}"}]} for step in (0, 40, 60)]
    run.samples_file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert load_final(run, {"train": {"best_step": 40}}, {})[0]["text"] == "O 40"
    assert load_final(run, {"train": {"best_step": None}}, {})[0]["text"] == "O 60"
    assert load_final(run, {"train": {"best_step": 40}}, {"private": True}) == []


def test_what_has_no_form_is_a_dot():
    assert show_text("a\N{NO-BREAK SPACE}%\x07\ufffd\n") == "a\N{NO-BREAK SPACE}%\N{MIDDLE DOT}\N{MIDDLE DOT}\n"


# Sweeps


def job(record, number, bits, text="t"):
    measures = {**record.results["eval"]["bio"], "while_training": {"before": {}, "after": {"bits_per_byte": bits}}}
    results = {**record.results, "eval": {"bio": measures}, "text": {"held_out": {"validation": {"text": text}}}}
    return Job(f"seed={number}", replace(record, results=results))


def test_runs_of_a_sweep_are_ranked_on_one_text_only(record):
    jobs = [job(record, 1, 3.3), job(record, 2, 3.1), job(record, 3, 3.2)]
    ranked = re.findall(r"seed=\d", render_sweep(Path("sweep"), jobs).split("<footer>")[0].partition("</table>")[0])
    assert ranked == ["seed=2", "seed=3", "seed=1"]
    others = [*jobs, job(record, 4, 1.0, text="other")]
    html = render_sweep(Path("sweep"), others)
    assert re.findall(r"seed=\d", html.partition("</table>")[0]) == ["seed=1", "seed=2", "seed=3", "seed=4"]
    assert "not all scored on the same text" in html


def test_a_private_sweep_names_no_text_and_no_file(record):
    settings = {**record.config, "private": True}
    given = ["++data.files='Maria.txt'", "seed=2"]
    assert render_overrides(replace(record, config=settings, overrides=given)) == ["data.files=(private)", "seed=2"]


# From a folder


def test_a_damaged_folder_still_has_a_page(record, tmp_path):
    from lmtune.storage import write_json, write_text

    write_text(tmp_path / "config.yaml", json.dumps(SETTINGS))
    write_json(tmp_path / "results.json", record.results)
    write_text(
        tmp_path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in record.metrics) + '{"step": 41, "lo'
    )
    write_text(tmp_path / "ledger.json", "{")
    found = load_record(tmp_path)
    assert read_curves(render_report(found)) == pytest.approx(HELD, abs=0.01)
    (tmp_path / "results.json").unlink()
    assert "no results" in render_report(load_record(tmp_path))


def test_a_long_run_has_a_page_within_two_seconds(record):
    lines = [{"step": step, "loss": 5 + step % 7, "learning_rate": 1e-4} for step in range(0, 1_000_000, 20)]
    held = [evaluation(step, 3 + 1 / (1 + step)) for step in range(0, 1_000_000, 1_000)]
    metrics = sorted([*lines, *held], key=lambda line: line["step"])
    before = time.process_time()
    html = render_report(replace(record, metrics=metrics))
    assert time.process_time() - before < 2
    assert len(html) < 2_000_000


# Languages and pieces


def places(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_say_the_same():
    assert EN.texts.keys() == PT.texts.keys()
    for key, text in EN.texts.items():
        assert places(text) == places(PT.texts[key]), key
        assert text.count("|") == PT.texts[key].count("|"), key


def test_a_page_in_portuguese_has_no_english_in_it(record):
    page = Page(render_report(record, PT))
    text = " ".join(page.below.values()).partition("Configurações")[0]
    assert "trechos entre linhas em branco" in text
    assert not re.findall(r"\b(the|step|held|documents|before|after|with|tokens learned)\b", text)


@pytest.mark.parametrize(
    ("language", "number", "negative", "size", "rate", "duration"),
    [(EN, "1,234.50", "\N{MINUS SIGN}0.3", "1.23 kB", "5e-5", "1 h 05 min"), (PT, "1.234,50", "\N{MINUS SIGN}0,3", "1,23 kB", "5e-5", "1 h 05 min")],
)  # fmt: skip
def test_numbers_are_written_as_the_language_does(language, number, negative, size, rate, duration):
    assert language.number(1234.5, 2) == number
    assert language.number(-0.3, 1) == negative
    assert language.number(-0.001, 1).endswith("0"), "no minus before zero"
    assert language.number(-0.001, 1)[0] == "0"
    assert language.number(float("nan")) == language.number(None)
    assert (language.size(1234).replace("\N{NO-BREAK SPACE}", " "), language.rate(5e-5)) == (size, rate)
    assert language.duration(3900).replace("\N{NO-BREAK SPACE}", " ") == duration
    assert language.say("documents", n=1) != language.say("documents", n=0)


@pytest.mark.parametrize("wanted", [[5, 5, 5], [90, 3, 91, 92], [0, 100], [50], []])
def test_labels_do_not_overlap(wanted):
    found = svg.spread_labels(wanted, 15, 0, 100)
    assert all(0 <= place <= 100 for place in found)
    ordered = sorted(found)
    assert all(after - before >= 15 - 1e-9 for before, after in pairwise(ordered))
    assert sorted(range(len(wanted)), key=wanted.__getitem__) == sorted(range(len(found)), key=found.__getitem__)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2.94, 3.11), (-3, 7), (0, 30_000), (0, 1e-7), (1, 1)])
@pytest.mark.parametrize("most", [1, 3, 6])
def test_ticks_are_round_and_few(low, high, most):
    ticks = svg.choose_ticks(low, high, most)
    assert len(ticks) <= most
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in ticks)
    assert len({round(tick, svg.count_decimals(ticks)) for tick in ticks}) == len(ticks)


def test_a_thinned_line_keeps_its_peaks_and_ends():
    points = [(step, (step * 37) % 101) for step in range(5_000)]
    points[1234] = (1234, 500)
    thinned = svg.thin(points, 100)
    assert len(thinned) <= 110
    assert {points[0], points[-1], (1234, 500)} <= set(thinned)
    assert thinned == sorted(thinned)


def test_a_mean_line_ends_where_its_points_do():
    points = [(float(step), float(step)) for step in range(20)]
    assert [value for _, value in average(points, 3)] == pytest.approx([value for _, value in points])


@pytest.mark.parametrize(("low", "high"), [(-1.54, -1.26), (-0.2, 0.7), (0.01, 0.02), (0, 0)])
def test_zero_is_an_edge_of_a_histogram(low, high):
    edges = choose_edges(low, high)
    assert edges[0] <= low <= high <= edges[-1] + 1e-12
    assert len(edges) <= 18
    assert not edges[0] < 0 < edges[-1] or 0 in edges
