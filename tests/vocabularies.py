"""Small tokenizers of each family, made on the spot from a few words."""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

WORDS = [
    "O paciente voltou para casa.",
    "The old house stood in 1907, and the river rose.",
    "Über naïve café, été à Paris!",
]
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>"]


def wrap(tokenizer, bos=False, end="</s>", **settings):
    """A transformers tokenizer with the usual special tokens; with bos it puts `<s>` before each text."""
    named = {"bos_token": "<s>", "eos_token": end, "pad_token": "<pad>", **settings}
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **named)
    if bos:
        post = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", whole.bos_token_id)])
        whole.backend_tokenizer.post_processor = post
    return whole


def build_byte_level(bos=False, normalizer=None, words=True):
    """Byte-level BPE: no text is unknown to it. words: merges stay inside words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    return wrap(tokenizer, bos)


def build_unigram(bos=False, byte_fallback=False):
    """As SentencePiece's: special tokens stand in its own vocabulary, letters it has not seen are unknown or bytes."""
    letters = sorted({letter for text in WORDS for letter in text.replace(" ", "\u2581")})
    entries = [
        *SPECIAL,
        *([f"<0x{byte:02X}>" for byte in range(256)] if byte_fallback else []),
        *letters,
        "\u2581the",
        "casa",
    ]
    vocab = [(entry, 0.0 if entry in SPECIAL else -1.0 - len(entries) / 1000) for entry in entries]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=3, byte_fallback=byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    back = decoders.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), back]) if byte_fallback else back
    return wrap(tokenizer, bos, unk_token="<unk>")


def build_word_level(bos=False):
    """Words between blanks; a word that it has not seen is unknown."""
    words = sorted({word for text in WORDS for word in text.split()})
    vocab = {entry: number for number, entry in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return wrap(tokenizer, bos, unk_token="<unk>")


def build_word_piece(bos=False):
    """As BERT's: lower-cased, words and punctuation, pieces of words."""
    letters = sorted({letter for text in WORDS for letter in text.lower() if letter != " "})
    vocab = {entry: number for number, entry in enumerate([*SPECIAL, *letters, *(f"##{letter}" for letter in letters)])}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    return wrap(tokenizer, bos, unk_token="<unk>")


def build_llama_like(bos=False, split=False):
    """As Llama's: blanks are letters, unseen letters bytes, and merges go over the whole text; split: inside words alone."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    names = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=names, show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    described = json.loads(tokenizer.to_str())
    described["added_tokens"] = [token for token in described["added_tokens"] if token["content"] in SPECIAL]
    tokenizer = Tokenizer.from_str(json.dumps(described))
    if not split:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    back = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(back)
    return wrap(tokenizer, bos, unk_token="<unk>")


def build_split(*parts, gaps=False, learn=False):
    """Byte-level BPE whose texts go through other pre-tokenizers first.

    gaps: control bytes and digit 7 have no entry. learn: whole texts were learned as one word, and are split by `parts` alone.
    """
    tokenizer = build_byte_level(words=not learn).backend_tokenizer
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not learn)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, last])
    if gaps:
        described = json.loads(tokenizer.to_str())
        lacking = {*"\u0100\u0101\u0102\u0103\u01047"}
        kept = [entry for entry in described["model"]["vocab"] if not lacking & set(entry)]
        described["model"]["vocab"] = {entry: number for number, entry in enumerate(kept)}
        described["model"]["merges"] = [
            pair for pair in described["model"]["merges"] if not lacking & set("".join(pair))
        ]
        tokenizer = Tokenizer.from_str(json.dumps(described))
    return wrap(tokenizer)
