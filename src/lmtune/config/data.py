"""`data=`: where the text comes from, what a document is, and what is held out."""

from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from lmtune.config.checks import anchor_paths, check_paths, require
from lmtune.config.keys import Plain, count, default_of, facts_of, key, number, seed
from lmtune.config.ranges import Range, check_number, check_ranges
from lmtune.errors import ConfigError
from lmtune.upstream import explain_word

MANY = 2**53
"""The largest number of documents, bytes or tokens."""

MOST_EPOCHS = 1_000_000

MOST_LANES = 65_536

MOST_MIXED = 10_000
"""Rows of another source per row of `data=` in an epoch, at most."""


SOURCES = ("files", "sources", "path")
"""Keys that name a source; given with a group, they replace the group's own source."""


class DocumentRule(Enum):
    """What one document is."""

    file = "file"
    """The whole file."""
    blank_line = "blank_line"
    """The text between two blank lines."""
    line = "line"
    """Every line that is not blank."""
    row = "row"
    """A row of the table (Hub, jsonl, csv, parquet)."""
    wikitext = "wikitext"
    """One article, from one ` = Title = ` to the next."""


class UnicodeForm(Enum):
    """The Unicode form of the text before it is encoded."""

    as_is = "as_is"
    nfc = "nfc"
    """Accents composed with their letters, as nearly all Portuguese text on the web has them."""


