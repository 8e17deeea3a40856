"""The zero-shot table: denominators, detokenizers that can be undone, and values against plain loops."""

import gzip
import itertools
import json
import math

import pytest
import torch

from lmtune.config import ZEROSHOT_TASKS
from lmtune.evaluation.scorer import open_scorer
from lmtune.evaluation.suites import cbt, detokenizers, lambada, published, running_text, zeroshot
from lmtune.evaluation.suites.requests import Request, rolling_requests, score_requests
from lmtune.evaluation.suites.subject import Subject

CPU = "device=cpu"
WIKI_LINES = [
    " = Robert Boulter = ",
    " ",
    ' He said " it cost 1 @,@ 000 @.@ 5 pounds " , and ( in 2000 ) that was a co @-@ star \'s wage . ',
    " Wheat of Calif. was cheaper , he wrote . ",
]


def read_lines(file):
    with gzip.open(file, "rt", encoding="utf-8", newline="\n") as stream:
        return stream.read().removesuffix("\n").split("\n")


def score_alone(model, ids, scored):
    """(nll, greedy) of the last ids in float64, each predicted alone."""
    double = model.double()
    nll, greedy = [], True
    with torch.no_grad():
        for place in range(len(ids) - scored, len(ids)):
            logits = double(input_ids=torch.tensor([ids[:place]]), use_cache=False).logits[0, -1]
            nll.append(-torch.log_softmax(logits, -1)[ids[place]].item())
            greedy &= int(logits.argmax()) == ids[place]
    model.float()
    return math.fsum(nll), greedy


@pytest.fixture
def subject(build_tiny, tokenizer):
    return Subject(build_tiny(), tokenizer, context=64, batch_size=3, dtype="float32")


def test_the_suite_is_known_by_the_same_names_everywhere():
    assert tuple(zeroshot.TASKS) == ZEROSHOT_TASKS
    assert all(len(figures) == len(published.COLUMNS) for figures in published.PUBLISHED.values())
    assert {column.partition("_")[0] for column in published.COLUMNS} == set(ZEROSHOT_TASKS)


@pytest.mark.parametrize(
    ("detokenizer", "tokenised", "running"),
    [
        (detokenizers.WIKITEXT, WIKI_LINES[2], 'He said "it cost 1,000.5 pounds", and (in 2000) that was a co-star\'s wage.'),
        (detokenizers.WIKITEXT, WIKI_LINES[0], "= Robert Boulter ="),
        (detokenizers.PTB, " he did n't pay $ N million for mr. <unk> 's shares ", "he didn't pay $N million for mr. <unk>'s shares"),
        (detokenizers.LM1B, '" We did n\'t see it , " he said ( he \'s 40 ) .', '"We didn\'t see it," he said (he\'s 40).'),
        (detokenizers.CBT, "`` I do n't know , '' said the -LRB- old -RRB- man .", '"I don\'t know," said the (old) man.'),
    ],
    ids=lambda value: value.name if isinstance(value, detokenizers.Detokenizer) else "",
)  # fmt: skip
def test_detokenizers_give_running_text_and_the_way_back(detokenizer, tokenised, running):
    assert detokenizer.detokenize(tokenised) == running
    assert detokenizer.tokenize(running) == tokenised


def test_a_line_that_could_not_be_had_back_stays_as_it_stands():
    lost = " that was . . . all ; two  spaces , no . "
    text = detokenizers.WIKITEXT.convert([lost, WIKI_LINES[2]])
    assert text.lines[0] == lost
    assert text.kept == 1


@pytest.mark.parametrize("name", ["test.raw", "test"])
def test_wikitext_comes_back_from_running_text(real_data, name):
    lines = read_lines(real_data / "wikitext-2" / f"{name}.txt.gz")
    text = detokenizers.WIKITEXT.convert(lines)
    back = [
        line if line == shown else detokenizers.WIKITEXT.tokenize(shown)
        for line, shown in zip(lines, text.lines, strict=True)
    ]
    assert back == lines
    assert text.kept < 0.03 * sum(1 for line in lines if line.strip())


@pytest.mark.parametrize("name", ["test.raw", "test"])
def test_wikitext_has_its_words_and_row_ends(real_data, name):
    lines = read_lines(real_data / "wikitext-2" / f"{name}.txt.gz")
    assert (len(lines), running_text.count_words(lines)) == (4_358, 245_569)


