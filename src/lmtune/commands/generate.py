"""`lmtune generate`: continue a prompt; nothing but the text on stdout.

lmtune generate ckpt=outputs/... prompt="O paciente chegou no hospital" seed=1
"""

from typing import IO

from lmtune.config import GenerateConfig, OutputFormat
from lmtune.modeling import generation, loading
from lmtune.modeling.tokenizer import load_tokenizer
from lmtune.runs import render_json


def run(config: GenerateConfig, stdout: IO[str]) -> list[str]:
    """Write the prompt with its continuation."""
    checkpoint = loading.find_checkpoint(str(config.ckpt))
    tokenizer = load_tokenizer(checkpoint.path)
    model = loading.load_model(checkpoint.path)
    loading.mend_special_ids(model, tokenizer)
    settings = generation.build_generation_config(model, config.generation)
    model.to(loading.choose_device(config.device)).eval()
    texts = generation.generate(model, tokenizer, str(config.prompt), settings, config.seed)
    if config.format is OutputFormat.json:
        stdout.write(render_json({"prompt": config.prompt, "texts": texts}) + "\n")
    else:
        stdout.write("\n\n".join(texts) + "\n")
    return texts
