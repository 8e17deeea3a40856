"""Values out of range, and settings without effect: exit 2, one paragraph with key and remedy, nothing left behind."""

import json

import pytest
from helpers import TINY_MODEL

OUT_OF_RANGE = {
    ("train", "training.num_train_epochs=inf"): "training.num_train_epochs=inf: expected a finite number, more than 0",
    ("train", "training.eval_steps=inf"): "training.eval_steps=inf: expected a finite number, more than 0.",
    ("train", "training.learning_rate=nan"): "training.learning_rate=nan: expected a finite number, at least 0.",
    ("train", "training.max_grad_norm=-1"): "training.max_grad_norm=-1: expected at least 0. 0 cuts nothing off.",
    ("train", "training.warmup_steps=1.5"): "expected a share of the run below 1, or a whole number of steps.",
    ("train", "training.save_total_limit=-1"): "training.save_total_limit=-1: expected 1 or more.",
    ("train", "training.save_total_limit=0"): "null keeps all of them.",
    ("train", "training.max_steps=99999999999"): "training.max_steps=99999999999: expected at most 2147483647.",
    ("train", "training.dataloader_num_workers=-1"): "expected a whole number from 0 to 1024.",
    (
        "train",
        "training.train_sampling_strategy=group_by_length",
    ): "expected one of random, sequential. Rows have one length",
    ("train", "training.train_sampling_strategy=batch_rebalance"): "expected one of random, sequential.",
    ("train", "training.train_sampling_strategy=foo"): "expected one of random, sequential.",
    ("train", "training.include_num_input_tokens_seen=foo"): "expected one of all, no.",
    ("train", "training.log_level=loud"): "expected one of detail, debug, info, warning, error, critical, passive.",
    ("train", "training.lr_scheduler_type=cosin"): "Did you mean training.lr_scheduler_type=cosine?",
    ("train", "training.optim=adamw"): "Did you mean training.optim=adamw_torch?",
    ("train", "training.save_steps=7", "training.eval_steps=4"): "expected a multiple of training.eval_steps=4",
    (
        "train",
        "training.save_strategy=epoch",
    ): "expected a checkpoint at each evaluation, found training.eval_strategy=steps",
    (
        "train",
        "data.validation_fraction=nan",
    ): "data.validation_fraction=nan: expected a finite number, at least 0 and below 1.",
    ("train", "data.epochs=inf"): "data.epochs=inf: expected a finite number, more than 0 and at most 1000000.",
    ("train", "data.mix={sample:1,bio:inf}"): "data.mix.bio=inf: expected a finite number, more than 0.",
    ("train", "data.mix={sample:1e-9,bio:1}"): "expected at most 10,000 times the weight of sample",
    ("train", "model.config.resid_pdrop=nan"): "model.config.resid_pdrop=nan: expected a finite number.",
    (
        "train",
        "finetune=gradual",
        "finetune.momentum=[0.9,inf]",
    ): "finetune.momentum=[0.9,inf]: expected a finite number",
    (
        "train",
        "finetune=gradual",
        "finetune.phases=[{epochs: inf}]",
    ): "finetune.phases.epochs=inf: expected a finite number",
    ("train", "seed=4294967296"): "seed=4294967296: expected a whole number from 0 to 4294967295.",
    ("generate", "ckpt=x", "prompt=a", "generation.top_p=7"): "generation.top_p=7: expected more than 0 and at most 1.",
    (
        "generate",
        "ckpt=x",
        "prompt=a",
        "generation.temperature=inf",
    ): "generation.temperature=inf: expected a finite number",
    ("generate", "ckpt=x", "prompt=a", "generation.temperature=0"): "give generation.do_sample=false.",
    (
        "generate",
        "ckpt=x",
        "prompt=a",
        "generation.typical_p=2",
    ): "generation.typical_p=2: expected more than 0 and at most 1.",
    (
        "generate",
        "ckpt=x",
        "prompt=a",
        "generation.num_return_sequences=0",
    ): "generation.num_return_sequences=0: expected 1 or more.",
    (
        "generate",
        "ckpt=x",
        "prompt=a",
        "generation.do_sample=maybe",
    ): "generation.do_sample=maybe: expected true or false.",
    ("generate", "ckpt=x", "prompt=a", "generation.penalty_alpha=0.6"): "lmtune runs no code that comes from there.",
    (
        "generate",
        "ckpt=x",
        "prompt=a",
        "grid.temperature=[0.5,-1]",
    ): "grid.temperature=[0.5,-1.0]: expected more than 0.",
    ("lr-find", "range.end=inf"): "range.end=inf: expected a finite number",
    ("lr-find", "range.start=1", "range.end=0.1"): "range.start=1.0: expected less than range.end=0.1.",
    (
        "tokenizer",
        "tokenizer.special_tokens=[ab,ab]",
    ): "tokenizer.special_tokens=['ab', 'ab']: expected each token once.",
    ("tokenizer", "tokenizer.special_tokens=['']"): "expected tokens of two characters or more",
    ("tokenizer", "tokenizer.special_tokens=['  ']"): "expected tokens of two characters or more",
    ("tokenizer", "tokenizer.vocab_size=99999999999"): "tokenizer.vocab_size=99999999999: expected at most 4194304.",
}

