"""Bad commands of every kind, over all commands: exit 2, one paragraph that names the key or the file, and nothing left behind."""

import gzip
import json
import math
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers import TINY_MODEL

from lmtune import patience
from lmtune.cli import main

SHORT = (*TINY_MODEL, "training.max_steps=2", "training.use_cpu=true", "samples.enabled=false", "data.block_size=32")
PICKLE = b"\x80\x04cos\nsystem\n(S'touch PWNED'\ntR."
SHAPE = {
    "model_type": "gpt2",
    "n_layer": 1,
    "n_embd": 32,
    "n_head": 2,
    "vocab_size": 300,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def split(table):
    """(command line, words) pairs: one line `arguments | words` each."""
    for command, lines in table.items():
        for line in lines.strip().splitlines():
            arguments, _, words = f" {line.strip()}".rpartition(" | ")
            yield pytest.param((command, *arguments.split()), words, id=f"{command} {arguments}")


@pytest.fixture(autouse=True)
def _no_progress(monkeypatch):
    monkeypatch.setattr(patience, "SILENCE", math.inf)  # a busy machine says how long it reads


@pytest.fixture
def refused(lmtune, tmp_path):
    """A function that runs a command and holds its answer against what a mistake has to be answered with."""

    def call(command, words, lines=1):
        before = list_files(tmp_path)
        answer = lmtune(*command)
        assert (answer.code, answer.out) == (2, ""), answer.err
        assert answer.err.startswith("error: ")
        assert answer.err.count("\n") == lines, answer.err
        for word in [words] if isinstance(words, str) else words:
            assert word in answer.err
        assert list_files(tmp_path) == before
        return answer

    return call


def list_files(folder):
    """Every file below a folder with its size and time, links not followed."""
    return {
        path: (path.lstat().st_size, path.lstat().st_mtime_ns if path.is_file() else 0) for path in folder.rglob("*")
    }


# Keys and values

KEYS = {
    "train": """
        lerning_rate=1 | Did you mean training.learning_rate?
        training.frob=3 | training.frob is not a key of lmtune train.
        data.files.x=3 | data.files.x is not a key
        check.steps=3 | It belongs to lmtune check.
        suite=gpt2-zeroshot | suite is not a key of lmtune train. It belongs to lmtune eval, fetch.
        seed=x | seed=x: expected a whole number. Give another value.
        seed=null | seed=null: expected a value
        seed=1.5 | seed=1.5: expected a whole number.
        seed=[1] | seed=[1]: expected one value, found a list.
        seed=99999999999 | seed=99999999999: expected a whole number from 0 to 4294967295.
        seed.x=3 | seed={}: expected one value, found keys with values.
        =3 | =3: expected key=value, found no key.
        = | =: expected key=value
        data=1 | data=1: a group takes the name of one of its files
        data=nan | data=nan: a group takes the name of one of its files
        data=null | data=null: a group takes
        data=[bio,sample] | data=[bio,sample]: a group takes
        data={a:1} | data={a:1}: a group takes
        hydra/launcher=3 | hydra/launcher=3: a group takes
        experiment=nada | experiment=nada: expected one of
        samples=3 | samples=3: expected its keys, one by one, such as samples.enabled=.
        eval={contxt:64} | eval.contxt is not a key of lmtune train. Did you mean eval.context?
        eval_data={a:1} | eval_data: expected a list of plain values
        eval_data=[1] | eval_data names 1: expected one of
        objective=.loss | objective=.loss: expected one of
        data.mix={sample:x} | data.mix.sample=x: expected a number.
        finetune=gradual finetune.phases=[{frob:1}] | finetune.phases: frob is none of its keys, epochs,
        finetune=gradual finetune.phases=[{epochs:0}] | finetune.phases.epochs=0.0: expected more than 0
        finetune=gradual training.max_steps=3 | training.max_steps is set, but with finetune=gradual
        training.learning_rate=nan | training.learning_rate=nan: expected a finite number
        training.max_steps=1.5 | training.max_steps=1.5: expected a whole number.
        training.bf16=maybe | training.bf16='maybe': expected true or false.
        training.optim=adamm | training.optim=adamm: expected one of
        training.lr_scheduler_type=cosin | Did you mean training.lr_scheduler_type=cosine?
        training.lr_scheduler_kwargs={num_cycles:x} | training.lr_scheduler_kwargs={num_cycles:x}: no optimizer and schedule
        training.accelerator_config={frob:1} | training.accelerator_config.frob is not a key.
        training.deepspeed=x.json | training.deepspeed=x.json:
        training.fsdp=full_shard | training.fsdp=full_shard:
        training.evaluation_strategy=steps | training.evaluation_strategy is gone from transformers. Use eval_strategy.
        training.output_dir=a.txt | output=a.txt: expected a folder that can be made
        training.optim=sgd training.adam_beta1=0.8 | training.adam_beta1 has no effect
        generation.do_sample=off | generation.do_sample=off: expected true or false.
        generation.top_p=3 | generation.top_p=3: expected more than 0 and at most 1.
        model.config=3 | model.config: Cannot assign int
        model.config.n_head=3 | model.config does not describe a causal language model
        data.streaming=true finetune=gradual | data.streaming=true and finetune=gradual do not go together
        data.lanes=2 | data.lanes has no effect
        data.streaming=true data.lanes=2 data.deduplicate=true | data.lanes=2 and data.deduplicate do not go together
        data.streaming=true data.lanes=4 training.max_steps=3 | data.lanes=4: expected at least as many files
        seed=1,2 | seed=1,2: several values, which -m tries one after the other
        -m seed=1,x | seed=x: expected a whole number.
        ~data | ~data: nothing can be taken out of a configuration
        ~seed=3 | Leave it out for its default.
        ~hydra | ~hydra: nothing can be taken out
        ++seed=x | seed=x: expected a whole number.
        -p x | --package has no effect: it is about what --cfg shows
        -p | --package/-p: expected one argument
        --resolve | --resolve has no effect
        --info frob | 'frob' is not key=value
        --info=frob | --info frob: expected one of
        --cfg frob | --cfg frob: expected one of job, hydra, all.
        --lr 3 | keys are written without dashes: training.learning_rate=...
        --config-name x | --config-name is not taken by lmtune
        --config-dir nowhere | --config-dir nowhere: expected a folder of configs
        hydra.mode=frob | hydra.mode=frob: expected one of
        resume=a.txt | resume=a.txt: expected a run folder of lmtune train, found a file.
        output=a.txt/x | output=a.txt/x: expected a folder that can be made
    """,
    "check": """
        check.steps=2 | check.steps=2: expected 3 or more.
        check=3 | check=3: expected its keys
        check.probe=false check.watts=3 | check.watts has no effect
        range.steps=30 | range.steps is not a key of lmtune check. It belongs to lmtune lr-find.
        resume=nada | resume=nada: expected a run folder
        -m data=sample,nada | data=nada: expected one of
        model.path=a.txt | a.txt
    """,
    "lr-find": """
        range.start=1 range.end=0.1 | range.start=1.0: expected less than range.end=0.1.
        range.end=inf | range.end=inf: expected a finite number
        training.learning_rate=1e-3 | training.learning_rate has no effect: lmtune lr-find tries rates
        resume=auto | resume has no effect
        -m range.steps=3,20 | range.steps=3: expected 10 or more.
    """,
    "tokenizer": """
        tokenizer.vocab_size=3 | tokenizer.vocab_size=3: expected 257 or more.
        tokenizer.special_tokens=[ab,ab] | expected each token once.
        tokenizer.special_tokens=[{a:1}] | tokenizer.special_tokens: expected a list of plain values
        tokenizer={a:1} | tokenizer.a is not a key of lmtune tokenizer.
        vocab_size=300 | Did you mean tokenizer.vocab_size?
        data.block_size=3 | data.block_size has no effect
        output=model | output=model: expected a new folder or an empty one
    """,
    "data": """
        cache=frob | cache=frob: expected one of
        data.files=a.txt data.validation_fraction=1 | data.validation_fraction=1.0: expected at least 0 and below 1.
        data.files=a.txt data.encoding=rot13 | data.encoding=rot13: no encoding of text.
        data.subset=x | data.subset has no effect
        ckpt=x | ckpt is not a key of lmtune data.
        data.sources=[x] | expected an entry such as
    """,
    "eval": """
        ckpt=[a,a] | ckpt=[a,a]: expected each checkpoint once.
        ckpt=x suite=nada | suite=nada: expected one of
        ckpt=x suite.tasks=[lambada] | suite.tasks has no effect
        ckpt=x eval.dtype=x | eval.dtype=x: expected one of
        ckpt=x training.seed=3 | training.seed is not a key of lmtune eval.
        ckpt=x suite=gpt2-zeroshot data=sample | suite= brings its own text
        ckpt=./nada data=sample | ckpt=./nada: expected a run folder, a checkpoint or a model folder, found nothing.
    """,
    "generate": """
        ckpt=x | lmtune generate needs prompt=, found none.
        ckpt=x prompt=a grid.temperature=[x] | grid.temperature[0]=x: expected a number.
        ckpt=x prompt=a generation.max_lenght=3 | Did you mean generation.max_length?
        ckpt=x prompt=a temperature=0.5 | Did you mean generation.temperature?
        ckpt=x prompts_file=latin.txt | latin.txt: expected a text file in UTF-8
        ckpt=[a,b] prompt=a | ckpt
        ckpt=x prompt=a generation.do_sample=false generation.top_p=0.5 | generation.top_p has no effect
    """,
    "export": """
        to=gguf | lmtune export needs ckpt=, found none.
        ckpt=x to=onnx | to=onnx: expected one of gguf, safetensors.
        ckpt=x to=gguf dtype=bfloat16 | dtype=bfloat16: expected float32, float16, q8_0 for to=gguf.
        ckpt=x to=gguf output=a.txt | output=a.txt: expected a folder that can be made
        ckpt=pickled to=gguf | pickled
    """,
    "serve": """
        ckpt=x serve.port=99999 | serve.port=99999: expected a whole number from 0 to 65535.
        ckpt=x device=cpu | Did you mean serve.device?
        ckpt=x serve.token=x | serve.token= carries a secret
        ckpt=empty | ckpt=empty: expected a run folder
    """,
    "chat": """
        frob=3 | frob is not a key of lmtune chat.
        ckpt=empty | ckpt=empty: expected a run folder
    """,
    "explain": """
        nada | nada is not a key
        seed train nada=3 | nada is not a key of lmtune train.
        seed train data=1 | data=1
        seed train -m | expected a command or key=value behind the key, found -m.
        data.files data data=norway | conf/data/norway.yaml, line 2
    """,
    "config": """
        frob | expected list, show or copy, found frob.
        list data=bio | data=bio is no group
        show ../../etc/passwd | ../../etc/passwd is no config
        show data/latin | conf/data/latin.yaml: expected text in UTF-8
        copy data/latin conf/data/new.yaml | conf/data/latin.yaml: expected text in UTF-8
        copy data/bio conf/data/../../x.yaml | expected conf/data/NAME.yaml
        copy data/bio conf/data/octal.yaml | data=octal is there already.
    """,
    "from-run-clm": """
        --frob 3 | --frob: expected a flag of run_clm.py
        --learning_rate | --learning_rate: expected a value behind it, found none.
        --train_file a.txt b.txt | --train_file a.txt b.txt: expected one value behind a flag
        --config_overrides x | expected name=value,name=value
        cut.json | cut.json: expected a JSON file
        deep.json | deep.json: expected a JSON file
        mapping.json | mapping.json: expected a JSON file of run_clm's arguments, found: a mapping under train_file
        model | expected the flags of run_clm.py, found none.
    """,
    "completion": """
        tcsh | expected one of bash, zsh, fish, found tcsh.
        bash zsh | found bash zsh.
    """,
    "evaluate": " | evaluate is not a command",
    "-m": " | -m is not a command",
}


@pytest.mark.parametrize(("command", "words"), list(split(KEYS)))
def test_a_bad_command_is_answered_in_one_paragraph(refused, tmp_path, command, words):
    write_files(tmp_path)
    refused([argument for argument in command if argument], words)


# Files

TEXTS = """
    empty.txt | empty.txt: expected text, found an empty file.
    folder.txt | folder.txt
    pipe.txt | pipe.txt: expected a file or a folder, found a pipe.
    loop.txt | loop.txt is a link that leads round in a circle.
    utf16.txt | utf16.txt: expected text, found 330 NULs
    binary.txt | binary.txt: expected text
    latin.txt | latin.txt is not utf-8: byte 0xe3
    cut.txt.gz | cut.txt.gz cannot be read to its end
    fake.txt.zst | fake.txt.zst cannot be read to its end
    fake.parquet | fake.parquet does not read as parquet
    fake.arrow | fake.arrow does not read as arrow
    cut.jsonl | cut.jsonl, line 2, is not JSON
    column.jsonl | column.jsonl has no column 'text'; it has a.
    deep.json | deep.json is nested too deep
    quote.csv | quote.csv does not read as csv: line 2
    twice.csv | twice.csv has several columns 'text'
    pointer.txt | pointer.txt is a pointer of Git LFS
    notes.pdf | notes.pdf ends in .pdf
    nada/*.txt | nada/*.txt: expected files
    /dev/zero | /dev/zero: expected a file or a folder, found a device.
    [a.txt,nada.txt] | nada.txt: expected a file
"""

CONFIGS = """
    latin | conf/data/latin.yaml: expected text in UTF-8, found the byte 0xe3 in line 1.
    utf16 | conf/data/utf16.yaml: expected text in UTF-8, found UTF-16.
    octal | conf/data/octal.yaml, line 2: min_chars: 010 is read as 8, an octal number.
    norway | conf/data/norway.yaml, line 2: language: no is read as false.
    minutes | conf/data/minutes.yaml, line 2: min_chars: 1:30 is read as 90
    bomb | conf/data/bomb.yaml: expected the settings of one config, found too many values
    loop | conf/data/loop.yaml, line 1: files.0: expected a value, found an anchor that holds itself.
    circle | conf/data/circle.yaml, line 2: data.max_documents refers to itself
    deep | conf/data/deep.yaml: expected the settings of one config, found too many levels
    twice | conf/data/twice.yaml, line 2: files: stands there already
    tab | conf/data/tab.yaml, line 2, column 1: expected YAML, found a tab
    list | conf/data/list.yaml: expected `key: value` lines, found a list.
    tag | conf/data/tag.yaml, line 1: files: expected a plain value, found the tag !!python
    two | conf/data/two.yaml, line 2, column 1: expected YAML, found a second document
    number | conf/data/number.yaml, line 1: expected the name of a key, found 1
    secret | conf/data/secret.yaml, line 1: files: HF_TOKEN holds a secret
    version | conf/data/version.yaml, line 2: revision: 1.10 is read as 1.1
    kind | conf/data/kind.yaml sets data.min_chars=[1]: expected one value, found a list.
    huge | data.min_chars=9
    folder | conf/data/folder.yaml: expected a YAML file that can be read, found: a folder.
    pipe | conf/data/pipe.yaml: expected a YAML file that can be read, found: a pipe.
    link | conf/data/link.yaml: expected a YAML file that can be read, found: Too many levels
"""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        *split({"data": "\n".join(f"data.files={line.strip()}" for line in TEXTS.strip().splitlines())}),
        *split({"data": "\n".join(f"data={line.strip()}" for line in CONFIGS.strip().splitlines())}),
    ],
)
def test_a_file_that_does_not_do_is_named(refused, tmp_path, command, words):
    write_files(tmp_path)
    refused(command, words)


