"""An exported file is the model in llama.cpp too: the same ids, the same distributions, the same text, the same perplexity."""

import copy
import gzip
import itertools
import math

import numpy as np
import pytest
import torch
from llama_runtime import Runtime
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from vocabularies import SPECIAL, WORDS, build_byte_level, wrap

pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

NASTY = [
    "", " ", "  two  blanks\n\n and\ta tab \n  x_y==1;// {}[]<>  ", "don't, I'LL, É! 1,234.56 U.S.",
    "日本語の文 Привет, мир العربية ﬁ Å ①", "🙂👩‍⚕️ e\u0301 \u200b\ufeff \u00a0x\u3000y", "<|endoftext|> typed", "\r\n\r\n  a\r",
    "O coração às 14h30 não dói; São João, à noite", "٣٤ १२ ²³ Ⅷ", "a" * 300, " " * 70 + "x",
]  # fmt: skip
KINDS = {
    "gpt2": {"n_inner": 96},
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 50_000.0}},
    "qwen2": {"num_hidden_layers": 3},
    "mistral": {"sliding_window": None, "head_dim": 32, "tie_word_embeddings": True},
}
BOUNDS = {"float32": (1e-6, 1.0), "float16": (1e-4, 0.99), "q8_0": (5e-3, 0.9)}
BOUNDS_OF_REAL = {"float32": (1e-6, 1.0), "float16": (1e-4, 0.99), "q8_0": (1e-2, 0.9)}
"""By dtype: mean divergence in nats, and share of places with the same likeliest token."""


def sharpen(model):
    """Larger weights, so that every part of the model shows, and few tokens are nearly as likely as the likeliest."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6)
            else:
                weight.add_(0.05 * torch.randn_like(weight))
    return model


def export(lmtune, model, tokenizer, folder, dtype="float32"):
    from lmtune.modeling.saving import save_model

    save_model(model, copy.deepcopy(tokenizer), folder)  # saving leaves a trace in it
    answer = lmtune("export", f"ckpt={folder}", "to=gguf", f"dtype={dtype}", f"output={folder}-{dtype}", "format=json")
    assert answer.code == 0, answer.err
    (file,) = (name for name in answer.json["files"] if name.endswith(".gguf"))
    return Runtime(f"{folder}-{dtype}/{file}", model.config.max_position_embeddings)


def compare(runtime, model, ids):
    """(mean divergence, share of agreement) over the places of `ids`."""
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()
    found = np.stack([runtime.rank(ids[: place + 1], expected.shape[1]) for place in range(len(ids))])
    agreement = (found.argmax(1) == expected.argmax(1)).mean()
    return float((np.exp(expected) * (expected - found)).sum(1).mean()), float(agreement)


def continue_greedily(model, ids, count):
    made = model.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=count, min_new_tokens=count, pad_token_id=0,
        suppress_tokens=None, eos_token_id=None,
    )  # fmt: skip
    return made[0, len(ids) :].tolist()


def find_perplexity(runtime, ids, context, entries):
    """Windows that share one token; `ids` begin and end with the separator, which the first is predicted from."""
    total = 0.0
    for start in range(0, len(ids) - 1, context):
        window = ids[start : start + context + 1]
        total += sum(runtime.score(window[:place], window[place], entries) for place in range(1, len(window)))
    return math.exp(-total / (len(ids) - 1))


def find_our_perplexity(lmtune, folder, text, tmp_path, context):
    (tmp_path / "held-out.txt").write_text(text, encoding="utf-8")
    answer = lmtune("eval", f"ckpt={folder}", f"data.files={tmp_path / 'held-out.txt'}", "data.documents=file", "device=cpu",
                    f"eval.context={context}", "format=json")  # fmt: skip
    (measures,) = answer.json["eval"].values()
    return measures["perplexity"], measures["tokens"]


def read_lines(file, count):
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return [line.rstrip("\n") for line in itertools.islice(filter(str.strip, stream), count)]


def check_ids(runtime, tokenizer, lines):
    from lmtune.vocabulary import encode_plain

    different = [
        line for line, ids in zip(lines, encode_plain(tokenizer, lines), strict=True) if runtime.encode(line) != ids
    ]
    assert different == []


@pytest.mark.slow
@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_gives_the_same_distributions_and_text(lmtune, build_tiny, tokenizer, texts, tmp_path, kind, dtype):
    from lmtune.vocabulary import encode_plain

    model = sharpen(build_tiny("gpt2" if kind == "gpt2" else "llama", model_type=kind, vocab_size=352, **KINDS[kind]))
    runtime = export(lmtune, model, tokenizer, tmp_path / "model", dtype)
    ids = encode_plain(tokenizer, [" ".join(texts)])[0][:60]
    divergence, agreement = compare(runtime, model, ids)
    assert divergence < BOUNDS[dtype][0]
    assert agreement >= BOUNDS[dtype][1]
    check_ids(runtime, tokenizer, [*NASTY, *texts])
    if dtype == "float32":
        assert runtime.continue_greedily(ids[:8], 40) == continue_greedily(model, ids[:8], 40)


def learn_digits():
    """As SmolLM2's: each digit by itself."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([*WORDS, *(f"em {year}, às {year % 24}h" for year in range(1900, 2000))], trainer)
    return wrap(backend)


