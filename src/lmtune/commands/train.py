"""`lmtune train`: fine-tune one causal language model; return what a sweep minimises.

lmtune train data=bio model=gpt2-small-pt
"""

import logging
import signal
from dataclasses import asdict
from functools import partial
from tempfile import TemporaryDirectory
from typing import IO, Any

from lmtune.config import FinetuneMethod, SaveDtype, TrainConfig
from lmtune.data import predecessor
from lmtune.data.blocks import collate
from lmtune.data.overlap import Seen, measure_overlap
from lmtune.errors import Stopped, describe_error
from lmtune.modeling import adapters, generation, saving
from lmtune.storage import write_json
from lmtune.training import context, memory, publishing, trial
from lmtune.training import results as run_results
from lmtune.training import setup as preparation

logger = logging.getLogger(__name__)


def run(config: TrainConfig, stdout: IO[str]) -> float:
    """Train as configured and print the results; return the objective of the sweep."""
    run_results.check_objective(config.objective, [config.data.name, *config.eval_data])
    setup = preparation.build_setup(config)
    session = Session(setup, preparation.load_held_out(setup))
    opened = context.open_run(setup)
    try:
        results = opened.find_results() or train(session, opened)
    finally:
        opened.close()
    if opened.is_main:
        run_results.print_results(results, opened.run.folder, config.format, stdout)
        publishing.push(opened.run, config, setup.target, results)
    return run_results.find_objective(results, config.objective)


def train(session: "Session", opened: context.Opened) -> dict[str, Any]:
    """Train and score; whatever ends the run early is written into results.json on the way out."""
    try:
        session.attach(opened)
        session.fit()
        return session.finish()
    except (Stopped, KeyboardInterrupt) as stopped:
        number = getattr(stopped, "signal_number", signal.SIGINT)
        opened.stop(f"stopped by signal {number:d} after step {session.step}")
        raise
    except BaseException as error:
        opened.fail("failed", describe_error(error))
        raise


