"""The map in lmtune/__init__.py is true: imports go down only, and rooms of one floor do not know each other."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import lmtune

ROOT = Path(lmtune.__file__).parent


def floors():
    """Room to (floor, place in a row of `<`), read from the map."""
    found = {}
    for number, rooms in re.findall(r"^ +floor (\d)  (\S+(?: ?[<,]? \S+)*?)  +\S", lmtune.__doc__, re.MULTILINE):
        for place, row in enumerate(rooms.split("<")):
            found |= dict.fromkeys(map(str.strip, row.split(",")), (int(number), place))
    return found


def imports():
    """(importing room, imported room, place) for every import of lmtune by lmtune, lazy ones included."""
    for file in ROOT.rglob("*.py"):
        room = file.relative_to(ROOT).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "lmtune":
                path = node.module.split(".")[1:]
                for target in [path[0]] if path else [alias.name for alias in node.names]:
                    yield room, target, f"{file.relative_to(ROOT)}:{node.lineno}"


def test_every_room_has_a_floor():
    rooms = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} == set(floors())


def test_imports_go_down_only():
    floor = floors()
    wrong = [
        f"{place}: {room} imports {target}"
        for room, target, place in imports()
        if room in floor and target in floor and room != target and floor[target] >= floor[room]
    ]
    assert wrong == []


def test_cli_imports_nothing_heavy():
    heavy = {"torch", "transformers", "datasets", "accelerate", "hydra", "omegaconf", "numpy"}
    tree = ast.parse((ROOT / "cli" / "main.py").read_text(encoding="utf-8"))
    eager = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert not eager & heavy


def test_commands_are_imported_without_what_is_heavy():
    """So that what they check first, such as the objective, costs no more than what composition checks."""
    names = [f"lmtune.commands.{file.stem}" for file in sorted((ROOT / "commands").glob("[a-z]*.py"))]
    code = f"import {', '.join(names)}, sys\nprint(*{{'torch', 'transformers', 'datasets', 'evaluate', 'peft'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_a_misspelt_key_costs_no_library_of_data():
    code = "import sys\nfrom lmtune.cli import main\nprint(main.run(['train', 'training.lerning_rate=1']))\nprint(*{'torch', 'transformers', 'pyarrow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n\n", "numpy and pyarrow take longer than all the rest"


def test_a_model_that_cannot_be_had_costs_no_library_of_models(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    code = "import sys\nfrom lmtune.cli import main\nprint(main.run(['train', 'model.path=me/none']))\nprint(*{'torch', 'transformers', 'datasets', 'accelerate'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "2\n\n", done.stderr
