"""Short callbacks of a training: its start, its records, its last step, and its folder."""

from collections.abc import Callable
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from lmtune.runs import Run
from lmtune.storage import Record
from lmtune.training.jsonl_writer import JsonlWriter


class LoopCallback(TrainerCallback):
    """Calls `start_loop` when Trainer's loop starts, and `start_epoch` with the epoch before each.

    It starts once, and again for every smaller batch that training.auto_find_batch_size tries.
    """

    def __init__(self, start_loop: Callable[[], None], start_epoch: Callable[[int], None]) -> None:
        self.start_loop = start_loop
        self.start_epoch = start_epoch

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.start_loop()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.start_epoch(int(state.epoch))


class MetricsCallback(TrainerCallback):
    """Writes metrics.jsonl: one object for each log and each evaluation. What an earlier try has recorded is dropped."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.writer = JsonlWriter(run.metrics_file)
        self._has_begun = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._has_begun and state.is_world_process_zero:  # see LoopCallback
            self.run.cut_back(state.global_step or -1)
        self._has_begun = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Record | None = None,
        **_: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            numbers = {name: value for name, value in logs.items() if isinstance(value, (int, float))}
            self.writer.add({"step": state.global_step, **numbers})


class EvaluatedCallback(TrainerCallback):
    """Calls `tell` with the step of each evaluation, on every process."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self.tell = tell

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.tell(state.global_step)


class EvaluateAndSaveAtEnd(TrainerCallback):
    """Evaluates and saves at the last step too, whatever the intervals: the end of a run may be its best point."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.global_step >= state.max_steps:
            # With the strategy `epoch`, Trainer itself does both at the end of the epoch.
            control.should_evaluate |= args.eval_strategy == IntervalStrategy.STEPS
            control.should_save |= args.save_strategy == SaveStrategy.STEPS
        return control


class PatienceUnderBudget(EarlyStoppingCallback):
    """Early stopping that compares each evaluation with all before it, whether or not they kept the budget of forgetting.on.

    The original compares with the best checkpoint, and never stops a run that has none within its budget.
    """

    def check_metric_value(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metric_value: float
    ) -> None:
        name = f"eval_{(args.metric_for_best_model or 'loss').removeprefix('eval_')}"
        earlier = [line[name] for line in state.log_history if name in line and 0 < line["step"] < state.global_step]
        sign = 1 if args.greater_is_better else -1
        is_better = all(sign * metric_value > sign * value for value in earlier)
        self.early_stopping_patience_counter = 0 if is_better else self.early_stopping_patience_counter + 1


class CheckFolderCallback(TrainerCallback):
    """Stops a run whose folder has been moved, deleted or replaced, before anything more is written. Has to be the first.

    check: raises where that has happened.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.check()
