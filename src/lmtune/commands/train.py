"""`lmtune train`: fine-tune one causal language model; return what a sweep minimises.

lmtune train data=bio model=gpt2-small-pt
"""

import signal
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

from lmtune.commands import closing, opening, preparing, publishing
from lmtune.config import FinetuneMethod, TrainConfig
from lmtune.data.blocks import collate
from lmtune.errors import Stopped
from lmtune.modeling import adapters, generation, loading
from lmtune.records import write_json
from lmtune.training import memory


def run(config: TrainConfig, stdout: IO[str]) -> float:
    """Train as configured and print the results; return the objective of the sweep."""
    closing.check_objective(config.objective, [config.data.name, *config.eval_data])
    setup = preparing.build_setup(config)
    held_out = preparing.load_held_out(setup)
    opened = opening.open_run(setup)
    try:
        results = opened.find_results() or train(Session(setup, opened, held_out))
    finally:
        opened.close()
    if opened.is_main:
        closing.print_results(results, opened.run.folder, config.format, stdout)
        publishing.push(opened.run, config, setup.target, results)
    return closing.find_objective(results, config.objective)


def train(session: "Session") -> dict[str, Any]:
    """Train and score; whatever ends the run early is written into results.json on the way out."""
    try:
        session.prepare()
        session.fit()
        return session.finish()
    except (Stopped, KeyboardInterrupt) as stopped:
        number = getattr(stopped, "signal_number", signal.SIGINT)
        session.opened.stop(f"stopped by signal {number:d} after step {session.step}")
        raise
    except BaseException as error:
        session.opened.fail("failed", str(error))
        raise


@dataclass
class Session:
    """The training itself, once everything that can be known before has been checked."""

    setup: preparing.Setup
    opened: opening.Opened
    held_out: dict[str, preparing.HeldOutSet]
    """The sets to score, the one that decides first."""
    progress: Any = field(init=False)
    stop: Any = field(init=False)
    trainer: Any = field(init=False)

    @property
    def step(self) -> int:
        """Steps done so far."""
        trainer = getattr(self, "trainer", None)
        return int(trainer.state.global_step) if trainer is not None else 0

    def prepare(self) -> None:
        """Build the trainer with all that watches it, and say what is about to happen."""
        from lmtune.training.callbacks import ProgressLine, StopOnSignal, reduce_max

        self.progress = ProgressLine()
        self.stop = StopOnSignal(lambda value: reduce_max(value, self.opened.arguments.device), self.progress.say)
        self.trainer = self._build_trainer()
        if self.setup.move is not None and self.opened.is_main:
            write_json(self.opened.run.transplant_file, self.setup.move.report())
        opening.say_plan(self.opened, self.setup, self.trainer.yardstick)

    def fit(self) -> None:
        """Train to the end, from the checkpoint that the run was opened with."""
        remedy = memory.render_memory_remedy(self.opened.arguments, self.setup.prepared.ledger.block_size)
        try:
            with memory.explain_memory(remedy):
                self.trainer.fit(self.opened.checkpoint)
        finally:
            self.progress.close()
            self.stop.restore()

    def finish(self) -> dict[str, Any]:
        """Score all of the held-out text, save the model, and write the pages; return results.json."""
        dtype = self.setup.config.model.save_dtype
        model = self._take_model()
        loading.round_weights(model, dtype)
        with memory.explain_memory(f"training.per_device_eval_batch_size=1; then resume={self.opened.run.folder}"):
            sets = self.score(model, in_full=True)
        results = closing.build_results(self.opened, self.trainer, model, sets, self.setup.prepared, self.held_out)
        if self.setup.move is not None:
            results["transplant"] = self.setup.move.report()
        if self.opened.is_main:
            closing.save_model(self.opened.run, model, self.setup.tokenizer, dtype)
            self._close_ledger()
            closing.write_pages(self.opened.run, results)
        self.trainer.accelerator.wait_for_everyone()
        return results

    def score(self, model: Any, *, in_full: bool = False) -> dict[str, dict[str, Any]]:
        """Measures of each held-out set: of the sample that is scored while training, or of all of it."""
        from lmtune.evaluation.perplexity import Scoring, Workers, evaluate_stream

        settings = self.setup.config.eval
        batch_size = self.trainer.args.per_device_eval_batch_size
        scoring = Scoring(self.setup.context, batch_size, settings.stride, settings.dtype.value)
        workers = Workers(self.opened.rank, self.opened.world_size, self._add_over_ranks)
        return {
            name: evaluate_stream(model, held.stream if in_full else held.sample, scoring, workers)
            for name, held in self.held_out.items()
        }

    def _build_trainer(self) -> Any:
        from lmtune.training.gradual import GradualTrainer
        from lmtune.training.trainer import LmTrainer

        gradual = self.setup.config.finetune.method is FinetuneMethod.gradual
        kind = partial(GradualTrainer, finetune=self.setup.config.finetune) if gradual else LmTrainer
        arguments = self.opened.arguments
        return kind(
            model=self.setup.model,
            args=arguments,
            train_dataset=self.setup.prepared.blocks,
            eval_dataset=self.setup.prepared.blocks,  # Trainer only asks whether there is one; score() has the text
            data_collator=collate,
            run=self.opened.run,
            tokenizer=self.setup.tokenizer,
            score=self.score,
            manifest=self.opened.manifest,
            say=self.progress.say,
            stop_on_failed_save=self.setup.config.stop_on_failed_save,
            callbacks=self._build_callbacks(),
        )

    def _build_callbacks(self) -> list[Any]:
        from transformers import EarlyStoppingCallback

        from lmtune.training import callbacks

        config, run = self.setup.config, self.opened.run
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

    def _take_model(self) -> Any:
        """The model that is scored and saved: the trained one, its adapter merged in where that is asked for."""
        model, finetune = self.trainer.accelerator.unwrap_model(self.trainer.model), self.setup.config.finetune
        merges = finetune.method is FinetuneMethod.lora and finetune.merge
        return adapters.merge_adapter(model) if merges else model

    def _close_ledger(self) -> None:
        """While streaming, what was read is known only now."""
        ledger = self.setup.prepared.ledger
        if self.setup.config.data.streaming and ledger.blocks:
            ledger.check()
            write_json(self.opened.run.ledger_file, ledger.as_dict())

    def _write_samples(self, prompts: list[str]) -> list[str]:
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        return generation.generate_aside(
            model, self.setup.tokenizer, prompts, self.setup.config.generation, self.setup.config.samples.seed
        )

    def _add_over_ranks(self, sums: Any) -> Any:
        if self.opened.world_size == 1:
            return sums
        return self.trainer.accelerator.reduce(sums.to(self.opened.arguments.device), reduction="sum").cpu()
