"""`--to gguf`: read back equal, the ids and logits of llama.cpp where it is installed, and what is refused by name."""

import dataclasses
import importlib.util

import pytest
import torch
from test_huggingface_export import GPT2, QWEN3, run_of

from nanotx.errors import ConfigError, RunError, TokenizerError
from nanotx.hub.gguf import export as exporting
from nanotx.hub.gguf import text
from nanotx.hub.gguf.export import export
from nanotx.hub.huggingface import proof
from nanotx.nn.attention.gqa import GroupedQuery
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.ffn.swiglu import SwiGlu
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.position.rope_linear import RopeLinear
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.chat_template import with_chat
from nanotx.tokenizers.wordpiece import WordPiece

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
ATTENTION = Sdpa(heads=2, bias=True)
MODELS = {
    "gpt2": dataclasses.replace(
        GPT2, block=PreNorm(attention=Sdpa(heads=2), ffn=Mlp(activation="gelu_tanh"), norm=LayerNorm())
    ),
    "llama": dataclasses.replace(
        QWEN3, position=RopeLinear(factor=2.0), block=PreNorm(attention=GroupedQuery(heads=4, kv_heads=2), ffn=SwiGlu())
    ),
    "arcee": dataclasses.replace(QWEN3, block=PreNorm(attention=ATTENTION, ffn=Relu2())),
    "qwen2": dataclasses.replace(
        QWEN3, block=PreNorm(attention=GroupedQuery(heads=4, kv_heads=2, bias=True), ffn=SwiGlu())
    ),
    "qwen3": dataclasses.replace(QWEN3, tied=False, block=PreNorm(attention=Sdpa(heads=2, qk_norm=True), ffn=SwiGlu())),
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(proof, "TEXTS", 20)
    monkeypatch.setattr(proof, "WINDOWS", 4)


def field(path, key):
    """The value of a key of a file."""
    return gguf.GGUFReader(path).fields[key].contents()


@pytest.mark.parametrize("name", MODELS)
def test_file_is_read_back_and_run(name, tmp_path):
    path = tmp_path / "model.gguf"
    exported = export(run_of(MODELS[name]), path)
    assert exported.architecture == field(path, "general.architecture") == name
    assert field(path, f"{name}.context_length") == 12
    if importlib.util.find_spec("llama_cpp"):
        assert exported.texts == 20
        assert exported.agreement and exported.agreement.apart <= exported.agreement.allowed
    assert [file.name for file in tmp_path.iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("tokenizer", [Byte(), Bpe(vocab_size=300), Bpe(vocab_size=300, pattern="gpt2")], ids=str)
def test_ids_of_the_file_are_ours(tokenizer, tmp_path):
    path = tmp_path / "model.gguf"
    exported = export(run_of(MODELS["llama"], tokenizer), path)
    assert (
        len(field(path, "tokenizer.ggml.tokens")) == tokenizer.train(["x"]).vocab_size if tokenizer == Byte() else 300
    )
    assert field(path, "tokenizer.ggml.add_bos_token") is False
    assert exported.texts == (20 if importlib.util.find_spec("llama_cpp") else 0)


def test_no_letter_ends_a_text(tmp_path):
    path = tmp_path / "model.gguf"
    run = run_of(MODELS["llama"], Bpe(vocab_size=300))
    export(run, path)
    assert run.tokenizer.decode_bytes([field(path, "tokenizer.ggml.eos_token_id")]) == b"\xff"
    run = run_of(MODELS["llama"], Bpe(vocab_size=300, special_tokens=("<|endoftext|>",)))
    export(run, path, overwrite=True)
    assert field(path, "tokenizer.ggml.eos_token_id") == run.tokenizer.special_tokens["<|endoftext|>"]


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (Bpe(vocab_size=260, pattern=r"\s?\w+|(?s:.)"), "takes regexes by name, and has none for"),
        (Char(unknown=True), "an unknown character for as many as it has bytes"),
        (Byte(), None),
        (Char(nfc=True), "does not normalise"),
        (WordPiece(vocab_size=80), "wordpiece: bpe, byte and char are written, others are not"),
    ],
    ids=str,
)
def test_tokenizer_that_llama_cpp_lacks_is_refused_by_name(tokenizer, reason):
    codec = tokenizer.train(
        ["But, soft! what light through yonder window breaks? It is the east, and Juliet is the sun. " * 9]
    )
    if reason is None:
        assert text.text_table(codec).model == "rwkv"
        return
    with pytest.raises(TokenizerError, match=reason):
        text.text_table(codec)


