"""The engine of the page computes what Python computes: logits, weights, windows, tokens, chances."""

import math

import numpy as np
import pytest
import regex
import torch
from einops import rearrange
from page_engine import described, engine

from nanotx.errors import ConfigError
from nanotx.generation import Sampling, generate
from nanotx.hub.html.model import PARTS, described_model, described_tokenizer
from nanotx.hub.html.pattern import translated
from nanotx.hub.html.weights import GROUP, decoded, encoded
from nanotx.lens.look import look
from nanotx.nn.attention import Attention
from nanotx.nn.attention.fused import Fused
from nanotx.nn.attention.gqa import GroupedQuery
from nanotx.nn.attention.per_head import PerHead
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block import Block
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.embedding import Embedding
from nanotx.nn.ffn import Ffn
from nanotx.nn.ffn.geglu import GeGlu
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.ffn.relu2 import Relu2
from nanotx.nn.ffn.swiglu import SwiGlu
from nanotx.nn.norm import Norm
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.norm.none import NoNorm
from nanotx.nn.position import Position
from nanotx.nn.position.alibi import Alibi
from nanotx.nn.position.learned import Learned
from nanotx.nn.position.none import NoPosition
from nanotx.nn.position.rope import Rope
from nanotx.nn.transformer import Model
from nanotx.tokenizers.bpe import Bpe
from nanotx.tokenizers.bpe.tokenizer import BpeCodec
from nanotx.tokenizers.byte import Byte
from nanotx.tokenizers.char import Char
from nanotx.tokenizers.regexes import NAMED
from nanotx.tokenizers.word import Word

VOCAB, CONTEXT = 13, 9
IDS = [3, 1, 12, 0, 7, 7, 5]

SIZE = {"dim": 16, "layers": 2, "context": CONTEXT}
BIASED = Mlp(activation="relu", bias=True)

MODELS = {
    "shakespeare_char": Model(**SIZE, block=PreNorm(attention=Fused(heads=4, qk_norm=True), ffn=Relu2())),
    "baby_gpt": Model(
        **SIZE,
        position=Learned(),
        norm=LayerNorm(bias=False),
        block=PreNorm(attention=Sdpa(heads=2), ffn=Mlp(), norm=LayerNorm(bias=False)),
    ),
    "my_gpt": Model(
        **SIZE,
        tied=False,
        head_bias=True,
        position=Learned(),
        norm=LayerNorm(),
        block=PreNorm(attention=PerHead(heads=4, bias=True, out_bias=True), ffn=BIASED, norm=LayerNorm()),
    ),
    "swiglu, gqa, softcap": Model(
        **SIZE, softcap=3.0, block=PreNorm(attention=GroupedQuery(heads=4, kv_heads=2), ffn=SwiGlu(bias=True))
    ),
    "geglu, alibi, three heads": Model(
        **SIZE | {"dim": 24}, position=Alibi(), block=PreNorm(attention=Sdpa(heads=3), ffn=GeGlu(hidden_dim=5))
    ),
    "shared, no position, no norm": Model(
        **SIZE | {"layers": 4},
        share=2,
        position=NoPosition(),
        norm=NoNorm(),
        block=PreNorm(attention=Fused(heads=2), norm=NoNorm(), ffn=Mlp()),
    ),
    "two kinds of blocks": Model(
        **SIZE,
        position=Rope(theta=50.0),
        blocks=(PreNorm(attention=Sdpa(heads=2)), PreNorm(attention=GroupedQuery(heads=2, kv_heads=1), ffn=Mlp())),
    ),
}


def built(config, seed=3):
    """The model with weights of some size, norms and biases included."""
    model = config.build(VOCAB, seed).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module", params=["node", "chromium"])
def ask(request, tmp_path_factory):
    with engine(request.param, tmp_path_factory.mktemp("engine")) as function:
        yield function


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_attention_weights_are_those_of_python(ask, name):
    model = built(MODELS[name])
    answer = ask("logits", model=described(model), ids=IDS)
    with torch.inference_mode():
        expected = model(torch.tensor([IDS]))[0]
    torch.testing.assert_close(
        torch.tensor([step["logits"] for step in answer], dtype=torch.float32), expected, atol=2e-5, rtol=1e-5
    )
    maps = list(look(model, IDS).maps.values())
    for place, step in enumerate(answer):
        rows = torch.stack([weights[place, : place + 1] for weights in maps])
        torch.testing.assert_close(
            torch.tensor(step["maps"], dtype=torch.float32), rows.flatten(), atol=2e-6, rtol=1e-4
        )


