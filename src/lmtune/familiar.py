"""What people type who come from other programs, and what it is called here.

Spelling alone would lead most of these astray: `dataset_name` is nearer to a label than to data.path.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Word(NamedTuple):
    """A name of another program."""

    keys: tuple[str, ...] = ()
    """What to type instead, the likeliest first: a key, or a group with its choice (`tracker=wandb`)."""
    remark: str = ""
    """What is different here, or why there is nothing of the kind."""


def use(*keys: str, remark: str = "") -> Word:
    """There is a counterpart."""
    return Word(keys, remark)


def nothing(remark: str) -> Word:
    """There is none."""
    return Word((), remark)


FLOAT32 = nothing(
    "Weights are float32 while they learn; training.bf16=true computes in bfloat16, model.save_dtype=bfloat16 saves in it."
)
OWN_CODE = nothing("Not needed: code that comes with a model or a data set is never run.")
QUANTIZED = nothing("Weights are not quantized; finetune=lora and training.optim=adafactor take less memory.")
ATTENTION = nothing("Not needed: torch chooses the fastest attention of the device.")
WORKERS = nothing("Not needed: text is encoded by all cores, once, and kept.")
NEW_FOLDER = nothing("Not needed: each run gets a folder of its own, and none is overwritten.")
CACHE = use("cache", remark="lmtune data cache=prune empties the cache; LMTUNE_CACHE says where it lies")
REPORT = nothing("Not needed: report.html is written at the end of each run.")
SHARE = "a share: 0.05 for 5 percent"

RUN_CLM: Mapping[str, Word] = {
    "model_name_or_path": use("model.path"),
    "config_overrides": use("model.config", remark="one key each: model.config.n_layer=6, with model.init=scratch"),
    "config_name": use("model.path", remark="with model.init=scratch it lends its config"),
    "tokenizer_name": use("model.tokenizer"),
    "tokenizer_name_or_path": use("model.tokenizer"),
    "model_revision": use("model.revision"),
    "cache_dir": nothing(
        "HF_HOME in the environment says where downloads are kept, LMTUNE_CACHE where prepared text is."
    ),
    "use_fast_tokenizer": nothing("Not needed: the fast tokenizer is taken where there is one."),
    "trust_remote_code": OWN_CODE,
    "low_cpu_mem_usage": nothing("Not needed: weights are loaded without a second copy."),
    "torch_dtype": FLOAT32,
    "attn_implementation": ATTENTION,
    "dataset_name": use("data.path"),
    "dataset_config_name": use("data.subset"),
    "dataset_config": use("data.subset"),
    "train_file": use("data.files"),
    "train_files": use("data.files"),
    "validation_file": use("data.validation_files"),
    "test_file": nothing("To score a text: lmtune eval ckpt=RUN data.files=test.txt."),
    "validation_split_percentage": use("data.validation_fraction", remark=SHARE),
    "max_train_samples": use("data.max_documents"),
    "max_eval_samples": use("eval.max_tokens", remark="while training; eval.final_max_tokens at the end"),
    "max_predict_samples": nothing("lmtune train predicts nothing."),
    "text_column_name": use("data.text_column"),
    "overwrite_cache": CACHE,
    "preprocessing_num_workers": WORKERS,
    "keep_linebreaks": nothing("Not needed: line ends are kept."),
    "line_by_line": use(
        "data.documents", remark="data.documents=line; with data.packing=false each has rows of its own"
    ),
    "ignore_pad_token_for_loss": nothing("Not needed: padding is never learned."),
    "pad_to_max_length": use("data.packing", remark="false fills up the rows of each document"),
    "use_auth_token": nothing("HF_TOKEN in the environment is honoured."),
}
"""transformers' examples/pytorch/language-modeling."""

