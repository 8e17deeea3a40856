"""Names of transformers: its example scripts, and its Trainer."""

from collections.abc import Mapping

from lmtune.familiar.word import ATTENTION, CACHE, FLOAT32, NEW_FOLDER, OWN_CODE, SHARE, WORKERS, Word, nothing, use

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
    "name_or_path": use("model.path"),
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
    "save_safetensors": nothing("Not needed: weights are saved as safetensors."),
    "tpu_metrics_debug": nothing("TPUs are not supported."),
    "mp_parameters": nothing("SageMaker's model parallelism is not supported."),
    "xpu_backend": use("training.ddp_backend"),
    "fsdp_min_num_params": nothing("training.fsdp=true wraps each block of a model by itself."),
    "fsdp_transformer_layer_cls_to_wrap": nothing("training.fsdp=true wraps each block of a model by itself."),
    "use_legacy_prediction_loop": nothing("lmtune scores held-out text by itself; see eval.*."),
    "push_to_hub_organization": nothing("training.hub_model_id=OWNER/NAME says it."),
    "dispatch_batches": nothing("A key of training.accelerator_config."),
    "split_batches": nothing("A key of training.accelerator_config."),
    "sharded_ddp": nothing("Several devices share a batch by DDP; training.fsdp=true spreads the weights over them."),
}
"""transformers' Trainer, its older arguments, and the usual names of training loops."""

RENAMED_TRAINING_ARGUMENTS: Mapping[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "fp16_backend": "fp16 or bf16 (the backend is always torch's own)",
    "gradient_checkpointing_enable": "activation_checkpointing",
    "half_precision_backend": "fp16 or bf16 (the backend is always torch's own)",
    "no_cuda": "use_cpu",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "push_to_hub_model_id": "hub_model_id",
    "push_to_hub_token": "the environment variable HF_TOKEN",
    "torchdynamo": "torch_compile",
    "warmup_ratio": "warmup_steps (a value below 1 is a share of all steps)",
}
"""Arguments of older transformers, and what took their place in 5.23."""


def find_renamed(name: str) -> Word | None:
    """An argument of older transformers as a word of another program."""
    renamed, _, remark = RENAMED_TRAINING_ARGUMENTS.get(name, "").partition(" (")
    if not renamed:
        return None
    return (
        use(f"training.{renamed}", remark=remark.rstrip(")")) if renamed.isidentifier() else nothing(f"Use {renamed}.")
    )
