"""What `lmtune audit` finds where it is known what there is to find: canaries, records of people, and repeated text.

python benchmarks/audit.py canaries --seeds 1 2 3 4 5      a run for each seed, on the sample text with 5 canaries for each repeat
python benchmarks/audit.py records                         a small text, a part and invented records sixteen times, 25 epochs
python benchmarks/audit.py records --settings training.goldfish=4      the same with settings of the training

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
    """80 lines of the sample, four of them and eight invented records sixteen times, in a drawn order."""
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
    chosen = [text for text in dict.fromkeys(texts) if text not in records][:80]
    repeated = [text for text in chosen[:4] for _ in range(15)] + [
        record for record in sorted(records)[:8] for _ in range(16)
    ]
    texts = chosen + repeated
    random.Random(3).shuffle(texts)
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")


def measure_records(folder, epochs, settings):
    """Canaries, passages and identifiers that come back from a model that has seen its text many times."""
    file, place = folder / "records.txt", folder / "records"
    write_records(file)
    told = (f"data.files={file}", "data.block_size=128", "model=gpt2-tiny", "model.learning_rate=4e-3")
    length = f"training.num_train_epochs={epochs}"
    run("train", *TRAIN, *told, length, "audit.canaries=5", *settings, f"output={place}")
    audit = run("audit", f"ckpt={place}", f"output={place}-audit", "audit.prefix=20", "audit.continuation=20")
    for group in audit["canaries"]["groups"]:
        print(f"planted {group['repeats']}: mean exposure {group['exposure']:.2f}, found {show(group['found'])}")
    print(f"never planted: {show(audit['canaries']['false_alarms'])}")
    for name in ("passages", "identifiers"):
        for side, counts in audit[name]["sides"].items():
            for way, share in counts["model"].items():
                print(f"{name}, {side}, {way}: {show(share)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["canaries", "records"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--settings", nargs="*", default=[], help="of the training on records")
    parser.add_argument("--folder", type=Path, default=Path("audit-benchmark"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.what == "canaries":
        measure_canaries(given.folder, given.seeds)
    else:
        measure_records(given.folder, given.epochs, given.settings)


if __name__ == "__main__":
    main()
