"""What stands at a path that somebody typed: said in words, never a traceback, never waited for."""

import ast
import glob
import os
import pwd
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lmtune
from lmtune import hub, paths
from lmtune.config import DataConfig, ModelConfig
from lmtune.data.files import list_files, match_pattern
from lmtune.errors import CheckpointError, ConfigError, DataError, LmtuneError, ModelError
from lmtune.paths import GivenPath, Kind, describe, find_near, show

NOBODY = 65534
ROOT = Path(lmtune.__file__).parent


@pytest.fixture
def forbidden():
    """A folder that may not be entered, with a text in it, inside one that may be.

    Root may enter any, so for root the test goes on as another user, for whom pytest's own folders are forbidden too.
    """
    world = Path(tempfile.mkdtemp())
    closed = world / "closed"
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(world, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    closed.mkdir()
    (closed / "a.txt").write_text("um")
    (world / "b.txt").write_text("dois")
    closed.chmod(0)
    yield closed
    closed.chmod(0o755)
    if is_root:
        os.seteuid(0)
    shutil.rmtree(world)


def refusal(call, error=LmtuneError):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def look(text, error=ConfigError):
    typed = GivenPath("ckpt", text, error)
    return typed.find_kind(typed.expand())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "found nothing"),
        ("a\0b", r"ckpt=a\x00b: expected a path, found a character that no path can have"),
        ("\ud800", "found a character that no path can have"),
        ("n" * 300, "found a name of 300 bytes, where file systems take 255"),
        ("ção" * 60, "found a name of 300 bytes, where file systems take 255"),
        ("n/" * 3000, "found a path of 5,999 bytes, where the system takes 4,095"),
        ("~nobody-of-that-name/x", "found ~nobody-of-that-name, but there is no user nobody-of-that-name"),
    ],
)
def test_a_path_that_nothing_could_have_is_refused(text, found):
    message = refusal(lambda: look(text, CheckpointError), CheckpointError)
    assert message.startswith("ckpt=")
    assert found in message
    assert len(message) < 500


def test_below_a_forbidden_folder_that_folder_is_named(forbidden):
    message = refusal(lambda: look(str(forbidden / "a.txt")))
    assert f"found {forbidden}, which this user may not look into" in message
    assert describe(forbidden / "deep" / "er") == f"{forbidden}, which this user may not look into"
    assert describe(forbidden) == "a folder"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.characters(), max_size=400)
    | st.lists(st.sampled_from(["~", "~x", "..", ".", "/", "*", "[a]", "\n", "é", "\0", "a" * 200]), max_size=30).map(
        "".join
    )
)
def test_whatever_is_typed_is_a_kind_or_one_line(text):
    typed = GivenPath("model.path", text, ModelError)
    try:
        assert isinstance(typed.find_kind(typed.expand()), Kind)
    except ModelError as refused:
        message = str(refused)
        assert message.startswith("model.path=")
        assert message.isprintable()
        assert len(message) < 900
    if "\0" not in text:
        assert describe(Path(text)).isprintable()


def test_each_kind_has_its_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("broken").symlink_to("gone")
    Path("circle").symlink_to("circle")
    Path("link").symlink_to("folder")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        words = {
            "file": "a file",
            "folder": "a folder",
            "link": "a folder",
            "pipe": "a pipe",
            "socket": "a socket",
            "/dev/null": "a device",
            "broken": "a link to gone, which is not there",
            "circle": "a link that leads round in a circle",
            "circle/x": "a link that leads round in a circle",
            "gone": "nothing",
            "file/x/y": "nothing, since file is no folder",
        }
        assert {name: describe(Path(name)) for name in words} == words
    assert look("circle") is look("broken") is Kind.BROKEN_LINK
    assert look("file/x") is Kind.NOTHING


def test_a_name_with_a_tilde_that_is_no_users_is_itself_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("~notes").mkdir()
    Path("~").mkdir()
    assert GivenPath("ckpt", "~notes/a").expand() == Path("~notes/a")
    assert GivenPath("ckpt", "~/a").expand() == tmp_path / "home" / "a", "a folder named ~ is an accident, not a home"
    assert GivenPath("ckpt", "a~b").expand() == Path("a~b")


