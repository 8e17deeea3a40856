"""A GGUF file says of a model what llama.cpp computes it from; what it cannot say is refused by name."""

import copy

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, MistralConfig
from vocabularies import build_byte_level, build_unigram, build_word_level, build_word_piece

from lmtune.config import ExportDtype
from lmtune.errors import ModelError
from lmtune.exporting import gguf_names, gguf_vocabulary, proof
from lmtune.exporting.gguf_vocabulary import build_tokenizer, collect_vocabulary, load_vocabulary
from lmtune.modeling.layers import count_rows
from lmtune.vocabulary import encode_plain, find_difference

gguf = pytest.importorskip("gguf")
from lmtune.exporting.gguf_file import write_gguf  # noqa: E402

KINDS = {
    "gpt2": {"n_inner": 96}, "llama": {}, "qwen2": {"tie_word_embeddings": True}, "mistral": {"sliding_window": None, "head_dim": 8},
}  # fmt: skip


@pytest.fixture
def build(build_tiny):
    """A function from a model type to a tiny model of it."""
    return lambda kind, **settings: build_tiny(
        "gpt2" if kind == "gpt2" else "llama", model_type=kind, **KINDS[kind], **settings
    )


def write(file, model, tokenizer, dtype=ExportDtype.float32):
    """Types of the weights in the file."""
    architecture = gguf_names.find_architecture(model.config, "it")
    return write_gguf(file, model, architecture, collect_vocabulary(tokenizer, count_rows(model)), dtype, "toy")


