"""What trackers are told of a run: transformers' own callbacks report the metrics, and settings and samples are added here.

lmtune train tracker=[tensorboard,wandb]

A tracker that does not start ends the run before its first step; one that fails later is told nothing more of it.
"""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from copy import copy
from typing import Any, ClassVar

import yaml
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import (
    MLflowCallback,
    TensorBoardCallback,
    TrackioCallback,
    WandbCallback,
)

from lmtune.errors import ConfigError, describe_error
from lmtune.runs import Run
from lmtune.secrets import hide_secrets
from lmtune.storage import Record, write_json
from lmtune.training.trackers import locate_mlflow

logger = logging.getLogger(__name__)

Samples = list[dict[str, str]]
"""Prompts and their continuations, `prompt` and `text` each."""


class Tracker(TrainerCallback):
    """One tracker of a run.

    settings: of the run, resolved.
    """

    name: ClassVar[str]
    kind: ClassVar[type[TrainerCallback]]
    """transformers' callback of it, which reads the environment when it is made."""
    remedy: ClassVar[str] = "Mend that, or leave the tracker out"

    def __init__(self, run: Run, settings: Record) -> None:
        self.run = run
        self.settings = settings
        self.inner: Any = None
        """One of `kind`, once the training begins."""
        self.listens = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        try:
            with redirect_stdout(sys.stderr):  # stdout is for results, from Python too
                self.inner = self.inner or self.kind()
                self.inner.on_train_begin(self.adapt(args), state, control, **rest)
                self.tell_settings()
            self.listens = True
        except Exception as error:
            raise ConfigError(
                f"tracker={self.name} does not start: {describe_error(error).rstrip('.')}. {self.remedy}."
            ) from error
        if (known := self.find_id()) is not None:
            write_json(self.run.tracker_file, self.run.load_tracker_ids() | {self.name: known})

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        self._try(lambda: self.inner.on_log(args, state, control, **rest))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        self._try(lambda: self.inner.on_save(args, state, control, **rest))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        self._try(lambda: self.inner.on_train_end(args, state, control, **rest))

    def tell_samples(self, step: int, samples: Samples) -> None:
        """Show continuations that the model has written after `step` steps."""
        self._try(lambda: self.add_samples(step, samples))

    def close(self) -> None:
        """End what the tracker holds open, however the run has ended: the next job of a sweep is another run."""
        self._try(self.end)

    def adapt(self, args: TrainingArguments) -> TrainingArguments:
        """The arguments that the tracker is told."""
        return args

    def tell_settings(self) -> None:
        """Record the settings of the run."""

    def add_samples(self, step: int, samples: Samples) -> None:
        """Record continuations as text."""

    def find_id(self) -> str | None:
        """What the tracker calls the run, by which it takes it up again; None where its place tells."""
        return None

    def end(self) -> None:
        """Let the run go."""

    def _try(self, tell: Callable[[], object]) -> None:
        if not self.listens:
            return
        try:
            with redirect_stdout(sys.stderr):
                tell()
        except Exception as error:  # of all kinds: a server that has gone, a full disk, a value that is not taken
            self.listens = False
            logger.warning("tracker=%s is told nothing more of this run: %s", self.name, describe_error(error))


class TensorBoard(Tracker):
    name = "tensorboard"
    kind = TensorBoardCallback

    def tell_settings(self) -> None:
        self.inner.tb_writer.add_text("settings", f"```yaml\n{render_settings(self.settings)}```")

    def add_samples(self, step: int, samples: Samples) -> None:
        self.inner.tb_writer.add_text("samples", render_samples(samples), step)

    def end(self) -> None:
        if self.inner.tb_writer is not None:
            self.inner.tb_writer.close()


class Wandb(Tracker):
    name = "wandb"
    kind = WandbCallback
    remedy = "Say `wandb login`, or set WANDB_MODE=offline"

    def tell_settings(self) -> None:
        import wandb

        wandb.config.update({"lmtune": self.settings}, allow_val_change=True)

    def add_samples(self, step: int, samples: Samples) -> None:
        import wandb

        rows = [[step, sample["prompt"], sample["text"]] for sample in samples]
        wandb.log({"samples": wandb.Table(["step", "prompt", "text"], rows), "train/global_step": step})

    def find_id(self) -> str | None:
        import wandb

        return None if wandb.run is None else str(wandb.run.id)

    def end(self) -> None:
        import wandb

        wandb.finish()
        wandb.teardown()  # it reads the environment once: the next job of a sweep has another folder and id


class MLflow(Tracker):
    name = "mlflow"
    kind = MLflowCallback
    remedy = "MLFLOW_TRACKING_URI says where it keeps runs; mend that, or leave the tracker out"

    def adapt(self, args: TrainingArguments) -> TrainingArguments:
        """Put files beside the run's own store: MLflow would put them into the working directory."""
        import mlflow

        project = os.environ["MLFLOW_EXPERIMENT_NAME"]
        ours = os.environ["MLFLOW_TRACKING_URI"] == locate_mlflow(self.run)
        if ours and mlflow.get_experiment_by_name(project) is None:
            mlflow.create_experiment(project, (self.run.folder / "mlruns").as_uri())
        return args

    def tell_settings(self) -> None:
        import mlflow

        mlflow.log_text(render_settings(self.settings), "settings.yaml")

    def add_samples(self, step: int, samples: Samples) -> None:
        import mlflow

        mlflow.log_text(render_samples(samples), f"samples/step-{step:08}.md")

    def find_id(self) -> str | None:
        import mlflow

        active = mlflow.active_run()
        return None if active is None else str(active.info.run_id)

    def end(self) -> None:
        import mlflow

        mlflow.end_run()


class Trackio(Tracker):
    name = "trackio"
    kind = TrackioCallback

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        if self.inner is None:
            _forget_trackio()
        super().on_train_begin(args, state, control, **rest)

    def adapt(self, args: TrainingArguments) -> TrainingArguments:
        """Use a name that no other run has: trackio takes runs of one name for one run."""
        adapted = copy(args)
        adapted.run_name = self.find_id()
        return adapted

    def tell_settings(self) -> None:
        import trackio

        trackio.config.update({"lmtune": self.settings}, allow_val_change=True)

    def add_samples(self, step: int, samples: Samples) -> None:
        import trackio

        trackio.log({"samples": trackio.Markdown(render_samples(samples)), "train/global_step": step})

    def find_id(self) -> str:
        return self.run.find_tracker_id(self.name) or f"{self.run.folder.name}-{self.run.mark.id[:8]}"


KINDS: tuple[type[Tracker], ...] = (TensorBoard, Wandb, MLflow, Trackio)


def build_trackers(names: list[str], run: Run, settings: Record) -> list[Tracker]:
    """The trackers of these names that report a run, in this order."""
    kinds = {kind.name: kind for kind in KINDS}
    return [kinds[name](run, settings) for name in names if name in kinds]


def _forget_trackio() -> None:
    """Import it anew: it reads where it keeps its runs when it is imported, and another job of a sweep has another place."""
    for module in [name for name in sys.modules if name == "trackio" or name.startswith("trackio.")]:
        del sys.modules[module]


def render_settings(settings: Record) -> str:
    """config.yaml as text. A run whose settings hold a secret does not start; this is the second lock."""
    return hide_secrets(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False))


def render_samples(samples: Samples) -> str:
    """Prompts and continuations in Markdown, the text as it is."""
    return "\n\n".join(f"**{sample['prompt']}**\n\n{sample['text'].strip()}" for sample in samples)