def test_a_removed_working_folder_is_said(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    message = refusal(lambda: DataConfig(files="a.txt").anchor(), ConfigError)
    assert "the one where you stand has been removed" in message


@pytest.fixture
def homeless(monkeypatch):
    """A user without HOME and without an entry in the table of users, as containers have them."""

    def find_none(number):
        raise KeyError(number)

    for name in ("HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", find_none)


def test_a_user_without_a_home_works_with_folders_and_is_told_what_the_hub_needs(homeless, tmp_path, monkeypatch):
    assert hub.is_local(GivenPath("ckpt", str(tmp_path)))
    assert not hub.is_local(GivenPath("ckpt", "owner/name"))
    assert not hub.is_cached("model", "owner/name")
    assert hub._find_token() is None
    assert "HOME is not set and this user has no home" in refusal(lambda: look("~/run"))
    message = refusal(lambda: hub.check_available("model", "owner/name", None), ModelError)
    assert "Set HF_HOME to a folder that you may write to." in message
    (tmp_path / "hub" / "models--owner--name" / "refs").mkdir(parents=True)
    (tmp_path / "hub" / "models--owner--name" / "refs" / "main").write_text("1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    hub.check_available("model", "owner/name", None)


def test_a_token_of_somebody_else_is_done_without(forbidden, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(forbidden / "a.txt"))
    assert hub._find_token() is None


@pytest.mark.parametrize("key", ["path", "tokenizer"])
def test_a_model_is_anchored_or_refused_by_its_key(forbidden, key):
    run = forbidden.parent / "run"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").touch()
    config = ModelConfig(**{key: str(run)})
    config.anchor()
    assert getattr(config, key) == str(run / "model")
    for text in ("", "~nobody-of-that-name", str(forbidden / "x")):
        message = refusal(ModelConfig(**{key: text}).anchor, ConfigError)
        assert message.startswith(f"model.{key}={text}")


@pytest.mark.parametrize("key", ["files", "validation_files"])
def test_an_impossible_path_among_files_is_refused_by_its_key(key):
    for value in ("~nobody-of-that-name/*.txt", ["a.txt", "a\0.txt"]):
        message = refusal(lambda value=value: DataConfig(**{"files": "a.txt", key: value}), ConfigError)
        assert message.startswith(f"data.{key}=")


# Files of text


def write(folder, *names):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name, encoding="utf-8")


def find(pattern):
    return [str(file) for file in list_files("data.files", str(pattern))]


@pytest.mark.parametrize("name", ["corpus [2020]", "[a]", "a*b", "what?", "**", "[!x]", "{a,b}", "acentuação (1)"])
def test_the_folder_where_one_stands_is_no_pattern(tmp_path, monkeypatch, name):
    folder = tmp_path / name
    write(folder, "a.txt", "b.txt", "sub/c.txt")
    write(tmp_path / "aXb", "decoy.txt")
    monkeypatch.chdir(folder)
    for pattern, expected in {"*.txt": 2, "?.txt": 2, "**/*.txt": 3, ".": 3, "a.txt": 1}.items():
        config = DataConfig(files=pattern)
        config.anchor()
        found = find(config.files)
        assert len(found) == expected
        assert all(file.startswith(str(folder)) for file in found)
    monkeypatch.chdir(tmp_path)
    assert find(f"{name}/*.txt") == [f"{name}/a.txt", f"{name}/b.txt"]


def test_brackets_in_a_pattern_stand_for_themselves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.txt", "b.txt", "[ab].txt", "[ab]c.txt")
    assert find("[ab]*.txt") == ["[ab].txt", "[ab]c.txt"]
    assert find("[ab].txt") == ["[ab].txt"]
    assert "expected files that end in" in refusal(lambda: find("[a-z]?.txt"), DataError)


def test_a_name_that_is_there_as_it_stands_is_no_pattern(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "*.txt", "b.txt", "**/c.txt")
    assert find("*.txt") == ["*.txt"]
    assert find("**/*.txt") == ["**/c.txt"]


NAMES = st.sampled_from(["a", "b.txt", "ab.txt", ".c.txt", "[x].txt", "é d", "[x]", "x.jsonl"])
PARTS = st.sampled_from(["*", "**", "?", "a", "*.txt", "[x]*", "?b.txt", ".*", "*b*", "é ?", "[x]", ".c.txt", "b.txt"])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(NAMES, min_size=1, max_size=3), max_size=8), st.lists(PARTS, min_size=1, max_size=4))
def test_patterns_match_what_glob_matches_with_its_brackets_escaped(tmp_path_factory, tree, pattern):
    folder = tmp_path_factory.mktemp("tree [0]")
    for parts in tree:
        file = folder.joinpath(*parts)
        if not file.exists() and not any(parent.is_file() for parent in file.parents):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    whole = folder.joinpath(*pattern)
    escaped = str(whole).replace("[", "[[]")
    matches = glob.glob(escaped, recursive=True)  # noqa: PTH207
    # Of a file `a`, glob says that `a/**` matches `a/`.
    expected = sorted({str(Path(found)) for found in matches if Path(found).is_dir() or not found.endswith("/")})
    typed = GivenPath("data.files", str(whole), DataError)
    assert [str(found) for found in match_pattern(typed, whole)] == expected
    shutil.rmtree(folder)