class SplitRule(Enum):
    """How documents are held out."""

    hash = "hash"
    """By a seeded hash of the text: a document stays on its side of the split when others are added."""
    stretches = "stretches"
    """Contiguous stretches of few, large documents."""
    given = "given"
    """By the source itself: its own splits, or data.validation_files."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """Files and the settings for reading them."""

    files: Any
    text_column: Any
    encoding: str
    documents: DocumentRule | None


def load_part(number: int, entry: Plain, own: FilePart) -> FilePart:
    """An entry of data.sources; what it leaves out is taken from `own`. Raises ConfigError for unknown keys and wrong values."""
    key = f"data.sources.{number}"
    names = [item.name for item in fields(FilePart)]
    require(
        isinstance(entry, dict),
        key,
        entry,
        f"an entry such as {{files:a.csv,text_column:body}} with {', '.join(names)}",
    )
    unknown = [str(name) for name in entry if name not in names]
    require(not unknown, f"{key}.{', '.join(unknown)}", "...", f"keys among {', '.join(names)}")
    require(
        entry.get("files") is not None, f"{key}.files", entry.get("files"), "a path, a glob, a folder or a list of them"
    )
    check_paths(f"{key}.files", entry["files"])
    given = {name: value for name, value in entry.items() if value is not None}
    column = given.get("text_column", own.text_column)
    check_column(f"{key}.text_column", column)
    given["text_column"] = read_breaks(column)
    require(
        isinstance(given.get("encoding", ""), str), f"{key}.encoding", given.get("encoding"), "the name of an encoding"
    )
    if "documents" in given and not isinstance(given["documents"], DocumentRule):
        rules = [rule.value for rule in DocumentRule]
        if given["documents"] not in rules:
            raise ConfigError(explain_word(f"{key}.documents", str(given["documents"]), rules))
        given["documents"] = DocumentRule(given["documents"])
    return replace(own, **given)


def check_column(key: str, column: object) -> None:
    """Raise ConfigError unless a column is named, or a list of them."""
    names = column if isinstance(column, list) else [column]
    is_named = bool(names) and all(isinstance(name, str) and name for name in names)
    require(is_named, key, column, "a column, a path or a template, or a list of them")


def read_breaks(column: Any) -> Any:
    """A checked column with `\\n` and `\\t` in templates as a line end and a tab, which a shell passes on as two characters."""
    if isinstance(column, list):
        return [read_breaks(each) for each in column]
    return column.replace("\\n", "\n").replace("\\t", "\t") if "{" in column else column


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """Where the text comes from, what a document is, and what is held out."""

    name: str = key("files", identity=False)
    """Name of the group, used for the run folder and in results.json. Only a label: it selects nothing."""
    language: str | None = key(None, identity=False)
    """Language of the text as an ISO 639-1 code, for the model card."""
    license: str | None = key(None, literal=True, yields_to=SOURCES, identity=False, weights=False)
    """Licence of the text, for the model card."""
    homepage: str | None = key(None, literal=True, yields_to=SOURCES, identity=False, weights=False)
    """Web page that describes the text, for the model card."""
    citation: str | None = key(None, literal=True, yields_to=SOURCES, identity=False, weights=False)
    """How to cite the text, for the model card."""
    path: str | None = key(None, literal=True, chooses="hub", located=True, yields_to=("files", "sources"))
    """Hub id of a dataset, or a folder with one; alone it means `data=hub`."""
    subset: str | None = key(None, located=True, yields_to=SOURCES)
    """Configuration of the Hub dataset, such as `20231101.pt`."""
    revision: str | None = key(None, located=True, yields_to=SOURCES)
    """Branch, tag or commit of the Hub dataset."""
    train_split: str = key("train", located=True, yields_to=SOURCES)
    """Split of the Hub dataset to train on."""
    validation_split: str | None = key(None, yields_to=SOURCES)
    """Split of the Hub dataset to hold out; without one, documents of the training split are held out."""
    test_split: str | None = key(None, yields_to=SOURCES)
    """Split of the Hub dataset to keep as a test set, which `eval.split=test` scores."""
    files: Any = key(None, literal=True, several=True, chooses="files", located=True, yields_to=("path", "sources"))
    """Path, glob or folder of the text, or a list of them; replaces the Hub dataset."""
    validation_files: Any = key(None, literal=True, several=True, located=True, yields_to=("path",))
    """Files to hold out, instead of documents from `files`."""
    sources: Any = key(None, chooses="files", located=True, yields_to=("path", "files"))
    """Instead of `files`, a list of files with settings of their own: `[{files: a.csv, text_column: body}, {files: b.txt,
    documents: line, encoding: cp1252}]`. Settings that an entry leaves out are those of `data.*`."""
    text_column: Any = key("text", literal=True, several=True, yields_to=SOURCES)
    """Column, dotted path (`translation.pt`, `messages.0.content`) or template (`{title}\\n\\n{text}`, where `\\n` is a line end
    and `\\t` a tab) of the text; of a list of them, the first that exists is used."""
    documents: DocumentRule | None = key(None, yields_to=SOURCES)
    """What one document is; by default a file for .txt, a row for tables."""
    rows_per_document: int = count(1, least=1, yields_to=SOURCES)
    """Number of consecutive rows to join by line breaks into one document, for sources whose rows are sentences."""
    deduplicate: bool = False
    """Drop exact duplicates of rows (or documents), before rows are joined."""
    where: dict[str, Any] = key(dict, open=True)
    """Keep only table rows with these values in these columns or paths: `data.where={lang:pt}`. A list accepts any of its
    values."""
    unicode: UnicodeForm = UnicodeForm.as_is
    """Unicode form of the text: `as_is` leaves it unchanged, `nfc` composes accents with their letters."""
    min_chars: int = count(0)
    """Drop documents with fewer characters than this."""
    max_documents: int | None = count(None, least=1, largest=MANY)
    """Keep only this many documents, the first of the source."""
    max_bytes: int | None = count(None, least=1, largest=MANY)
    """Keep only documents that begin within this many UTF-8 bytes of the start of the source."""
    encoding: str = "utf-8"
    """Encoding of text files, of text in tables and of columns of bytes. A byte-order mark is recognised."""
    validation_fraction: float = number(0.05, least=0, below=1)
    """Share of the documents to hold out. Has no effect if the source names what to hold out, by `data.validation_split` or
    `data.validation_files`."""
    test_fraction: float = number(0.0, least=0, below=1)
    """Share of the documents to keep as a test set, which `eval.split=test` scores."""
    split_by: SplitRule | None = None
    """How documents are held out; by default `hash`, or `stretches` if there are fewer than 20 or one has over a quarter of the
    text."""
    seed: int = seed(42)
    """Seed of the split, which decides which documents are held out, whatever the `seed=` of a training."""
    block_size: int | None = count(None, least=2, unit="tokens", identity=False)
    """Tokens per training row; by default the positions of the model, at most 1024."""
    packing: bool = key(True, identity=False, always_asks=True)
    """Fill rows with the text end to end. With `false` each document has rows of its own, the last of them padded."""
    stride: int = count(0, unit="tokens", identity=False)
    """Tokens that a row repeats from the end of the previous one as context; they are not learned again."""
    isolate_documents: bool = key(False, identity=False)
    """Keep tokens from attending to other documents in their row; positions restart at each document. Refused if a trial shows that
    the model does not keep documents apart. The mask rules out flash attention on a GPU."""
    mix: dict[str, float] = key(dict, open=True, identity=False)
    """Sources by group name, with their shares of an epoch: `data.mix={bio:0.7,pt-wiki:0.3}`. `data=` itself is one of them and
    gives each of its rows once per epoch; the others give as many rows as their shares require. While streaming, all sources are
    streams."""
    prepared: list[str] = key(list, several=True, identity=False)
    """While streaming: sources of `data.mix` to prepare whole, such as small ones with few files."""
    streaming: bool = key(False, late=True)
    """Read and encode the text during training; needs `training.max_steps`."""
    shuffle_blocks: int = count(8192, least=1, identity=False)
    """While streaming: number of consecutive rows to shuffle together; 1 keeps the order of the source."""
    lanes: int = count(1, least=1, most=MOST_LANES, identity=False)
    """While streaming: number of lanes that the files are dealt into. Batches come from the lanes in turn, so that a process reads
    only the lanes of its own batches. Must be a multiple of the number of processes."""
    epochs: float = number(3.0, above=0, most=MOST_EPOCHS, identity=False)
    """Recommended number of passes over the text; `training.num_train_epochs` follows it."""
    prompts: list[str] = key(list, literal=True, several=True, identity=False, weights=False)
    """Prompts in the language of the data, which the model continues at each evaluation."""

    def __post_init__(self) -> None:
        check_ranges(self, "data.")
        require(
            self.validation_fraction + self.test_fraction < 1,
            "data.validation_fraction + data.test_fraction",
            self.validation_fraction + self.test_fraction,
            "below 1, so that something is left to train on",
        )
        self._check_mix()
        if not self.packing and (self.stride or self.streaming):
            other = "data.stride" if self.stride else "data.streaming"
            raise ConfigError(
                f"data.packing=false gives each document rows of its own; found {other} beside it, which is for text end to end. "
                "Choose one of the two."
            )
        require(
            not self.streaming or self.split_by is not SplitRule.stretches,
            "data.split_by",
            "stretches",
            "hash or given with data.streaming=true, since stretches need the whole text",
        )
        self._check_lanes()
        check_paths("data.files", self.files)
        check_column("data.text_column", self.text_column)
        self.text_column = read_breaks(self.text_column)
        _ = self.parts
        check_paths("data.validation_files", self.validation_files)

    def _check_lanes(self) -> None:
        """Raise ConfigError for settings by which what is kept of a file depends on files of other lanes."""
        if self.streaming and self.lanes > 1 and self.counted:
            key = f"data.{self.counted[0]}"
            raise ConfigError(
                f"data.lanes={self.lanes} and {key} do not go together, found both: each lane is read by itself, and {key} counts "
                f"from the start of the text. Give data.lanes=1, or leave {key} out."
            )

    def _check_mix(self) -> None:
        others = [name for name in self.mix if name != self.name]
        for name in self.prepared:
            require(name in others, "data.prepared", name, "names of other sources of data.mix")
        if not self.mix:
            return
        if self.name not in self.mix or len(self.mix) < 2:
            raise ConfigError(
                f"data.mix={{{', '.join(self.mix)}}}: expected {self.name}, which data= names, and at least one other. "
                f"Write for instance data.mix={{{self.name}:0.7,pt-wiki:0.3}}."
            )
        for name, weight in self.mix.items():
            check_number(f"data.mix.{name}", weight, Range(above=0))
            require(
                weight <= MOST_MIXED * self.mix[self.name],
                f"data.mix.{name}",
                weight,
                f"at most {MOST_MIXED:,} times the weight of {self.name}, which decides the length of an epoch",
            )

    @property
    def holds_out(self) -> bool:
        """True if some text will be held out for validation."""
        return self.validation_fraction > 0 or self.validation_files is not None or self.validation_split is not None

    @property
    def counted(self) -> list[str]:
        """Settings by which what is kept of a file depends on the files before it."""
        return [name for name in ("deduplicate", "max_documents", "max_bytes") if getattr(self, name)]

    @property
    def given_files(self) -> Any:
        """Path, glob or folder, or a list of them, from `files` or all `sources`; None for a data set of the Hub."""
        if self.sources is None:
            return self.files
        return [path for part in self.parts for path in (part.files if isinstance(part.files, list) else [part.files])]

    @property
    def origin(self) -> Plain:
        """Where the text is and which part of it is read; equal for two names of one text."""
        files = anchor_paths(self.given_files)
        names = ("path", "subset", "revision", "train_split", "text_column", "where")
        return {name: getattr(self, name) for name in names} | {"files": [files] if isinstance(files, str) else files}

    @property
    def parts(self) -> list[FilePart]:
        """Files to train on, with the settings for reading them. Raises ConfigError for invalid `sources`."""
        own = FilePart(self.files, self.text_column, self.encoding, self.documents)
        if self.sources is None:
            return [own]
        require(self.files is None, "data.files", self.files, "only one of data.files and data.sources")
        require(
            isinstance(self.sources, list) and bool(self.sources),
            "data.sources",
            self.sources,
            "a list such as [{files:a.csv,text_column:body},{files:b.txt,documents:line}]",
        )
        return [load_part(number, entry, own) for number, entry in enumerate(self.sources)]

    def anchor(self) -> None:
        """Make relative paths absolute, so that the record of a run means the same files from anywhere."""
        if self.sources is not None:
            self.sources = [{**entry, "files": anchor_paths(entry["files"])} for entry in self.sources]
        self.files, self.validation_files = anchor_paths(self.files), anchor_paths(self.validation_files)

    def check_source(self) -> None:
        """Raise ConfigError unless there is something to read."""
        if self.given_files is None and self.path is None:
            wanted = "data.path=" if self.name == "hub" else "data.files="
            example = "an id, such as data.path=Salesforce/wikitext"
            if self.name != "hub":
                example = "a path, a glob or a folder, such as data.files='texts/*.txt'"
            raise ConfigError(
                f"data={self.name} needs {wanted}, found none. Give {example}, or choose a named data set: data=sample, data=bio."
            )


def select_settings(config: DataConfig, *, located: bool = False) -> dict[str, Any]:
    """Settings, by name, that decide which text is read and which part of it is held out.

    located: include those that say where the text is; prepared text is identified by its content instead.
    """
    chosen = {}
    for item in fields(config):
        facts, value = facts_of(item), getattr(config, item.name)
        if facts.identity and (located or not facts.located) and not (facts.late and value == default_of(item)):
            chosen[item.name] = value
    return chosen


def is_split_alike(one: DataConfig, other: DataConfig) -> bool:
    """True where both take the same text, and hold out the same part of it."""
    return select_settings(one, located=True) == select_settings(other, located=True)


def load_data_config(plain: Plain, run_seed: int = 42) -> DataConfig:
    """The data section of a run's config.yaml. Its strings are literal: no interpolation is resolved again.

    run_seed: the seed of the run, which split the text before the split had a seed of its own.
    """
    rules: dict[str, type[Enum]] = {"documents": DocumentRule, "split_by": SplitRule, "unicode": UnicodeForm}
    enums = {name: kind(plain[name]) for name, kind in rules.items() if plain.get(name)}
    return DataConfig(**{"seed": run_seed, **plain, **enums})
