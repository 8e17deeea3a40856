"""YAML that strangers wrote comes to plain values within bounds, or to one paragraph that names the file."""

import os
import socket
import time

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lmtune.errors import ConfigError
from lmtune.plain_yaml import load_document, load_yaml
from lmtune.plain_yaml.reader import MAX_VALUES


def laughs(levels=9):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines)


def merging(levels=60):
    lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, levels))]
    return "\n".join(lines)


HOSTILE = {
    # Values that YAML 1.1 reads as something else.
    "language: no\n": "line 1: language: no is read as false. Write 'no' between quotes for the word, or false.",
    "a: Yes": "a: Yes is read as true. Write 'Yes' between quotes for the word, or true.",
    "a: OFF": "a: OFF is read as false.",
    "a: on": "a: on is read as true.",
    "a: !!bool yes": "a: yes is read as true.",
    "a:\n  - no": "line 2: a.0: no is read as false.",
    "where: {lang: no}": "where.lang: no is read as false.",
    "a: 0100": "0100 is read as 64, an octal number. Write 100, or '0100' between quotes for the characters.",
    "a: -010": "-010 is read as -8, an octal number.",
    "a: 0_7": "0_7 is read as 7, an octal number.",
    "a: 00": "00 is read as 0, an octal number. Write 0, or",
    "a: 007.5": "007.5 is read as 7.5. Write 7.5, or",
    "a: 1:30": "1:30 is read as 90, a number to the base 60. Write '1:30' between quotes.",
    "a: 1:30.5": "1:30.5 is read as 90.5, a number to the base 60.",
    "a: 2024_01_15": "2024_01_15 is read as the number 20240115.",
    "a: 1_0.5": "1_0.5 is read as the number 10.5.",
    "revision: 123e4567": "123e4567 is read as infinity.",
    "a: None": "a: None is read as text. Write null for no value",
    "a: =": "a: = alone means something else to YAML. Put it between quotes.",
    "a: <<": "a: << alone means something else",
    # Keys that are no text.
    "1: x": "found 1, which is no text to YAML. Put it between quotes.",
    "no: x": "expected the name of a key, found no",
    "~: x": "expected the name of a key, found ~",
    "=: x": "expected the name of a key, found =",
    "? [a, b]\n: x": "found a list or a mapping, which is no text",
    "a: 1\nb: 2\na: 3": "line 3: a: stands there already, in line 1. Keep one of the two.",
    "a: {b: 1, b: 1}": "a.b: stands there already, in line 1.",
    # Not a mapping, or more than one.
    "- a\n- b": "expected `key: value` lines, found a list. Write a key before it.",
    "files": "found nothing but files.",
    "a: 1\n---\nb: 2": "line 2, column 1: expected YAML, found a second document behind ---.",
    # Tags.
    "a: !!python/object/apply:os.system ['touch x']": "found the tag !!python/object/apply:os.system, which lmtune does not",
    "a: !!python/name:os.system": "found the tag !!python/name:os.system",
    "!!python/object/new:os.system [x]": "line 1: expected a plain value, found the tag !!python/object/new:os.system",
    "a: !include b.yaml": "found the tag !include, which lmtune does not follow. To take in another config, write defaults:",
    "a: !!set {x, y}": "found the tag !!set",
    "a: !!binary aGk=": "found the tag !!binary",
    "a: !!timestamp 2024-01-15": "found the tag !!timestamp",
    "a: !!int abc": "a: abc is no int. Put it between quotes for text.",
    "a: !!int ''": "a:  is no int.",
    "a: !!float ''": "a:  is no float.",
    "a: !!bool maybe": "a: maybe is no bool.",
    "a: !!map x": "a: expected a plain value, found the tag !!map",
    "a: !!int [1]": "a: expected a plain value, found the tag !!int",
    "a: !!seq {b: 1}": "a: expected a plain value, found the tag !!seq",
    "a: !x!y z": "expected YAML, found",
    # Anchors.
    "a: &a [*a]": "a.0: expected a value, found an anchor that holds itself.",
    "a: &a {b: {c: *a}}": "a.b.c: expected a value, found an anchor that holds itself.",
    "a: &a\n  <<: *a": "found an anchor that holds itself.",
    "<<: 3": "expected a mapping behind <<, found none.",
    "a: *b": "a value begins with * and names no anchor.",
    "files: *.txt": "a value begins with * or &, which stand for anchors. Put it between single quotes, such as '*.txt'.",
    laughs(): "found too many values once its anchors are written out.",
    merging(): "found too many values once its anchors are written out.",
    "a: &a " + "x" * 300_000 + "\nb: [*a, *a, *a, *a]": "found too many values once its anchors are written out.",
    "\n".join(["a0: &a0 [1]", *(f"a{n + 1}: &a{n + 1} [*a{n}]" for n in range(200))]): "found too many values",
    # Size and depth.
    "a: " + "[" * 100_000: "found too many levels inside each other, over 40.",
    "- " * 100_000: "found too many levels inside each other, over 40.",
    "? " * 100_000: "found too many levels inside each other, over 40.",
    "{a: " * 5000: "found too many levels inside each other, over 40.",
    "a: [" + "1," * 25_000 + "]": "expected the settings of one config, found too many values.",
    "# x\n" * 300_000: "expected at most 1 MB of settings, found more.",
    "a: " + "1" * 10_000: "is no int. Put it between quotes for text.",
    "a: 0x" + "f" * 10_000: "is no int.",
    "a: 1e" + "9" * 50: "is read as infinity.",
    # Syntax.
    "a:\n\tb: 1": "line 2, column 1: expected YAML, found a tab where YAML wants blanks. Indent with blanks.",
    "a: [1, 2": "found a bracket that nothing closes.",
    "a: 'x": "found a quote that nothing closes.",
    "a: b: c": "line 1, column 5: expected YAML, found a second colon in one line",
    "a: 1\n  b: 2": "found a second colon in one line, or a line indented too far.",
    "a: 1\nb\nc: 2": "found a line without its colon.",
    "a: |\n  x\n y": "found a line out of step",
    "a: @x": "a value begins with a character that YAML keeps for itself.",
    'a: "\\d"': "found a backslash between double quotes.",
    "%YAML 9.9\n---\na: 1": "expected YAML, found",
    "%YAML 1." + "9" * 5000 + "\n---\na: 1": "expected YAML, found",
    'a: "\\UFFFFFFFF"': "expected YAML, found",
    # Characters.
    'a: "\\0"': "a: expected text, found an escape that is no character.",
    'a: "\\ud800"': "a: expected text, found an escape that is no character.",
    "a: 1\0": "line 1: expected text, found the character U+0000.",
    "a: 1\nb: \x1b[31m": "line 2: expected text, found the character U+001B.",
    b"files: /tmp/jo\xe3o.txt": "found the byte 0xe3 in line 1. Save it as UTF-8: iconv -f LATIN1 -t UTF-8 mine.yaml > new.yaml",
    "a: ção".encode("utf-16"): "found UTF-16. Save it as UTF-8: iconv -f UTF-16 -t UTF-8 mine.yaml > new.yaml",
    "a: ção".encode("utf-32"): "found UTF-32.",
    "a: 1".encode("utf-16-le"): "found the character U+0000.",
    b"\x80\x02}q\x00.": "found the byte 0x80 in line 1.",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:40]))