TRAINER: Mapping[str, Word] = {
    "overwrite_output_dir": NEW_FOLDER,
    "logging_dir": use("tracker=tensorboard", remark="its files lie in the run folder"),
    "output_dir": use("output"),
    "resume_from_checkpoint": use("resume"),
    "report_to": use("tracker"),
    "run_name": use("name"),
    "wandb_project": use("tracker.project"),
    "max_seq_length": use("data.block_size"),
    "tokenizer_path": use("model.tokenizer"),
    "train_batch_size": use("training.per_device_train_batch_size"),
    "eval_batch_size": use("training.per_device_eval_batch_size"),
    "batch_size": use(
        "training.per_device_train_batch_size", remark="batch.tokens= says it in tokens, for any number of devices"
    ),
    "per_device_batch_size": use("training.per_device_train_batch_size"),
    "lr": use("training.learning_rate"),
    "epochs": use("training.num_train_epochs"),
    "num_epochs": use("training.num_train_epochs"),
    "max_epochs": use("training.num_train_epochs"),
    "train_epochs": use("training.num_train_epochs"),
    "steps": use("training.max_steps"),
    "num_steps": use("training.max_steps"),
    "train_steps": use("training.max_steps"),
    "max_train_steps": use("training.max_steps"),
    "total_steps": use("training.max_steps"),
    "warmup": use("training.warmup_steps"),
    "num_warmup_steps": use("training.warmup_steps"),
    "scheduler": use("training.lr_scheduler_type"),
    "lr_scheduler": use("training.lr_scheduler_type"),
    "schedule": use("training.lr_scheduler_type"),
    "optimizer": use("training.optim"),
    "grad_accum": use("training.gradient_accumulation_steps"),
    "accumulate_grad_batches": use("training.gradient_accumulation_steps"),
    "accumulation_steps": use("training.gradient_accumulation_steps"),
    "gradient_checkpointing": use("training.activation_checkpointing"),
    "gradient_clip_val": use("training.max_grad_norm"),
    "clip_grad_norm": use("training.max_grad_norm"),
    "wd": use("training.weight_decay"),
    "mixed_precision": use("training.bf16", "training.fp16", remark="true; bf16 is chosen where the chip has it"),
    "precision": use("training.bf16", "training.fp16", remark="true; bf16 is chosen where the chip has it"),
    "amp": use("training.bf16", "training.fp16", remark="true; bf16 is chosen where the chip has it"),
    "num_workers": use("training.dataloader_num_workers"),
    "save_every": use("training.save_steps"),
    "eval_every": use("training.eval_steps"),
    "patience": use("early_stopping.patience"),
    "early_stopping_patience": use("early_stopping.patience"),
    "checkpoint": use("ckpt", "resume"),
    "checkpoint_path": use("ckpt", "resume"),
    "resume_from": use("resume"),
    "random_seed": use("seed"),
    "gpus": nothing("CUDA_VISIBLE_DEVICES chooses GPUs; torchrun --nproc_per_node 4 -m lmtune train ... uses several."),
    "num_gpus": nothing(
        "CUDA_VISIBLE_DEVICES chooses GPUs; torchrun --nproc_per_node 4 -m lmtune train ... uses several."
    ),
    "tpu_num_cores": nothing("TPUs are not supported."),
    "past_index": nothing("No model that lmtune trains hands states from one row to the next."),
    "use_ipex": nothing("Not needed: torch itself is fast on these CPUs."),
    "use_mps_device": nothing("Not needed: the GPU of a Mac is taken unless training.use_cpu=true."),
    "jit_mode_eval": nothing("Held-out text is scored in float32, uncompiled, so that numbers compare."),
    "include_inputs_for_metrics": nothing("lmtune scores held-out text by itself; see eval.*."),
    "ray_scope": nothing("Sweeps are Hydra's: -m key=a,b."),
    "group_by_length": nothing("Rows have one length here, so there is nothing to group by it."),
    "include_tokens_per_second": nothing("Not needed: tokens a second are logged with each loss."),
    "evaluate_during_training": use("training.eval_strategy"),
    "adafactor": use("training.optim=adafactor"),
    "fp16_opt_level": nothing("Not needed: torch decides what is computed in half precision."),
    "sharded_ddp": nothing("Weights are whole on each device: several share a batch by DDP."),
}
"""transformers' Trainer, its older arguments, and the usual names of training loops."""