WITHOUT_EFFECT = {
    ("data", "data.subset=pt"): "data.subset has no effect: the text comes from files.",
    (
        "data",
        "data.files=t.txt",
        "data.path=me/corpus",
    ): "data.path has no effect: the text comes from files. Leave one of the two out.",
    ("data", "data.where={lang:pt}"): "data.where has no effect: the files are plain text, which has no columns.",
    ("data", "data=wikitext", "data.validation_files=t.txt"): "data.validation_files has no effect",
    ("data", "data=wikitext", "data.validation_fraction=0.1"): "data.validation_split=validation is what is held out.",
    ("data", "data.epochs=3"): "data.epochs has no effect: lmtune data trains nothing.",
    ("data", "model.loss=plain"): "model.loss has no effect: of the model only the tokenizer counts here.",
    ("data", "cache=list", "data=bio"): "data has no effect: cache=list",
    ("data", "data=hub"): "data=hub needs data.path=, found none.",
    (
        "train",
        "training.num_train_epochs=2",
        "training.max_steps=3",
    ): "training.num_train_epochs has no effect: training.max_steps=3",
    ("train", "data.epochs=2", "training.max_steps=3"): "data.epochs has no effect: training.max_steps=3",
    ("train", "model.learning_rate=1e-3", "training.learning_rate=1e-4"): "model.learning_rate has no effect",
    ("train", "model.revision=main"): "model.revision has no effect: no model of the Hub is named.",
    (
        "train",
        "model=gpt2",
        "model.vocab_size=300",
    ): "model.vocab_size has no effect: the vocabulary is not learned here.",
    (
        "train",
        "training.optim_args=weight_decay=0.5",
    ): "training.optim_args has no effect: training.optim=adamw_torch_fused takes none.",
    ("train", "training.optim=sgd", "training.optim_args=foo=1"): "training.optim=sgd reads nothing called foo.",
    (
        "train",
        "training.optim=adamw_torch_8bit",
        "training.optim_args=block_size=64",
    ): "reads nothing called block_size.",
    ("train", "training.optim=rmsprop_bnb", "training.optim_args=alpha=0.9"): "training.optim=rmsprop_bnb takes none.",
    ("train", "training.optim=adamw_torch_8bit", "finetune=gradual"): "expected one momentum for all steps",
    ("train", "training.optim_target_modules=[attn,mlp]"): "training.optim_target_modules has no effect",
    ("train", "training.optim=adafactor", "training.adam_beta2=0.9"): "training.adam_beta2 has no effect",
    ("train", "training.eval_on_start=false"): "step 0 is always scored",
    ("train", "training.project=foo"): "training.project has no effect: tracker=none is not told of it.",
    ("train", "training.liger_kernel_config={rope:true}"): "training.liger_kernel_config has no effect",
    ("train", "training.hub_model_id=me/x"): "training.hub_model_id has no effect: training.push_to_hub is off.",
    ("train", "training.eval_strategy=epoch", "training.save_steps=5"): "training.save_steps has no effect",
    ("train", "data.validation_fraction=0", "eval.context=64"): "eval.context has no effect: nothing is held out.",
    ("train", "finetune.rank=4"): "finetune.rank has no effect: finetune=full has no such setting.",
    ("train", "tracker.project=x"): "tracker.project has no effect",
    ("train", "eval.batch_size=3"): "eval.batch_size has no effect: it is for lmtune eval.",
    (
        "train",
        "samples.enabled=false",
        "generation.top_k=3",
    ): "generation.top_k has no effect: found samples.enabled=false",
    ("train", "resume_force=true"): "resume_force has no effect: no run is resumed.",
    ("train", "data.name=Salesforce/wikitext"): "data.name has no effect: it is a label alone",
    ("train", "model.name=gpt2"): "model.name has no effect: it is a label alone",
    ("train", "finetune.name=lora"): "finetune.name has no effect: it is a label alone.",
    ("train", "seed=42", "training.seed=3"): "seed=42 and training.seed=3 differ; they mean the same. Keep seed=.",
    ("train", "training.metric_for_best_model=accuracy", "training.greater_is_better=false"): "more is better.",
    ("lr-find", "training.learning_rate=1e-3"): "training.learning_rate has no effect: lmtune lr-find tries rates",
    ("lr-find", "resume=auto"): "resume has no effect: lmtune lr-find keeps nothing of the model",
    ("lr-find", "range.phase=1"): "range.phase has no effect: finetune=full has no such setting.",
    (
        "eval",
        "ckpt=x",
        "eval.final_max_tokens=100",
    ): "eval.final_max_tokens has no effect: lmtune eval is one evaluation.",
    ("eval", "ckpt=x", "data.min_chars=3"): "data.min_chars has no effect: the text is what the run held out.",
    ("eval", "ckpt=x", "data.files=t.txt", "data.block_size=16"): "data.block_size has no effect",
    ("eval", "ckpt=x", "data.files=t.txt", "data.seed=3"): "data.seed has no effect: all of the text is scored",
    (
        "eval",
        "ckpt=x",
        "suite=gpt2-zeroshot",
        "eval.split=test",
    ): "eval.split has no effect: suite=gpt2-zeroshot brings its own",
    ("eval", "ckpt=x", "suite.limit=3"): "suite.limit has no effect: no benchmark is chosen.",
    ("eval", "ckpt=x", "output=there"): "output has no effect: nothing is written without eval.per_document=true.",
    ("generate", "ckpt=x", "prompt=a", "top=3", "generation.top_k=3"): "generation.top_k has no effect: top=3",
    ("generate", "ckpt=x", "prompt=a", "generation.do_sample=false", "seed=1"): "seed has no effect",
    (
        "generate",
        "ckpt=x",
        "prompt=a",
        "generation.max_length=8",
        "generation.max_new_tokens=4",
    ): "generation.max_length has no effect",
    ("tokenizer", "data.mix={sample:1,bio:1}"): "data.mix has no effect: a vocabulary is learned from one source.",
    ("tokenizer", "model.revision=main"): "model.revision has no effect: no vocabulary is compared with.",
}

