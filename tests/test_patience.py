"""Long work is said while it goes on, and short work is not."""

import logging
import time

from lmtune.modeling.tokenizer import MOST_RUN, learn_tokenizer
from lmtune.patience import saying


def test_work_speaks_within_two_seconds_and_says_how_much(caplog):
    caplog.set_level(logging.INFO, "lmtune")
    with saying("short work"):
        pass
    with saying("long work") as work:
        work.done = "3 of 5 MB"
        time.sleep(1.0)
    with saying("more work"):  # the silences of works in a row add up
        time.sleep(1.1)
    assert [record.getMessage()[:10] for record in caplog.records] == ["more work:"]


def test_words_without_end_are_learned_in_pieces(caplog):
    caplog.set_level(logging.INFO, "lmtune")
    spaceless = "".join("ACGT"[(number * number) % 7 % 4] for number in range(200_000))
    started = time.process_time()
    for text in (spaceless, "_=" * 100_000, "1" * 200_000, "漢字仮名" * 50_000, "a" + " " * 200_000):
        tokenizer = learn_tokenizer([text], vocab_size=300, max_length=64)
        assert tokenizer.decode(tokenizer(text[:1000])["input_ids"]) == text[:1000]
    assert time.process_time() - started < 20
    told = [record.getMessage() for record in caplog.records if "are learned from in pieces" in record.getMessage()]
    assert len(told) == 5
    assert told[0].startswith(f"1 words of more than {MOST_RUN} characters")


def test_ordinary_words_are_learned_whole(caplog, texts):
    caplog.set_level(logging.INFO, "lmtune")
    long = ["x" * MOST_RUN + " y", "日本語。" * 400]
    learn_tokenizer([*texts, *long], vocab_size=300, max_length=64)
    assert not caplog.records