def test_what_is_no_config_is_told_in_one_line_that_names_the_file(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as told:
        load_document(file)
    assert HOSTILE[text] in str(told.value)
    assert str(told.value).startswith(str(file))
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < len(str(file)) + 300


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1_000", 1000), ("-1_000_000", -1000000), ("5e-5", 5e-5), ("1e5", 1e5), ("1.5E3", 1500.0), (".5", 0.5), ("0x1F", 31),
        ("0b11", 3), ("0", 0), ("0.5", 0.5), ("-0.5", -0.5), ("+3", 3), (".inf", float("inf")), ("true", True), ("False", False),
        ("TRUE", True), ("~", None), ("null", None), ("", None), ("y", "y"), ("n", "n"), ("'no'", "no"), ('"0100"', "0100"),
        ("2024-01-15", "2024-01-15"), ("2024-01-15 12:30:00", "2024-01-15 12:30:00"), ("089", "089"), ("0o17", "0o17"),
        ("1.2.3", "1.2.3"), ("!!str 0100", "0100"), ("'None'", "None"), ("[a, 'no']", ["a", "no"]),
        ("João 😀", "João 😀"), ("/home/João/a(1).txt", "/home/João/a(1).txt"), ("|\n  x\n  y\n", "x\ny\n"),
    ],
)  # fmt: skip
def test_what_is_meant_as_it_is_read_passes(tmp_path, text, value):
    file = tmp_path / "mine.yaml"
    file.write_text(f"a: {text}\n", encoding="utf-8")
    read = load_document(file).values
    assert read == {"a": value}
    assert type(read["a"]) is type(value)


def test_a_number_or_word_is_read_as_omegaconf_reads_it(tmp_path):
    from omegaconf import OmegaConf

    file = tmp_path / "mine.yaml"
    words = [
        "1",
        "-1",
        "1.",
        "1.5",
        ".5",
        "-.5",
        "1e5",
        "1e+5",
        "1E-5",
        "1.5e5",
        "12e03",
        "1_000.5",
        "0x1F",
        "0b1",
        "0o7",
        "08",
    ]
    words += [
        "2024-01-15",
        "12h30",
        "1.2.3",
        "nan",
        ".nan",
        "inf",
        "-.inf",
        "true",
        "Null",
        "~",
        "x",
        "+",
        ".",
        "1a",
        "e5",
    ]
    file.write_text("".join(f"k{number}: {word}\n" for number, word in enumerate(words)))
    assert str(load_document(file).values) == str(OmegaConf.to_container(OmegaConf.load(file)))


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null\n", "{}\n", "\ufeff# marked\n"])
def test_a_file_that_says_nothing_is_an_empty_config(tmp_path, text):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    assert load_document(file).values == {}