MODELS = {
    "broken": "its config.json does not read as JSON",
    "listed": "its config.json holds list",
    "coded": "needs code of its own",
    "pickled": "",
    "empty": "expected",
    "a.txt": "expected a folder with a saved model, found a file.",
    "nada/nada": "HF_HUB_OFFLINE is set",
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_does_not_load_is_named(refused, tmp_path, name):
    write_files(tmp_path)
    refused(("data", f"model.path={name}"), (name, MODELS[name]))
    refused(("train", f"model.path={name}"), name)


def write_files(folder):
    """Texts, models and configs that do not do."""
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    for name in ("folder.txt", "empty", "conf/data/folder.yaml"):
        (folder / name).mkdir()
    for name in ("pipe.txt", "conf/data/pipe.yaml"):
        os.mkfifo(folder / name)
    for name in ("loop.txt", "conf/data/link.yaml"):
        (folder / name).symlink_to((folder / name).name)


FILES = {
    "a.txt": "O paciente chegou no hospital.\n\nVoltou para casa.\n" * 30,
    "empty.txt": "",
    "utf16.txt": ("O paciente\n" * 30).encode("utf-16-le"),
    "binary.txt": bytes(range(256)) * 20,
    "latin.txt": "jo\xe3o chegou\n".encode("latin-1") * 30,
    "cut.txt.gz": gzip.compress(bytes(range(256)) * 9)[:200],
    "fake.txt.zst": "no such thing",
    "fake.parquet": "no such thing",
    "fake.arrow": "no such thing",
    "cut.jsonl": '{"text": "a"}\n{"text": \n',
    "column.jsonl": '{"a": "x"}\n' * 5,
    "deep.json": "[" * 100_000 + "]" * 100_000,
    "cut.json": "{",
    "mapping.json": '{"train_file": {"a": 1}}',
    "quote.csv": 'text\n"abc\n',
    "twice.csv": "text,text\na,b\n",
    "pointer.txt": "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4665a5ea" * 8 + "\nsize 12345\n",
    "notes.pdf": "%PDF-1.4",
    "model/config.json": json.dumps(SHAPE),
    "broken/config.json": "{not json",
    "listed/config.json": "[1, 2]",
    "coded/config.json": json.dumps(
        {"model_type": "mine", "auto_map": {"AutoConfig": "x.C", "AutoModelForCausalLM": "x.M"}}
    ),
    "coded/x.py": "open('PWNED', 'w')",
    "pickled/config.json": json.dumps(SHAPE),
    "pickled/pytorch_model.bin": PICKLE,
    "conf/data/latin.yaml": b"files: jo\xe3o.txt\n",
    "conf/data/utf16.yaml": "files: a.txt\n".encode("utf-16"),
    "conf/data/octal.yaml": "files: a.txt\nmin_chars: 010\n",
    "conf/data/norway.yaml": "files: a.txt\nlanguage: no\n",
    "conf/data/minutes.yaml": "files: a.txt\nmin_chars: 1:30\n",
    "conf/data/bomb.yaml": "a: &a [x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 8)}]\n" for a, b in zip("abcde", "bcdef", strict=True)),
    "conf/data/loop.yaml": "files: &a [*a]\n",
    "conf/data/circle.yaml": "min_chars: ${data.max_documents}\nmax_documents: ${data.min_chars}\nfiles: a.txt\n",
    "conf/data/deep.yaml": "files: " + "[" * 3000 + "]" * 3000 + "\n",
    "conf/data/twice.yaml": "files: a.txt\nfiles: b.txt\n",
    "conf/data/tab.yaml": "files:\n\t- a.txt\n",
    "conf/data/list.yaml": "- files\n- a.txt\n",
    "conf/data/tag.yaml": "files: !!python/object/apply:os.system ['touch PWNED']\n",
    "conf/data/two.yaml": "files: a.txt\n---\nfiles: b.txt\n",
    "conf/data/number.yaml": "1: a\nfiles: a.txt\n",
    "conf/data/secret.yaml": "files: ${oc.env:HF_TOKEN}\n",
    "conf/data/version.yaml": "path: me/x\nrevision: 1.10\n",
    "conf/data/kind.yaml": "files: a.txt\nmin_chars: [1]\n",
    "conf/data/huge.yaml": "files: a.txt\nmin_chars: 99999999999999999999999999\n",
}


