"""A training from its setup to results.json: what `lmtune train` and lmtune.train() do."""

import logging
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lmtune.config import TrainConfig
from lmtune.data import predecessor
from lmtune.data.canaries import build_canaries, save_canaries
from lmtune.data.overlap import Seen, measure_overlap
from lmtune.errors import LostProcessError, Stopped, describe_error
from lmtune.evaluation.by_document import build_summary
from lmtune.evaluation.documents import measure_documents
from lmtune.modeling import generation
from lmtune.modeling.out_of_memory import explain_memory
from lmtune.patience import turn_to
from lmtune.reporting.average import render_average
from lmtune.reporting.forgetting import render_forgetting
from lmtune.reporting.settings import hide_private
from lmtune.runs import step_of
from lmtune.runs.evaluations import Evaluation, Measures, find_evaluation, read_evaluations
from lmtune.storage import Record, write_json
from lmtune.training.arguments import count_rows_per_step
from lmtune.training.building import build_trainer, render_remedy
from lmtune.training.context import RunContext, open_run
from lmtune.training.cross_checks import list_warnings
from lmtune.training.determinism import restored_determinism
from lmtune.training.distributed import check_same_weights, gather_first, noticing_loss, reduce_max, wait_for_all
from lmtune.training.final import is_as_trained, merges, take_final
from lmtune.training.foresight import plan_course
from lmtune.training.held_out import HeldOut, load_held_out
from lmtune.training.mirror import mirrored
from lmtune.training.outlook import Outlook
from lmtune.training.plan import log_plan, render_course
from lmtune.training.results import (
    add_evaluations,
    build_results,
    load_card,
    save_model,
    write_report,
    write_scores,
)
from lmtune.training.setup import Setup, build_setup
from lmtune.training.starts import describe_start, find_first, record_first, record_start

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback

    from lmtune.training.averaging import Outcome, TailAverage
    from lmtune.training.energy import EnergyMeter
    from lmtune.training.replay import Replay
    from lmtune.training.samples import SamplesCallback
    from lmtune.training.tracking import Tracker
    from lmtune.training.trainer import LmTrainer

logger = logging.getLogger(__name__)


