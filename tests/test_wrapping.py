"""Lines that were broken at a fixed width are noticed, and no other lines are."""

import gzip
import json
import shutil
import subprocess
import textwrap

import pytest

from lmtune.config import DataConfig, DocumentRule
from lmtune.data.columns import batch_strings
from lmtune.data.corpus import WRAPPED, Corpus
from lmtune.data.wrapping import EXCERPTS, is_wrapped, keep_some, take_excerpts

REAL = {
    "pt-wiki/eltec-por.jsonl.gz": False,  # one paragraph per line
    "pt-wiki/ud-pud.txt.gz": False,  # one sentence per line
    "pt-wiki/faquad.jsonl.gz": False,
    "bio/rebec.txt.gz": False,
    "bio/scielo-titles-abstracts.txt.gz": False,  # lists of titles
    "bio/tico19-pt_BR.txt.gz": False,
    "wikitext-2/validation.txt.gz": False,
    "lambada/lambada_test.jsonl.gz": False,
    "awkward/nested-squad-pt.json": False,
    "gpt2-tokenizer/merges.txt": False,
    "pt-wiki/machado.jsonl.gz": True,
}


def judge(documents):
    excerpts = []
    for texts in batch_strings(documents):
        excerpts = keep_some([*excerpts, *take_excerpts(texts)])
    return is_wrapped(excerpts)


def load(file):
    content = file.read_bytes()
    text = (gzip.decompress(content) if file.suffix == ".gz" else content).decode()
    if ".jsonl" not in file.name:
        return {"": text}
    rows = [json.loads(line) for line in text.splitlines()]
    return {str(row.get("id", number)): row["text"] for number, row in enumerate(rows)}


@pytest.fixture
def prose(texts):
    """A long paragraph for each text."""
    return [" ".join(text.split()) for text in texts]


@pytest.mark.parametrize("width", [60, 72, 100])
def test_broken_lines_are_noticed_however_documents_are_cut(prose, width):
    wrapped = [textwrap.fill(text, width) for text in prose]
    whole = "\n\n".join(wrapped)
    assert judge(wrapped)
    assert judge([whole])
    assert judge([f"{title}\n" * 400 + whole * 20 for title in ["INDEX"]]), "a book opens with other lines"
    assert judge(line for text in wrapped for line in text.split("\n"))


def test_whole_paragraphs_and_sentences_are_not_taken_for_broken_lines(prose):
    assert not judge(prose)
    assert not judge(["\n".join(prose)])
    assert not judge(text.replace(". ", ".\n") for text in prose)
    assert not judge([])


def test_verse_code_and_tables_are_not_taken_for_broken_lines():
    verse = ["and all the words that never were said", "fall down on me", "like rain upon the dead", "and on the sea"]
    code = [
        "def total(values):",
        "    found = 0",
        "    for value in values:",
        "        found += value",
        "    return found",
    ]
    table = [f"{number:>8}  some words beside it   {number * 7:>8}  and the end" for number in range(50)]
    words = [f"word{number:04d}" for number in range(200)]
    assert not any(judge(["\n".join(lines * 20)]) for lines in (verse, code, table, words))


def test_a_part_of_a_text_does_not_make_all_of_it_broken(prose):
    few = [textwrap.fill(text, 72) for text in prose[:2]]
    assert not judge([*few, *prose])


def test_as_many_excerpts_as_are_needed_are_kept(prose):
    kept = keep_some([f"{number} {text}" for number in range(40) for text in prose])
    assert len(kept) == EXCERPTS
    assert keep_some(reversed(kept)) == kept


@pytest.mark.parametrize("name", REAL)
def test_real_texts_are_judged_as_they_are(real_data, name):
    documents = list(load(real_data / name).values())
    assert judge(documents) == REAL[name]
    assert judge(line for text in documents for line in text.split("\n") if line) == REAL[name]


def test_verse_of_a_wrapped_collection_is_told_from_its_prose(real_data):
    works = load(real_data / "pt-wiki/machado.jsonl.gz")
    verse = [text for name, text in works.items() if name.startswith("poesia")]
    assert judge(text for name, text in works.items() if name.startswith("romance"))
    assert not judge(verse)
    assert not judge("\n".join(line[:1].lower() + line[1:] for line in text.split("\n")) for text in verse)


def test_a_text_is_remarked_upon_once_and_in_its_ledger(tmp_path, prose, caplog):
    file = tmp_path / "book.txt"
    file.write_text("\n\n".join(textwrap.fill(text, 72) for text in prose))
    for rule in (DocumentRule.file, DocumentRule.blank_line):
        corpus = Corpus(DataConfig(name="book", files=str(file), documents=rule), seed=0)
        assert f"book: {WRAPPED}" in corpus.ledger.remarks
    assert caplog.text.count("book: most lines are broken at a fixed width, in the middle of sentences") == 1
    assert "perl -00pe 's/\\n(?=.)/ /g' OLD.txt > NEW.txt" in caplog.text


@pytest.mark.skipif(shutil.which("perl") is None, reason="no perl here")
def test_the_remedy_joins_the_lines_of_each_paragraph(tmp_path, prose):
    wrapped = "\n\n".join(textwrap.fill(text, 72, break_on_hyphens=False) for text in prose) + "\n"
    program = WRAPPED.partition("perl -00pe '")[2].partition("'")[0]
    joined = subprocess.run(["perl", "-00pe", program], input=wrapped, capture_output=True, text=True, check=True)
    assert joined.stdout == "\n\n".join(prose) + "\n"