def test_links_that_lead_back_do_not_go_on_for_ever(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abcdefghij":
        write(tmp_path, f"{name}/{name}.txt")
        for other in "abcdefghij":
            Path(name, f"to-{other}").symlink_to(tmp_path / other)
    Path("a", "self").symlink_to("self")
    found = sorted(Path(file).resolve() for file in find("**/*.txt"))
    assert found == [tmp_path / f"{name}/{name}.txt" for name in "abcdefghij"]


def test_a_folder_below_the_named_one_that_may_not_be_entered_is_named(forbidden):
    above = forbidden.parent
    for pattern in (above, above / "**" / "*.txt", above / "*" / "a.txt"):
        message = refusal(lambda pattern=pattern: find(pattern), DataError)
        assert message.startswith(f"data.files={pattern}")
        assert f"found {forbidden}, which this user may not look into" in message
    assert find(above / "*.txt") == [str(above / "b.txt")]


def test_a_link_to_a_forbidden_text_is_refused_and_one_to_something_else_not_even_looked_at(forbidden):
    folder = forbidden.parent / "texts"
    write(folder, "a.txt")
    (folder / "link.md").symlink_to(forbidden / "a.md")
    assert find(folder) == [str(folder / "a.txt")]
    (folder / "link.txt").symlink_to(forbidden / "a.txt")
    message = refusal(lambda: find(folder), DataError)
    assert f"data.files={folder}: expected a path to follow, found {folder / 'link.txt'}, which" in message


def test_pipes_sockets_and_devices_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.txt")
    Path("zero.txt").symlink_to("/dev/zero")
    write(tmp_path, "a.txt")
    assert find(".") == find("*.txt") == ["a.txt"]
    for name, kind in (("pipe.txt", "a pipe"), ("zero.txt", "a device"), ("/dev/zero", "a device")):
        assert f"data.files={name}: expected a file or a folder, found {kind}." in refusal(
            lambda name=name: find(name), DataError
        )
        typed = GivenPath("prompts_file", name, DataError)
        message = refusal(lambda typed=typed: typed.read_text(typed.expand(), "a text file in UTF-8"), DataError)
        assert message == f"prompts_file={name}: expected a text file in UTF-8, found {kind}. Name a file on a disk."


def test_a_name_that_is_no_text_is_refused(tmp_path):
    write(tmp_path, "a.txt")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/na\xefve.txt")).write_text("um")
    except OSError:
        pytest.skip("this file system takes text alone")
    assert r"na\udcefve.txt has a name that is not UTF-8" in refusal(lambda: find(tmp_path), DataError)
    assert find(tmp_path / "a.txt") == [str(tmp_path / "a.txt")]


def test_a_text_is_read_no_further_than_its_file_is_long(tmp_path, monkeypatch):
    typed = GivenPath("prompts_file", "x", DataError)
    (tmp_path / "a").write_bytes("ação".encode())
    assert typed.read_text(tmp_path / "a", "a text") == "ação"
    if Path("/proc/self/status").exists():
        assert typed.read_text(Path("/proc/self/status"), "a text") == "", (
            "its size is 0, and some of its kind never end"
        )
    monkeypatch.setattr(paths, "MAX_TEXT_BYTES", 3)
    assert "expected at most 3 bytes, found 6" in refusal(lambda: typed.read_text(tmp_path / "a", "a text"), DataError)
    monkeypatch.undo()
    (tmp_path / "a").write_bytes("ação".encode("latin-1"))
    assert "found byte 0xe7 at offset 1" in refusal(lambda: typed.read_text(tmp_path / "a", "a text"), DataError)


def test_a_folder_to_write_in_is_checked_before_it_is_made(forbidden):
    output, world = GivenPath("output", "x"), forbidden.parent
    output.check_can_make(world / "a" / "b")
    assert not (world / "a").exists()
    for folder in (world / "b.txt", world / "b.txt" / "x"):
        assert f"{world / 'b.txt'} is a file" in refusal(lambda folder=folder: output.check_can_make(folder))
    assert "found a file" in refusal(lambda: output.make_folder(world / "b.txt"))
    assert "which this user may not look into" in refusal(lambda: output.check_can_make(forbidden / "x"))
    assert "which this user may not look into" in refusal(lambda: output.make_folder(forbidden / "x"))
    world.chmod(0o555)
    assert f"found that this user may not write in {world}" in refusal(lambda: output.check_can_make(world / "a"))
    world.chmod(0o755)
    assert output.make_folder(world / "a" / "b").is_dir()


def test_the_most_similar_name_beside_a_path_is_found(tmp_path):
    for name in ("checkpoint-20", "model"):
        (tmp_path / name).mkdir()
    assert find_near(tmp_path / "checkpoint-2") == "checkpoint-20"
    assert find_near(tmp_path / "other") is None
    assert find_near(tmp_path / "gone" / "model") is None


def test_a_long_or_odd_path_is_shown_in_one_line():
    assert show("a\nb\t\x1b[31m\udcff") == r"a\nb\t\x1b[31m\udcff"
    assert show("ação (1) [2]") == "ação (1) [2]"
    assert len(show("x" * 10_000)) < 200


# The source itself

BARE = {"exists", "is_dir", "is_file", "is_symlink", "expanduser", "iterdir", "resolve", "rglob", "glob", "home"}
"""Methods of Path that raise, or that say nothing of what they could not look at."""
ROOMS = ("modeling", "config", "evaluation", "hub.py", "foreign.py", "data/files.py", "data/sources.py", "commands/generate.py",
         "commands/tokenizer.py", "commands/evaluate.py")  # fmt: skip
EXCEPTIONS = {
    ("modeling/checkpoint.py", "find_finished", "resolve"): "of a folder that has just been looked at",
    ("hub.py", "_find_token", "is_file"): "inside a try: what does not open is done without",
    ("data/files.py", "_expand", "resolve"): "of this package's own file",
    ("data/files.py", "_list_below", "is_symlink"): "of an entry that has just been looked at",
    ("modeling/saving.py", "save_model", "iterdir"): "of a folder that this process has just written",
    ("modeling/fetching.py", "fetch_model", "iterdir"): "likewise",
    ("modeling/stored.py", "list_weights", "is_file"): "of a folder of the run's own, as those below",
    ("modeling/stored.py", "load_weights", "is_file"): "",
    ("modeling/stored.py", "read_tensors", "glob"): "",
    ("evaluation/suites/harness.py", "_check_file", "resolve"): "of the harness's own folder",
}


def bare_calls():
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else [ROOT / room]:
            for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BARE:
                        takes_a_path = node.args and node.func.attr not in ("glob", "rglob")  # then it is GivenPath's
                        if not takes_a_path:
                            yield file.relative_to(ROOT).as_posix(), function.name, node.func.attr


def test_paths_that_people_type_are_looked_at_through_one_module():
    assert set(bare_calls()) == set(EXCEPTIONS)