class Session:
    """A training that has been checked, with its run folder. `with Session.open(config) as session: session.run()`"""

    def __init__(
        self,
        setup: Setup,
        held_out: HeldOut,
        trainer: "LmTrainer",
        context: RunContext,
        replay: "Replay | None" = None,
    ) -> None:
        self.setup = setup
        self.config = setup.config
        self.held_out = held_out
        self.trainer = trainer
        self.context = context
        self.replay = replay
        self.outlook: Outlook | None = None
        """How long the training will take, as far as that is known."""
        self.energy: EnergyMeter | None = None
        self.average: TailAverage | None = None
        self.samples: SamplesCallback | None = None
        self.seen: dict[str, Seen] = {}
        """How much of the text of each held-out set also stands in the training text."""

    @classmethod
    @contextmanager
    def open(cls, config: TrainConfig) -> Iterator["Session"]:
        """Load and check everything, then claim the run folder; raise LmtuneError for whatever can be known to fail."""
        with noticing_loss():
            setup = build_setup(config)
            held_out = load_held_out(setup)
            # Not before: it imports torch, and what cannot be had has been refused by now.
            from lmtune.training.old_text import prepare_replay

            replay = prepare_replay(setup, held_out)
        with restored_determinism():
            with noticing_loss():
                trainer = build_trainer(setup, held_out, replay)
                context = open_run(setup)
            try:
                yield cls(setup, held_out, trainer, context, replay)
            finally:
                context.close()

    def run(self) -> Record:
        """Train, score and save; return results.json. A run that has completed is answered from it.

        Whatever ends the run early is written into results.json on the way out.
        """
        completed = self.context.find_results()
        if completed is not None:
            return completed
        try:
            with noticing_loss():
                self.attach()
                self.fit()
                return self.finish()
        except (Stopped, KeyboardInterrupt, LostProcessError) as end:
            self.context.stop(self._say_end(end))
            self.report()
            raise
        except BaseException as error:
            self.context.fail("failed", describe_error(error))
            self.report()
            raise

    def _say_end(self, end: BaseException) -> str:
        """Why a run stops that can go on."""
        if isinstance(end, LostProcessError):
            return str(end)
        number = getattr(end, "signal_number", signal.SIGINT)
        return f"stopped by signal {number:d} after step {self.trainer.state.global_step}"

    def attach(self) -> None:
        """Train into the run folder from now on, and log what is about to happen."""
        turn_to("beginning")
        context, setup = self.context, self.setup
        self.trainer.attach(context.run, context.manifest, stop_on_failed_save=self.config.stop_on_failed_save)
        if setup.move is not None and context.is_main:
            context.run.claim(context.run.transplant_file.name)
            write_json(context.run.transplant_file, setup.move.report())
        if context.is_main and (canaries := build_canaries(self.config.audit, self.config.data.seed)):
            save_canaries(context.run, canaries)
        log_plan(context, setup, self.trainer.flops_meter)
        if context.is_main:
            self._measure_overlap()
            replayed = None if self.replay is None else self.replay.corpus
            predecessor.write_past(context.run, setup.corpus, setup.prepared, self.config.mixed_sets, replayed)
        first = 0 if context.checkpoint is None else step_of(context.checkpoint)
        course = plan_course(self.trainer, setup, first)
        self.outlook = Outlook(course, self.held_out.final_share)
        if context.is_main:
            record_start(context, describe_start(context, setup, list(self.held_out.sets), course))
            self.report()
        for line in render_course(self.trainer, course, self.held_out, self.config.eval):
            logger.info("%s", line)
        for warning in list_warnings(setup, self.held_out, course):
            logger.warning(warning)

    def _measure_overlap(self) -> None:
        """Say of each held-out set how much of it is learned; of several that were not measured, the first tells why."""
        setup, held = self.setup, {name: each.stream for name, each in self.held_out.sets.items()}
        self.seen = measure_overlap(setup.tokenizer, setup.prepared, held)
        for number, (name, seen) in enumerate(self.seen.items()):
            if number == 0 or seen.share is not None:
                logger.info("%s: %s", "data" if name == self.config.data.name else name, seen.render())

    def report(self, results: Record | None = None) -> None:
        """Write report.html, where it is wanted and the run has not been taken back. results: see write_report."""
        run = self.context.run
        if self.context.is_main and self.config.report.enabled and run.config_file.exists():
            write_report(run, results)

    def fit(self) -> None:
        """Train to the end, from the checkpoint that the run was opened with."""
        from lmtune.training.averaging import build_average
        from lmtune.training.progress import ProgressLine
        from lmtune.training.signals import StopOnSignal

        assert self.outlook is not None, "attach() comes first"
        progress = ProgressLine(self.outlook)
        trackers = self._build_trackers()
        self.average = build_average(self.trainer, self.config.average.last)
        stop = StopOnSignal(lambda value: reduce_max(value, self.setup.arguments.device))
        for callback in [*self._build_callbacks(progress, trackers), stop]:  # what stops the run comes last
            self.trainer.add_callback(callback)
        try:
            with explain_memory(render_remedy(self.setup)), self._find_checkpoint() as checkpoint:
                if self.average is not None:
                    self.average.load(checkpoint)
                self.trainer.fit(checkpoint)
        finally:
            for tracker in trackers:
                tracker.close()
            if self.energy is not None:
                self.energy.close()
            progress.close()
            stop.restore()

    def _find_checkpoint(self) -> AbstractContextManager[Path | None]:
        """The checkpoint that the run was opened with, where this process can read it."""
        opened = self.context.checkpoint
        return nullcontext() if opened is None else mirrored(opened, self.setup.arguments.device)

    def finish(self) -> Record:
        """Score the held-out text, save the model, and write the pages; return results.json."""
        turn_to("closing the run")
        context, prepared = self.context, self.setup.prepared
        average = self._settle_average()
        final = take_final(self.trainer, self.config)
        model = final.scored
        check_same_weights(model, context.run)
        with explain_memory(f"training.per_device_eval_batch_size=1; then resume={context.run.folder}"):
            sets = self.held_out.score_final(model)
            documents, scores = self._describe_documents(), self.held_out.collect_final()
            evaluations = read_evaluations(self.trainer.state.log_history, self.held_out.sets)
            selected = self._score_selection(model, sets, evaluations, average)
        results = build_results(context, self.trainer, final.identify(), sets, prepared, self.held_out.sets)
        add_evaluations(results, evaluations, selected, self.held_out.sets, self.config.eval)
        for name, seen in self.seen.items():
            results["eval"][name]["seen_in_training"] = asdict(seen)
        if documents is not None:
            results["documents"] = documents
        if self.energy is not None and (energy := self.energy.read()) is not None:
            results["train"]["energy"] = energy
        if average is not None:
            results["average"] = average.record
            results["train"]["best_step"] = None if average.sets is not None else results["train"]["best_step"]
        if self.replay is not None:
            results["forgetting"] = self._close_budget(self.replay, results["train"]["tokens"], selected)
        if self.setup.move is not None:
            results["transplant"] = self.setup.move.report()
        context.check_place()
        self.trainer.rows.collect_positions(gather_first)
        if context.is_main:
            card, dtype = load_card(context.run, results), self.config.model.save_dtype
            below = None if merges(self.config.finetune) else self.setup.base
            save_model(context.run, final.whole, self.setup.tokenizer, dtype, card, below)
            turn_to("writing the pages")
            self._close_ledger()
            write_scores(context.run, scores)
            self.report(results)
            context.run.write_results(results)
        wait_for_all()
        return results

    def _settle_average(self) -> "Outcome | None":
        """Keep the average of the weights where it is better than those that training has ended with; None without one."""
        if self.average is None:
            return None
        outcome = self.average.settle(self.trainer, self.held_out, None if self.replay is None else self.replay.allows)
        logger.info("%s", render_average(outcome.record))
        if outcome.sets is not None and self.samples is not None and self.context.is_main:
            self.samples.add_averaged(self.trainer.state.global_step)
        return outcome

    def _describe_documents(self) -> Record | None:
        """The documents of the first held-out set as they have just been scored; None without one."""
        name = next(iter(self.held_out.sets), None)
        if name is None or not self.context.is_main:
            return None
        stream = self.held_out.sets[name].final
        bits = measure_documents(stream, self.held_out.nll[name])
        before = find_first(self.context.run, stream)
        return build_summary(stream, bits, before, self.setup.tokenizer, private=self.config.private)

    def _score_selection(
        self,
        model: "PreTrainedModel",
        sets: dict[str, Measures],
        evaluations: list[Evaluation],
        average: "Outcome | None",
    ) -> dict[str, Measures]:
        """The final model on the text that was scored while training, so that the first and the last number are of one text.

        Measured anew only where the model has changed since its last evaluation, as rounding and merging change it.
        """
        trainer = self.trainer
        if find_evaluation(evaluations, 0) is None:
            return {}
        if self.held_out.samples_all:
            return sets
        step = trainer.state.global_step if trainer.best_step is None else trainer.best_step
        same = is_as_trained(self.config)
        if same and average is not None and average.sets is not None:
            return average.sets
        known = find_evaluation(evaluations, step) if same else None
        return known.sets if known is not None else self.held_out.score_sample(model)

    def _build_trackers(self) -> list["Tracker"]:
        names = self.config.tracker.names if self.context.is_main else []
        if not names:
            return []
        from lmtune.training.energy import NAME, EnergyMeter
        from lmtune.training.tracking import build_trackers

        self.energy = EnergyMeter(self.context.run) if NAME in names else None
        told = self.context.manifest["told"]
        return build_trackers(names, self.context.run, hide_private(told) if self.config.private else told)

    def _build_callbacks(self, progress: "TrainerCallback", trackers: list["Tracker"]) -> list["TrainerCallback"]:
        from transformers import EarlyStoppingCallback

        from lmtune.training import callbacks
        from lmtune.training.samples import SamplesCallback

        config, run = self.config, self.context.run
        chosen: list[TrainerCallback] = [
            callbacks.CheckFolderCallback(self.context.check_place),
            callbacks.MetricsCallback(run),
            progress,
        ]
        chosen += [*trackers, *([self.energy] if self.energy else [])]
        if config.samples.enabled and config.prompts:
            show = 0 if config.private else config.samples.show
            tell = [] if config.private else [tracker.tell_samples for tracker in trackers]
            self.samples = SamplesCallback(run, config.prompts, self._write_samples, show, tell)
            chosen.append(self.samples)
        chosen.append(callbacks.EvaluatedCallback(self._report_evaluation))
        if config.early_stopping.patience:
            kind = EarlyStoppingCallback if self.replay is None else callbacks.PatienceUnderBudget
            chosen.append(kind(config.early_stopping.patience))
        return [*chosen, callbacks.EvaluateAndSaveAtEnd()]

    def _report_evaluation(self, step: int) -> None:
        name = next(iter(self.held_out.sets))
        if step == 0 and self.context.is_main:
            record_first(self.context.run, self.held_out.sets[name].sample, self.held_out.nll[name])
        self.report()

    def _close_budget(self, replay: "Replay", learned: int, selected: dict[str, Measures]) -> Record:
        """What became of the budget, of so many tokens learned; the ledger is told what was learned again."""
        rows, steps = count_rows_per_step(self.trainer.args), self.trainer.state.global_step
        record = replay.describe(rows, steps, learned, selected.get(replay.on))
        self.setup.prepared.ledger.replay |= {"blocks_learned": record["rows"], "tokens_learned": record["tokens"]}
        logger.info("%s", render_forgetting(record))
        return record

    def _close_ledger(self) -> None:
        """While streaming, what was read is known only at the end; and at any time, how much old text was learned again."""
        ledger = self.setup.prepared.ledger
        if self.config.data.streaming and ledger.blocks:
            self.trainer.rows.close_ledger()
            ledger.check()
        if ledger.replay or (self.config.data.streaming and ledger.blocks):
            write_json(self.context.run.ledger_file, ledger.as_dict())

    def _write_samples(self, prompts: list[str]) -> list[str]:
        from lmtune.training.sharding import lending

        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        with lending(model):
            return generation.generate_aside(
                model, self.setup.tokenizer, prompts, self.config.generation, self.config.samples.seed
            )