NANOGPT: Mapping[str, Word] = {
    "out_dir": use("output"),
    "max_iters": use("training.max_steps"),
    "num_iterations": use("training.max_steps"),
    "eval_interval": use("training.eval_steps"),
    "eval_iters": use("eval.max_tokens", remark="in tokens"),
    "log_interval": use("training.logging_steps"),
    "eval_only": nothing("To score a checkpoint: lmtune eval ckpt=..."),
    "always_save_checkpoint": use("training.save_strategy", remark="checkpoints are written at each evaluation"),
    "init_from": use(
        "model", "resume", remark="resume=RUN goes on, model=gpt2 begins from weights, model=gpt2-tiny from none"
    ),
    "wandb_log": use("tracker=wandb"),
    "wandb_run_name": use("name"),
    "dataset": use("data", remark="data.path= for one of the Hub, data.files= for your own"),
    "n_layer": use("model.config.n_layer", remark="with model.init=scratch"),
    "n_head": use("model.config.n_head", remark="with model.init=scratch"),
    "n_embd": use("model.config.n_embd", remark="with model.init=scratch"),
    "n_positions": use("model.config.n_positions", remark="with model.init=scratch"),
    "hidden_size": use("model.config.hidden_size", remark="with model.init=scratch"),
    "num_hidden_layers": use("model.config.num_hidden_layers", remark="with model.init=scratch"),
    "num_attention_heads": use("model.config.num_attention_heads", remark="with model.init=scratch"),
    "model_type": use("model.config.model_type", remark="with model.init=scratch"),
    "dropout": use(
        "model.config.resid_pdrop",
        "finetune.dropout",
        remark="with model.init=scratch; GPT-2 has embd_pdrop and attn_pdrop too",
    ),
    "bias": nothing("Each architecture of transformers has its own; model.config.model_type=llama has none."),
    "vocab_size": use("tokenizer.vocab_size", "model.vocab_size"),
    "weight_decay_rate": use("training.weight_decay"),
    "beta1": use("training.adam_beta1"),
    "beta2": use("training.adam_beta2"),
    "eps": use("training.adam_epsilon"),
    "epsilon": use("training.adam_epsilon"),
    "grad_clip": use("training.max_grad_norm"),
    "decay_lr": use("training.lr_scheduler_type", remark="cosine by default; constant does not decay"),
    "warmup_iters": use("training.warmup_steps"),
    "lr_decay_iters": nothing("The rate falls over the whole run; see training.lr_scheduler_type=."),
    "min_lr": use(
        "training.lr_scheduler_kwargs", remark="{min_lr:1e-5}, with training.lr_scheduler_type=cosine_with_min_lr"
    ),
    "backend": use("training.ddp_backend"),
    "device": use("training.use_cpu", remark="true for the CPU; otherwise the GPU is taken, if there is one"),
    "compile": use("training.torch_compile"),
    "dtype": FLOAT32,
    "start": use("prompt"),
    "text": use("prompt"),
    "input": use("prompt"),
    "num_samples": use("generation.num_return_sequences"),
    "num_tokens": use("generation.max_new_tokens"),
    "length": use("generation.max_new_tokens"),
    "total_batch_size": use("batch.tokens"),
    "device_batch_size": use("training.per_device_train_batch_size"),
    "sequence_length": use("data.block_size"),
    "context_length": use("data.block_size", "eval.context"),
}
"""nanoGPT, nanochat and their kin."""

