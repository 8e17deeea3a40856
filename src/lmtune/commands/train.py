"""`lmtune train`: fine-tune one causal language model; return what a sweep minimises.

lmtune train data=bio model=gpt2-small-pt
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from lmtune.commands import closing, opening
from lmtune.config import FinetuneMethod, TrainConfig
from lmtune.data.blocks import collate
from lmtune.data.corpus import Corpus, Prepared
from lmtune.errors import Stopped
from lmtune.modeling import adapters, generation, loading
from lmtune.modeling.transplant import Move
from lmtune.runs import write_json
from lmtune.training import arguments as training_arguments


def run(config: TrainConfig, stdout: IO[str]) -> float:
    """Train as configured and print the results; return the objective of the sweep."""
    watched = opening.build_watched(config)
    opening.check_sources(config, watched)
    corpus = Corpus(config.data, config.seed)
    arguments = training_arguments.build_arguments(config, Path("unopened"), config.data.holds_out)
    tokenizer, model, move = opening.build_model(config, corpus)
    training_arguments.check_optimizer(arguments, model)
    opening.try_generation(config, model, tokenizer)
    if config.data.isolate_documents:
        loading.check_isolation(model)
    block_size = loading.check_length("data.block_size", config.data.block_size, model.config)
    context = loading.check_length("eval.context", config.eval.context, model.config)
    closing.check_objective(config.objective, [config.data.name, *watched])
    model = prepare_finetune(config, arguments, model)
    prepared = corpus.prepare(tokenizer, block_size)
    held_out = opening.load_held_out(config, prepared, watched, tokenizer)
    opened = opening.open_run(config, arguments, prepared, watched)
    try:
        results = opened.find_results() or train(
            Session(config, opened, prepared, held_out, context, model, tokenizer, move)
        )
    finally:
        opened.close()
    if opened.is_main:
        closing.print_results(results, opened.run.folder, config.format, stdout)
    return closing.find_objective(results, config.objective)


def prepare_finetune(config: TrainConfig, arguments: Any, model: Any) -> Any:
    """The model as finetune= wants it; raise ConfigError where it or the arguments do not go with that."""
    if config.finetune.method is FinetuneMethod.lora:
        return adapters.add_adapter(model, config.finetune)
    if config.finetune.method is FinetuneMethod.gradual:
        from lmtune.training.gradual import check_gradual

        check_gradual(arguments, model, config.finetune)
    return model


def train(session: "Session") -> dict[str, Any]:
    """Train and score; whatever ends the run early is written into results.json on the way out."""
    try:
        session.prepare()
        session.fit()
        return session.finish()
    except Stopped as stopped:
        session.opened.fail("stopped", str(stopped))
        raise
    except BaseException as error:
        session.opened.fail("failed", str(error))
        raise


@dataclass
class Session:
    """The training itself, once everything that can be known before has been checked."""

    config: TrainConfig
    opened: opening.Opened
    prepared: Prepared
    held_out: dict[str, opening.HeldOutSet]
    """The sets to score, the one that decides first."""
    context: int
    """Tokens of an evaluation window."""
    model: Any
    tokenizer: Any
    move: Move | None
    """From the vocabulary that the weights came with to that of `tokenizer`."""
    progress: Any = field(init=False)
    stop: Any = field(init=False)
    trainer: Any = field(init=False)

    def prepare(self) -> None:
        """Build the trainer with all that watches it, and say what is about to happen."""
        from lmtune.training.callbacks import ProgressLine, StopOnSignal, reduce_max

        self.progress = ProgressLine()
        self.stop = StopOnSignal(lambda value: reduce_max(value, self.opened.arguments.device), self.progress.say)
        self.trainer = self._build_trainer()
        if self.move is not None and self.opened.is_main:
            write_json(self.opened.run.transplant_file, self.move.report())
        opening.say_plan(self.opened, self.model, self.prepared)

    def fit(self) -> None:
        """Train to the end, from the checkpoint that the run was opened with."""
        try:
            self.trainer.fit(self.opened.checkpoint)
        finally:
            self.progress.close()
            self.stop.restore()

    def finish(self) -> dict[str, Any]:
        """Score all of the held-out text, save the model, and write the pages; return results.json."""
        sets = self.score(self.trainer.model, max_tokens=0)
        results = closing.build_results(self.opened, self.trainer, sets, self.prepared, self.held_out)
        if self.move is not None:
            results["transplant"] = self.move.report()
        if self.opened.is_main:
            model = self.trainer.accelerator.unwrap_model(self.trainer.model)
            if self.config.finetune.method is FinetuneMethod.lora and self.config.finetune.merge:
                model = adapters.merge_adapter(model)
            staged = self.opened.run.staging_folder / self.opened.run.model_folder.name
            loading.save_model(model, self.tokenizer, staged)
            self.opened.run.place(staged)
            closing.write_pages(self.opened.run, results)
        self.trainer.accelerator.wait_for_everyone()
        return results

    def score(self, model: Any, max_tokens: int | None = None) -> dict[str, dict[str, Any]]:
        """Measures of each held-out set; of at most eval.max_tokens of each, unless told otherwise (0: all)."""
        from lmtune.evaluation.perplexity import Workers, evaluate_stream

        limit = self.config.eval.max_tokens if max_tokens is None else max_tokens
        workers = Workers(self.opened.rank, self.opened.world_size, self._add_over_ranks)
        batch_size = self.trainer.args.per_device_eval_batch_size
        return {
            name: evaluate_stream(model, held.stream.select(limit), self.context, batch_size, workers)
            for name, held in self.held_out.items()
        }

    def _build_trainer(self) -> Any:
        from lmtune.training.gradual import GradualTrainer
        from lmtune.training.trainer import LmTrainer

        gradual = self.config.finetune.method is FinetuneMethod.gradual
        kind = partial(GradualTrainer, finetune=self.config.finetune) if gradual else LmTrainer
        arguments = self.opened.arguments
        # Without empty rows, accelerate would fill the last batch of several processes with rows that were learned already;
        # and the order of an epoch would depend on their number.
        self.prepared.blocks.multiple = arguments.train_batch_size * arguments.world_size
        return kind(
            model=self.model,
            args=arguments,
            train_dataset=self.prepared.blocks,
            eval_dataset=self.prepared.blocks,  # Trainer only asks whether there is one; score() has the text
            data_collator=collate,
            run=self.opened.run,
            tokenizer=self.tokenizer,
            score=self.score,
            manifest=self.opened.manifest,
            callbacks=self._build_callbacks(),
        )

    def _build_callbacks(self) -> list[Any]:
        from transformers import EarlyStoppingCallback

        from lmtune.training import callbacks

        config, run = self.config, self.opened.run
        chosen: list[Any] = [callbacks.Recorder(run), self.progress]
        if config.samples.enabled and config.prompts:
            chosen.append(
                callbacks.Sampler(run, config.prompts, self._write_samples, config.samples.show, self.progress.say)
            )
        if config.early_stopping.patience:
            chosen.append(EarlyStoppingCallback(config.early_stopping.patience))
        return [*chosen, callbacks.LastStep(), self.stop]

    def _write_samples(self, prompts: list[str]) -> list[str]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return generation.generate_aside(
            model, self.tokenizer, prompts, self.config.generation, self.config.samples.seed
        )

    def _add_over_ranks(self, sums: Any) -> Any:
        if self.opened.world_size == 1:
            return sums
        return self.trainer.accelerator.reduce(sums.to(self.opened.arguments.device), reduction="sum").cpu()
