"""What people of other programs type is answered with its name here, in one round."""

import pytest

from lmtune import upstream
from lmtune.cli import schemas
from lmtune.familiar import BY_COMMAND, WORDS, find_word

WORDS_OF_ALL = [
    *((word, "") for word in WORDS),
    *((word, command) for command, words in BY_COMMAND.items() for word in words),
]


def known_anywhere():
    return set().union(*(schemas.known_keys(command) for command in schemas.SCHEMAS))


@pytest.mark.parametrize(("name", "command"), WORDS_OF_ALL)
def test_a_word_leads_to_a_key_that_is_there_or_says_why_not(name, command):
    word = find_word(name, command)
    assert word.keys or word.remark.endswith(".")
    for key in word.keys:
        bare = key.partition("=")[0]
        assert bare in known_anywhere() or bare.startswith("model.config."), key
        assert bare not in upstream.LABELS


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [
        ("train", "dataset_name", "data.path"), ("train", "data.dataset_name", "data.path"),
        ("train", "dataset_config_name", "data.subset"), ("train", "validation_split_percentage", "data.validation_fraction"),
        ("train", "max_train_samples", "data.max_documents"), ("train", "learning_rate", "training.learning_rate"),
        ("train", "model_name_or_path", "model.path"), ("train", "block_size", "data.block_size"),
        ("train", "training.block_size", "data.block_size"), ("train", "max_iters", "training.max_steps"),
        ("train", "out_dir", "output"), ("train", "output_dir", "output"), ("train", "n_layer", "model.config.n_layer"),
        ("train", "model.n_embd", "model.config.n_embd"), ("train", "lora_r", "finetune.rank"), ("train", "use_peft", "finetune=lora"),
        ("train", "sequence_len", "data.block_size"), ("train", "val_size", "data.validation_fraction"),
        ("train", "warmup_ratio", "training.warmup_steps"), ("train", "evaluation_strategy", "training.eval_strategy"),
        ("train", "trainer.max_epochs", "training.num_train_epochs"), ("train", "wandb_project", "tracker.project"),
        ("train", "logging_dir", "tracker=tensorboard"), ("train", "max_length", "data.block_size"),
        ("train", "ckpt", "model.path"), ("generate", "temperature", "generation.temperature"),
        ("generate", "max_length", "generation.max_length"), ("generate", "num_samples", "generation.num_return_sequences"),
        ("generate", "generation.max_tokens", "generation.max_new_tokens"), ("generate", "model", "ckpt"),
        ("eval", "batch_size", "eval.batch_size"), ("eval", "model_name_or_path", "ckpt"), ("eval", "dtype", "eval.dtype"),
        ("tokenizer", "vocab_size", "tokenizer.vocab_size"), ("data", "dataset_name", "data.path"),
        ("train", "data.fils", "data.files"), ("train", "sed", "seed"), ("train", "batch.token", "batch.tokens"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_there_is_answered_with_what_was_meant(command, typed, meant):
    found = upstream.find_meant(typed, schemas.known_keys(command), command)
    assert found.what == meant


@pytest.mark.parametrize(
    "typed",
    [
        "overwrite_output_dir",
        "trust_remote_code",
        "torch_dtype",
        "attn_implementation",
        "preprocessing_num_workers",
        "load_in_4bit",
    ],
)
def test_what_has_no_counterpart_is_explained(typed):
    found = upstream.find_meant(typed, schemas.known_keys("train"), "train")
    assert found.what == ""
    assert found.remark.endswith(".")


@pytest.mark.parametrize("typed", ["data.nam", "model.nme", "finetune.nam", "dataname", "data.names"])
def test_no_suggestion_leads_to_a_label(typed):
    assert upstream.find_meant(typed, schemas.known_keys("train"), "train").what not in upstream.LABELS