# Several mistakes


def write_config(folder, name, text):
    file = folder / "conf" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


SEVERAL = [
    ("train training.lerning_rate=1 seed=x training.max_steps=abc", ["Did you mean training.learning_rate?", "seed=x: ", "training.max_steps='abc': "]),
    ("train data=boi seed=-1 eval.context=x frob=3", ["data=boi: ", "seed=-1: ", "eval.context=x: ", "frob is not a key"]),
    ("train eval={contxt:3,stride:0} generation.top_p=3", ["eval.contxt is", "eval.stride=0", "generation.top_p=3"]),
    ("train max_steps seed=x", ["'max_steps' is not key=value", "seed=x: "]),
    ("train ~seed data=1 ~data", ["~seed", "data=1", "~data"]),
    ("train --lr 3 --epochs 2", ["training.learning_rate", "training.num_train_epochs"]),
    ("train finetune.rank=3 eval.per_document=true training.ddp_timeout=9", ["finetune.rank has", "eval.per_document has", "training.ddp_timeout has"]),
    ("train objective=f1 early_stopping.patience=2 training.eval_strategy=no", ["objective=f1: ", "early_stopping.patience needs"]),
    ("train data.files=nada.txt output=a.txt/x model.path=nada model.init=scratch", ["data.files=", "output=a.txt/x", "nada is not in the Hugging Face cache"]),
    ("eval ckpt=x eval.context=0 eval.dtyp=x device.x=3", ["eval.context=0", "eval.dtyp is", "device"]),
    ("tokenizer tokenizer.vocab_size=3 tokenizer.frob=1", ["tokenizer.vocab_size=3", "tokenizer.frob is"]),
    ("generate ckpt=x prompt=a top=x generation.tempratur=3", ["top=x: expected", "generation.tempratur is"]),
    ("train -m seed=1,x training.max_steps=1,-7", ["seed=x: ", "training.max_steps=-7"]),
    ("train data=mine seed=x", ["conf/data/mine.yaml sets data.fils", "conf/data/mine.yaml sets data.block_size", "data.min_chars=-1", "seed=x: "]),
    ("train experiment=mine seed=x", ["conf/experiment/mine.yaml sets training.lerning_rate", "training.max_steps=-3", "seed=x: "]),
]  # fmt: skip