OF_OTHERS = {
    ("train", "--model_name_or_path", "gpt2"): "keys are written without dashes: model.path=...",
    ("train", "--learning_rate=1e-4"): "keys are written without dashes: training.learning_rate=...",
    ("train", "--model-name-or-path=gpt2"): "keys are written without dashes: model.path=...",
    ("train", "--overwrite_output_dir"): "Not needed: each run gets a folder of its own",
    ("train", "dataset_name=wikitext"): "Did you mean data.path?",
    ("train", "max_iters=100"): "Did you mean training.max_steps?",
    ("train", "batch.token=5"): "batch.token is not a key of lmtune train. Did you mean batch.tokens?",
    ("train", "hydra.run.dirr=x"): "Did you mean hydra.run.dir?",
    ("train", "model=EleutherAI/pythia-70m"): "named by its path: model.path=EleutherAI/pythia-70m.",
    (
        "train",
        "~data",
    ): "~data: nothing can be taken out of a configuration, expected a value. Choose another with data=.",
    ("train", "-m", "training.max_steps=glob(*)"): "glob stands for the choices of a group, as in data=glob(*)",
    ("train", "suite=gpt2-zeroshot"): "suite is not a key of lmtune train. It belongs to lmtune eval, fetch.",
    ("eval", "ckpt=x", "training.max_steps=4"): "It belongs to lmtune train, check, lr-find.",
    ("generate", "ckpt=x", "prompt=a", "temperature=0.5"): "Did you mean generation.temperature?",
    ("train", "data.path=https://me:secret@example.org"): "data.path= carries a secret",
}

MISTAKES = {**OUT_OF_RANGE, **WITHOUT_EFFECT, **OF_OTHERS}


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_a_setting_that_cannot_work_is_answered_in_one_paragraph(lmtune, tmp_path, command):
    (tmp_path / "t.txt").write_text("Era uma vez.\n")
    answer = lmtune(*command)
    assert (answer.code, answer.out) == (2, ""), answer.err
    assert MISTAKES[command] in answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