def test_anchors_and_merges_are_written_out(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("a: &a {x: 1, y: [2]}\nb: &b {x: 3}\nc: {<<: [*a, *b], z: 4}\nd: {x: 5, <<: *a}\ne: *a\n")
    values = load_document(file).values
    assert values["c"] == {"x": 1, "y": [2], "z": 4}
    assert values["d"] == {"x": 5, "y": [2]}
    assert values["e"] == values["a"]
    assert values["e"] is not values["a"]


def test_a_document_knows_where_its_keys_stand(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("# @package _global_\n# words\ndata:\n  files: [a,\n    b]\n  min_chars: 0x1F\n")
    document = load_document(file)
    assert document.header == ("# @package _global_", "# words")
    assert [document.lines[key] for key in ("data", "data.files", "data.files.1", "data.min_chars")] == [3, 4, 5, 6]
    assert document.written == {"data.min_chars": ("0x1F", 31)}
    assert document.place("data.min_chars") == f"{file}, line 6"


def test_nothing_but_a_regular_file_is_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nothing")
    (tmp_path / "device.yaml").symlink_to("/dev/zero")
    found = {
        "pipe": "a pipe", "folder": "a folder", "loop": "symbolic links", "gone": "No such file", "device": "a device",
        "x" * 300: "File name too long", "nul\0": "null",
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the names of sockets are short
        listener.bind("socket.yaml")
        for name, reason in {**found, "socket": "a socket"}.items():
            with pytest.raises(ConfigError, match="expected a YAML file that can be read, found: ") as told:
                load_document(tmp_path / f"{name}.yaml")
            assert reason in str(told.value)


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").touch()

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        ConfigError, match=r"mine\.yaml: expected a YAML file that can be read, found: Permission denied\."
    ):
        load_document(tmp_path / "mine.yaml")


def test_a_record_is_read_without_asking_what_its_author_meant(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("a: no\nb: 0100\n")
    assert load_yaml(file) == {"a": False, "b": 64}
    file.write_text("- a=1\n- b=2\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: expected `key: value` lines, found a list\."):
        load_yaml(file)


@pytest.mark.parametrize(
    "text", [laughs(10), "a: &a [*a]", "a: !!python/name:os.system", "a: " + "[" * 5000, b"\xff\xfe", "a: {b: 1, b: 2}"]
)
def test_a_record_has_bounds_too(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as told:
        load_yaml(file)
    assert str(file) in str(told.value)


def test_a_record_may_be_larger_than_a_config(tmp_path):
    file = tmp_path / "config.yaml"
    files = [f"/home/somebody/corpus/part-{number:08}.txt" for number in range(MAX_VALUES + 1000)]
    file.write_text("".join(["files:\n", *(f"- {name}\n" for name in files)]))
    assert load_yaml(file) == {"files": files}


def read_within(file, data):
    """What the reader makes of bytes, or the error that it raises; fails where that takes over a second."""
    file.write_bytes(data)
    begun = time.process_time()
    try:
        found = load_document(file).values
    except ConfigError as error:
        found = str(error)
    assert time.process_time() - begun < 1
    return found


PIECES = st.sampled_from(
    ["a", "b", ": ", ":", "\n", "  ", "\n  ", "- ", "[", "]", "{", "}", ", ", "&a ", "*a", "<<", "!", "!!int ", "!!map ", "!!str ", "|",
     ">", "'", '"', "#", "?", "? ", "%", "@", "`", "---", "...", "no", "1", "0100", "1:30", "~", "=", "\\", "\t", "\r", "${a}", "\u2028",
     "\ufeff", "é", "\0", "%TAG ! x:\n--- ", "%YAML 1.1\n---\n", "!<tag:yaml.org,2002:", "\\x", "\\u", "e9", ".5", "_"]
)  # fmt: skip


@given(st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=40).map(lambda pieces: "".join(pieces).encode())))
@example(b'a: "\\U99999999"')
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_come_to_plain_values_or_to_one_line(tmp_path, data):
    found = read_within(tmp_path / "mine.yaml", data)
    if isinstance(found, str):
        assert found.startswith(str(tmp_path / "mine.yaml"))
        assert "\n" not in found
    else:
        assert is_plain(found)


PLAIN = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example({"name": "1e5", "day": "2024-01-15", "clock": "1:30", "id": "0100", "rate": 1e-05})
def test_a_record_of_plain_values_comes_back_as_pyyaml_itself_has_it(tmp_path, values):
    file = tmp_path / "config.yaml"
    text = yaml.safe_dump(values, allow_unicode=True)
    file.write_text(text, encoding="utf-8")
    if "\\0" not in text and "0000" not in text:
        assert load_yaml(file) == yaml.safe_load(text)


def is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
