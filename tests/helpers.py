"""What tests of many rooms do."""

import json

TINY_MODEL = ("model.config.n_layer=1", "model.config.n_embd=32", "model.config.n_head=2")


def write_lines(file, records):
    """JSON lines, one for each record; returns the file."""
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def write_texts(file, texts, column="text"):
    """JSON lines, one for each text; returns the file."""
    return write_lines(file, ({column: text} for text in texts))


def set_status(run, status):
    """Let a run look as if it had ended otherwise than it did, so that it can be resumed."""
    file = run / "results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "status": status}))
