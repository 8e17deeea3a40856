"""`card.*`: what a model card says that no run can know."""

import re
from dataclasses import dataclass, fields, replace

from lmtune.config.checks import require
from lmtune.config.keys import Plain, default_of, key, number
from lmtune.config.ranges import check_ranges
from lmtune.errors import ConfigError

LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|multilingual")
"""A code of ISO 639 or BCP 47, as the Hub takes it."""


@dataclass(kw_only=True, slots=True)
class CardConfig:
    """What a model card says that no run can know; what is left empty stands in it as not stated."""

    license: str | None = key(None, literal=True)
    """Licence of the model, as the Hub calls it: `cc-by-sa-4.0`, `mit`, `other`."""
    license_name: str | None = key(None, literal=True)
    """Name of a licence that the Hub has none for, with `card.license=other`."""
    license_link: str | None = key(None, literal=True)
    """Where the text of that licence stands."""
    language: list[str] = key(list, several=True)
    """Codes of the languages that the model writes, `card.language=[pt,en]`; by default `data.language`."""
    summary: str | None = key(None, literal=True)
    """What the model is, in a sentence or two."""
    authors: str | None = key(None, literal=True)
    """Who made it and answers for it."""
    contact: str | None = key(None, literal=True)
    """Where questions, complaints and wishes for deletion go."""
    intended_use: str | None = key(None, literal=True)
    """What it is for, and for whom."""
    out_of_scope: str | None = key(None, literal=True)
    """What it must not be used for."""
    limits: str | None = key(None, literal=True)
    """Known weaknesses, biases and risks."""
    personal_data: str | None = key(None, literal=True)
    """Whether the training text tells of persons, on what ground it was used, and how it was made anonymous."""
    ethics: str | None = key(None, literal=True)
    """Approval of a board, with its number."""
    data: str | None = key(None, literal=True)
    """Where the training text comes from, how it was chosen, and who may use it."""
    data_license: str | None = key(None, literal=True)
    """Licence of the training text, in place of `data.license`."""
    energy: float | None = number(None, least=0, unit="kWh")
    """Energy that the training took, as it was measured."""
    citation: str | None = key(None, literal=True)
    """How the model is cited, in BibTeX or words."""
    overwrite: bool = False
    """Replace a card in the repository that was written or edited by hand."""
    allow_unstated: bool = False
    """Push a model although no licence, or no language, is stated."""

    def __post_init__(self) -> None:
        check_ranges(self, "card.")
        if self.license is not None:
            expected = "a licence as the Hub writes it, such as mit, apache-2.0, cc-by-sa-4.0, or other"
            require(LICENSE.fullmatch(self.license) is not None, "card.license", self.license, expected)
        for language in self.language:
            expected = "codes of languages such as pt, en, pt-BR"
            require(LANGUAGE.fullmatch(language) is not None, "card.language", language, expected)

    def check_license(self) -> None:
        """Raise ConfigError for a name or an address of a licence that says which it is by itself, or lacks them."""
        named = [name for name in ("license_name", "license_link") if getattr(self, name) is not None]
        if named and self.license != "other":
            raise ConfigError(
                f"card.{named[0]} has no effect: it is for licences that the Hub has no name for, and found card.license="
                f"{self.license}. Leave it out, or give card.license=other."
            )
        if self.license == "other" and self.license_name is None:
            raise ConfigError(
                "card.license=other: expected the name of that licence as well, found none. Give card.license_name=, and "
                "card.license_link= if its text is anywhere."
            )

    def complete(self, recorded: Plain) -> "CardConfig":
        """What is left open here as it was recorded with a run; what is for one push alone is not taken over."""
        known = {item.name: item for item in fields(self) if item.name not in OF_PUSH}
        told = {
            name: recorded[name]
            for name, item in known.items()
            if name in recorded and getattr(self, name) == default_of(item)
        }
        if self.license is not None:  # another licence has another name
            told = {name: value for name, value in told.items() if not name.startswith("license_")}
        return replace(self, **told)


OF_PUSH = ("overwrite", "allow_unstated")
"""Keys that say how to push, and nothing of the card."""
