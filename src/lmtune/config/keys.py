"""What is true of a key besides its type and its default, kept in the metadata of its field.

    min_chars: int = count(0, unit="characters")
    language: str | None = key(None, identity=False)

A key counts for prepared text and for the weights of a run unless it says otherwise: a fact that was forgotten costs a
computation, and never gives a number of another text. For the fields of TrainingArguments, which are not ours,
training_arguments.py says the same.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeAlias

from lmtune.config.ranges import LARGEST_SEED, Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What commands ask about a key."""

    literal: bool = False
    """Free text: everything after `=` is the value, quotes, commas and braces included."""
    several: bool = False
    """Takes one value or a list: a text that opens with `[` is one, and a key that holds a list makes one of a single value."""
    open: bool = False
    """Its own keys may have any name; they are checked once the model or the table is known."""
    chooses: str = ""
    """The choice of its group that it implies where no group is chosen: data.files=x means data=files."""
    yields_to: tuple[str, ...] = ()
    """Keys of its section: where one of them is typed, this key is reset to its default, whatever the chosen group says."""
    absent: str = ""
    """What happens without a section that is absent unless a group is chosen."""
    always_asks: bool = False
    """Its 0 or false asks for something, and does not merely leave something out."""
    follows: str = ""
    """The key whose value it takes over unless it is set itself."""
    names_run: str = ""
    """`last` and parts of the name of a run mean that one. model: a folder has to hold one; folder: it may hold several."""
    one_per_job: bool = False
    """Names a folder, of which each job of a sweep needs one of its own."""
    of_start: bool = False
    """Says how a process starts, and nothing about the run; it is not restored when the run is resumed."""

    identity: bool = True
    """Under data=: decides which text is read and which of it is held out, so that prepared text of another value is another."""
    located: bool = False
    """Under data=: says where text is to be found. What is found there counts instead: its content, or while streaming its
    name, size and date."""
    late: bool = False
    """Under data=: came later, and counts only where it is not the default: text that was prepared before is as good."""

    weights: bool = True
    """Of a training: decides the weights, so that a run is resumed with the same value only. Of a section: all below it."""
    anew: bool = False
    """Of a training: a run that has completed may be asked about with another value."""

    internal: bool = False
    """No key: composition fills it in."""
    names: str = ""
    """A section whose keys are those of a class of transformers: training or generation."""


USUAL = Facts()

Plain: TypeAlias = dict[str, Any]
"""A configuration, or settings of transformers by their names, as the plain values that YAML holds."""

KeyField: TypeAlias = "Field[Any]"
"""The field of a key, whatever its values are."""


def key(default: object, allowed: Range | None = None, **facts: Any) -> Any:
    """A field with facts. default: a value, or what makes one (list, dict, a class)."""
    metadata: dict[str, Facts | Range] = {"facts": Facts(**facts)}
    if allowed is not None:
        metadata["range"] = allowed
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def number(default: float | Callable[[], Sequence[float]] | None, **settings: Any) -> Any:
    """A field for a number, or for a list of them. settings: bounds of its Range, and facts."""
    facts = {name: settings.pop(name) for name in _FACTS & settings.keys()}
    return key(default, Range(**settings), **facts)


def count(default: int | Callable[[], Sequence[int]] | None, least: int = 0, **settings: Any) -> Any:
    """A field for a whole number."""
    return number(default, least=least, whole=True, **settings)


def seed(default: int, **facts: Any) -> Any:
    """A field for a seed."""
    return count(default, most=LARGEST_SEED, always_asks=True, **facts)


def facts_of(item: KeyField) -> Facts:
    """The facts of a field."""
    facts: Facts = item.metadata.get("facts", USUAL)
    return facts


def default_of(item: KeyField) -> Any:
    """The default of a field."""
    return item.default if item.default_factory is NO_DEFAULT else item.default_factory()


def holds_list(item: KeyField) -> bool:
    """True for a field whose value is a list, or a list or None, and not one or several."""
    options = (item.type, *getattr(item.type, "__args__", ()))
    return any(getattr(option, "__origin__", None) is list for option in options)


def holds_plain_list(item: KeyField) -> bool:
    """True for a field whose value is a list of words or numbers."""
    return holds_list(item) and section_of(item.type) is None


def section_of(annotation: Any) -> type | None:
    """The dataclass that an annotation names, `X | None` and list[X] included; None where it names none."""
    options = getattr(annotation, "__args__", (annotation,))
    return next((option for option in options if hasattr(option, "__dataclass_fields__")), None)


def walk(schema: type, prefix: str = "", *, internal: bool = False) -> Iterator[tuple[str, KeyField]]:
    """(dotted key, field) of a dataclass and of those in it, in their order.

    internal: fields that are no keys too, but nothing below them.
    """
    for item in fields(schema):
        hidden = facts_of(item).internal
        if hidden and not internal:
            continue
        yield prefix + item.name, item
        section = None if hidden else section_of(item.type)
        if section is not None:
            yield from walk(section, f"{prefix}{item.name}.", internal=internal)


_FACTS = {item.name for item in fields(Facts)}
