"""Layers are their definitions, computed by hand; their laws are in test_laws.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.nn.attention import SOFTMAX, Attention
from nanotx.nn.block import Block
from nanotx.nn.canonical import from_canonical, to_canonical
from nanotx.nn.ffn import Ffn
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model

EQUIVALENTS = [name for name in sorted(Attention.shipped()) if Attention.find(name).equivalent_to == SOFTMAX]
DIM = 24
sizes = {"batch": st.integers(1, 3), "time": st.integers(1, 12), "seed": st.integers(0, 2**16)}


def attention(name, seed, **fields):
    torch.manual_seed(seed)
    return Attention.find(name)(**fields).build(DIM).eval()


def stream(batch, time, seed):
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(seed))


@given(**sizes, heads=st.sampled_from([1, 2, 3, 4]))
def test_attention_written_out_is_the_definition_computed_by_hand(batch, time, seed, heads):
    layer = attention("fused", seed, heads=heads).double()
    x = stream(batch, time, seed).double()
    width = DIM // heads
    want = torch.zeros_like(x)
    for b in range(batch):
        qkv = x[b] @ layer.to_qkv.weight.T
        for h in range(heads):
            q, k, v = (qkv[:, n * DIM + h * width : n * DIM + (h + 1) * width] for n in range(3))
            for t in range(time):
                scores = torch.stack([q[t] @ k[s] / width**0.5 for s in range(t + 1)])
                weights = scores.exp() / scores.exp().sum()
                want[b, t, h * width : (h + 1) * width] = sum(weights[s] * v[s] for s in range(t + 1))
    torch.testing.assert_close(layer(x), want @ layer.to_out.weight.T)


@pytest.mark.parametrize("name", sorted(Attention.shipped() - {"flex", "linear"}))  # these two refuse it
def test_dropout_on_the_weights_changes_training_and_nothing_else(name):
    layer, x = attention(name, 0, dropout=0.5), stream(2, 6, 0)
    torch.testing.assert_close(layer(x), attention(name, 0)(x))
    assert not torch.allclose(layer.train()(x), layer(x))


@pytest.mark.parametrize(
    "name", sorted(Attention.shipped() - {"gqa", "sliding_gqa"})
)  # 5 heads cannot share 2 kv_heads
def test_heads_that_do_not_divide_the_width_are_refused_with_those_that_do(name):
    with pytest.raises(ConfigError, match=rf"{name}: heads=5 do not divide dim=24; try heads from \[1, 2, 3, 4, 6"):
        Attention.find(name)(heads=5).build(24)


@pytest.mark.parametrize("name", EQUIVALENTS)
def test_canonical_layout_and_back_is_no_change(name):
    layer = attention(name, 1, bias=True, out_bias=True)
    weights = dict(layer.named_parameters())
    assert sorted(to_canonical(layer, weights)) == ["to_out.bias", "to_out.weight", "to_qkv.bias", "to_qkv.weight"]
    back = from_canonical(layer, to_canonical(layer, weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], weights[key]) for key in weights)


@given(**sizes)
def test_norms_are_their_definitions(batch, time, seed):
    x = stream(batch, time, seed)
    centred = x - x.mean(-1, keepdim=True)
    layer = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(Norm.find("layernorm")().build(DIM)(x), layer)
    rms = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(Norm.find("rmsnorm")().build(DIM)(x), rms)
    assert Norm.find("none")().build(DIM)(x) is x


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_mlp_is_its_definition(activation):
    layer, x = Ffn.find("mlp")(activation=activation, bias=True).build(DIM), stream(2, 3, 0)
    hidden = x @ layer.to_hidden.weight.T + layer.to_hidden.bias
    bent = hidden.clamp(min=0) if activation == "relu" else hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(layer(x), bent @ layer.to_out.weight.T + layer.to_out.bias)
    assert layer.to_hidden.out_features == 4 * DIM


def test_swiglu_is_its_definition():
    layer, x = Ffn.find("swiglu")().build(DIM), stream(2, 3, 0)
    gate, hidden = (x @ layer.to_hidden.weight.T).chunk(2, dim=-1)
    torch.testing.assert_close(layer(x), (gate / (1 + (-gate).exp()) * hidden) @ layer.to_out.weight.T)
    assert layer.to_out.in_features == 64


def test_blocks_are_their_definitions():
    x = stream(2, 5, 0)
    pre = Block.find("prenorm")().build(DIM).eval()
    after = x + pre.attention(pre.attention_norm(x))
    torch.testing.assert_close(pre(x), after + pre.ffn(pre.ffn_norm(after)))
    post = Block.find("postnorm")().build(DIM).eval()
    after = post.attention_norm(x + post.attention(x))
    torch.testing.assert_close(post(x), post.ffn_norm(after + post.ffn(after)))


def test_rope_turns_each_pair_by_its_angle():
    rope = Position.find("rope")(theta=100.0).build(8, 2, 16)
    q = torch.randn(3, 4)
    turned, _ = rope.rotate(q, q, torch.arange(3))
    for t in range(3):
        for pair, frequency in enumerate((1.0, 0.1)):
            number = torch.complex(q[t, pair], q[t, pair + 2]) * torch.polar(
                torch.ones(()), torch.tensor(t * frequency)
            )
            torch.testing.assert_close(torch.stack([turned[t, pair], turned[t, pair + 2]]), torch.view_as_real(number))


def test_sinusoidal_is_the_papers_formula():
    table = Position.find("sinusoidal")().build(6, 1, 9).embed(torch.zeros(1, 9, 6), torch.arange(9))[0]
    for t in range(9):
        for i in range(3):
            angle = torch.tensor(t / 10_000 ** (2 * i / 6))
            torch.testing.assert_close(table[t, [i, i + 3]], torch.stack([angle.sin(), angle.cos()]))


@pytest.mark.parametrize("name", ["learned", "sinusoidal"])
def test_position_with_a_table_refuses_a_position_beyond_it(name):
    position = Position.find(name)().build(DIM, 4, 8)
    with pytest.raises(IndexError):
        position.embed(torch.zeros(1, 1, DIM), torch.tensor([8]))


def test_positions_refuse_sizes_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"sinusoidal: dim=7 is odd.* try --model.dim 8"):
        Position.find("sinusoidal")().build(7, 1, 8)
    with pytest.raises(
        ConfigError, match=r"rope: heads of width 3 have no pairs of channels; try heads from \[1, 2, 3, 6"
    ):
        Position.find("rope")().build(12, 4, 8)


@pytest.mark.parametrize("name", EQUIVALENTS)
@torch.no_grad()
def test_one_seed_is_one_function_whichever_attention_is_named(name):
    ids = torch.arange(12)[None]
    outputs = [
        Model(dim=DIM, context=12, block=Block.find("prenorm")(attention=Attention.find(item)(bias=True)))
        .build(99, seed=7)
        .eval()(ids)
        for item in ("fused", name)
    ]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)


def test_cache_loses_nothing_and_mixes_no_layers():
    cache = KVCache()
    first, second = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    cache.layer(0).append(first, first)
    cache.layer(1).append(second, second)
    keys, _ = cache.layer(0).append(second, second)
    assert torch.equal(keys, torch.cat([first, second], dim=2))
    assert (cache.layer(0).length, cache.layer(1).length, cache.length) == (8, 5, 0)


def test_cache_doubles_its_capacity_so_that_each_key_is_copied_a_few_times():
    cache, x = KVCache(), torch.randn(1, 2, 1, 4)
    homes = [cache.append(x, x)[0].data_ptr() for _ in range(64)]
    assert len(set(homes)) <= 7  # 64 tokens, doubled six times
    assert cache.length == 64


@pytest.mark.parametrize("name", ["gqa", "sdpa"])
def test_config_with_absurd_numbers_is_refused_at_once(name):
    with pytest.raises(ConfigError, match=r"heads: expected a number of at most 4,096, got 4611686018427387903"):
        Attention.find(name)(heads=2**62 - 1).build(24)


@pytest.mark.parametrize("name", ["rope", "sinusoidal"])
def test_wavelength_too_short_is_refused(name):
    with pytest.raises(ConfigError, match=r"theta: expected a number of at least 1, got 0\.5"):
        Position.find(name)(theta=0.5)


def test_attention_declares_when_it_is_full_softmax():
    sliding, gqa = Attention.find("sliding_window")(window=5), Attention.find("gqa")
    assert [sliding.equivalent_at(length) for length in (4, 5, 6)] == [SOFTMAX, SOFTMAX, ""]
    assert [gqa(heads=4, kv_heads=kv_heads).equivalent_at(9) for kv_heads in (4, 2)] == [SOFTMAX, ""]
    assert Attention.find("linear")().equivalent_at(1) == ""


@pytest.mark.parametrize("slot", [Attention, Block, Ffn, Norm, Position])
def test_slot_itself_is_never_built(slot):
    with pytest.raises(TypeError, match="abstract"):
        slot()
