"""What other optimizers are worth beside AdamW: from scratch, for an adapter, and on all weights of a model that AdamW trained.

    LMTUNE_TEST_DATA=... python benchmarks/experiments/optimizers.py scratch --seeds 1 2 3         likewise lora, tuned

The model is gpt2-tiny at half its width; the text is 400 kB of Machado de Assis, read twice, other works are held out.

    scratch   from new weights, with a vocabulary of 2,048 that was learned from the text
    lora      an adapter on the small English model of transplant.py beside this file, with its vocabulary
    tuned     all weights of that model

Each optimizer has the same rates to choose from. What a command printed is kept in --folder, and it is not run again.
"""

import argparse

from transplant import EPOCHS, QUIET, SOURCE, TINY, begin, build_source, learn, lmtune, render_spread

STAGES = {
    "scratch": (*TINY, "model.tokenizer=pt-2048"),
    "lora": (SOURCE[0], "finetune=lora"),
    "tuned": (SOURCE[0],),
}
OPTIMIZERS = {
    "AdamW": (),
    "Muon": ("training.muon=true",),
    "schedule-free": ("training=schedule-free",),
    "AdamW-constant": ("training.lr_scheduler_type=constant_with_warmup",),
}


def score(account):
    """Bits per byte of the held-out text after a training."""
    (scores,) = account["eval"].values()
    return scores["bits_per_byte"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--optimizers", choices=OPTIMIZERS, nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    arguments, data, text = begin(parser, "optimizers")
    build_source(data, arguments.english_bytes)
    learn(text, 2048, "pt-2048")
    print(f"| optimizer | {' | '.join(f'{rate:g}' for rate in arguments.rates)} | CPU s |")
    print("|---|" + "---:|" * (len(arguments.rates) + 1))
    for optimizer in arguments.optimizers:
        cells, seconds = [], []
        for rate in arguments.rates:
            runs = [
                lmtune(
                    "train", *text, *STAGES[arguments.stage], *OPTIMIZERS[optimizer], *QUIET,
                    f"training.learning_rate={rate:g}", f"seed={seed}", f"training.num_train_epochs={EPOCHS}",
                    "training.use_cpu=true", "data.name=pt", f"output={arguments.stage}-{optimizer.lower()}-{rate:g}-{seed}",
                )
                for seed in arguments.seeds
            ]  # fmt: skip
            cells.append(render_spread([score(run) for run in runs]))
            seconds += [run["cpu"] for run in runs]
        print(f"| {optimizer} | {' | '.join(cells)} | {sum(seconds) / len(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
