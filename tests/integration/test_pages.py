"""report.html as a run writes it, `lmtune report`, private runs, and the page in a real browser."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from lmtune.reporting.record import load_record
from lmtune.runs import Run
from lmtune.training import results as records

SHORT = (
    "training.max_steps=6", "training.eval_steps=2", "training.use_cpu=true", "data.block_size=32", "seed=3",
    "model.config.n_layer=1", "model.config.n_embd=32", "model.config.n_head=2",
)  # fmt: skip
SWEEP = ("hydra/launcher=basic", *SHORT, "seed=1,2", "samples.enabled=false", "hydra.sweep.dir=sweep")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def load_results(folder):
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


def checksums(folder):
    files = [*Path(folder).glob("model/*.safetensors"), *Path(folder).glob("checkpoint-*/*.safetensors")]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture
def seen(monkeypatch):
    """(status, steps so far, evaluations so far) of each page that is written."""
    pages = []
    render = records.render_report

    def note(record):
        pages.append((record.status, record.steps, len(record.evaluations)))
        return render(record)

    monkeypatch.setattr(records, "render_report", note)
    return pages


def test_the_page_is_written_at_each_evaluation_and_changes_nothing(lmtune, seen):
    assert lmtune("train", *SHORT, "output=with").code == 0
    running = [("running", 0, 0), ("running", 0, 1), ("running", 2, 2), ("running", 4, 3), ("running", 6, 4)]
    assert seen == [*running, ("completed", 6, 4)]
    assert load_record(Path("with")).faults == []
    assert lmtune("train", *SHORT, "output=without", "report.enabled=false").code == 0
    assert not Path("without/report.html").exists()
    assert len(seen) == 6
    assert checksums("with") == checksums("without") != {}
    assert load_results("with")["eval"]["sample"]["loss"] == load_results("without")["eval"]["sample"]["loss"]


def test_a_page_that_cannot_be_written_ends_nothing(lmtune, monkeypatch):
    def fail(record):
        raise KeyError("bits")

    monkeypatch.setattr(records, "render_report", fail)
    answer = lmtune("train", *SHORT, "output=run")
    assert answer.code == 0
    assert "report.html could not be written: KeyError: 'bits'" in answer.err


def test_the_page_is_written_anew_from_the_folder(lmtune):
    assert lmtune("train", *SHORT, "output=run").code == 0
    page = Path("run/report.html")
    before = page.read_text(encoding="utf-8")
    page.unlink()
    answer = lmtune("report", "run")
    assert (answer.code, answer.out.strip()) == (0, "report: run/report.html")
    assert page.read_text(encoding="utf-8") == before
    assert lmtune("report", "run=run", "report.language=pt", "format=json").json["runs"] == 1
    assert "Aprendizado, em bits por byte" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "lmtune report needs a run, found none."),
        (("nowhere",), "run=nowhere: expected a run folder, or that of a sweep, found nothing."),
        (("a", "b"), "lmtune report: expected one word, found 2: a b."),
        (("a", "run=b"), "a beside run=: expected one of the two ways to say it."),
        (("a", "report.language=fr"), "report.language"),
    ],
)
def test_mistakes_are_told(lmtune, arguments, said):
    answer = lmtune("report", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert "is not key=value" not in answer.err, "a run is no faulty key"


def test_a_file_of_somebody_elses_is_not_replaced(lmtune):
    assert lmtune("train", "-m", *SWEEP).code == 0
    page = Path("sweep/report.html")
    page.write_text("mine")
    answer = lmtune("report", "sweep")
    assert answer.code == 2
    assert "is not a page of lmtune's" in answer.err
    assert page.read_text() == "mine"
    page.unlink()
    assert lmtune("report", "sweep", "format=json").json["runs"] == 2
    assert lmtune("report", "sweep").code == 0
    assert re.findall(r">(seed=\d)<", page.read_text(encoding="utf-8"))


def test_a_run_tells_of_its_starts_and_documents(lmtune):
    assert lmtune("train", *SHORT, "output=run").code == 0
    results = load_results("run")
    (start,) = results["starts"]
    assert (start["step"], start["steps"], start["sets"]) == (0, 6, ["sample"])
    assert start["parameters"] == start["trained"] > 0
    assert start["precision"] == results["train"]["settings"]["precision"]
    found = results["documents"]
    total = results["eval"]["sample"]
    assert found["documents"] == total["protocol"]["documents"] == len(found["worst"])
    for key, known in (("bits_per_byte", total), ("before", total["while_training"]["before"])):
        summed = sum(each[key] * each["bytes"] for each in found["worst"]) / total["bytes"]
        assert summed == pytest.approx(known["bits_per_byte"], abs=1e-5)
    assert sum(found["change"]["counts"]) == found["documents"]
    assert "first" not in results


def test_a_resumed_run_has_both_starts_and_its_first_numbers(lmtune):
    assert lmtune("train", *SHORT, "output=run").code == 0
    straight = load_results("run")
    for name in ("model", "checkpoint-6"):
        shutil.rmtree(Path("run") / name)
    first = {"text": "other", "bits_per_byte": []}
    Run(Path("run")).write_results({"status": "stopped", "starts": straight["starts"], "reason": "x", "first": first})
    assert lmtune("train", "resume=run").code == 0
    results = load_results("run")
    assert [start["step"] for start in results["starts"]] == [0, 4]
    assert "reason" not in results
    assert results["eval"]["sample"]["loss"] == straight["eval"]["sample"]["loss"]
    assert all("before" in each for each in straight["documents"]["worst"])
    assert not any("before" in each for each in results["documents"]["worst"]), "those of another text are left out"


def test_documents_that_were_scored_at_the_start_are_compared(lmtune):
    run = lmtune("train", *SHORT, "data.validation_fraction=0.5", "eval.max_tokens=2000", "report.enabled=false").run
    documents, (start,) = load_results(run)["documents"], load_results(run)["starts"]
    assert start["step"] == 0
    compared = sum(documents["change"]["counts"])
    assert 0 < compared < documents["documents"]
    assert compared == documents["change"]["better"] + documents["change"]["worse"]


def test_a_private_run_shows_no_text(lmtune, texts):
    Path("notes.txt").write_text("\n".join(text.replace("\n", " ") for text in texts), encoding="utf-8")
    answer = lmtune(
        "train",
        "data.files=notes.txt",
        "data.documents=line",
        "data.validation_fraction=0.3",
        *SHORT,
        "private=true",
        "prompts=[Zephyr]",
        "output=run",
    )
    assert answer.code == 0, answer.err
    page = Path("run/report.html").read_text(encoding="utf-8")
    card = Path("run/model/README.md").read_text(encoding="utf-8")
    for shown in (answer.out, answer.err, page, card, Path("run/results.json").read_text(encoding="utf-8")):
        assert "Zephyr" not in shown
    assert "Zephyr" in Path("run/samples.md").read_text(encoding="utf-8")
    assert "beginning" not in json.dumps(load_results("run")["documents"])
    score = ("eval", "ckpt=run", "eval.per_document=true", "device=cpu")
    assert "beginning" not in lmtune(*score, "format=json").out
    assert lmtune(*score, "output=out").code == 0
    assert "beginning" not in next(Path("out").glob("*.csv")).read_text(encoding="utf-8")
    refused = lmtune("train", *SHORT, "private=true", "training.push_to_hub=true")
    assert refused.code == 2
    assert "private=true pushes nothing" in refused.err


def test_what_starts_from_a_private_run_is_private_too(lmtune):
    run = lmtune("train", *SHORT, "private=true").run
    again = ("train", "training.max_steps=1", "training.use_cpu=true", "data.block_size=32", f"model.path={run}/model")
    refused = lmtune(*again)
    assert refused.code == 2
    assert "expected private=true beside the model of a run that was trained so" in refused.err
    assert lmtune(*again, "private=true").code == 0


def test_private_text_is_not_shown_beside_its_account(lmtune):
    shown, hidden = (lmtune("data", "model=gpt2-tiny", *private).out for private in ((), ("private=true",)))
    assert hidden.strip() == shown[: len(hidden)].strip() != shown.strip()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_pages_in_a_browser(lmtune):
    playwright = pytest.importorskip("playwright.sync_api")
    sets = Path("conf/data/other.yaml")
    sets.parent.mkdir(parents=True)
    sets.write_text("files: pkg://lmtune/data/sample/english.txt\ndocuments: blank_line\nvalidation_fraction: 0.5\n")
    assert lmtune("train", *SHORT, "output=run", "eval_data=[other]", "report.language=pt").code == 0
    bare = [each for each in SHORT if "eval_steps" not in each]
    assert lmtune("train", *bare, "output=bare", "data.validation_fraction=0", "training.logging_steps=2").code == 0
    assert lmtune("train", "-m", *SWEEP).code == 0
    assert lmtune("report", "sweep").code == 0
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for folder in ("run", "bare", "sweep"):
            for width in (1280, 390):
                for look in ({"color_scheme": "light"}, {"color_scheme": "dark"}, {"media": "print"}):
                    check_look(browser, (Path(folder) / "report.html").absolute(), width, look)
        browser.close()


def check_look(browser, file, width, look):
    """Nothing said or fetched, no sideways scroll, one of each pair of figures, and text of figures that can be read."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.emulate_media(**look)
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = page.evaluate(
        """[...document.querySelectorAll('svg text')].filter(each => each.ownerSVGElement.getClientRects().length).map(each => {
            const figure = each.ownerSVGElement, place = each.getBoundingClientRect()
            const scale = figure.getBoundingClientRect().width / figure.viewBox.baseVal.width
            return [scale * parseFloat(getComputedStyle(each).fontSize), place.left, place.right]
        })"""
    )
    shown = page.evaluate("[...document.querySelectorAll('svg')].filter(each => each.getClientRects().length).length")
    assert shown == page.evaluate("document.querySelectorAll('svg.wide').length") > 0
    if look.get("media") != "print":
        assert min(size for size, _, _ in sizes) >= 12
        assert all(left >= 0 and right <= width for _, left, right in sizes)
    assert said == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert [url for url in asked if url.startswith("file:")] == [file.as_uri()]
    page.close()
