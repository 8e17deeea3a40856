"""A mistake costs a second: exit 2, one paragraph, no traceback, nothing left behind."""

import re

import pytest
import transformers
from packaging.version import Version

from lmtune.cli import main

MISTAKES = {
    ("train", "batch.tokens=1000"): "batch.tokens=1000: expected a multiple of 128 (128 tokens a row x 1 device). "
    "Give batch.tokens=896 or batch.tokens=1024.",
    ("train", "batch.tokens=0"): "batch.tokens=0: expected 1 or more.",
    ("train", "model.loss=fast"): "model.loss",
    ("train", "dta=bio"): "dta is not a key of lmtune train. Did you mean data?",
    (
        "train",
        "data=boi",
    ): "data=boi: expected one of bio, files, hub, pt-wiki, sample, wikitext, wikitext-103. Did you mean data=bio?",
    ("train", "training.lerning_rate=1"): "Did you mean training.learning_rate?",
    ("train", "training.lr=1"): "Did you mean training.learning_rate?",
    ("train", "training.warmup_ratio=0.1"): "training.warmup_ratio is gone from transformers. Use warmup_steps",
    ("train", "training.learning_rate=abc"): "training.learning_rate='abc': expected a number.",
    ("train", "training.learning_rate="): "training.learning_rate='': expected a number.",
    ("train", "training=3"): "a group takes the name of one of its files",
    ("train", "generation.max_new_tokenz=3"): "Did you mean generation.max_new_tokens?",
    ("train", "generation.temperature=-1"): "generation.temperature=-1: expected more than 0.",
    ("train", "model.config.n_layers=3"): "model.config.n_layers is not a key. Did you mean model.config.n_layer?",
    ("train", "model.config.n_layer=two"): "model.config.n_layer='two': expected a whole number.",
    ("train", "model=gpt2", "model.config.n_layer=2"): "model.config.n_layer is only for model.init=scratch",
    ("train", "model.path=./does/not-exist"): "./does/not-exist: expected a folder with a saved model, found nothing.",
    (
        "train",
        "model.path=does/not-exist",
    ): "does/not-exist is not in the Hugging Face cache, and HF_HUB_OFFLINE is set.",
    ("train", "model=hub"): "model=hub needs model.path=, found none.",
    ("train", "data=files"): "data=files needs data.files=, found none.",
    ("train", "data.files=empty.txt"): "empty.txt: expected text, found an empty file.",
    ("train", "data.files=blank.txt"): "blank.txt: expected text, found none",
    ("train", "data.files=nowhere/*.txt"): "nowhere/*.txt: expected files that end in .txt",
    ("train", "data.block_size=abc"): "data.block_size=abc: expected a whole number. Give another value.",
    ("train", "data.block_size=5000"): "data.block_size=5000: the model has 256 positions. Give at most 256.",
    ("train", "data.validation_fraction=1.5"): "data.validation_fraction=1.5: expected at least 0 and below 1.",
    ("train", "eval.context=5000"): "eval.context=5000: the model has 256 positions.",
    ("train", "generation.max_new_tokens=300"): "generation.max_new_tokens=300: the model has 256 positions.",
    ("train", "training.seed=3", "seed=4"): "seed=4 and training.seed=3 differ; they mean the same. Keep seed=.",
    ("train", "training.do_train=false"): "lmtune train trains and evaluates.",
    ("train", "training.hub_token=hf_secret"): "Set the environment variable HF_TOKEN instead.",
    ("train", "+nonsense=3"): "nonsense is not a key of lmtune train.",
    ("train", "+data.fils=3"): "data.fils is not a key of lmtune train. Did you mean data.files?",
    ("train", "max_steps"): "'max_steps' is not key=value as Hydra reads it.",
    ("train", "resume=nowhere"): "resume=nowhere: expected a run folder of lmtune train, found no such folder.",
    ("train", "objective=news.loss"): "objective=news.loss: expected one of loss, perplexity, accuracy",
    ("train", "seed=-1"): "seed=-1: expected a whole number from 0 to 4294967295.",
    ("train", "output=empty.txt"): "output=empty.txt: expected a folder that can be made, found that ",
    (
        "train",
        "training.metric_for_best_model=bleu",
    ): "training.metric_for_best_model=bleu: expected one of loss, perplexity",
    ("train", "early_stopping.patience=2", "training.eval_strategy=no"): "early_stopping.patience needs evaluations",
    ("train", "training.max_steps=0"): "training.max_steps=0: expected 1 or more, or -1 for whole epochs.",
    ("train", "resume="): "resume=: expected off, auto or a run folder.",
    ("train", "data.split_by=given"): "data.split_by=given: sample keeps nothing apart.",
    (
        "train",
        "data.isolate_documents=true",
        "model=hub",
        "model.init=scratch",
        "model.tokenizer=learn",
        "model.config={model_type:bloom,n_layer:1,n_head:2,hidden_size:32}",
    ): "data.isolate_documents=true: BloomForCausalLM takes no position_ids",
    (
        "train",
        "tracker=wandbb",
    ): "tracker=wandbb: expected one of codecarbon, mlflow, none, tensorboard, trackio, wandb.",
    ("train", "training.per_device_train_batch_size=0"): "training.per_device_train_batch_size=0: expected 1 or more.",
    (
        "train",
        "training.gradient_accumulation_steps=-1",
    ): "training.gradient_accumulation_steps=-1: expected 1 or more.",
    ("train", "training.learning_rate=-1"): "training.learning_rate=-1: expected at least 0.",
    ("train", "training.eval_steps=0"): "training.eval_steps=0: expected more than 0.",
    ("train", "training.adam_beta1=2"): "training.adam_beta1=2: expected at least 0 and below 1.",
    ("train", "training.optim=adamw_bnb_8bit"): "no optimizer and schedule of these settings",
    ("train", "training.lr_scheduler_type=cosine_with_min_lr"): "no optimizer and schedule of these settings",
    ("train", "training.lr_scheduler_kwargs={foo:1}"): "no optimizer and schedule of these settings",
    ("train", "early_stopping.patience=1", "data.validation_fraction=0"): "nothing held out",
    ("train", "model.config.n_layer=0"): "model.config.n_layer=0: expected 1 or more.",
    ("train", "model.config.activation_function=foo"): "model.config does not describe a causal language model: 'foo'",
    ("train", "model.config.vocab_size=300"): "or leave out model.config.vocab_size.",
    ("train", "generation.num_beams=0"): "generation.num_beams=0: expected 1 or more.",
    ("train", "generation.max_new_tokens=-5"): "generation.max_new_tokens=-5: expected 1 or more tokens.",
    ("train", "generation.return_dict_in_generate=true"): "generation.return_dict_in_generate makes generate return",
    ("train", "eval_data=nothere"): "eval_data names nothere: expected one of",
    (
        "train",
        "eval_data=my-old-text",
    ): "Text of your own gets a name by a file: conf/data/my-old-text.yaml, with files:",
    ("train", "data.mix={sample:0.5,files:0.5}"): "data.mix names files, which has no text of its own.",
    ("lr-find", "eval_data=nothere"): "eval_data has no effect: lmtune lr-find keeps nothing of the model",
    ("train", "model=gpt2", "forgetting.on=wikitext", "forgetting.replay=selff"): "wikitext-103. Did you mean self?\n",
    ("train", "model=gpt2", "forgetting.on=wikitxt"): "forgetting.on names wikitxt: expected one of bio,",
    ("train", "resume=atuo"): "or resume=auto. Did you mean resume=auto?\n",
    ("train", "model.tokenizer=lern"): "Did you mean model.tokenizer=learn?\n",
    ("train", "model.transplant=meen"): "one of off, mean, fvt, omp. Did you mean model.transplant=mean?\n",
    ("train", "objective=bits_per_bite"): "a set of sample. Did you mean objective=bits_per_byte?\n",
    ("data", "data.mix={sample:0.5,nothere:0.5}"): "data.mix names nothere: expected one of",
    ("eval", "ckpt=x", "suite=gpt2-zeroshot", "suite.tasks=[lambda]"): "lm1b. Did you mean lambada?\n",
    ("train", "--data.files=x.txt"): "keys are written without dashes: data.files=...",
    (
        "train",
        "mine.yaml",
    ): "conf/experiment/mine.yaml here, first line # @package _global_, and take them by experiment=mine.",
    ("train", "--config", "mine.yaml"): "experiment=... (a file conf/experiment/NAME.yaml)",
    ("push", "ckpt=x", "repo=a/b", "private=true"): "a new repository is private unless public=true",
    ("train", "--frobnicate"): "--frobnicate is no option",
    ("eval",): "lmtune eval needs ckpt=, found none.",
    ("eval", "ckpt=./nowhere"): "ckpt=./nowhere: expected a run folder, a checkpoint or a model folder, found nothing.",
    ("eval", "ckpt=."): "ckpt=.: expected a run folder, a checkpoint or a saved model",
    ("eval", "ckpt=x", "eval.split=dev"): "eval.split=dev: expected one of",
    ("generate", "ckpt=."): "lmtune generate needs prompt=, found none.",
    ("generate", "ckpt=./nowhere", "prompt=a"): "ckpt=./nowhere: expected a run folder",
    (
        "tarin",
    ): f"tarin is not a command; expected one of {', '.join([*main.COMMANDS, *main.TOOLS])}. Did you mean train?",
}


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_a_mistake_is_answered_in_one_paragraph(lmtune, tmp_path, command):
    if "bloom" in command[-1] and Version(transformers.__version__) < Version("5.23"):
        pytest.skip("its own loss is another there, which is said first")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "blank.txt").write_text(" \n\t\n")
    answer = lmtune(*command)
    assert (answer.code, answer.out) == (2, "")
    assert MISTAKES[command] in answer.err
    said = [line for line in answer.err.splitlines() if not re.match(r"\d\d:\d\d:\d\d  ", line)]  # what takes long
    assert len(said) == 1
    assert said[0].startswith("error: ")
    assert {path.name for path in tmp_path.iterdir()} == {"empty.txt", "blank.txt"}


