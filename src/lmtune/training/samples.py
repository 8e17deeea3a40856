"""Continuations of fixed prompts, step by step: samples.jsonl and samples.md."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lmtune.gauges import make_harmless
from lmtune.modeling.layers import runs_in_step
from lmtune.runs import Run
from lmtune.storage import Record, write_text
from lmtune.training.jsonl_writer import JsonlWriter

logger = logging.getLogger(__name__)

Continue = Callable[[list[str]], list[str]]
"""Continues each of several prompts."""
TellSamples = Callable[[int, list[dict[str, str]]], None]
"""Tells a tracker of the prompts and texts of a step."""


class SamplesCallback(TrainerCallback):
    """Continues fixed prompts at every evaluation, step 0 included; records all texts and logs the first `show`."""

    def __init__(
        self, run: Run, prompts: list[str], write: Continue, show: int, tell: Sequence[TellSamples] = ()
    ) -> None:
        self.run = run
        self.prompts = prompts
        self.write = write
        self.show = show
        self.tell = tell
        self.writer = JsonlWriter(run.samples_file)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **event: Any) -> None:
        if not state.is_world_process_zero and not runs_in_step(event["model"]):
            return
        texts = self.write(self.prompts)  # of weights that are spread over processes, all take part in that
        if not state.is_world_process_zero:
            return
        pairs = self.record(state.global_step, texts)
        for tell in self.tell:
            tell(state.global_step, pairs)
        for pair in pairs[: self.show]:
            logger.info("  « %s »", make_harmless(" ".join(pair["text"].split())))

    def record(self, step: int, texts: list[str], **told: Any) -> list[dict[str, str]]:
        """Record the texts of the prompts; return them together. told: what else the record of them says."""
        pairs = [{"prompt": p, "text": t} for p, t in zip(self.prompts, texts, strict=True)]
        self.writer.add({"step": step, **told, "samples": pairs})
        try:
            write_text(self.run.samples_page, render_samples(self.run.load_samples()))
        except OSError as error:  # written again at each evaluation
            logger.info("%s could not be written: %s", self.run.samples_page.name, error.strerror)
        return pairs

    def add_averaged(self, step: int) -> None:
        """Record what the average of the weights writes, unless that has been done: a run may be closed more than once."""
        if not any(record.get("average") for record in self.run.load_samples()):
            self.record(step, self.write(self.prompts), average=True)


def render_samples(records: list[Record]) -> str:
    """samples.md: for each prompt, its continuation step by step."""
    lines = ["# Samples", ""]
    prompts = [sample["prompt"] for sample in records[-1]["samples"]] if records else []
    for number, prompt in enumerate(prompts):
        lines += [f"## {prompt}", ""]
        for record in records:
            if number < len(record["samples"]):
                text = record["samples"][number]["text"].strip().replace("\n", "\n> ")
                average = ", average of the weights" if record.get("average") else ""
                lines += [f"Step {record['step']:,}{average}", "", f"> {text}", ""]
    return "\n".join(lines)