def prove(file, model, tokenizer, dtype=ExportDtype.float32):
    architecture = gguf_names.ARCHITECTURES[model.config.model_type]
    vocabulary = collect_vocabulary(tokenizer, count_rows(model))
    return proof.prove_gguf(file, model, tokenizer, architecture, vocabulary, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_go_to_their_places_and_come_back(build, kind):
    model = build(kind)
    architecture = gguf_names.ARCHITECTURES[kind]
    moved = 0
    for name, weight in model.named_parameters():
        laid = gguf_names.lay_out(architecture, model.config, name, weight)
        assert torch.equal(gguf_names.take_back(architecture, model.config, name, laid), weight)
        moved += laid.shape != weight.shape or not torch.equal(laid, weight)
    assert moved == {"gpt2": 8, "llama": 4, "mistral": 4, "qwen2": 0}[kind]


def test_the_halves_of_a_head_are_rotated_in_pairs():
    architecture = gguf_names.ARCHITECTURES["llama"]
    config = LlamaConfig(hidden_size=8, num_attention_heads=2, num_key_value_heads=1)
    rows = torch.arange(8.0)[:, None].expand(8, 8)
    laid = gguf_names.lay_out(architecture, config, "model.layers.0.self_attn.q_proj.weight", rows)
    assert laid[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("dtype", [ExportDtype.float32, ExportDtype.float16, ExportDtype.q8_0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_proven(build, tokenizer, tmp_path, kind, dtype):
    model = build(kind, vocab_size=352)
    types = write(tmp_path / "a.gguf", model, tokenizer, dtype)
    found = prove(tmp_path / "a.gguf", model, tokenizer, dtype)
    assert found.tokens > 200
    assert (found.largest == 0) == (dtype is ExportDtype.float32)
    assert set(types) == {"F32"} | ({"F16": {"F16"}, "Q8_0": {"Q8_0", *(["F16"] if kind != "gpt2" else [])}}.get(
        {"float16": "F16", "q8_0": "Q8_0"}.get(dtype.value, ""), set()
    ))  # fmt: skip


def test_a_tied_head_is_written_once(build, tokenizer, tmp_path):
    for number, tied in enumerate([True, False]):
        model = build("gpt2", tie_word_embeddings=tied)
        write(tmp_path / f"{number}.gguf", model, tokenizer)
        names = [tensor.name for tensor in gguf.GGUFReader(tmp_path / f"{number}.gguf").tensors]
        assert ("output.weight" in names) is not tied
        assert len(names) == len(set(names)) == 28 - tied + 1


@pytest.mark.parametrize(
    "spoil", ["model.layers.0.self_attn.q_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
)
def test_a_weight_that_is_not_the_models_is_found(build, tokenizer, tmp_path, spoil):
    model = build("llama")
    write(tmp_path / "a.gguf", model, tokenizer, ExportDtype.q8_0)
    with torch.no_grad():
        weight = model.get_parameter(spoil).view(-1)
        weight[7] = weight[7] + 2 * weight.abs().max()
    with pytest.raises(ModelError, match=f"a.gguf was written, read back, and is not the model: {spoil} differs by"):
        prove(tmp_path / "a.gguf", model, tokenizer, ExportDtype.q8_0)


def test_a_setting_that_the_file_does_not_say_is_found(build, tokenizer, tmp_path, monkeypatch):
    """Where the table of settings were not complete."""
    model = build("gpt2")
    model.config.activation_function = "relu"
    for block in model.transformer.h:
        block.mlp.act = torch.nn.ReLU()
    monkeypatch.setitem(
        gguf_names.ARCHITECTURES,
        "gpt2",
        gguf_names.Architecture("gpt2", gguf_names.GPT2.sizes, {}, gguf_names.GPT2.transposed),
    )
    write(tmp_path / "a.gguf", model, tokenizer)
    with pytest.raises(ModelError, match="what it says of its sizes gives other logits"):
        prove(tmp_path / "a.gguf", model, tokenizer)


def test_weights_that_float16_cannot_hold_are_found(build, tokenizer, tmp_path):
    model = build("gpt2")
    with torch.no_grad():
        model.transformer.h[0].mlp.c_fc.weight[0, 0] = 1e6
    with np.errstate(over="ignore"):
        write(tmp_path / "a.gguf", model, tokenizer, ExportDtype.float16)
    with pytest.raises(ModelError, match="differs by inf"):
        prove(tmp_path / "a.gguf", model, tokenizer, ExportDtype.float16)


SETTINGS = {
    "gpt2": {"activation_function": "gelu", "scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "llama": {
        "hidden_act": "gelu", "attention_bias": True, "mlp_bias": True,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0},
    },
    "qwen2": {"use_sliding_window": True},
    "mistral": {"sliding_window": 32},
}  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in SETTINGS.items() for name in names])
def test_what_the_format_cannot_say_is_refused_by_name(build_tiny, kind, name):
    model = build_tiny("gpt2" if kind == "gpt2" else "llama", model_type=kind, **{name: SETTINGS[kind][name]})
    said = "rope_type" if name == "rope_parameters" else name
    with pytest.raises(ModelError, match=rf"^it: its config.json says {said}=.*Give to=safetensors\.$"):
        gguf_names.find_architecture(model.config, "it")


def test_a_window_as_long_as_all_positions_hides_nothing():
    config = MistralConfig(max_position_embeddings=128, sliding_window=128)
    assert gguf_names.find_architecture(config, "it").name == "llama"


def test_other_architectures_are_refused_by_name(build_tiny):
    with pytest.raises(
        ModelError, match=r"it is of the model type gpt_neox; expected one whose .*gpt2, llama, mistral, qwen2"
    ):
        gguf_names.find_architecture(build_tiny("gpt_neox").config, "it")


VOCABULARIES = {"plain": build_byte_level, "opened by BOS": lambda: build_byte_level(bos=True)}


@pytest.mark.parametrize("build_one", VOCABULARIES.values(), ids=VOCABULARIES)
def test_a_vocabulary_comes_back_from_its_file(build, tmp_path, build_one):
    tokenizer = build_one()
    tokenizer.add_tokens(["paciente", "<eu>"])
    model = build("gpt2", vocab_size=400)
    write(tmp_path / "a.gguf", model, tokenizer)
    read = load_vocabulary(gguf.GGUFReader(tmp_path / "a.gguf"))
    assert read == collect_vocabulary(tokenizer, 400)
    assert len(set(read.tokens)) == 400
    assert read.unused == 400 - len(tokenizer)
    assert find_difference(tokenizer, build_tokenizer(read)) is None


def test_another_vocabulary_of_the_same_size_is_found(build, tokenizer, texts, tmp_path):
    from lmtune.modeling.tokenizer import learn_tokenizer

    model = build("gpt2")
    write(tmp_path / "a.gguf", model, tokenizer)
    other = learn_tokenizer([text[::-1] for text in texts], vocab_size=len(tokenizer), max_length=64)
    with pytest.raises(ModelError, match="its vocabulary is not as it was written"):
        prove(tmp_path / "a.gguf", model, other)


def test_a_tokenizer_that_reads_otherwise_than_its_vocabulary_is_found(build, tokenizer, tmp_path, monkeypatch):
    """Where the table of splitters named a wrong one."""
    model = build("gpt2")
    write(tmp_path / "a.gguf", model, tokenizer)
    other = [{"type": "Whitespace"}, gguf_vocabulary.BYTE_LEVEL]  # which leaves blanks out
    vocabulary = collect_vocabulary(tokenizer, count_rows(model))
    monkeypatch.setitem(gguf_vocabulary.SPLITTERS, "gpt-2", other)
    with pytest.raises(ModelError, match="its vocabulary differs in the ids of a text"):
        proof.prove_gguf(tmp_path / "a.gguf", model, tokenizer, gguf_names.GPT2, vocabulary, ExportDtype.float32)


def test_a_vocabulary_that_lacks_bytes_leaves_them_out_as_ours_does(tokenizer):
    lacking = change(tokenizer, lambda described: described["model"]["vocab"].pop("Ġ"))
    assert collect_vocabulary(lacking, 400).missing == 1


def change(tokenizer, edit):
    """A copy of a tokenizer whose tokenizer.json was edited."""
    import json

    from tokenizers import Tokenizer

    other = copy.deepcopy(tokenizer)
    described = json.loads(other.backend_tokenizer.to_str())
    edit(described)
    if described["model"]["vocab"].get("Ġ") is None:
        described["model"]["merges"] = [each for each in described["model"]["merges"] if "Ġ" not in "".join(each)]
    other._tokenizer = Tokenizer.from_str(json.dumps(described))
    return other


def add_flag(described):
    described["added_tokens"].append(
        {
            "id": 320,
            "content": "<x>",
            "single_word": False,
            "lstrip": True,
            "rstrip": False,
            "normalized": False,
            "special": False,
        }
    )


EDITS = {
    "a normalizer": (lambda d: d.update(normalizer={"type": "NFC"}), r"normalizer NFC"),
    "a blank put first": (lambda d: d["pre_tokenizer"].update(add_prefix_space=True), "splits texts by ByteLevel"),
    "no splitting": (lambda d: d.update(pre_tokenizer=None), "splits texts by none"),
    "dropout": (lambda d: d["model"].update(dropout=0.1), "dropout=0.1"),
    "whole words first": (lambda d: d["model"].update(ignore_merges=True), "ignore_merges=True"),
    "bytes alone": (lambda d: d["model"].update(merges=[]), "one without merges"),
    "a flag": (add_flag, "the added token '<x>' with lstrip=true"),
}


@pytest.mark.parametrize("case", EDITS)
def test_ways_to_read_that_llama_cpp_does_not_have_are_refused(tokenizer, case):
    edit, said = EDITS[case]
    with pytest.raises(ModelError, match=f"^to=gguf takes byte-level BPE vocabularies.*{said}.*Give to=safetensors"):
        collect_vocabulary(change(tokenizer, edit), 400)


@pytest.mark.parametrize("build_one", [build_unigram, build_word_level, build_word_piece])
def test_vocabularies_of_other_kinds_are_refused(build_one):
    with pytest.raises(ModelError, match=r"found one of the kind (Unigram|WordLevel|WordPiece)"):
        collect_vocabulary(build_one(), 400)


@pytest.mark.parametrize(
    ("words", "refused"),
    [(["ab", "bcd"], True), (["bcd", "ab"], True), (["ab", "abc", "b"], False), (["  ", "    "], False)],
)
def test_added_words_that_may_overlap_are_refused(words, refused):
    tokenizer = build_byte_level()
    tokenizer.add_tokens(words)
    if refused:
        with pytest.raises(ModelError, match="the added tokens 'ab' and 'bcd', which may overlap in a text"):
            collect_vocabulary(tokenizer, 400)
    else:
        assert collect_vocabulary(tokenizer, 400).types.count(4) == len(words)


def test_a_tokenizer_with_more_ids_than_rows_is_refused(tokenizer):
    with pytest.raises(ModelError, match=r"ids up to 319, the embedding of the model 300 rows"):
        collect_vocabulary(tokenizer, 300)


def test_the_text_fills_its_rows(build, tokenizer):
    model = build("gpt2")
    rows = proof.encode_text(model, tokenizer)
    assert rows.shape[1] <= 64
    assert encode_plain(tokenizer, [proof.TEXT])[0][: rows.numel()] == rows.flatten().tolist()
    assert rows.numel() > 0.9 * min(proof.MOST_TOKENS, len(encode_plain(tokenizer, [proof.TEXT])[0]))


def test_a_number_that_is_none_is_beyond_every_bound():
    logits = torch.zeros(1, 3, 5)
    found = proof.compare(logits, torch.full_like(logits, float("nan")))
    with pytest.raises(ModelError, match="x in q8_0 is another model"):
        proof.check_bounds("x", found, ExportDtype.q8_0)