def test_window_as_long_as_the_context_is_none(tmp_path):
    window = PreNorm(attention=SlidingWindow(heads=2, window=12), ffn=SwiGlu())
    assert export(run_of(dataclasses.replace(QWEN3, block=window)), tmp_path / "model.gguf").architecture == "llama"


def test_special_tokens_of_a_chat_are_named_where_llama_cpp_keeps_them_out_of_texts():
    codec = with_chat(Bpe(vocab_size=260, special_tokens=("<|endoftext|>",)).train(["But, soft!" * 30]))
    table, names = text.text_table(codec), codec.special_tokens
    end, turn = names["<|endoftext|>"], names["<|end|>"]
    assert table.special == {"bos_token_id": end, "eos_token_id": end, "eot_token_id": turn}
    assert table.control == frozenset(names.values()) and len(table.tokens) == codec.vocab_size
    for part in (Byte(), Char()):
        with pytest.raises(TokenizerError, match=r"<\|end\|>: llama.cpp's tokenizer of single bytes takes these names"):
            text.text_table(with_chat(part.train(["But, soft!"])))


def test_alphabet_beyond_ascii_is_refused():
    with pytest.raises(TokenizerError, match=r"'é' \(U\+00E9\) is in the alphabet"):
        text.text_table(Char().train(["café"]))


def test_token_that_joins_the_long_s_is_refused():
    codec = Bpe(vocab_size=258).train(["\u017ft " * 50])
    assert any(text.joins_long_s(codec.decode_bytes([token])) for token in range(codec.vocab_size))
    with pytest.raises(TokenizerError, match=r"joins U\+017F to what follows"):
        text.text_table(codec)
    assert text.text_table(Bpe(vocab_size=258, pattern="gpt2").train(["\u017ft " * 50])).pre == "gpt-2"
    assert not text.joins_long_s("\u017f".encode()) and not text.joins_long_s(b"\xe0\xbf\xbf")
    assert text.joins_long_s(b"\xbft") and not text.joins_long_s(b"\xe0\xbft")


def test_model_that_llama_cpp_lacks_is_refused_with_every_reason(tmp_path):
    path = tmp_path / "model.gguf"
    with pytest.raises(ConfigError, match=r"\n  gpt2: its ffn computes gelu_new, not gelu\n"):
        export(run_of(GPT2), path)
    with pytest.raises(ConfigError, match=r"\n  qwen3: its ffn computes silu, not relu\n"):
        export(run_of(QWEN3), path)
    window = PreNorm(attention=SlidingWindow(heads=2, window=5), ffn=SwiGlu())
    with pytest.raises(ConfigError, match=r"\n  qwen2: it attends to all positions, and a window of 5 is less than"):
        export(run_of(dataclasses.replace(QWEN3, block=window)), path)
    biased = PreNorm(attention=Sdpa(heads=2, qk_norm=True, out_bias=True), ffn=SwiGlu())
    with pytest.raises(ConfigError, match=r"\n  qwen3: it has no bias model.layers.0.self_attn.o_proj.bias"):
        export(run_of(dataclasses.replace(QWEN3, block=biased)), path)
    with pytest.raises(ConfigError, match=r"softcap: the classes"):
        export(run_of(dataclasses.replace(QWEN3, softcap=3.0)), path)
    assert not list(tmp_path.iterdir())


def test_file_that_differs_gets_no_name(tmp_path, monkeypatch):
    write = exporting.write

    def wrong(name, values, table, tensors, path):
        first = next(iter(tensors))
        write(name, values, table, tensors | {first: torch.nextafter(tensors[first], torch.tensor(9.0))}, path)

    monkeypatch.setattr(exporting, "write", wrong)
    with pytest.raises(RunError, match=r"token_embd.weight differs when it is read back"):
        export(run_of(MODELS["llama"]), tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_file_of_another_kind_is_kept(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="already exists; add --overwrite"):
        export(run_of(MODELS["llama"]), path)
    with pytest.raises(ConfigError, match="no GGUF file, so it is not replaced"):
        export(run_of(MODELS["llama"]), path, overwrite=True)
    assert path.read_text(encoding="utf-8") == "mine"
