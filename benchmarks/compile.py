"""A training step of GPT-2 with its blocks compiled against one without, in turn in one process.

    python benchmarks/compile.py --layers 12 --width 768 --heads 12 --block 512 --batch 2 --dropout 0.1 --precision bf16

Both models have the same weights, lmtune's loss and its activations. On a GPU the clock waits for the device.
"""

import argparse
import copy
import os
import platform
import statistics
import time
from types import SimpleNamespace

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lmtune.config import LossChoice
from lmtune.modeling.activations import fuse_activations
from lmtune.modeling.loss import install_loss
from lmtune.training.compiling import compiled_blocks

COMPILES = SimpleNamespace(torch_compile=True, torch_compile_backend="inductor", torch_compile_mode=None)


def build_model(arguments):
    torch.manual_seed(0)
    drop = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), arguments.dropout)
    shape = {"n_layer": arguments.layers, "n_embd": arguments.width, "n_head": arguments.heads}
    model = GPT2LMHeadModel(GPT2Config(**shape, **drop, n_positions=arguments.block))
    model.loss_type = "ForCausalLM"
    install_loss(model, LossChoice.fused)
    fuse_activations(model)
    return model.to(arguments.device).train()


class Stepper:
    """Takes steps, and times them."""

    def __init__(self, model, ids, half):
        self.model, self.ids, self.half = model, ids, half
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(self):
        started = time.perf_counter()
        with torch.autocast(self.ids.device.type, torch.bfloat16, enabled=self.half):
            loss = self.model(input_ids=self.ids, labels=self.ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ids.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 12), ("width", 768), ("heads", 12), ("block", 512), ("batch", 2), ("pairs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="bf16")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    model = build_model(arguments)
    ids = torch.randint(50257, (arguments.batch, arguments.block), device=arguments.device)
    half = arguments.precision == "bf16"
    eager, compiled = Stepper(copy.deepcopy(model), ids, half), Stepper(model, ids, half)
    with compiled_blocks(model, COMPILES):
        eager.step()
        first = compiled.step()
        pairs = [(eager.step(), compiled.step()) for _ in range(arguments.pairs + 1)][1:]
    ratios = [one / other for one, other in pairs]
    before, after = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"{arguments.device}, {os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}: first compiled step "
          f"{first:.1f} s; eager {before:.3f} s, compiled {after:.3f} s, ratio {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
