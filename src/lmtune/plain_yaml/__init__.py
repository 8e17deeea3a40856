"""YAML that anyone may have written, as plain values: bounded in time and memory, and no code of its author's runs.

load_yaml(run / "config.yaml")              a record
load_document(conf / "data" / "mine.yaml")  a config of the user's: where each key stands, and nothing misread
"""

from lmtune.plain_yaml.document import Document, load_document, load_yaml
from lmtune.plain_yaml.wording import shorten

__all__ = ["Document", "load_document", "load_yaml", "shorten"]