@pytest.mark.parametrize(("command", "words"), SEVERAL)
def test_several_mistakes_are_told_at_once(refused, tmp_path, command, words):
    (tmp_path / "a.txt").touch()
    write_config(tmp_path, "data/mine", "fils: a.txt\nblock_size: many\nmin_chars: -1\nfiles: a.txt\n")
    write_config(tmp_path, "experiment/mine", "# @package _global_\ntraining: {lerning_rate: 1, max_steps: -3}\n")
    answer = refused(command.split(), words, lines=len(words) + 1)
    assert answer.err.startswith(f"error: {len(words)} mistakes:\n  - ")


# Run folders


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main.run(["train", *SHORT, f"output={folder}", "eval.max_tokens=200"]) == 0
    return folder


DAMAGE = {
    "model/config.json": (b"{", "model", ("generate", "eval", "export", "serve")),
    "model/model.safetensors": (
        b"\x08\0\0\0\0\0\0\0{garbage",
        "model.safetensors",
        ("generate", "eval", "export", "serve"),
    ),
    "model/tokenizer.json": (b"", "tokenizer", ("generate", "eval", "export", "serve")),
}

LINES = {
    "generate": ("generate", "ckpt=run", "prompt=a"),
    "eval": ("eval", "ckpt=run", "device=cpu"),
    "export": ("export", "ckpt=run", "to=safetensors", "output=out"),
    "serve": ("serve", "ckpt=run", "serve.device=cpu"),
}