def test_wikitext_has_its_pages_and_the_words_that_the_harness_counts(real_data):
    import re

    pages = running_text.split_pages(read_lines(real_data / "wikitext-2" / "test.raw.txt.gz"))
    # Two more than its words on each page: the empty strings before the first and behind the last.
    assert (len(pages), sum(len(re.split(r"\s+", page)) for page in pages)) == (62, 241_211 + 2 * 62)


def test_lambada_has_its_passages(real_data, subject):
    from lmtune.evaluation.suites.sources import load_rows

    rows = load_rows(zeroshot.TASKS["lambada"].source, str(real_data / "lambada" / "lambada_test.jsonl.gz"))
    assert len(rows) == 5_153
    assert all(row["text"].rpartition(" ")[2] for row in rows)


def test_requests_of_many_lengths_equal_each_alone(subject):
    draw = torch.Generator().manual_seed(0)
    requests = [
        Request(torch.randint(320, (length,), generator=draw).tolist(), scored)
        for length, scored in [(2, 1), (9, 8), (30, 4), (65, 64), (5, 2), (90, 10), (9, 1)]
    ]
    with open_scorer(subject.model) as scorer:
        answers = score_requests(scorer, requests, 64, 3)
    for request, answer in zip(requests, answers, strict=True):
        nll, greedy = score_alone(subject.model, request.ids[-65:], request.scored)
        assert answer.nll == pytest.approx(nll, rel=1e-6)
        assert answer.greedy == greedy


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 40])
def test_rolling_windows_score_every_token_once_with_a_full_context(length):
    ids = list(range(1, length + 1))
    requests = rolling_requests(ids, 0, 8)
    scored = list(itertools.chain.from_iterable(request.ids[-request.scored :] for request in requests))
    assert scored == ids
    assert all(len(request.ids) == min(9, length + 1) for request in requests)


def test_lambada_is_scored_by_its_last_token_or_word(subject):
    rows = [{"text": "A médica examinou o braço"}, {"text": "Voltou para casa"}]
    outcomes = {
        "last token": lambada.measure_last_token(zeroshot.TASKS["lambada"], rows, subject),
        "last word": lambada.measure_last_word(zeroshot.TASKS["lambada"], rows, subject),
    }
    for unit, outcome in outcomes.items():
        nll = []
        for row in rows:
            ids = subject.encode(row["text"])
            context = subject.encode(row["text"].rpartition(" ")[0])
            nll.append(score_alone(subject.model, ids, 1 if unit == "last token" else len(ids) - len(context))[0])
        assert outcome.values["perplexity"] == pytest.approx(math.exp(math.fsum(nll) / 2), rel=1e-6)
        assert outcome.counts == {"passages": 2}


def test_cloze_takes_the_option_that_makes_the_rest_most_probable(subject):
    row = {
        "sentences": ["O paciente chegou ."], "question": "A médica examinou o XXXXX e pediu um exame .",
        "options": ["braço", "hospital", "coração"], "answer": "braço",
    }  # fmt: skip
    losses = []
    for option in row["options"]:
        ids = subject.encode(f"O paciente chegou. A médica examinou o {option} e pediu um exame.")
        shared = len(subject.encode("O paciente chegou. A médica examinou o"))
        losses.append(score_alone(subject.model, ids, len(ids) - shared)[0])
    expected = row["options"][losses.index(min(losses))]
    for answer, accuracy in ((expected, 100.0), (next(o for o in row["options"] if o != expected), 0.0)):
        outcome = cbt.measure_cloze(zeroshot.TASKS["cbt-cn"], [{**row, "answer": answer}], subject)
        assert outcome.values == {"accuracy": accuracy}


def test_running_text_is_scored_as_each_profile_says(subject):
    rows = [{"text": line} for line in WIKI_LINES]
    task = zeroshot.TASKS["wikitext-2"]
    paper = running_text.measure_words(task, rows, subject)
    lines = [detokenizers.WIKITEXT.detokenize(line) for line in WIKI_LINES[:3]]
    ids = [0, *subject.encode("\n".join([*lines, WIKI_LINES[3]]) + "\n")]
    assert paper.protocol["lines_left_as_they_stood"] == 1
    assert paper.counts["words"] == sum(len(line.split()) for line in WIKI_LINES) + 4
    nll = sum(
        score_alone(subject.model, ids[start : start + 65], len(ids[start : start + 65]) - 1)[0]
        for start in range(0, len(ids) - 1, 64)
    )
    assert paper.values["perplexity"] == pytest.approx(math.exp(nll / paper.counts["words"]), rel=1e-6)
    docs = running_text.measure_tokens(task, rows, subject)
    assert docs.counts["tokens"] == len(subject.encode("\n\n".join(WIKI_LINES))) - 1


