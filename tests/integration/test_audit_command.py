"""What there is to find is found: canaries the better the more often they were planted, an identifier that was repeated."""

import importlib.util

import pytest

pytestmark = pytest.mark.slow
CPF = "529.982.247-25"
TRAIN = (
    *("training.use_cpu=true", "samples.enabled=false", "report.enabled=false", "training.eval_strategy=no"),
    *("training.save_strategy=no", "training.load_best_model_at_end=false"),
)
SMALL = ("model.config.n_layer=2", "model.config.n_embd=64", "model.learning_rate=3e-3", "data.block_size=128")
PARTS = ("audit.prefix=20", "audit.continuation=20", "device=cpu", "format=json")
INSTALLED = all(importlib.util.find_spec(name) for name in ("tarja", "stdnum"))


@pytest.fixture
def records(tmp_path, texts):
    """Lines of a text, with one record of a person sixteen times."""
    lines = [text.replace("\n", " ") for text in texts]
    for place in range(0, 96, 6):
        lines.insert(place, f"Registro do paciente Laércio. CPF: {CPF}. Encaminhado.")
    file = tmp_path / "records.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_canaries_and_a_repeated_identifier_are_found(lmtune, records, tmp_path):
    told = (f"data.files={records}", "data.documents=line", "model=gpt2-tiny", *SMALL, "audit.canaries=3")
    answer = lmtune("train", *TRAIN, *told, "audit.repeats=[1,4,16,32]", "training.max_steps=240", "output=run")
    assert answer.code == 0, answer.err
    found = lmtune("audit", "ckpt=run", *PARTS, "output=found").json
    groups = found["canaries"]["groups"]
    exposures = [group["exposure"] for group in groups]
    assert exposures[0] < exposures[2] <= exposures[3] + 0.5
    assert groups[2]["found"]["share"] == groups[3]["found"]["share"] == 1.0
    assert found["canaries"]["false_alarms"]["share"] <= 0.05
    assert "reason" in found["identifiers"] or INSTALLED
    if INSTALLED:
        (drawn_out,) = found["identifiers"]["drawn_out"]
        assert (drawn_out["kind"], drawn_out["added"]) == ("CPF", True)
    written = (tmp_path / "found" / "audit.html").read_text() + (tmp_path / "found" / "audit.json").read_text()
    assert CPF not in written

    records.write_text(records.read_text(encoding="utf-8") + "Uma linha a mais.\n", encoding="utf-8")
    refused = lmtune("audit", "ckpt=run", *PARTS)
    assert refused.code == 2
    assert "its text has changed since it was trained" in refused.err
    assert "data.files=" not in refused.err, "lmtune audit has no such key"
    assert lmtune("audit", "ckpt=run", *PARTS, "changed_text=true").code == 0
    records.unlink()
    alone = lmtune("audit", "ckpt=run", *PARTS[2:], "audit.passages=0", "audit.identifiers=0")
    assert alone.json["canaries"] == found["canaries"], "canaries need no text"


def test_what_was_known_before_is_told_from_what_an_adapter_has_added(lmtune, records):
    pytest.importorskip("peft")
    told = (f"data.files={records}", "data.documents=line")
    first = lmtune("train", *TRAIN, *told, "model=gpt2-tiny", *SMALL, "training.max_steps=240", "output=first")
    assert first.code == 0, first.err
    adapter = ("model.path=first", "finetune=lora", "finetune.merge=false", "training.max_steps=2")
    second = lmtune("train", *TRAIN, *told, "data.block_size=128", *adapter, "output=second")
    assert second.code == 0, second.err
    answer = lmtune("audit", "ckpt=second", "audit.prefix=8", "audit.continuation=6", *PARTS[2:])
    assert answer.code == 0, answer.err
    training = answer.json["passages"]["sides"]["training"]
    assert training["model"]["either"]["count"] > 0
    assert training["base"]["either"]["count"] > 0
    assert training["added"]["count"] <= training["model"]["either"]["count"] // 2, "the first run had learned it"
    assert "canaries" in answer.err, "it says that none were planted"