@pytest.mark.parametrize(("name", "command"), [(name, command) for name in DAMAGE for command in DAMAGE[name][2]])
def test_a_damaged_run_is_named(refused, tmp_path, whole_run, name, command):
    shutil.copytree(whole_run, tmp_path / "run")
    content, words, _ = DAMAGE[name]
    file = tmp_path / "run" / name.split(" ")[0]
    file.unlink() if content is None else file.write_bytes(content)
    refused(LINES[command], words)


# The Hub


class Answers(BaseHTTPRequestHandler):
    """A Hub that knows nothing: the status is in the name that is asked for."""

    def do_GET(self):
        status = next((code for code in (401, 403, 404, 503) if f"s{code}" in self.path), 404)
        self.send_response(status)
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *ignored):
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


REPOSITORIES = [
    ("train", "model.path=me/s404"),
    ("train", "data.path=me/s404"),
    ("train", "model.path=me/s401"),
    ("check", "model.path=me/s403"),
    ("data", "data.path=me/s503"),
    ("eval", "ckpt=me/s404", "data=sample"),
    ("generate", "ckpt=me/s401", "prompt=a"),
    ("export", "ckpt=me/s403", "to=gguf"),
    ("serve", "ckpt=me/s503"),
    ("lr-find", "model.path=me/s404"),
    ("tokenizer", "data.path=me/s404"),
    ("train", "model.tokenizer=me/s404"),
]


@pytest.mark.parametrize("reachable", [True, False])
@pytest.mark.parametrize("command", REPOSITORIES, ids=" ".join)
def test_a_repository_that_cannot_be_had_is_named(refused, monkeypatch, endpoint, command, reachable):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", endpoint if reachable else "http://127.0.0.1:9")
    name = next(argument.partition("=")[2] for argument in command if "me/s" in argument)
    refused(command, (name, "HF_TOKEN" if reachable else "127.0.0.1:9"))