@pytest.mark.parametrize("name", ["shakespeare_char", "baby_gpt"])
def test_greedy_text_is_that_of_python_beyond_the_context(ask, name):
    model = built(MODELS[name])
    for ids in (IDS, [2], list(range(VOCAB))):  # a prompt longer than the context too
        expected = generate(model, torch.tensor([ids]), 30, Sampling(temperature=0.0))[0, len(ids) :].tolist()
        assert ask("greedy", model=described(model), ids=ids, count=30) == expected


def test_edited_text_is_read_as_a_new_one(ask):
    model = built(MODELS["shakespeare_char"])
    texts = [IDS, IDS[:3], [*IDS[:3], 4, 4], [9], list(range(VOCAB)), IDS + [1] * 8, IDS]
    with torch.inference_mode():
        expected = torch.stack([model(torch.tensor([ids[-CONTEXT:]]))[0, -1] for ids in texts])
    found = torch.tensor(ask("edited", model=described(model), texts=texts))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_weights_are_read_from_the_page_to_the_bit(ask, kind):
    model = built(Model(dim=24, layers=1, block=PreNorm(attention=Sdpa(heads=3), ffn=Mlp(hidden_dim=3 * GROUP + 5))))
    weights = decoded(encoded(dict(model.named_parameters()), kind))
    for name, numbers in ask("tensors", model=described(model, kind)):
        assert np.array_equal(np.array(numbers, np.float32), weights[name].flatten().numpy())


def test_error_function_is_exact(ask):
    values = [x / 16 for x in range(-112, 113)]
    for x, found in zip(values, ask("erf", values=values), strict=True):
        assert found == pytest.approx(math.erf(x), abs=1e-15)


def test_chances_are_those_of_the_sampler_and_undefined_ids_have_none(ask):
    logits = [1.0, 3.0, -2.0, 2.5, 0.0]
    expected = torch.tensor(logits).div(0.7).softmax(0)
    assert ask("chances", logits=logits, options={"temperature": 0.7}) == pytest.approx(expected.tolist(), abs=1e-6)
    assert ask("chances", logits=logits, options={"temperature": 0}) == [0, 1, 0, 0, 0]
    two = torch.tensor([3.0, 2.5]).softmax(0).tolist()
    assert ask("chances", logits=logits, options={"topK": 2}) == pytest.approx([0, two[0], 0, two[1], 0], abs=1e-6)
    assert ask("chances", logits=logits, options={"undefinedIds": [1], "temperature": 0}) == [0, 0, 0, 1, 0]


def test_draws_follow_the_chances_and_the_seed(ask):
    chances = [0.5, 0.0, 0.3, 0.2]
    draws = {seed: ask("draws", chances=chances, seed=seed, count=4000) for seed in (0, 1)}
    assert draws[0] == ask("draws", chances=chances, seed=0, count=4000) != draws[1]
    for found in draws.values():
        shares = np.bincount(found, minlength=4) / len(found)
        assert shares[1] == 0 and np.abs(shares - chances).max() < 4 * math.sqrt(0.25 / 4000)


# Tokenizers.

TEXT = "To be, or not to be: that is the question.\n\n  Whether 'tis nobler -- I'LL say so 1234567!\r\n\t" * 3
STRANGE = [
    *("", " ", "\n", "a", TEXT, "it's IT'S '\u017f '\u017fx we'RE", "x\u00a0y\u2003z\u0085\u180e\ufeff\u200b"),
    *("\u0663\u0664 \u00bd \u2167 \u4e09\u5343 \u00b2\u00b3", "\u00c0\u00c9\u00f6 e\u0301 \u01c5 \ufb00"),
    *("\u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940", "\u212a\u0130"),
    *("\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \U0001d4b3\U0001d4ce \U00010437",),
    *("a\x00b\x1c\x1d\x1f\x7f", "\u2028\u2029 \x0b\x0c ", "\u2026---!!!\n\n\n   \n x", "'s's'S 'LL 'll 'vE"),
    *("a" * 70 + " " * 9 + "b", "\U000e0041\U0010ffff\u0378"),
]


@pytest.mark.parametrize("pattern", [*NAMED, r"(?:\p{Lu}[\w']*|\s{1,2}?|(?i:the)|[^\s\d]{2,})(?=.)|(?s:.)"])
def test_byte_pair_ids_are_those_of_python(ask, pattern):
    codec = Bpe(vocab_size=270, pattern=pattern, special_tokens=("<|end|>",), nfc=True).train([TEXT])
    answers = ask("encode", tokenizer=described_tokenizer(codec), texts=STRANGE)
    for text, (ids, back) in zip(STRANGE, answers, strict=True):
        assert (text, ids) == (text, codec.encode(text).tolist())
        assert back == codec.decode(ids)
    generator = np.random.default_rng(3)
    alphabet = [*"abSTl'\n\r\t .,-19\u00e9\u00a0\u017f\u4e09\u0301\u0663", "\U0001f469"]
    texts = ["".join(generator.choice(alphabet, 12)) for _ in range(300)]
    answers = ask("encode", tokenizer=described_tokenizer(codec), texts=texts)
    assert [ids for ids, _ in answers] == [codec.encode(text).tolist() for text in texts]


