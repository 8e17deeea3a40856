"""Texts, numbers and dates of a page in its language."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from lmtune.reporting.words_audit import AUDIT_ENGLISH, AUDIT_PORTUGUESE
from lmtune.reporting.words_en import ENGLISH
from lmtune.reporting.words_pt import PORTUGUESE

LESS = "\N{MINUS SIGN}"
THIN = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Language:
    """A language of pages: `say` gives its texts, the other methods its numbers and dates."""

    code: str
    """As in HTML: en, pt-BR."""
    texts: dict[str, str]
    thousands: str
    """Thousands separator."""
    decimal: str
    """Decimal mark."""
    months: tuple[str, ...]

    def say(self, key: str, **values: object) -> str:
        """A text with its placeholders filled in. `n` chooses from `one|many`; integers get thousands separators."""
        one, bar, many = self.texts[key].partition("|")
        chosen = many if bar and values.get("n") != 1 else one
        return chosen.format(**{name: self._render(value) for name, value in values.items()})

    def number(self, value: float | None, decimals: int = 0) -> str:
        """`1,234.50` in the format of the language; a dash for None or a non-finite value."""
        if value is None or not math.isfinite(value):
            return "\N{EN DASH}"
        written = f"{abs(value):,.{decimals}f}"
        sign = LESS if value < 0 and written.strip("0.,") else ""
        return sign + written.translate({ord(","): self.thousands, ord("."): self.decimal})

    def measure(self, value: float | None) -> str:
        """A measure with four decimals; from 1,000 on without any, as they would mean nothing."""
        return self.number(value, 0 if value is not None and abs(value) >= 1000 else 4)

    def translate(self, text: str) -> str:
        """Translate lmtune's own English phrases in a text; unknown ones stay."""
        known = {key.removeprefix("said:"): words for key, words in self.texts.items() if key.startswith("said:")}
        phrases = "|".join(re.escape(each) for each in sorted(known, key=len, reverse=True))
        return re.sub(phrases, lambda match: known[match[0]], text)

    def short(self, value: float | None) -> str:
        """About three significant digits: `0.96`, `88.3`, `1,042`."""
        if value is None or not math.isfinite(value):
            return self.number(None)
        return self.number(value, 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0)

    def rate(self, value: float) -> str:
        """A learning rate: `5e-5`, `0.001`."""
        if not value or 1e-3 <= value < 10:
            return f"{value:.3g}".replace(".", self.decimal)
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0').replace('.', self.decimal)}e{int(power)}"

    def change(self, before: float, after: float) -> str:
        """The change in percent, with its sign."""
        if not before:
            return ""
        part = 100 * (after - before) / before
        return f"{'+' if part > 0 else ''}{self.number(part, 0 if abs(part) >= 10 else 1)}{THIN}%"

    def share(self, part: float, decimals: int = 0) -> str:
        """A fraction in percent."""
        return f"{self.number(100 * part, decimals)}{THIN}%"

    def size(self, count: float) -> str:
        """Bytes as people read them: `106 kB`."""
        for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if count >= size:
                return f"{self.short(count / size)}{THIN}{unit}"
        return f"{self.number(count)}{THIN}B"

    def amount(self, count: float) -> str:
        """A large number in millions or billions: `0.96 M`, `1.56 B`."""
        if count >= 1e9:
            return self.say("billions", count=self.short(count / 1e9))
        return self.say("millions", count=self.short(count / 1e6)) if count >= 1e5 else self.number(count)

    def duration(self, seconds: float) -> str:
        """`46 s`, `2 min 35 s`, `3 h 05 min`, `4 d 3 h`."""
        whole = round(seconds)
        minutes, hours, days = whole // 60, whole // 3600, whole // 86400
        if days:
            return f"{days}{THIN}d {hours % 24}{THIN}h"
        if hours:
            return f"{hours}{THIN}h {minutes % 60:02d}{THIN}min"
        return f"{minutes}{THIN}min {whole % 60:02d}{THIN}s" if minutes else f"{whole}{THIN}s"

    def date(self, written: str) -> str:
        """An ISO 8601 date with its time, in UTC."""
        moment = datetime.fromisoformat(written).astimezone(UTC)
        day = self.say("day", day=moment.day, month=self.months[moment.month - 1], year=str(moment.year))
        return f"{day}, {moment:%H:%M} UTC"

    def _render(self, value: object) -> object:
        return self.number(value) if isinstance(value, int) and not isinstance(value, bool) else value


EN = Language(
    "en",
    ENGLISH | AUDIT_ENGLISH,
    ",",
    ".",
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
PT = Language(
    "pt-BR",
    PORTUGUESE | AUDIT_PORTUGUESE,
    ".",
    ",",
    ("jan.", "fev.", "mar.", "abr.", "maio", "jun.", "jul.", "ago.", "set.", "out.", "nov.", "dez."),
)
LANGUAGES = {"en": EN, "pt": PT}
"""Languages by the values of report.language."""
