"""A byte-level BPE vocabulary as GGUF has it, and the tokenizer that llama.cpp makes of it.

GGUF names the way a text is split, and llama.cpp has a regular expression for each name. So a vocabulary is written only where it
splits as one of SPLITTERS, which were proven to give the same ids (tests/integration/test_llama_cpp.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

from lmtune.errors import ModelError
from lmtune.vocabulary import count_ids, encode_opening

if TYPE_CHECKING:
    from gguf import GGUFReader, GGUFWriter
    from transformers import PreTrainedTokenizerBase

Json = dict[str, Any]

BYTE_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
SPLITTERS: dict[str, list[Json]] = {
    "gpt-2": [BYTE_LEVEL],
    "smollm": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL],
}
"""Steps of tokenizers that split a text as GGUF's tokenizer.ggml.pre of that name does."""
PLAIN_MODEL: dict[str, tuple[object, ...]] = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "ignore_merges": (None, False),
}
"""Settings of a BPE, and the values with which llama.cpp merges."""
FLAGS = ("single_word", "lstrip", "rstrip")
"""Flags of an added token that change how blanks or words around it are treated. llama.cpp has none of them."""
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""GGUF's types of tokens."""
SPECIAL_IDS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "unk_token_id": "tokenizer.ggml.unknown_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
SAFETENSORS = "Give to=safetensors, which takes every tokenizer."


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokenizer, as a GGUF file holds it."""

    splitter: str
    """A key of SPLITTERS."""
    tokens: list[str]
    """One for each row of the embedding, byte-level; added ones as they are typed."""
    types: list[int]
    merges: list[str]
    """Two tokens each, a blank between them, the first merged first."""
    ids: dict[str, int]
    """Special ids by GGUF's key."""
    opens: bool
    """BOS stands before each text."""
    template: str | None
    """The chat template, in Jinja."""

    @property
    def unused(self) -> int:
        """Rows that no token has."""
        return self.types.count(UNUSED)

    @property
    def missing(self) -> int:
        """Bytes that no token stands for. Where they are in a text, they are left out of its ids, by llama.cpp too."""
        return _count_missing(self.tokens)


def collect_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int) -> Vocabulary:
    """The vocabulary of a tokenizer for an embedding of so many rows. Raises ModelError for what llama.cpp would read otherwise."""
    described = _describe(tokenizer)
    added = described["added_tokens"]
    tokens = _list_tokens(tokenizer, rows)
    types = [UNUSED if token is None else NORMAL for token in tokens]
    for token in added:
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    return Vocabulary(
        splitter=_find_splitter(described),
        tokens=_fill(tokens),
        types=types,
        merges=[each if isinstance(each, str) else " ".join(each) for each in described["model"]["merges"]],
        ids={key: value for name, key in SPECIAL_IDS.items() if (value := getattr(tokenizer, name)) is not None},
        opens=_opens(tokenizer),
        template=tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    )


