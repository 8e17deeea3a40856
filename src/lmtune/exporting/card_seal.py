"""The last line of a card on the Hub: a checksum of the others, which shows whether somebody has edited the card."""

import re

from lmtune.storage import checksum_of

SEAL = "<!-- lmtune wrote this card; checksum of the lines above: {} -->"
SEALED = re.compile(r"(.*\n)" + re.escape(SEAL).replace(r"\{\}", "([0-9a-f]{32})") + r"\n*", re.DOTALL)


def seal_card(card: str) -> str:
    """The card with its sealing line. card: ends with a newline."""
    return f"{card}{SEAL.format(checksum_of(card))}\n"


def is_own_card(card: str) -> bool:
    """True for a card that is unchanged since it was sealed, whatever its line endings."""
    match = SEALED.fullmatch(card.replace("\r\n", "\n"))
    return match is not None and match[2] == checksum_of(match[1])