FACTORIES: Mapping[str, Word] = {
    "base_model": use("model.path"),
    "base_model_config": use("model.path", remark="with model.init=scratch it lends its config"),
    "datasets": use("data.files", "data.path"),
    "dataset_dir": use("data.files", remark="a folder will do"),
    "dataset_text_field": use("data.text_column"),
    "text_field": use("data.text_column"),
    "dataset_train_split": use("data.train_split"),
    "dataset_test_split": use("data.validation_split"),
    "dataset_num_proc": WORKERS,
    "dataset_processes": WORKERS,
    "dataset_prepared_path": CACHE,
    "dataset_revision": use("data.revision"),
    "cutoff_len": use("data.block_size"),
    "sequence_len": use("data.block_size"),
    "seq_length": use("data.block_size"),
    "seq_len": use("data.block_size"),
    "max_length": use("data.block_size", "generation.max_length"),
    "max_samples": use("data.max_documents"),
    "val_size": use("data.validation_fraction", remark=SHARE),
    "val_set_size": use("data.validation_fraction", remark=SHARE),
    "test_size": use("data.test_fraction", remark=SHARE),
    "sample_packing": use("data.packing"),
    "eval_sample_packing": nothing("Held-out text is scored end to end, every token once."),
    "pad_to_sequence_len": nothing("Not needed: rows are full."),
    "interleave_probs": use("data.mix"),
    "mix_strategy": use("data.mix"),
    "buffer_size": use("data.shuffle_blocks"),
    "template": nothing("Texts are learned as they are; data.text_column= may be a template of columns."),
    "chat_template": nothing("Texts are learned as they are; data.text_column= may be a template of columns."),
    "train_on_inputs": nothing("Every token of a text is learned."),
    "stage": nothing("lmtune train learns from text as it is, which is called pre-training (pt) there."),
    "finetuning_type": use("finetune", remark="full, lora or gradual"),
    "adapter": use("finetune=lora"),
    "use_peft": use("finetune=lora"),
    "use_lora": use("finetune=lora"),
    "adapter_name_or_path": use("model.path", remark="a folder with the adapter merged in"),
    "lora_model_dir": use("model.path", remark="a folder with the adapter merged in"),
    "r": use("finetune.rank"),
    "lora_r": use("finetune.rank"),
    "lora_rank": use("finetune.rank"),
    "lora_alpha": use("finetune.alpha"),
    "lora_dropout": use("finetune.dropout"),
    "lora_target": use("finetune.target_modules"),
    "lora_target_modules": use("finetune.target_modules"),
    "lora_target_linear": nothing(
        "Not needed: all linear layers of the blocks get an adapter unless finetune.target_modules= says otherwise."
    ),
    "lora_modules_to_save": use("finetune.embeddings"),
    "modules_to_save": use("finetune.embeddings"),
    "additional_target": use("finetune.embeddings"),
    "freeze_trainable_layers": use("finetune=gradual"),
    "micro_batch_size": use("training.per_device_train_batch_size"),
    "evals_per_epoch": use("training.eval_steps", remark="a share of the run: 0.1"),
    "saves_per_epoch": use("training.save_steps", remark="a share of the run: 0.1"),
    "wandb_name": use("name"),
    "wandb_entity": nothing("WANDB_ENTITY in the environment says it."),
    "mlflow_experiment_name": nothing("MLFLOW_EXPERIMENT_NAME in the environment says it."),
    "flash_attention": ATTENTION,
    "flash_attn": ATTENTION,
    "sdp_attention": ATTENTION,
    "xformers_attention": ATTENTION,
    "use_flash_attention_2": ATTENTION,
    "load_in_8bit": QUANTIZED,
    "load_in_4bit": QUANTIZED,
    "quantization_bit": QUANTIZED,
    "plot_loss": REPORT,
    "special_tokens": use("tokenizer.special_tokens"),
    "prediction_dir": use("output"),
    "export_dir": use("output"),
}
"""LLaMA-Factory, axolotl, TRL."""

