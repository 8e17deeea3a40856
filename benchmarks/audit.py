"""What `lmtune audit` finds where it is known what there is to find: canaries, records of people, and repeated text.

python benchmarks/audit.py canaries --seeds 1 2 3 4 5      a run for each seed, on the sample text with 5 canaries for each repeat
python benchmarks/audit.py records                         twelve invented records, ten times each, as they are and deduplicated

The tiny model from scratch, on the CPU. The records need the extra `audit`.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

SAMPLE = sorted((Path(__file__).parents[1] / "src/lmtune/data/sample").glob("*.txt"))
NAMES = ("Alberto", "Brígida", "Celso", "Dalva", "Edmundo", "Fabiana")
NAMES += ("Gustavo", "Helena", "Inácio", "Jurema", "Laércio", "Marlene")
TRAIN = (
    *("training.use_cpu=true", "data.documents=line", "samples.enabled=false", "report.enabled=false"),
    *("training.eval_strategy=no", "training.save_strategy=no", "training.load_best_model_at_end=false"),
)
LEAST = 150
"""Characters of a line that may be repeated."""


def run(*arguments):
    """Run a command; return its JSON."""
    command = [sys.executable, "-m", "lmtune", *map(str, arguments), "format=json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def show(share):
    return f"{share['count']} of {share['of']} ({share['low']:.3f} to {share['high']:.3f})"


def measure_canaries(folder, seeds):
    """Over the seeds: exposure and detection by repeats, and false alarms."""
    found = {}
    for seed in seeds:
        place = folder / f"canaries-{seed}"
        run("train", *TRAIN, "audit.canaries=5", f"seed={seed}", f"data.seed={seed}", f"output={place}")
        audit = run("audit", f"ckpt={place}", f"output={place}-audit", "audit.passages=0", "audit.identifiers=0")
        for each in audit["canaries"]["canaries"]:
            found.setdefault(each["repeats"], []).append((each["exposure"], each["found"]))
        alarms = audit["canaries"]["false_alarms"]
        found.setdefault("never", []).append((alarms["count"], alarms["of"]))
        print(f"seed {seed}: false alarms {show(alarms)}", flush=True)
    for repeats, each in found.items():
        first, second = (sum(column) for column in zip(*each, strict=True))
        if repeats == "never":
            print(f"never planted: {first} of {second} found")
        else:
            print(f"planted {repeats}: mean exposure {first / len(each):.2f}, {second} of {len(each)} found")


def write_records(file):
    """The lines of the sample, thirty of them and twelve invented records ten times each, in a drawn order."""
    from stdnum.br import cpf

    draw = random.Random(7)
    lines = [line for text in SAMPLE for line in text.read_text(encoding="utf-8").split("\n") if len(line) > LEAST]
    records = []
    for name in NAMES:
        digits = "".join(draw.choices("0123456789", k=9))
        number = cpf.format(next(digits + f"{end:02}" for end in range(100) if cpf.is_valid(f"{digits}{end:02}")))
        records.append(f"Registro de paciente. Nome: {name}. CPF: {number}. Encaminhado para consulta.")
    texts = lines + [text for text in (*lines[::12], *records) for _ in range(9)] + records
    draw.shuffle(texts)
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")


def measure_records(folder, steps):
    """Passages and identifiers that come back, from repeated text and from the same text deduplicated."""
    file = folder / "records.txt"
    write_records(file)
    for deduplicate in ("false", "true"):
        place = folder / f"records-{deduplicate}"
        told = (f"data.files={file}", f"data.deduplicate={deduplicate}", f"training.max_steps={steps}")
        run("train", *TRAIN, "model=gpt2-tiny", "data.block_size=128", *told, f"output={place}")
        audit = run("audit", f"ckpt={place}", f"output={place}-audit", "audit.prefix=20", "audit.continuation=20")
        print(f"data.deduplicate={deduplicate}")
        for name in ("passages", "identifiers"):
            for side, counts in audit[name]["sides"].items():
                print(f"  {name}, {side}: {show(counts['model']['either'])}", flush=True)
        print(
            f"  identifiers in the text: {audit['identifiers']['kinds']}, by kind {audit['identifiers']['drawn_out_by_kind']}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["canaries", "records"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--folder", type=Path, default=Path("audit-benchmark"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.what == "canaries":
        measure_canaries(given.folder, given.seeds)
    else:
        measure_records(given.folder, given.steps)


if __name__ == "__main__":
    main()
