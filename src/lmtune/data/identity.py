"""Which text a corpus is: a key that changes with whatever decides what is read and held out."""

import numpy as np
import xxhash

from lmtune.config import DataConfig
from lmtune.data import cache
from lmtune.data.past import Past
from lmtune.data.sources import Source
from lmtune.patience import saying

IDENTITY = [
    "text_column",
    "documents",
    "rows_per_document",
    "deduplicate",
    "min_chars",
    "unicode",
    "where",
    "max_documents",
    "max_bytes",
    "encoding",
    "validation_fraction",
    "test_fraction",
    "split_by",
    "validation_split",
    "test_split",
]
"""Settings that decide what is read and held out."""


def build_key(config: DataConfig, source: Source, seed: int, left_out: np.ndarray, past: Past | None) -> str:
    """The key of a text by the content of its source. Of a stream, which is not read for it, names, sizes and dates have to do.

    left_out: [documents] uint64 hashes of documents that are held out elsewhere. past: what the model knows already.
    """
    known = {} if past is None else {"past": past.identify()}
    settings = {name: getattr(config, name) for name in IDENTITY}
    if config.streaming:
        settings |= {"streaming": True, "train_split": config.train_split}
        return cache.key_of({"source": source.describe(), **known, "seed": seed, **settings})
    with saying("reading the files for their checksums"):
        fingerprint = source.fingerprint()
    content = {"source": fingerprint, "left_out": xxhash.xxh3_128_hexdigest(left_out.tobytes())}
    return cache.key_of({**content, **known, "rules": source.rules, "seed": seed, **settings})