def test_imported_ids_characters_and_bytes_are_those_of_python(ask):
    trained = Bpe(vocab_size=270, pattern="gpt2").train([TEXT])
    imported = BpeCodec(trained.merges, trained.source, ids=tuple((one * 7 + 3) % 401 for one in range(270)))
    char, unknown = Char().train([TEXT]), Char(unknown=True, nfc=True).train([TEXT])
    for codec, texts in ((imported, STRANGE), (Byte().train([]), STRANGE), (unknown, STRANGE), (char, [TEXT[:50], ""])):
        answers = ask("encode", tokenizer=described_tokenizer(codec), texts=texts)
        assert [ids for ids, _ in answers] == [codec.encode(text).tolist() for text in texts]
    (message,) = ask("encode", tokenizer=described_tokenizer(char), texts=["To \u00a3"])
    assert message == f"“\u00a3” is not among the {char.vocab_size} characters that this model knows"
    lone = ask("encode", tokenizer=described_tokenizer(trained), texts=["a\ud800"])
    assert lone == ["half of a surrogate pair is not a character"]


@pytest.mark.parametrize(
    "pattern",
    [r"\w++", r"(?<=a)b|.", r"\bfoo|.", r"^a|.", r"(a)\1", r"(?>a)", r"(?P<n>a)", r"\X", "(?i)a", "x{e<=1}", r"a*+"],
)
def test_pattern_without_an_exact_translation_is_refused(pattern):
    with pytest.raises(ConfigError, match=r"cannot be translated to JavaScript exactly: .* at offset \d"):
        translated(pattern)


def test_ranges_are_the_characters_that_python_matches():
    for source in (r"[^\s\p{L}\p{N}]", "."):
        body = translated(source)[1:-1].replace("\\u{", r"\U{")
        found = set()
        for low, high in regex.findall(r"(\\U\{[\da-f]+\}|[A-Za-z0-9])(?:-(\\U\{[\da-f]+\}|[A-Za-z0-9]))?", body):
            first, last = (int(one[3:-1], 16) if len(one) > 1 else ord(one) for one in (low, high or low))
            found |= set(range(first, last + 1))
        characters = (chr(code) for code in range(0, 0x3000))
        assert found & set(range(0x3000)) == {ord(one) for one in characters if regex.fullmatch(source, one)}


# What the page cannot compute.


@pytest.mark.parametrize(
    ("slot", "family"),
    [
        ("attention", Attention),
        ("ffn", Ffn),
        ("norm", Norm),
        ("block", Block),
        ("position", Position),
        ("embedding", Embedding),
    ],
)
def test_every_other_part_is_refused_by_name(slot, family):
    parts = {name: family.find(name) for name in family.names()}
    ours = {name for name, part in parts.items() if part.__module__.startswith("nanotx.")}
    assert set(PARTS[slot]) <= ours
    for name in ours - set(PARTS[slot]):
        part = parts[name]()
        fields = {slot: part} if slot not in ("attention", "ffn") else {"block": PreNorm(**{slot: part})}
        with pytest.raises(ConfigError, match=rf"cannot compute {slot} '{name}'; it can compute .*{PARTS[slot][0]}"):
            described_model(Model(dim=32, layers=1, **fields).build(VOCAB))


def test_other_tokenizers_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"cannot compute tokenizer 'word'; it can compute char, byte, bpe"):
        described_tokenizer(Word(vocab_size=26).train([TEXT]))


# Weights.


def test_eight_bits_are_at_most_half_a_step_off():
    torch.manual_seed(1)
    matrix = torch.randn(7, 2 * GROUP + 9) * rearrange(torch.logspace(-6, 3, 7), "row -> row 1")
    matrix[3] = 0
    back = decoded(encoded({"m": matrix, "v": matrix[0]}, "int8"))
    assert torch.equal(back["v"], matrix[0])
    for start in range(0, matrix.shape[1], GROUP):
        part, found = matrix[:, start : start + GROUP], back["m"][:, start : start + GROUP]
        step = part.abs().amax(1, keepdim=True) / 127
        assert ((part - found).abs() <= step * 0.501).all()
    whole = decoded(encoded({"m": matrix}, "float32"))["m"]
    assert torch.equal(whole, matrix)
