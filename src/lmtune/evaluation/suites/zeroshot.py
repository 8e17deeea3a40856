"""The zero-shot table of GPT-2 (Radford et al. 2019, Language Models are Unsupervised Multitask Learners, table 3).

Ten columns from nine sets, each with a protocol of its own, under one of three profiles:

    paper     de-tokenized running text in windows of the model's positions, words and row ends of the tokenised text
              counted; the last token of LAMBADA; all ten options of CBT. What the paper does not say (stride, first
              token, stop words) is as written here, so its figures are a neighbour and not a target.
    hf_docs   the strided loop of transformers' documentation: raw rows joined by a blank line, perplexity per token, the
              first token not scored.
    lm_eval   EleutherAI's harness 0.4.13: page by page, its windows, its de-tokenizer, its counts; the last word of LAMBADA.
"""

from lmtune.evaluation.suites import detokenizers
from lmtune.evaluation.suites.cbt import measure_cloze
from lmtune.evaluation.suites.lambada import measure_last_token, measure_last_word
from lmtune.evaluation.suites.running_text import measure_compression, measure_pages, measure_tokens, measure_words
from lmtune.evaluation.suites.sources import HubSplit
from lmtune.evaluation.suites.task import Procedure, Task

PARQUET = "refs/convert/parquet"
_RUNNING: dict[str, Procedure] = {"paper": measure_words, "hf_docs": measure_tokens}
_WIKI: dict[str, Procedure] = {**_RUNNING, "lm_eval": measure_pages}
_BYTES: dict[str, Procedure] = {"paper": measure_compression}
_PAGES = "EleutherAI/wikitext_document_level"

TASKS = {
    task.name: task
    for task in (
        Task(
            "lambada",
            HubSplit("EleutherAI/lambada_openai", subset="default"),
            {"paper": measure_last_token, "lm_eval": measure_last_word},
        ),
        # The test split holds The Jungle Book, which GPT-2 was trained on (section 3.2 of the paper).
        Task(
            "cbt-cn",
            HubSplit("cam-cst/cbt", "validation", "CN"),
            {"paper": measure_cloze},
            detokenizer=detokenizers.CBT,
        ),
        Task(
            "cbt-ne",
            HubSplit("cam-cst/cbt", "validation", "NE"),
            {"paper": measure_cloze},
            detokenizer=detokenizers.CBT,
        ),
        Task(
            "wikitext-2",
            HubSplit("Salesforce/wikitext", subset="wikitext-2-raw-v1"),
            _WIKI,
            detokenizer=detokenizers.WIKITEXT,
            sources={"lm_eval": HubSplit(_PAGES, subset="wikitext-2-raw-v1")},
        ),
        Task("ptb", HubSplit("FALcon6/ptb_text_only"), _RUNNING, column="sentence", detokenizer=detokenizers.PTB),
        Task("enwik8", HubSplit("LTCB/enwik8", "train", "enwik8", PARQUET, "enwik8/train"), _BYTES),
        Task("text8", HubSplit("afmck/text8"), _BYTES),
        Task(
            "wikitext-103",
            HubSplit("Salesforce/wikitext", subset="wikitext-103-raw-v1"),
            _WIKI,
            detokenizer=detokenizers.WIKITEXT,
            sources={"lm_eval": HubSplit(_PAGES, subset="wikitext-103-raw-v1")},
        ),
        Task(
            "lm1b",
            HubSplit("billion-word-benchmark/lm1b", "test", "plain_text", PARQUET, "plain_text/test"),
            _RUNNING,
            detokenizer=detokenizers.LM1B,
        ),
    )
}
