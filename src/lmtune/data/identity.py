"""Which text a corpus is: a key that changes with whatever decides what is read and held out."""

import numpy as np
import xxhash

from lmtune.config import DataConfig
from lmtune.config.data import select_settings
from lmtune.data import cache
from lmtune.data.past import Past
from lmtune.data.sources import Source
from lmtune.patience import saying


def build_key(config: DataConfig, source: Source, seed: int, left_out: np.ndarray, past: Past | None) -> str:
    """The key of a text by the content of its source. Of a stream, which is not read for it, names, sizes and dates have to do.

    left_out: [documents] uint64 hashes of documents that are held out elsewhere. past: what the model knows already.
    """
    known = {} if past is None else {"past": past.identify(), "held_before": "not learned"}
    settings = {**select_settings(config), "seed": seed}
    if config.streaming:
        # Names, sizes and dates of files do not tell which split of them is learned from.
        described = {"source": source.describe(), "train_split": config.train_split}
        if past is not None and len(source.splits()) > 1:
            described["given"] = "without what the model knows"  # a text that was kept before may hold it
        if len(left_out):
            described["left_out"] = xxhash.xxh3_128_hexdigest(left_out.tobytes())
        return cache.key_of({**described, **known, **settings})
    with saying("reading the files for their checksums"):
        fingerprint = source.fingerprint()
    content = {"source": fingerprint, "left_out": xxhash.xxh3_128_hexdigest(left_out.tobytes())}
    if len(left_out):
        content["split_of_rest"] = "by document"  # a text that was kept before may lack stretches of it
    return cache.key_of({**content, **known, "rules": source.rules, **settings})
