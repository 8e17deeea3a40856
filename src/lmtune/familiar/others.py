"""Names of programs that write or score text, of templates for Hydra and Lightning, and plain words."""

from collections.abc import Mapping

from lmtune.familiar.word import Word, nothing, use

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
