"""Personal identifiers in text: found by the packages of the extra `audit`, which know their check digits, and masked.

find_identifiers("CPF 529.982.247-25")      [Identifier("CPF", 4, 18)]
mask("CPF 529.982.247-25")                  "CPF •••.•••.•••-••"

Brazilian ones by tarja; Portuguese tax numbers (NIF) and bank accounts (IBAN) by python-stdnum; e-mail addresses, which have no
check digit, by their form.
"""

import importlib.util
import re
from typing import NamedTuple

PACKAGES = {"tarja": "tarja", "stdnum": "python-stdnum"}
"""Modules of the extra, and the packages that they come with."""
SURE = 0.6
"""Least score by tarja: what has check digits, or words beside it that say what it is."""
MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
NIF = re.compile(r"\b(?:NIF|NIPC|contribuinte)\D{0,20}(\d{3}[ .]?\d{3}[ .]?\d{3})\b", re.IGNORECASE)
"""One number of nine digits in ten has a right check digit, so a word has to say what it is."""
HIDDEN = "\N{BULLET}"


class Identifier(NamedTuple):
    """One identifier in a text."""

    kind: str
    start: int
    end: int
    """Characters of the text."""


def list_absent() -> list[str]:
    """Packages of the extra that are not installed."""
    return [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]


def find_identifiers(text: str) -> list[Identifier]:
    """The identifiers of a text in their order, none over another."""
    import tarja
    from stdnum import iban
    from stdnum.pt import nif

    found = [
        Identifier(match.entity.removeprefix("BR_").replace("_", " "), match.start, match.end)
        for match in tarja.find(text, min_score=SURE, max_chars=None)
    ]
    found += [Identifier("IBAN", *match.span()) for match in IBAN.finditer(text) if iban.is_valid(match[0])]
    found += [Identifier("NIF", *match.span(1)) for match in NIF.finditer(text) if nif.is_valid(match[1])]
    found += [Identifier("e-mail", *match.span()) for match in MAIL.finditer(text)]
    return _without_overlaps(found)


def _without_overlaps(found: list[Identifier]) -> list[Identifier]:
    """The longest of identifiers that share characters, and of equally long ones the first."""
    kept: list[Identifier] = []
    for each in sorted(found, key=lambda each: each.start - each.end):
        if all(each.end <= other.start or other.end <= each.start for other in kept):
            kept.append(each)
    return sorted(kept, key=lambda each: each.start)


def normalize(value: str) -> str:
    """Letters and digits alone, in lower case: two ways of writing one identifier are equal."""
    return "".join(character for character in value.lower() if character.isalnum())


def gives_away(prompt: str, value: str) -> bool:
    """True where half of an identifier's letters and digits in a row, or more, stand in what is before it."""
    wanted, told = normalize(value), normalize(prompt)
    size = -(-len(wanted) // 2)
    return any(wanted[start : start + size] in told for start in range(len(wanted) - size + 1))


def mask_value(value: str) -> str:
    """An identifier with its letters and digits hidden: its form is left."""
    return "".join(HIDDEN if character.isalnum() else character for character in value)


def mask(text: str) -> str:
    """A text with all of its digits and e-mail addresses hidden, identifiers or not, and what else the extra finds. Names stay."""
    found = [] if list_absent() else find_identifiers(text)
    for each in found:
        text = text[: each.start] + mask_value(text[each.start : each.end]) + text[each.end :]
    text = MAIL.sub(lambda match: mask_value(match[0]), text)
    return "".join(HIDDEN if character.isdigit() else character for character in text)
