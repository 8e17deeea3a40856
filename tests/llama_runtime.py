"""llama.cpp as it ships in xllamacpp: what it makes of a text and of ids with an exported file."""

import json
import urllib.request

import numpy as np


class Runtime:
    """A file loaded by llama.cpp on one thread, with keys and values in float32."""

    def __init__(self, file, context):
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(file)
        params.n_ctx, params.n_parallel, params.warmup = context, 1, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.server = xllamacpp.Server(params)
        self.harmless = self.encode("a")[0]

    def ask(self, path, **body):
        request = urllib.request.Request(
            self.server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def encode(self, text, special=False):
        """Ids of a text; special: with what opens it, and control tokens read as such."""
        return self.ask("/tokenize", content=text, add_special=special, parse_special=special)["tokens"]

    def decode(self, ids):
        return self.ask("/detokenize", tokens=ids)["content"]

    def continue_greedily(self, ids, count):
        return self.ask("/completion", prompt=ids, n_predict=count, temperature=0, return_tokens=True)["tokens"]

    def rank(self, ids, entries):
        """[entries] log-probabilities of the token after `ids`, as they are before a harmless one is forced."""
        found = self._force(ids, self.harmless, entries)["top_logprobs"]
        scores = np.full(entries, np.nan)
        scores[[each["id"] for each in found]] = [each["logprob"] for each in found]
        return scores - np.log(np.exp(scores).sum())  # a sum of many numbers in float32 is off by 1e-4

    def score(self, ids, target, entries):
        """The log-probability of `target` after `ids`."""
        found = self._force(ids, target, 1)
        return self.rank(ids, entries)[target] if found is None else found["logprob"]

    def _force(self, ids, target, count):
        """What is told of the next token, where `target` is made the likeliest; nothing of one that is no text by itself."""
        answer = self.ask(
            "/completion", prompt=ids, n_predict=1, n_probs=count, temperature=0, logit_bias=[[target, 1e6]]
        )
        return next(iter(answer.get("completion_probabilities", [])), None)