def _describe(tokenizer: PreTrainedTokenizerBase) -> Json:
    """tokenizer.json of a byte-level BPE. Raises ModelError for any other, and for settings that llama.cpp does not know."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _refuse(f"a {type(tokenizer).__name__} written in Python")
    described: Json = json.loads(backend.to_str())
    _check_model(described["model"])
    if described["normalizer"] is not None:
        raise _refuse(f"one that changes the text first (normalizer {described['normalizer']['type']})")
    _check_added(described["added_tokens"])
    return described


def _check_model(model: Json) -> None:
    if model["type"] != "BPE":
        raise _refuse(f"one of the kind {model['type']}")
    for name, allowed in PLAIN_MODEL.items():
        if model.get(name) not in allowed:
            raise _refuse(f"{name}={model[name]}")
    if not model["merges"]:
        raise _refuse("one without merges")
    missing = _count_missing(model["vocab"])
    if missing and model["unk_token"] is not None:
        raise _refuse(f"one without {missing} of the 256 bytes, for which it has {model['unk_token']!r}")


def _check_added(added: list[Json]) -> None:
    for token in added:
        flag = next((flag for flag in FLAGS if token[flag]), None)
        if flag is not None:
            raise _refuse(f"the added token {token['content']!r} with {flag}=true")
    pair = _find_overlap([token["content"] for token in added if not token["special"]])
    if pair is not None:
        raise _refuse(f"the added tokens {pair[0]!r} and {pair[1]!r}, which may overlap in a text")


def _count_missing(tokens: Iterable[str]) -> int:
    from tokenizers import pre_tokenizers

    return len(set(pre_tokenizers.ByteLevel.alphabet()).difference(tokens))


def _find_overlap(words: list[str]) -> tuple[str, str] | None:
    """Two words of which one may begin inside the other: tokenizers takes the first of them, llama.cpp the longest."""
    return next(((one, other) for one, other in permutations(words, 2) if _overlap(one, other)), None)


def _overlap(one: str, other: str) -> bool:
    if len({*one, *other}) == 1:  # blanks in a row: either takes the longest first
        return False
    return any(one.endswith(other[:size]) for size in range(1, min(len(one), len(other))))


def _find_splitter(described: Json) -> str:
    found = described["pre_tokenizer"] or {"type": "none"}
    steps = found["pretokenizers"] if found["type"] == "Sequence" else [found]
    plain = [{name: value for name, value in step.items() if name != "trim_offsets"} for step in steps]
    for name, known in SPLITTERS.items():
        if plain == known:
            return name
    kinds = ", ".join(step["type"] for step in steps)
    raise _refuse(f"one that splits texts by {kinds}, unlike GPT-2's and SmolLM2's")


def _list_tokens(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[str | None]:
    """The token of each row, None where there is none."""
    if count_ids(tokenizer) > rows:
        raise ModelError(
            f"The tokenizer has ids up to {count_ids(tokenizer) - 1:,}, the embedding of the model {rows:,} rows. Give a "
            "checkpoint whose tokenizer belongs to its weights."
        )
    tokens: list[str | None] = [None] * rows
    for token, index in tokenizer.get_vocab().items():
        tokens[index] = token
    return tokens


def _fill(tokens: list[str | None]) -> list[str]:
    """The same with a name for each row without a token: llama.cpp wants as many as there are rows, all different."""
    taken = set(tokens)
    names = (name for number in range(2 * len(tokens)) if (name := f"[PAD{number}]") not in taken)
    return [next(names) if token is None else token for token in tokens]


def _opens(tokenizer: PreTrainedTokenizerBase) -> bool:
    """True where a text begins with BOS. Raises ModelError where it begins with anything else."""
    opening = encode_opening(tokenizer)
    if opening not in ((), (tokenizer.bos_token_id,)):
        raise _refuse(f"one that puts the ids {list(opening)} before a text")
    return opening != ()


def _refuse(found: str) -> ModelError:
    return ModelError(
        f"to=gguf takes byte-level BPE vocabularies, as GPT-2 has one and lmtune tokenizer learns them; found {found}, for which "
        f"llama.cpp was not seen to give the same ids. {SAFETENSORS}"
    )


def write_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    """Give the keys of a vocabulary to a file that is being written."""
    writer.add_tokenizer_model("gpt2")  # llama.cpp's word for byte-level BPE, whichever model it is of
    writer.add_tokenizer_pre(vocabulary.splitter)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    for key, index in vocabulary.ids.items():
        writer.add_uint32(key, index)
    writer.add_add_bos_token(vocabulary.opens)
    writer.add_add_eos_token(False)
    if vocabulary.template is not None:
        writer.add_chat_template(vocabulary.template)


def load_vocabulary(reader: GGUFReader) -> Vocabulary:
    """The vocabulary in a file."""

    def get(key: str) -> Any:
        found = reader.get_field(f"tokenizer.{key}")
        return None if found is None else found.contents()

    return Vocabulary(
        splitter=get("ggml.pre"),
        tokens=get("ggml.tokens"),
        types=get("ggml.token_type"),
        merges=get("ggml.merges"),
        ids={key: field.contents() for key in SPECIAL_IDS.values() if (field := reader.get_field(key)) is not None},
        opens=get("ggml.add_bos_token"),
        template=get("chat_template"),
    )


def build_tokenizer(vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
    """The tokenizer that knows nothing but a vocabulary of GGUF, and encodes as llama.cpp does."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    added = [
        {"id": index, "content": token, "special": kind == CONTROL, "normalized": False, **dict.fromkeys(FLAGS, False)}
        for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind in (CONTROL, USER_DEFINED)
    ]
    model = {
        "type": "BPE",
        "vocab": {token: index for index, token in enumerate(vocabulary.tokens)},
        "merges": vocabulary.merges,
    }
    steps = [
        {"trim_offsets": True, **step} if step["type"] == "ByteLevel" else step
        for step in SPLITTERS[vocabulary.splitter]
    ]
    described = {
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor")),
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
        "decoder": {**BYTE_LEVEL, "trim_offsets": True},
        "model": model,
    }
    backend = Tokenizer.from_str(json.dumps(described))
    if vocabulary.opens:
        bos = vocabulary.ids[SPECIAL_IDS["bos_token_id"]]
        name = vocabulary.tokens[bos]
        backend.post_processor = processors.TemplateProcessing(single=f"{name} $A", special_tokens=[(name, bos)])
    names = {
        name.removesuffix("_id"): vocabulary.tokens[vocabulary.ids[key]]
        for name, key in SPECIAL_IDS.items()
        if key in vocabulary.ids
    }
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)
