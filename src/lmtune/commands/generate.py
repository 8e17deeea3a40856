"""`lmtune generate`: continue prompts; nothing but the text on stdout.

lmtune generate ckpt=outputs/... prompt="O paciente chegou no hospital" seed=1
lmtune generate ckpt=outputs/... prompt="Quem era Jim Henson? Jim Henson era um" top=10
lmtune generate ckpt=outputs/... prompts_file=prompts.txt grid.temperature=[0.5,1.0] grid.top_k=[10,50]
"""

import logging
from typing import Any

from lmtune.commands.result import Result
from lmtune.config import GenerateConfig
from lmtune.errors import ConfigError, DataError
from lmtune.modeling import generation, loading
from lmtune.modeling.checkpoint import resolve_checkpoint
from lmtune.modeling.device import place_model
from lmtune.paths import GivenPath, show
from lmtune.reporting.tables import render_answers

logger = logging.getLogger(__name__)


def run(config: GenerateConfig) -> Result:
    """Continue each prompt, or find the tokens that are likeliest to come next."""
    prompts = load_prompts(config)
    checkpoint = resolve_checkpoint(str(config.ckpt), config.check_weights)
    tokenizer, model = loading.load_writer(checkpoint.path, config.check_weights)
    cells = [(cell, build_settings(config, model, cell)) for cell in config.grid.settings()]
    place_model(model, config.device)
    if config.top:
        answers = [{"prompt": p, "next": generation.rank_next(model, tokenizer, p, config.top)} for p in prompts]
    else:
        answers = [
            {"prompt": p, **cell, "texts": generation.generate(model, tokenizer, p, settings, config.seed)}
            for p in prompts
            for cell, settings in cells
        ]
    for prompt in prompts:
        limits = [generation.resolve_prompt_length(model, settings) for _, settings in cells]
        generation.tell_cut(tokenizer, prompt, generation.count_positions(model) if config.top else min(limits))
    values = answers[0] if len(answers) == 1 else answers
    return Result(values, lambda: ["\n\n".join(render_answers(answers))])


def load_prompts(config: GenerateConfig) -> list[str]:
    """prompt=, then prompts=, then the lines of prompts_file=."""
    prompts = [*filter(None, [config.prompt]), *config.prompts]
    if config.prompts_file is not None:
        given = GivenPath("prompts_file", config.prompts_file, DataError)
        lines = given.read_text(given.expand(), "a text file in UTF-8").splitlines()
        prompts += [line for line in lines if line.strip()]
    if not prompts:
        raise DataError(f"prompts_file={show(config.prompts_file)} has no line with text. Write a prompt on each line.")
    return prompts


def build_settings(config: GenerateConfig, model: Any, cell: dict[str, Any]) -> Any:
    """GenerationConfig of one cell of the grid; raise ConfigError where it would have no effect."""
    if cell and config.generation.get("do_sample") is False:
        raise ConfigError(
            "grid.temperature and grid.top_k need sampling, found generation.do_sample=false. Leave it out."
        )
    return generation.build_generation_config(model, {**config.generation, **cell})