def learn_with_words():
    """With words that are added to it, which are one token wherever they stand."""
    tokenizer = build_byte_level()
    tokenizer.add_tokens(["paciente", "<eu>", "João"])
    return tokenizer


def learn_in_portuguese():
    from lmtune.modeling.tokenizer import learn_tokenizer

    return learn_tokenizer(WORDS * 3, 300, 64, special_tokens=["<|fim|>", "<|início|>", "<|nota|>"])


VOCABULARIES = {
    "learned": learn_in_portuguese, "digits": learn_digits, "bos": lambda: build_byte_level(bos=True), "words": learn_with_words,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", VOCABULARIES)
def test_llama_cpp_reads_texts_as_the_vocabulary_does(lmtune, build_tiny, texts, tmp_path, kind):
    tokenizer = VOCABULARIES[kind]()
    runtime = export(lmtune, build_tiny("gpt2", vocab_size=352), tokenizer, tmp_path / "model")
    lines = [*NASTY, *texts, *WORDS, "O paciente João <eu> e <eu>pacienteJoão2024", "123 4567 a1b22"]
    check_ids(runtime, tokenizer, lines)
    for line in [*lines, *(f"a{token} b {token}{token}" for token in tokenizer.all_special_tokens)]:
        assert runtime.encode(line, special=True) == tokenizer(line, verbose=False)["input_ids"]
    for line in [*texts, *WORDS, *NASTY[3:5]]:
        assert runtime.decode(runtime.encode(line)) == line


@pytest.mark.slow
def test_llama_cpp_reads_gpt2s_vocabulary(lmtune, build_tiny, real_data, tmp_path):
    from transformers import GPT2TokenizerFast

    from lmtune.modeling.tokenizer import complete

    tokenizer = complete(GPT2TokenizerFast.from_pretrained(real_data / "gpt2-tokenizer"))
    runtime = export(lmtune, build_tiny("gpt2", vocab_size=50304), tokenizer, tmp_path / "model")
    check_ids(runtime, tokenizer, [*NASTY, *read_thousand(real_data)])


def read_thousand(folder):
    files = {"wikitext-2/test.raw.txt.gz": 500, "pt-wiki/ud-pud.txt.gz": 300, "bio/tico19-pt_BR.txt.gz": 200}
    lines = [line for file, count in files.items() for line in read_lines(folder / file, count)]
    assert len(lines) == 1000
    return lines


@pytest.mark.slow
def test_perplexity_is_ours(lmtune, build_tiny, tokenizer, texts, tmp_path):
    model = sharpen(build_tiny("gpt2"))
    runtime = export(lmtune, model, tokenizer, tmp_path / "model")
    from lmtune.vocabulary import encode_plain

    text = "\n".join(texts * 2)[:20_000]
    end = tokenizer.eos_token_id
    ids = [end, *encode_plain(tokenizer, [text])[0], end]
    ours, tokens = find_our_perplexity(lmtune, tmp_path / "model", text, tmp_path, 63)
    assert tokens == len(ids) - 1
    assert find_perplexity(runtime, ids, 63, model.config.vocab_size) == pytest.approx(ours, rel=1e-3)


@pytest.mark.real
@pytest.mark.parametrize("dtype", BOUNDS)
def test_a_real_model_is_the_same_in_llama_cpp(lmtune, real_model, real_data, tmp_path, dtype):
    from lmtune.modeling.loading import load_model
    from lmtune.modeling.tokenizer import load_tokenizer
    from lmtune.vocabulary import encode_plain

    model, tokenizer = load_model(str(real_model)).eval(), load_tokenizer(str(real_model))
    runtime = export_real(lmtune, real_model, tmp_path, dtype)
    lines = read_thousand(real_data)
    check_ids(runtime, tokenizer, [*NASTY, *lines])
    ids = encode_plain(tokenizer, [" ".join(lines[:20])])[0]
    divergence, agreement = compare(runtime, model, ids[:24])
    assert divergence < BOUNDS_OF_REAL[dtype][0]
    assert agreement >= BOUNDS_OF_REAL[dtype][1]
    if dtype == "float32":
        assert runtime.continue_greedily(ids[:20], 60) == continue_greedily(model, ids[:20], 60)


@pytest.mark.real
def test_the_perplexity_of_a_real_model_is_ours(lmtune, real_model, real_data, tmp_path):
    """One request for each of 4,667 tokens: minutes."""
    from lmtune.modeling.tokenizer import load_tokenizer
    from lmtune.vocabulary import encode_plain

    tokenizer = load_tokenizer(str(real_model))
    runtime = export_real(lmtune, real_model, tmp_path, "float32")
    text, end = "\n".join(read_thousand(real_data))[:20_000], tokenizer.eos_token_id
    ids = [end, *encode_plain(tokenizer, [text])[0], end]
    ours, tokens = find_our_perplexity(lmtune, real_model, text, tmp_path, 1024)
    assert tokens == len(ids) - 1
    assert find_perplexity(runtime, ids, 1024, len(tokenizer)) == pytest.approx(ours, rel=1e-3)


def export_real(lmtune, folder, tmp_path, dtype):
    answer = lmtune("export", f"ckpt={folder}", "to=gguf", f"dtype={dtype}", f"output={tmp_path / 'made'}")
    assert answer.code == 0, answer.err
    return Runtime(next((tmp_path / "made").glob("*.gguf")), 1025)
