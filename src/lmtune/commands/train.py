"""`lmtune train`: fine-tune one causal language model; return what a sweep minimises.

lmtune train data=bio model=gpt2-small-pt
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from lmtune.commands import closing, opening
from lmtune.config import TrainConfig
from lmtune.data.blocks import collate
from lmtune.data.corpora import build_corpus, prepare_training
from lmtune.data.corpus import Prepared
from lmtune.errors import Stopped, TrainingError
from lmtune.evaluation.windows import check_stride
from lmtune.modeling import adapters, generation, loading
from lmtune.modeling.transplant import Move
from lmtune.runs import write_json
from lmtune.training import arguments as training_arguments
from lmtune.training import resources


def run(config: TrainConfig, stdout: IO[str]) -> float:
    """Train as configured and print the results; return the objective of the sweep."""
    watched, mixed = opening.build_watched(config), opening.build_mixed(config)
    opening.check_sources(config, [*watched.values(), *mixed.values()])
    sets = {"eval_sets": watched, "mixed_sets": mixed}
    corpus = build_corpus(config.data, config.seed)
    chosen = opening.choose_settings(config, sets)
    arguments = training_arguments.build_arguments(config, Path("unopened"), config.data.holds_out, chosen)
    tokenizer, model, move = opening.build_model(config, corpus)
    training_arguments.check_optimizer(arguments, model)
    opening.try_generation(config, model, tokenizer)
    if config.data.isolate_documents:
        loading.check_isolation(model)
    block_size = loading.check_length("data.block_size", config.data.block_size, model.config)
    training_arguments.apply_batch(config, arguments, block_size)
    context = loading.check_length("eval.context", config.eval.context, model.config)
    check_stride(config.eval.stride, context)
    closing.check_objective(config.objective, [config.data.name, *watched])
    model = prepare_finetune(config, arguments, model)
    prepared = prepare_training(corpus, mixed, tokenizer, block_size)
    held_out = opening.load_held_out(config, prepared, watched, tokenizer)
    opened = opening.open_run(config, arguments, prepared, sets, chosen, model)
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
    if config.finetune.name == "lora":
        return adapters.add_adapter(model, config.finetune)
    if config.finetune.name == "gradual":
        from lmtune.training.gradual import check_gradual

        check_gradual(arguments, model, config.finetune)
    return model


def train(session: "Session") -> dict[str, Any]:
    """Train and score; whatever ends the run early is written into results.json on the way out."""
    try:
        session.prepare()
        session.fit()
        return session.finish()
    except (Stopped, KeyboardInterrupt) as stopped:
        session.opened.stop(str(stopped) or "stopped by SIGINT")
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
        opening.say_plan(self.opened, self.model, self.prepared, self.trainer.yardstick)

    def fit(self) -> None:
        """Train to the end, from the checkpoint that the run was opened with."""
        try:
            self.trainer.fit(self.opened.checkpoint)
        except (RuntimeError, MemoryError) as error:
            if not resources.is_out_of_memory(error):
                raise
            remedy = resources.render_memory_remedy(self.opened.arguments, self.prepared.ledger.block_size)
            raise TrainingError(
                f"Out of memory: {' '.join(str(error).split())[:200]} Try, in this order: {remedy}."
            ) from error
        finally:
            self.progress.close()
            self.stop.restore()

    def finish(self) -> dict[str, Any]:
        """Score all of the held-out text, save the model, and write the pages; return results.json."""
        dtype = self.config.model.save_dtype
        loading.round_weights(self.trainer.model, dtype)
        sets = self.score(self.trainer.model, max_tokens=0)
        results = closing.build_results(self.opened, self.trainer, sets, self.prepared, self.held_out)
        if self.move is not None:
            results["transplant"] = self.move.report()
        if self.opened.is_main:
            self._close_ledger()
            model = self.trainer.accelerator.unwrap_model(self.trainer.model)
            if self.config.finetune.name == "lora" and self.config.finetune.merge:
                model = adapters.merge_adapter(model)
            closing.save_model(self.opened.run, model, self.tokenizer, dtype)
            closing.write_pages(self.opened.run, results)
        self.trainer.accelerator.wait_for_everyone()
        return results

    def score(self, model: Any, max_tokens: int | None = None) -> dict[str, dict[str, Any]]:
        """Measures of each held-out set; of at most eval.max_tokens of each, unless told otherwise (0: all)."""
        from lmtune.evaluation.perplexity import Workers, evaluate_stream

        limit = self.config.eval.max_tokens if max_tokens is None else max_tokens
        stride, dtype = self.config.eval.stride, self.config.eval.dtype.value
        workers = Workers(self.opened.rank, self.opened.world_size, self._add_over_ranks)
        batch_size = self.trainer.args.per_device_eval_batch_size
        return {
            name: evaluate_stream(model, held.stream.select(limit), self.context, batch_size, workers, stride, dtype)
            for name, held in self.held_out.items()
        }

    def _build_trainer(self) -> Any:
        from lmtune.training.gradual import GradualTrainer
        from lmtune.training.trainer import LmTrainer

        gradual = self.config.finetune.name == "gradual"
        kind = partial(GradualTrainer, finetune=self.config.finetune) if gradual else LmTrainer
        arguments = self.opened.arguments
        # Without empty rows, accelerate would fill the last batch of several processes with rows that were learned already;
        # and the order of an epoch would depend on their number.
        batches = arguments.max_steps * arguments.gradient_accumulation_steps
        self.prepared.blocks.arrange(arguments.train_batch_size * arguments.world_size, batches)
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
            say=self.progress.say,
            stop_on_failed_save=self.config.stop_on_failed_save,
            callbacks=self._build_callbacks(),
        )

    def _build_callbacks(self) -> list[Any]:
        from transformers import EarlyStoppingCallback

        from lmtune.training import callbacks

        config, run = self.config, self.opened.run
        chosen: list[Any] = [callbacks.Recorder(run, self.progress.say), self.progress]
        if config.tracker.name != "none":
            chosen.append(callbacks.TrackerNote(run, config.tracker.name))
        if config.samples.enabled and config.prompts:
            chosen.append(
                callbacks.Sampler(run, config.prompts, self._write_samples, config.samples.show, self.progress.say)
            )
        if config.early_stopping.patience:
            chosen.append(EarlyStoppingCallback(config.early_stopping.patience))
        return [*chosen, callbacks.LastStep(), self.stop]

    def _close_ledger(self) -> None:
        """While streaming, what was read is known only now."""
        ledger = self.prepared.ledger
        if self.config.data.streaming and ledger.blocks:
            ledger.check()
            write_json(self.opened.run.ledger_file, ledger.as_dict())

    def _write_samples(self, prompts: list[str]) -> list[str]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return generation.generate_aside(
            model, self.tokenizer, prompts, self.config.generation, self.config.samples.seed
        )

    def _add_over_ranks(self, sums: Any) -> Any:
        if self.opened.world_size == 1:
            return sums
        return self.trainer.accelerator.reduce(sums.to(self.opened.arguments.device), reduction="sum").cpu()
