"""Keys that a command never reads, whatever else is set; they are refused if typed.

tests/test_effects.py runs every command and compares these tables with what was read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields

from lmtune.config import DataConfig, ModelConfig
from lmtune.config.conditions import Idle

OF_TRAIN = "Leave it out, or give it to lmtune train."
OF_LABELS = "it is a label alone"
CHOOSE_DATA = "Choose a data set with data=, data.files= or data.path=."
CHOOSE_MODEL = "Choose a model with model= or model.path=."


def idle(because: str, remedy: str, keys: Iterable[str]) -> dict[str, Idle]:
    """The same reason for several keys."""
    return dict.fromkeys(keys, Idle(because, remedy))


ROWS = ("data.block_size", "data.stride", "data.packing", "data.isolate_documents")
OF_CARD = ("data.language", "data.license", "data.homepage", "data.citation")
LEARNING = ("data.epochs", "data.prompts", "data.shuffle_blocks", "data.lanes", "data.prepared", *OF_CARD)
WEIGHTS = (
    *("model.learning_rate", "model.loss", "model.legacy_ids", "model.save_dtype"),
    *("model.license", "model.citation"),
)

TRAIN = {
    "eval.batch_size": Idle("it is for lmtune eval", "While training, training.per_device_eval_batch_size= says it."),
    "eval.split": Idle("a run scores what it holds out", "Leave it out, or give it to lmtune eval."),
    "eval.per_document": Idle("it is for lmtune eval", "Leave it out: lmtune eval ckpt=RUN eval.per_document=true."),
    "finetune.name": Idle(OF_LABELS, "Choose with finetune=full, finetune=gradual or finetune=lora."),
}

LR_FIND = {
    **idle(
        "lmtune lr-find tries rates from range.start= to range.end= in range.steps= steps",
        "Leave it out; see range.*.",
        (
            *("training.max_steps", "training.num_train_epochs", "data.epochs"),
            *(
                "training.learning_rate",
                "training.lr_scheduler_type",
                "training.lr_scheduler_kwargs",
                "training.warmup_steps",
            ),
            *("model.learning_rate", "finetune.pct_start", "finetune.div", "finetune.div_final", "finetune.momentum"),
        ),
    ),
    **idle(
        "lmtune lr-find keeps nothing of the model: it is not evaluated, saved, sampled from, logged or published",
        OF_TRAIN,
        (
            *(
                "eval",
                "eval_data",
                "early_stopping",
                "average",
                "forgetting",
                "objective",
                "samples",
                "generation",
                "prompts",
                "data.prompts",
            ),
            *("report", "private", "sweep"),
            *("resume", "resume_force", "stop_on_failed_save", "tracker", "card", *OF_CARD),
            *("model.license", "model.citation"),
            *("model.legacy_ids", "model.save_dtype", "finetune.merge"),
            *("training.resume_from_checkpoint", "training.report_to", "training.project"),
            *(
                "training.eval_strategy",
                "training.eval_steps",
                "training.eval_delay",
                "training.per_device_eval_batch_size",
            ),
            *("training.save_strategy", "training.save_steps", "training.save_total_limit", "training.save_only_model"),
            *("training.load_best_model_at_end", "training.metric_for_best_model", "training.greater_is_better"),
            *("training.logging_strategy", "training.logging_steps", "training.logging_first_step"),
            *("training.include_num_input_tokens_seen", "training.skip_memory_metrics", "training.disable_tqdm"),
            *("training.push_to_hub", "training.hub_model_id", "training.hub_strategy", "training.hub_private_repo"),
            *("training.hub_always_push", "training.hub_revision"),
            *("training.trackio_space_id", "training.trackio_bucket_id", "training.trackio_static_space_id"),
        ),
    ),
    "finetune.name": TRAIN["finetune.name"],
}

EVAL = {
    **idle("lmtune eval cuts the text into windows itself", "Leave it out; see eval.context= and eval.stride=.", ROWS),
    **idle("lmtune eval trains nothing", OF_TRAIN, (*LEARNING, "data.mix")),
    "eval.final_max_tokens": Idle("lmtune eval is one evaluation", "Give eval.max_tokens=, its limit."),
    "data.name": Idle(OF_LABELS, CHOOSE_DATA),
    "suite.name": Idle(OF_LABELS, "Choose with suite=gpt2-zeroshot, suite=lm_eval or suite=portuguese."),
}

DATA = {
    **idle("lmtune data trains nothing", OF_TRAIN, (*LEARNING, "data.isolate_documents", "data.streaming")),
    **idle("of the model only the tokenizer counts here", OF_TRAIN, WEIGHTS),
    "data.name": Idle(OF_LABELS, CHOOSE_DATA),
    "model.name": Idle(OF_LABELS, CHOOSE_MODEL),
}

TOKENIZER = {
    **idle("a vocabulary is learned from documents as they are", OF_TRAIN, (*ROWS, *LEARNING)),
    "data.mix": Idle("a vocabulary is learned from one source", "Leave it out, or give data.files= a list."),
    **idle(
        "of the model only the tokenizer counts here, to compare with",
        "Leave it out; see tokenizer.*.",
        (*WEIGHTS, "model.init", "model.config", "model.vocab_size", "model.transplant"),
    ),
    "data.name": Idle(OF_LABELS, CHOOSE_DATA),
    "model.name": Idle(OF_LABELS, CHOOSE_MODEL),
}

_NAMED = ("data.path", "data.subset", "data.revision", "model.path", "model.revision", "model.tokenizer", "model.init")
FETCH = {
    **idle(
        "lmtune fetch takes whole models and data sets from the Hub",
        OF_TRAIN,
        (
            name
            for section, kind in (("data", DataConfig), ("model", ModelConfig))
            for name in (f"{section}.{item.name}" for item in fields(kind))
            if name not in (*_NAMED, "data.files", "data.sources")
        ),
    ),
    "suite.limit": Idle("the data sets of benchmarks are fetched whole", "Leave it out, or give it to lmtune eval."),
    "suite.include": Idle("it is for tasks of EleutherAI's harness, which are not fetched", "Leave it out."),
    "suite.name": EVAL["suite.name"],
}


UNREAD: Mapping[str, Mapping[str, Idle]] = {
    "train": TRAIN,
    "check": TRAIN,
    "lr-find": LR_FIND,
    "eval": EVAL,
    "data": DATA,
    "tokenizer": TOKENIZER,
    "generate": {},
    "chat": {},
    "export": {},
    "fetch": FETCH,
    "push": {},
    "runs": {},
    "compare": {},
    "report": {},
    "audit": {},
    "serve": {},
}
"""By command: keys, each including those below it, and why nothing reads them."""