TINY = (
    "training.use_cpu=true", "training.max_steps=2", "training.eval_steps=1", *TINY_MODEL, "eval.max_tokens=2000",
)  # fmt: skip


@pytest.fixture
def run(lmtune):
    answer = lmtune(
        "train", *TINY, "generation.do_sample=false", "generation.max_length=20", "prompts=[O paciente]", "output=run"
    )
    assert answer.code == 0, answer.err
    return "run"


def test_greedy_decoding_works_alone_in_samples_and_in_generate(lmtune, run, tmp_path):
    """And a length of the whole text takes the place of our default of new tokens."""
    (sample,) = json.loads((tmp_path / run / "samples.jsonl").read_text().splitlines()[-1])["samples"]
    assert len(sample["text"]) < 120
    example = (
        "generate",
        f"ckpt={run}",
        "prompt=Once upon a time",
        "generation.do_sample=false",
        "generation.max_new_tokens=20",
    )
    first, second = lmtune(*example), lmtune(*example)
    assert (first.code, first.err) == (0, second.err), first.err
    assert first.out == second.out


def test_greedy_decoding_leaves_out_what_the_model_itself_says_of_sampling(lmtune, run, tmp_path):
    file = tmp_path / run / "model" / "generation_config.json"
    (file.parent / "manifest.json").unlink()
    file.write_text(
        json.dumps(
            {**json.loads(file.read_text()), "do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_new_tokens": 50}
        )
    )
    answer = lmtune("generate", f"ckpt={run}", "prompt=a", "generation.do_sample=false", "generation.max_length=10")
    assert answer.code == 0, answer.err
    answer = lmtune(
        "generate", f"ckpt={run}", "prompt=Quem era Jim Henson", "generation.do_sample=false", "generation.max_length=3"
    )
    assert answer.code == 2
    assert "generation.max_length=3: expected more than the" in answer.err


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            "generation.forced_eos_token_id=99999",
            "generation.forced_eos_token_id=99999: the model's vocabulary has 1,024 entries.",
        ),
        (
            "generation.suppress_tokens=[3,99999]",
            "generation.suppress_tokens=99999: the model's vocabulary has 1,024 entries.",
        ),
        ("generation.temperature=1e-300", "with these settings nothing is left to draw from"),
        ("generation.stop_strings=3", "generation.stop_strings=3: expected a text or a list of them"),
        ("generation.max_length=800", "generation.max_length=800: the model has 256 positions."),
    ],
)
def test_generation_settings_that_the_model_cannot_follow_are_refused(lmtune, run, setting, complaint):
    answer = lmtune("generate", f"ckpt={run}", "prompt=a", setting)
    assert (answer.code, answer.out) == (2, "")
    assert complaint in answer.err


def test_nothing_is_drawn_where_nothing_is_left(lmtune, run, monkeypatch):
    drawn = []
    monkeypatch.setattr("torch.multinomial", lambda *given, **named: drawn.append(given))
    answer = lmtune("generate", f"ckpt={run}", "prompt=a", "generation.temperature=1e-300")
    assert "nothing is left to draw from" in answer.err
    assert not drawn, "on a GPU this would have ended all use of CUDA in the process"


@pytest.mark.parametrize("setting", ["generation.do_sample=true", "generation.do_sample=false", "top=3"])
def test_weights_that_are_no_numbers_write_nothing(lmtune, run, tmp_path, setting):
    from safetensors.torch import load_file, save_file

    file = tmp_path / run / "model" / "model.safetensors"
    (file.parent / "manifest.json").unlink()
    weights = load_file(file)
    weights["transformer.ln_f.weight"].fill_(float("nan"))
    save_file(weights, file, metadata={"format": "pt"})
    answer = lmtune("generate", f"ckpt={run}", "prompt=a", setting)
    assert (answer.code, answer.out) == (2, "")
    assert "gives scores that are no finite numbers, so there is no next token." in answer.err


def test_the_same_command_passes_again_with_resume_auto(lmtune):
    command = ("train", *TINY, "samples.enabled=false", "training.save_total_limit=null", "resume=auto")
    assert lmtune(*command).code == 0
    again = lmtune(*command)
    assert again.code == 0, again.err
    assert "this run has completed" in again.err
