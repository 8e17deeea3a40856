"""The text of a YAML file: regular, bounded, in UTF-8, without characters that YAML does not take."""

import codecs
import os
import stat
from pathlib import Path

import yaml

from lmtune.errors import ConfigError

MAX_BYTES = 1_000_000
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def load_text(file: Path, factor: int = 1) -> str:
    try:
        data = _load_bytes(file, factor * MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{file}: expected a YAML file that can be read, found: {reason}. Mend the file.") from error
    if len(data) > factor * MAX_BYTES:
        raise ConfigError(
            f"{file}: expected at most {factor * MAX_BYTES // 1_000_000} MB of settings, found more. "
            "Text belongs into a file that data.files= names."
        )
    return _decode(file, data)


def _load_bytes(file: Path, most: int) -> bytes:
    """Up to `most` bytes of a regular file; nothing else is waited for."""
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    mode = file.stat().st_mode  # before opening: to open a device may already do something
    if not stat.S_ISREG(mode):
        raise ValueError(kinds.get(stat.S_IFMT(mode), "a device"))
    with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:  # noqa: PTH123
        return opened.read(most)


def _decode(file: Path, data: bytes) -> str:
    mark = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    try:
        if mark:
            raise ConfigError(_explain_encoding(file, mark, mark))
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = f"the byte 0x{data[error.start]:02x} in line {line}"
        raise ConfigError(_explain_encoding(file, found, "LATIN1")) from error
    odd = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        raise ConfigError(
            f"{file}, line {line}: expected text, found the character U+{ord(odd[0]):04X}. Take it out, or write the file anew."
        )
    return text


def _explain_encoding(file: Path, found: str, encoding: str) -> str:
    return (
        f"{file}: expected text in UTF-8, found {found}. Save it as UTF-8: "
        f"iconv -f {encoding} -t UTF-8 {file.name} > new.yaml"
    )