GENERATING: Mapping[str, Word] = {
    "temperature": use("generation.temperature"),
    "top_k": use("generation.top_k"),
    "top_p": use("generation.top_p"),
    "max_tokens": use("eval.max_tokens", "generation.max_new_tokens"),
    "max_new_tokens": use("generation.max_new_tokens"),
    "n": use("generation.num_return_sequences"),
    "stop": use("generation.stop_strings"),
    "greedy": use("generation.do_sample", remark="false"),
    "beams": use("generation.num_beams"),
    "frequency_penalty": use("generation.repetition_penalty"),
    "presence_penalty": use("generation.repetition_penalty"),
    "file": use("prompts_file"),
    "model": use("ckpt", "model.path"),
    "model_path": use("ckpt", "model.path"),
    "model_name": use("ckpt", "model.path"),
    "path": use("ckpt", "data.path", "model.path"),
    "run": use("ckpt", "resume"),
    "tasks": use("suite.tasks"),
    "benchmark": use("suite"),
}
"""Those who write texts and score them."""

HYDRA: Mapping[str, Word] = {
    "run_dir": use("output"),
    "work_dir": use("output"),
    "save_dir": use("output"),
    "folder": use("output"),
    "default_root_dir": use("output"),
    "ckpt_path": use("ckpt", "resume"),
    "logger": use("tracker"),
    "tags": use("name"),
    "debug": nothing("LMTUNE_DEBUG=1 in the environment adds the traceback to an error."),
    "verbose": use("training.log_level", remark="info"),
    "config": use("experiment", remark="a file conf/experiment/NAME.yaml"),
    "config_file": use("experiment", remark="a file conf/experiment/NAME.yaml"),
    "language": use("data.language"),
    "vocab": use("tokenizer.vocab_size", "model.vocab_size"),
    "corpus": use("data.files"),
    "files": use("data.files"),
    "texts": use("data.files"),
    "data_dir": use("data.files"),
    "data_path": use("data.path"),
    "data_files": use("data.files"),
    "dataset_path": use("data.path"),
}
"""Templates for Hydra and Lightning, and plain words."""

WORDS: Mapping[str, Word] = {**HYDRA, **GENERATING, **FACTORIES, **NANOGPT, **TRAINER, **RUN_CLM}

OF_SPLIT = use("data.seed", remark="of the split")

BY_COMMAND: Mapping[str, Mapping[str, Word]] = {
    "train": {
        "ckpt": use("model.path", remark="to begin from a checkpoint; resume=RUN goes on with a run"),
        "prompt": use("prompts"),
    },
    "data": {"seed": OF_SPLIT},
    "eval": {
        "seed": OF_SPLIT,
        "batch_size": use("eval.batch_size"),
        "per_device_eval_batch_size": use("eval.batch_size"),
        "dtype": use("eval.dtype"),
        "torch_dtype": use("eval.dtype"),
        "max_length": use("eval.context"),
        "model_name_or_path": use("ckpt"),
        "base_model": use("ckpt"),
        "use_cpu": use("device=cpu"),
        "limit": use("suite.limit"),
        "stride": use("eval.stride"),
        "split": use("eval.split"),
        "validation_file": use("data.files"),
        "test_file": use("data.files"),
        "output_path": use("output"),
    },
    "generate": {
        "max_length": use("generation.max_length"),
        "max_tokens": use("generation.max_new_tokens"),
        "model_name_or_path": use("ckpt"),
        "base_model": use("ckpt"),
        "input_file": use("prompts_file"),
        "use_cpu": use("device=cpu"),
    },
    "tokenizer": {
        "seed": OF_SPLIT,
        "train_file": use("data.files"),
        "model_name_or_path": use("model.path"),
        "max_length": use("tokenizer.max_length"),
    },
}
"""Where a word means something else for one command."""


def find_word(name: str, command: str = "") -> Word | None:
    """What a name of another program is called here; dashes and upper case do not matter."""
    plain = name.replace("-", "_").lower()
    return BY_COMMAND.get(command, {}).get(plain) or WORDS.get(plain)
