"""Prepares a text in parts with datatrove, two at a time, and joins them once all are there:

    python docs/prepare_datatrove.py 8 data.files='corpus/**' model=gpt2

The number is that of the parts; what follows is data= and model= of the training to come. Parts go to parts/. What has failed or
was interrupted is done by the same command again. On a cluster, take SlurmPipelineExecutor or RayPipelineExecutor instead.
"""

import subprocess
import sys

from datatrove.data import DocumentsPipeline
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep

LMTUNE = (sys.executable, "-m", "lmtune", "data")


class PreparePart(PipelineStep):
    """One task prepares one part, in a process of its own."""

    name, type = "prepare a part", "lmtune"

    def __init__(self, arguments: list[str]) -> None:
        super().__init__()
        self.arguments = arguments

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.track_time():
            part = (f"shard={rank + 1}/{world_size}", f"output=parts/{rank + 1}")
            subprocess.run([*LMTUNE, *part, *self.arguments], check=True)
        yield from data or ()


if __name__ == "__main__":
    parts, *given = sys.argv[1:]
    step = PreparePart(given)
    LocalPipelineExecutor([step], tasks=int(parts), workers=2, logging_dir="parts-logs").run()
    subprocess.run([*LMTUNE, "merge=parts", *given], check=True)