def test_the_strided_loop_of_the_documentation_gives_the_same_sum(subject):
    """docs/source/en/perplexity.md of transformers, on ids, each window's mean times what it is a mean of."""
    text = "A médica examinou o braço e pediu um exame. " * 20
    model, stride, length = subject.model, 16, 64
    ids = torch.tensor([subject.encode(text)])
    total, previous_end, tokens = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + length, ids.shape[1])
        targets = ids[:, begin:end].clone()
        targets[:, : -(end - previous_end)] = -100
        with torch.no_grad():
            mean = model(ids[:, begin:end], labels=targets).loss
        counted = int((targets[:, 1:] != -100).sum())
        total, tokens, previous_end = total + float(mean) * counted, tokens + counted, end
        if end == ids.shape[1]:
            break
    nll, scored = running_text.score_running_text(text, subject, length - 1, running_text.NO_SEPARATOR, stride)
    assert (nll, scored) == (pytest.approx(total, rel=1e-6), tokens)


def test_compression_counts_bytes_or_characters(subject):
    rows = [{"text": "coração"}, {"text": "braço"}]
    found = {
        name: running_text.measure_compression(zeroshot.TASKS[name], rows, subject) for name in ("enwik8", "text8")
    }
    assert (found["enwik8"].counts["bytes"], found["text8"].counts["characters"]) == (16, 13)
    ratio = found["text8"].values["bits_per_character"] / found["enwik8"].values["bits_per_byte"]
    assert ratio == pytest.approx(16 / 13, rel=1e-9)


def test_a_missing_set_is_a_row_that_says_so(lmtune, build_tiny, tokenizer, tmp_path):
    from lmtune.modeling.saving import save_model

    save_model(build_tiny(), tokenizer, tmp_path / "model")
    (tmp_path / "acentuação (1).jsonl").write_text(json.dumps({"text": "O paciente voltou para casa"}) + "\n")
    (tmp_path / "wiki.txt").write_text("\n".join(WIKI_LINES))
    command = (
        "eval", "ckpt=model", "suite=gpt2-zeroshot", f"suite.files.lambada={tmp_path}/acentuação (1).jsonl",
        "suite.files.wikitext-2=wiki.txt", "suite.files.ptb=nowhere.txt", CPU,
    )  # fmt: skip
    answer = lmtune(*command)
    assert answer.code == 0, answer.err
    assert "ptb is missing: nowhere.txt does not read" in answer.out
    assert "text8 is missing: afmck/text8 is not in the Hugging Face cache" in answer.out
    rows = {line[:26].strip(): line[26:].split() for line in answer.out.splitlines()[2:12]}
    assert rows["LAMBADA perplexity"][1:] == ["35.13", "15.60", "10.87", "8.63"]
    found = lmtune(*command, "format=json", "suite.tasks=[lambada,wikitext-2]").json["tasks"]
    assert f"{found['lambada']['perplexity']:.4f}" == rows["LAMBADA perplexity"][0]
    assert found["wikitext-2"]["protocol"]["lines_left_as_they_stood"] == 1
    assert {"model", "tokenizer", "versions", "detokenizer", "source", "profile"} <= set(
        found["wikitext-2"]["protocol"]
    )
    other = lmtune(*command, "format=json", "suite.tasks=[ptb,enwik8]", "suite.profile=hf_docs").json["tasks"]
    assert other["enwik8"] == {"missing": "profile hf_docs does not define it"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("suite=gpt2-zeroshot", "suite.tasks=[lambda]"), "suite.tasks=lambda: expected some of lambada, cbt-cn"),
        (("suite=gpt2-zeroshot", "suite.files.wikitext=x.txt"), "suite.files=wikitext: expected some of"),
        (("suite=gpt2-zeroshot", "data=sample"), "suite= brings its own text, and data= names another."),
        (("suite=lm_eval",), "suite.tasks=[]: expected names of the harness's tasks"),
        (("suite=gpt2",), "suite=gpt2: expected one of gpt2-zeroshot, lm_eval, portuguese."),
    ],
)  # fmt: skip
def test_a_mistake_costs_one_paragraph(lmtune, arguments, expected):
    answer = lmtune("eval", "ckpt=anything", *arguments)
    assert answer.code == 2
    assert expected in answer.err
