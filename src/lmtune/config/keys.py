"""Facts about a key besides its type and its default, kept in the metadata of its field.

    min_chars: int = count(0, unit="characters")
    language: str | None = key(None, identity=False)

By default a key counts for prepared text and for the weights of a run: a fact that was forgotten costs a computation, but
never gives the numbers of another text. The facts about the fields of TrainingArguments, which are not ours, are in
training_arguments.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, field, fields
from typing import Any, TypeAlias

from lmtune.config.ranges import LARGEST_SEED, Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The facts about a key that commands use."""

    literal: bool = False
    """Free text: everything after `=` is the value, quotes, commas and braces included."""
    several: bool = False
    """Takes one value or a list: text that opens with `[` is a list, and a key that holds a list takes a single value too."""
    open: bool = False
    """The keys below it may have any name; they are checked once the model or the table is known."""
    chooses: str = ""
    """The choice that it implies if its group is not chosen: data.files=x means data=files."""
    yields_to: tuple[str, ...] = ()
    """Keys of its section: if one of them is typed, this key is reset to its default, whatever the chosen group sets."""
    absent: str = ""
    """For a section that is absent unless its group is chosen: what happens without it."""
    always_asks: bool = False
    """0 or false asks for something, instead of leaving something out."""
    follows: str = ""
    """The key whose value it takes unless it is set itself."""
    names_run: str = ""
    """Takes `last` and parts of the name of a run for that run. model: it has to lead to one run; folder: a folder may hold
    several."""
    words: tuple[str, ...] = ()
    """Words with a meaning of their own, for a key that takes names or paths beside them."""
    one_per_job: bool = False
    """Names a folder that each job of a sweep needs for itself."""
    of_start: bool = False
    """Says how a process starts, not what the run is; it is not restored when the run is resumed."""

    identity: bool = True
    """In data=: decides which text is read and which part is held out, so that another value means other prepared text."""
    located: bool = False
    """In data=: says where text is. What is found there counts instead: its content, or while streaming its name, size and date."""
    late: bool = False
    """In data=: was added later, and counts only if it differs from the default, so that text prepared before stays valid."""

    weights: bool = True
    """In a training: decides the weights, so that a run is resumed only with the same value. For a section: all keys below it."""
    anew: bool = False
    """In a training: a completed run may be asked for with another value."""

    internal: bool = False
    """Not a key: composition fills it in."""
    names: str = ""
    """For a section whose keys are those of a class of transformers: training or generation."""


USUAL = Facts()

Plain: TypeAlias = dict[str, Any]
"""A configuration, or settings of transformers by name, as plain YAML values."""

KeyField: TypeAlias = "Field[Any]"
"""The dataclass field of a key, of any type."""


def key(default: object, allowed: Range | None = None, **facts: Any) -> Any:
    """A field with facts. default: a value, or a callable that makes one (list, dict, a class)."""
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
    """True for a field whose value is a list, or a list or None, but not for one that takes one or several values."""
    options = (item.type, *getattr(item.type, "__args__", ()))
    return any(getattr(option, "__origin__", None) is list for option in options)


def holds_plain_list(item: KeyField) -> bool:
    """True for a field whose value is a list of words or numbers."""
    return holds_list(item) and section_of(item.type) is None


def section_of(annotation: Any) -> type | None:
    """The dataclass that an annotation names, also in `X | None` and list[X]; None if it names none."""
    options = getattr(annotation, "__args__", (annotation,))
    return next((option for option in options if hasattr(option, "__dataclass_fields__")), None)


def walk(schema: type, prefix: str = "", *, internal: bool = False) -> Iterator[tuple[str, KeyField]]:
    """Yield (dotted key, field) for a dataclass and its nested sections, in order.

    internal: include internal fields, but nothing below them.
    """
    for item in fields(schema):
        hidden = facts_of(item).internal
        if hidden and not internal:
            continue
        yield prefix + item.name, item
        section = None if hidden else section_of(item.type)
        if section is not None:
            yield from walk(section, f"{prefix}{item.name}.", internal=internal)


DEVICES = ("auto", "cpu", "cuda", "mps")
"""Words that `device=` takes, beside `cuda:<n>`."""

_FACTS = {item.name for item in fields(Facts)}