class Session:
    """The training itself, once everything that can be known before has been checked.

    held_out: the sets to score, the one that decides first. The trainer is built here, and what would fail in it later is
    tried, before there is a run folder.
    """

    opened: context.Opened
    seen: Seen | None = None
    """How much of the held-out text also stands in the training text."""

    def __init__(self, setup: preparation.Setup, held_out: dict[str, preparation.HeldOutSet]) -> None:
        from lmtune.training.callbacks import ProgressLine, StopOnSignal, reduce_max

        self.setup = setup
        self.held_out = held_out
        self.progress = ProgressLine()
        self.stop = StopOnSignal(lambda value: reduce_max(value, setup.arguments.device))
        with TemporaryDirectory() as unused, trial.explained(), memory.explain_memory(self._render_remedy()):
            setup.arguments.output_dir = unused  # Trainer makes it
            self.trainer = self._build_trainer()
            trial.try_training(self.trainer)

    @property
    def step(self) -> int:
        """Steps done so far."""
        return int(self.trainer.state.global_step)

    def attach(self, opened: context.Opened) -> None:
        """Train into this run folder, with all that watches the steps, and say what is about to happen."""
        self.opened = opened
        self.trainer.attach(opened.run, opened.manifest)
        for callback in self._build_callbacks():
            self.trainer.add_callback(callback)
        if self.setup.move is not None and opened.is_main:
            opened.run.claim(opened.run.transplant_file.name)
            write_json(opened.run.transplant_file, self.setup.move.report())
        context.say_plan(opened, self.setup, self.trainer.yardstick)
        self.seen = measure_overlap(self.setup.tokenizer, self.setup.prepared) if opened.is_main else None
        if self.seen is not None:
            logger.info("data: %s", self.seen.render())
        if opened.is_main:
            predecessor.write_past(opened.run, self.setup.corpus, self.setup.prepared, self.setup.config.mixed_sets)
        for name, held in self.held_out.items():
            if (limits := held.says_limits(self.setup.config.eval)) is not None:
                logger.info("held out: %s: %s are scored", name, limits)

    def fit(self) -> None:
        """Train to the end, from the checkpoint that the run was opened with."""
        try:
            with memory.explain_memory(self._render_remedy()):
                self.trainer.fit(self.opened.checkpoint)
        finally:
            self.progress.close()
            self.stop.restore()

    def finish(self) -> dict[str, Any]:
        """Score all of the held-out text, save the model, and write the pages; return results.json."""
        dtype = self.setup.config.model.save_dtype
        model = self._take_model()
        saving.round_weights(model, dtype)
        with memory.explain_memory(f"training.per_device_eval_batch_size=1; then resume={self.opened.run.folder}"):
            sets = self.score(model, in_full=True)
            selected = self._score_selection(model, sets)
        results = run_results.build_results(self.opened, self.trainer, model, sets, self.setup.prepared, self.held_out)
        run_results.add_evaluations(
            results, self.trainer.state.log_history, selected, self.held_out, self.setup.config.eval
        )
        if self.seen is not None and self.setup.config.data.name in results["eval"]:
            results["eval"][self.setup.config.data.name]["seen_in_training"] = asdict(self.seen)
        if self.setup.move is not None:
            results["transplant"] = self.setup.move.report()
        self.opened.check_place()
        if self.opened.is_main:
            run = self.opened.run
            run_results.save_model(run, model, self.setup.tokenizer, dtype, run_results.load_card(run, results))
            self._close_ledger()
            run_results.write_pages(run, results, self.setup.prepared.ledger)
        self.trainer.accelerator.wait_for_everyone()
        return results

    def score(self, model: Any, *, in_full: bool = False) -> dict[str, dict[str, Any]]:
        """Measures of each held-out set: of the sample that is scored while training, or of what is scored in the end."""
        from lmtune.evaluation.evaluator import Scoring, Workers, evaluate_stream

        settings = self.setup.config.eval
        batch_size = self.trainer.args.per_device_eval_batch_size
        scoring = Scoring(self.setup.context, batch_size, settings.stride, settings.dtype.value)
        workers = Workers(self.opened.rank, self.opened.world_size, self._add_over_ranks)
        return {
            name: evaluate_stream(model, held.final if in_full else held.sample, scoring, workers)
            for name, held in self.held_out.items()
        }

    def _score_selection(self, model: Any, sets: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """The final model on the text that was scored while training, so that the first and the last number are of one text.

        Measured anew only where the model has changed since its last evaluation, as rounding and merging change it.
        """
        if not run_results.find_evaluation(self.trainer.state.log_history, 0):
            return {}
        if all(held.sample is held.final for held in self.held_out.values()):
            return sets
        config, trainer = self.setup.config, self.trainer
        step = trainer.state.global_step if trainer.best_step is None else trainer.best_step
        same = config.model.save_dtype is SaveDtype.float32 and model is trainer.accelerator.unwrap_model(trainer.model)
        known = run_results.find_evaluation(trainer.state.log_history, step) if same else {}
        return run_results.split_sets(known, list(sets)) if known else self.score(model)

    def _build_trainer(self) -> Any:
        from lmtune.training.gradual import GradualTrainer
        from lmtune.training.trainer import LmTrainer

        gradual = self.setup.config.finetune.method is FinetuneMethod.gradual
        kind = partial(GradualTrainer, finetune=self.setup.config.finetune) if gradual else LmTrainer
        return kind(
            model=self.setup.model,
            args=self.setup.arguments,
            train_dataset=self.setup.prepared.blocks,
            eval_dataset=self.setup.prepared.blocks,  # Trainer only asks whether there is one; score() has the text
            data_collator=collate,
            tokenizer=self.setup.tokenizer,
            score=self.score,
            stop_on_failed_save=self.setup.config.stop_on_failed_save,
        )

    def _render_remedy(self) -> str:
        return memory.render_memory_remedy(self.setup.arguments, self.setup.prepared.ledger.block_size)

    def _build_callbacks(self) -> list[Any]:
        from transformers import EarlyStoppingCallback

        from lmtune.training import callbacks

        config, run = self.setup.config, self.opened.run
        chosen: list[Any] = [callbacks.KeepPlace(self.opened.check_place), callbacks.Recorder(run), self.progress]
        if config.tracker.name != "none":
            chosen.append(callbacks.TrackerNote(run, config.tracker.name))
        if config.samples.enabled and config.prompts:
            chosen.append(callbacks.Sampler(run, config.prompts, self._write_samples, config.samples.show))
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