def test_a_config_with_the_name_of_one_of_ours_is_refused(lmtune, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "bio.yaml").write_text("files: x.txt\n")
    answer = lmtune("train", "data=bio")
    assert answer.code == 2
    assert str(tmp_path / "conf" / "data" / "bio.yaml") in answer.err
    assert "have the same name" in answer.err


def test_a_typo_in_a_config_of_the_users_own_is_named_with_its_file(lmtune, tmp_path):
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("fils: x.txt\n")
    answer = lmtune("train", "data=mine")
    assert answer.code == 2
    assert "data/mine.yaml sets data.fils, which is not a key of lmtune train. Did you mean data.files?" in answer.err


def test_a_cache_that_cannot_be_made_is_done_without(lmtune, monkeypatch):
    monkeypatch.setenv("LMTUNE_CACHE", "/dev/null/cache")
    answer = lmtune("data")
    assert answer.code == 0
    assert answer.err.count("/dev/null/cache, where prepared text is kept, is done without: Not a directory.") == 1


def test_debugging_shows_where_an_error_comes_from(lmtune, monkeypatch):
    monkeypatch.setenv("LMTUNE_DEBUG", "1")
    answer = lmtune("train", "data=files")
    assert answer.code == 2
    assert "Traceback" in answer.err


@pytest.mark.parametrize("command", [(), ("--help",), ("help",)])
def test_help_lists_the_commands(lmtune, command):
    answer = lmtune(*command)
    assert answer.code == 0
    assert all(f"  {name} " in answer.out for name in ("train", "eval", "generate"))


@pytest.mark.parametrize("name", ["train", "eval", "generate"])
def test_help_of_a_command_shows_groups_keys_and_examples(lmtune, name):
    answer = lmtune(name, "--help")
    assert answer.code == 0, answer.err
    assert f"lmtune {name} " in answer.out
    assert "== Groups (group=choice) ==" in answer.out
    assert "generation:" in answer.out or "eval:" in answer.out
