"""The notebooks, run from the first cell to the last in a kernel of their own."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_kept_without_outputs(file):
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


@pytest.fixture
def run_notebook(tmp_path, monkeypatch):
    """A function that runs a notebook and returns its outputs, cell by cell."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def run(source):
        notebook = nbformat.reads(source, as_version=4)
        client = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
        client.execute()
        return [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]

    return run


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # jupyter_client's own
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_shows_progress_and_the_report(run_notebook, file):
    outputs = run_notebook(file.read_text(encoding="utf-8"))
    streams = [output for cell in outputs for output in cell if output["output_type"] == "stream"]
    assert [stream["text"] for stream in streams if stream["name"] == "stderr"] == []
    texts = [output["data"].get("text/plain", "") for cell in outputs for output in cell if "data" in output]
    words = [text for text in texts if "held out" in text]
    assert words, "what a training says is shown below its cell"
    assert all(len(text.splitlines()) <= 100 for text in words)
    pages = [output["data"].get("text/html", "") for cell in outputs for output in cell if "data" in output]
    assert any(re.search(r"<iframe .*srcdoc=.*&lt;svg", page, re.DOTALL) for page in pages)
    for cell in outputs:
        assert sum("held out" in output.get("data", {}).get("text/plain", "") for output in cell) <= 1, (
            "one output a training"
        )
