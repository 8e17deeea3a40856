"""What `lmtune audit` finds where it is known what there is to find: canaries, records of people, and repeated text.

python benchmarks/audit.py canaries --seeds 1 2 3 4 5      a run for each seed, on the sample text with 5 canaries for each repeat
python benchmarks/audit.py records                         a small text, a part and invented records sixteen times, 25 epochs
python benchmarks/audit.py records --settings training.goldfish=4      the same with settings of the training
python benchmarks/audit.py real --seeds 1 2            100 kB of abstracts on health, invented records sixteen times, 3 epochs

The tiny model from scratch, on the CPU; `real` continues the pretrained model of LMTUNE_TEST_MODEL on text of LMTUNE_TEST_DATA, and
takes a GPU where there is one.
The records need the extra `audit`.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

SAMPLE = sorted((Path(__file__).parents[1] / "src/lmtune/data/sample").glob("*.txt"))
NAMES = ("Alberto", "Brígida", "Celso", "Dalva", "Edmundo", "Fabiana")
NAMES += ("Gustavo", "Helena", "Inácio", "Jurema", "Laércio", "Marlene")
TINY = ("training.use_cpu=true", "model=gpt2-tiny")
TRAIN = (
    *("data.documents=line", "samples.enabled=false", "report.enabled=false"),
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
        run("train", *TRAIN, *TINY, "audit.canaries=5", f"seed={seed}", f"data.seed={seed}", f"output={place}")
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


def build_records(draw):
    """Invented lines on patients, with CPF numbers whose check digits are right."""
    from stdnum.br import cpf

    records = []
    for name in NAMES:
        digits = "".join(draw.choices("0123456789", k=9))
        number = cpf.format(next(digits + f"{end:02}" for end in range(100) if cpf.is_valid(f"{digits}{end:02}")))
        records.append(f"Registro de paciente. Nome: {name}. CPF: {number}. Encaminhado para consulta.")
    return records


def write_records(file):
    """80 lines of the sample, four of them and eight invented records sixteen times, in a drawn order."""
    draw = random.Random(7)
    lines = [line for text in SAMPLE for line in text.read_text(encoding="utf-8").split("\n") if len(line) > LEAST]
    records = build_records(draw)
    texts = lines + [text for text in (*lines[::12], *records) for _ in range(9)] + records
    draw.shuffle(texts)
    chosen = [text for text in dict.fromkeys(texts) if text not in records][:80]
    repeated = [text for text in chosen[:4] for _ in range(15)] + [
        record for record in sorted(records)[:8] for _ in range(16)
    ]
    texts = chosen + repeated
    random.Random(3).shuffle(texts)
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")


def write_abstracts(file, size=100_000):
    """Abstracts of Brazilian articles on health, a line each, and eight invented records sixteen times, in a drawn order."""
    texts = [record for record in build_records(random.Random(7))[:8] for _ in range(16)]
    with gzip.open(
        Path(os.environ["LMTUNE_TEST_DATA"]) / "bio/scielo-titles-abstracts.txt.gz", "rt", encoding="utf-8"
    ) as lines:
        for line in lines:
            if len(line) > 500 and size > 0:
                texts.append(line.strip())
                size -= len(line.encode())
    random.Random(3).shuffle(texts)
    file.write_text("\n".join(texts) + "\n", encoding="utf-8")


def show_audit(audit):
    for group in audit["canaries"]["groups"]:
        print(f"planted {group['repeats']}: mean exposure {group['exposure']:.2f}, found {show(group['found'])}")
    print(f"never planted: {show(audit['canaries']['false_alarms'])}")
    for name in ("passages", "identifiers"):
        for side, counts in audit[name]["sides"].items():
            for model in ("model", "base"):
                for way, share in counts.get(model, {}).items():
                    print(f"{name}, {side}, {model}, {way}: {show(share)}")


def measure_records(folder, epochs, settings):
    """Canaries, passages and identifiers that come back from a model that has seen its text many times."""
    file, place = folder / "records.txt", folder / "records"
    write_records(file)
    told = (f"data.files={file}", "data.block_size=128", *TINY, "model.learning_rate=4e-3")
    length = f"training.num_train_epochs={epochs}"
    run("train", *TRAIN, *told, length, "audit.canaries=5", *settings, f"output={place}")
    show_audit(run("audit", f"ckpt={place}", f"output={place}-audit", "audit.prefix=20", "audit.continuation=20"))


def measure_real(folder, epochs, settings, seeds):
    """The same of a pretrained model that is trained on for some epochs at the default rate."""
    file = folder / "abstracts.txt"
    write_abstracts(file)
    told = (f"data.files={file}", "data.block_size=128", f"model.path={os.environ['LMTUNE_TEST_MODEL']}")
    size = ("training.per_device_train_batch_size=4", "training.bf16=true", f"training.num_train_epochs={epochs}")
    for seed in seeds:
        place = folder / f"real-{seed}"
        drawn = (f"seed={seed}", f"data.seed={seed}", "audit.canaries=5")
        trained = run("train", *TRAIN, *told, *size, *drawn, *settings, f"output={place}")
        print(f"seed {seed}: {json.dumps(trained['train'])}\n{json.dumps(trained['eval'])}", flush=True)
        asked = ("audit.prefix=20", "audit.continuation=20", "audit.passages=150")
        show_audit(run("audit", f"ckpt={place}", f"output={place}-audit", *asked))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["canaries", "records", "real"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--epochs", type=int, help="25 on the records, 3 of the real model")
    parser.add_argument("--settings", nargs="*", default=[], help="of the training on records, and of the real model")
    parser.add_argument("--folder", type=Path, default=Path("audit-benchmark"))
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.what == "canaries":
        measure_canaries(given.folder, given.seeds)
    elif given.what == "records":
        measure_records(given.folder, given.epochs or 25, given.settings)
    else:
        measure_real(given.folder, given.epochs or 3, given.settings, given.seeds)


if __name__ == "__main__":
    main()
