"""The laws hold for every part, built in or plugged in; and each law catches a part that breaks it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nanotx import laws
from nanotx.attention import SOFTMAX, Attention
from nanotx.block import Block
from nanotx.corpus import Corpus
from nanotx.errors import ConfigError, LawBroken
from nanotx.ffn import Ffn
from nanotx.layout import to_own, to_shared
from nanotx.model import Model
from nanotx.norm import Norm
from nanotx.optimizers import Optimizer
from nanotx.past import Past
from nanotx.position import NOWHERE, Position, Positioning
from nanotx.recipe import Recipe
from nanotx.schedules import Schedule
from nanotx.tokenizers import Tokenizer

WRITINGS = [name for name in Attention.names() if Attention.find(name).function == SOFTMAX]
DIM = 24
sizes = {"batch": st.integers(1, 3), "time": st.integers(1, 12), "seed": st.integers(0, 2**16)}
attentions = pytest.mark.parametrize("name", Attention.names())
blocks = pytest.mark.parametrize("block", Block.names())
positions = pytest.mark.parametrize("position", Position.names())


def attention(name, seed, **fields):
    torch.manual_seed(seed)
    return Attention.find(name)(**fields).build(DIM).eval()


def stream(batch, time, seed):
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(seed))


def cuts(data, time):
    return sorted(data.draw(st.sets(st.integers(1, time - 1)))) if time > 1 else []


class Placed(nn.Module):
    """A layer that is told where its tokens stand."""

    def __init__(self, layer, position):
        super().__init__()
        self.layer, self.position = layer, position

    def forward(self, x, past=None):
        return self.layer(x, self.position, past)


class Slope(Positioning):
    """A bias that falls with the distance, steeper for each head."""

    def bias(self, at_q, at_k):
        distance = at_q[:, None] - at_k[None, :]
        return -torch.arange(1, 5)[:, None, None] * distance[None].float() / 8


# Attention.


@attentions
@given(**sizes, bias=st.booleans(), data=st.data())
def test_no_attention_sees_the_future(name, batch, time, seed, bias, data):
    layer = attention(name, seed, bias=bias, out_bias=bias)
    laws.causal(layer, stream(batch, time, seed), cut=data.draw(st.integers(0, time - 1)), seed=seed)


@attentions
@given(**sizes, data=st.data())
def test_what_an_attention_makes_of_a_beginning_does_not_change_with_the_end(name, batch, time, seed, data):
    x = stream(batch, time, seed) * 10 ** data.draw(st.integers(-3, 4))
    laws.time_prefix(attention(name, seed), x, cut=data.draw(st.integers(0, time - 1)))


@attentions
@pytest.mark.parametrize("position", ["rope", "none", "slope"])
@given(**sizes, data=st.data())
def test_an_attention_that_reads_in_pieces_reads_the_same(name, position, batch, time, seed, data):
    place = Slope() if position == "slope" else Position.find(position)().build(DIM, 4, 16)
    laws.cache_agrees(Placed(attention(name, seed), place), stream(batch, time, seed), cuts(data, time))


@pytest.mark.parametrize("name", WRITINGS)
@pytest.mark.parametrize("position", ["rope", "none", "slope"])
@given(**sizes, bias=st.booleans(), heads=st.sampled_from([1, 2, 4]))
def test_the_three_attentions_are_one_function(name, position, batch, time, seed, bias, heads):
    place = Slope() if position == "slope" else Position.find(position)().build(DIM, heads, 16)
    if position == "slope":
        heads = 4
    fields = {"heads": heads, "bias": bias, "out_bias": bias}
    one, other = attention("fused", seed, **fields), attention(name, seed, **fields)
    other.load_state_dict(to_own(other, dict(one.named_parameters())))
    laws.equivalent(Placed(one, place), Placed(other, place), stream(batch, time, seed), seed)


@given(**sizes, heads=st.sampled_from([1, 2, 3, 4]))
def test_the_written_out_attention_is_the_definition_computed_by_hand(batch, time, seed, heads):
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


@attentions
def test_dropout_on_the_weights_changes_training_and_nothing_else(name):
    layer, x = attention(name, 0, dropout=0.5), stream(2, 6, 0)
    torch.testing.assert_close(layer(x), attention(name, 0)(x))
    assert not torch.allclose(layer.train()(x), layer(x))


@attentions
def test_heads_that_do_not_divide_the_width_are_refused_with_those_that_do(name):
    with pytest.raises(ConfigError, match=rf"{name}: heads=5 do not divide dim=24; try heads from \[1, 2, 3, 4, 6"):
        Attention.find(name)(heads=5).build(24)


@pytest.mark.parametrize("name", WRITINGS)
def test_the_shared_layout_and_back_is_no_change(name):
    layer = attention(name, 1, bias=True, out_bias=True)
    weights = dict(layer.named_parameters())
    assert sorted(to_shared(layer, weights)) == ["to_out.bias", "to_out.weight", "to_qkv.bias", "to_qkv.weight"]
    back = to_own(layer, to_shared(layer, weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[key], weights[key]) for key in weights)


# Norm and ffn act on each position alone; blocks and models obey the laws of time.


@pytest.mark.parametrize("part", [*map(Norm.find, Norm.names()), *map(Ffn.find, Ffn.names())])
@given(**sizes)
def test_norms_and_ffns_act_on_each_position_alone(part, batch, time, seed):
    torch.manual_seed(seed)
    layer, x = part().build(DIM), stream(batch, time, seed)
    alone = torch.cat([layer(x[:, t : t + 1]) for t in range(time)], dim=1)
    torch.testing.assert_close(layer(x), alone)


@given(**sizes)
def test_norms_are_their_definitions(batch, time, seed):
    x = stream(batch, time, seed)
    centred = x - x.mean(-1, keepdim=True)
    layer = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(Norm.find("layer")().build(DIM)(x), layer)
    rms = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(Norm.find("rms")().build(DIM)(x), rms)
    assert Norm.find("none")().build(DIM)(x) is x


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_mlp_is_its_definition(activation):
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


@blocks
@attentions
@given(**sizes, data=st.data())
def test_no_block_sees_the_future_and_each_reads_in_pieces(name, block, batch, time, seed, data):
    part = Block.find(block)(attention=Attention.find(name)())
    torch.manual_seed(seed)
    layer, x = part.build(DIM).eval(), stream(batch, time, seed)
    laws.causal(layer, x, cut=data.draw(st.integers(0, time - 1)), seed=seed)
    laws.cache_agrees(layer, x, cuts(data, time))


def test_blocks_are_their_definitions():
    x = stream(2, 5, 0)
    pre = Block.find("prenorm")().build(DIM).eval()
    after = x + pre.attention(pre.attention_norm(x))
    torch.testing.assert_close(pre(x), after + pre.ffn(pre.ffn_norm(after)))
    post = Block.find("postnorm")().build(DIM).eval()
    after = post.attention_norm(x + post.attention(x))
    torch.testing.assert_close(post(x), post.ffn_norm(after + post.ffn(after)))


# Position.


@given(seed=st.integers(0, 2**16), shift=st.integers(0, 1000))
def test_rope_depends_on_distance_alone_and_keeps_norms(seed, shift):
    rope = Position.find("rope")().build(DIM, 4, 64)
    q, k = (torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(seed + n)) for n in range(2))
    near = rope.turn(q, k, torch.arange(5))
    far = rope.turn(q, k, torch.arange(5) + shift)
    torch.testing.assert_close(near[0] @ near[1].mT, far[0] @ far[1].mT, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(far[0].norm(dim=-1), q.norm(dim=-1))
    assert shift == 0 or not torch.allclose(near[0], far[0])


def test_rope_turns_each_pair_by_its_angle():
    rope = Position.find("rope")(theta=100.0).build(8, 2, 16)
    q = torch.randn(3, 4)
    turned, _ = rope.turn(q, q, torch.arange(3))
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
def test_a_position_with_a_table_refuses_a_time_beyond_it(name):
    position = Position.find(name)().build(DIM, 4, 8)
    with pytest.raises(IndexError):
        position.embed(torch.zeros(1, 1, DIM), torch.tensor([8]))


def test_positions_refuse_sizes_that_do_not_fit():
    with pytest.raises(ConfigError, match=r"sinusoidal: dim=7 is odd.* try 8"):
        Position.find("sinusoidal")().build(7, 1, 8)
    with pytest.raises(ConfigError, match=r"rope: heads of width 3 have no pairs of axes; try heads from \[1, 2, 3, 6"):
        Position.find("rope")().build(12, 4, 8)


# The model.


@positions
@attentions
@given(time=st.integers(1, 12), seed=st.integers(0, 2**16), data=st.data())
def test_a_model_of_any_parts_reads_forward_only_and_in_pieces(name, position, time, seed, data):
    block = Block.find("prenorm")(attention=Attention.find(name)())
    model = Model(dim=DIM, layers=2, context=12, position=Position.find(position)(), block=block).build(11, seed).eval()
    ids = torch.randint(11, (2, time), generator=torch.Generator().manual_seed(seed))
    laws.time_prefix(model, ids, cut=data.draw(st.integers(0, time - 1)))
    laws.cache_agrees(model, ids, cuts(data, time))


@pytest.mark.parametrize("name", WRITINGS)
def test_one_seed_is_one_function_whichever_attention_is_named(name):
    ids = torch.arange(12)[None]
    outputs = [
        Model(dim=DIM, context=12, block=Block.find("prenorm")(attention=Attention.find(one)(bias=True)))
        .build(99, seed=7)
        .eval()(ids)
        for one in ("fused", name)
    ]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-5, rtol=0)


# Configs, and every part's.


@pytest.mark.parametrize(
    "slot", [Attention, Block, Corpus, Ffn, Norm, Optimizer, Position, Schedule, Tokenizer], ids=lambda slot: slot.slot
)
def test_every_part_is_a_value_that_can_be_written_and_read(slot):
    for name in slot.names():
        laws.config_round_trip(slot.find(name)())


@given(
    dim=st.integers(1, 999),
    lr=st.floats(0, 1, allow_subnormal=True),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    width=st.none() | st.integers(1, 99),
    parts=st.tuples(st.sampled_from(["fused", "per_head", "sdpa"]), st.sampled_from(["mlp", "swiglu"])),
)
def test_any_recipe_is_a_value_that_can_be_written_and_read(dim, lr, betas, width, parts):
    block = Block.find("postnorm")(attention=Attention.find(parts[0])(), ffn=Ffn.find(parts[1])(width=width))
    optimizer = Optimizer.find("adamw")(lr=lr, betas=betas)
    for model in (Model(dim=dim, block=block), Model(dim=dim, blocks=(block, Block.find("prenorm")()))):
        laws.config_round_trip(Recipe(model=model, optimizer=optimizer))


@given(text=st.text())
def test_the_byte_tokenizer_loses_nothing(text):
    laws.lossless(Tokenizer.find("byte")().learn([]), text)


# Each law can be broken.


class Peek(nn.Module):
    def forward(self, x, past=None):
        return x + x.roll(-1, dims=1)


class Deaf(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x) + x[:, :1].detach()


class Hint(nn.Module):
    """Leaks the future through a path that no gradient takes."""

    def forward(self, x):
        return x + x.mean(dim=1, keepdim=True).detach()


class SoftMask(nn.Module):
    """Hides the future by a large score, not by minus infinity."""

    def forward(self, x):
        time = x.shape[1]
        scores = x @ x.mT - 10.0 * torch.ones(time, time).triu(1)
        return scores.softmax(dim=-1) @ x


class TopLeft(nn.Module):
    """Masks a chunk after a past as if there were no past."""

    def forward(self, x, position=NOWHERE, past=None):
        k, v = past.extend(x, x) if past is not None else (x, x)
        y = nn.functional.scaled_dot_product_attention(x, k, v, is_causal=True)
        return y


def test_the_law_of_causality_catches_a_peek():
    with pytest.raises(LawBroken, match="outputs up to 2 feel position 3"):
        laws.causal(Peek(), torch.randn(1, 5, 4), cut=2)


def test_the_law_of_causality_catches_a_mask_that_is_too_soft():
    with pytest.raises(LawBroken, match="outputs up to 1 feel position"):
        laws.causal(SoftMask(), torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0)), cut=1)


def test_the_law_of_causality_is_not_content_with_a_layer_that_feels_nothing():
    with pytest.raises(LawBroken, match="do not feel position 2 itself"):
        laws.causal(lambda x: Deaf()(x) + 0 * x, torch.randn(1, 5, 4), cut=2)


def test_the_law_of_the_prefix_catches_a_leak_that_no_gradient_shows():
    x = torch.randn(1, 5, 4)
    laws.causal(Hint(), x, cut=2)
    with pytest.raises(LawBroken, match="time_prefix: cut 2"):
        laws.time_prefix(Hint(), x, cut=2)


def test_the_law_of_the_cache_catches_a_mask_at_the_top_left():
    with pytest.raises(LawBroken, match=r"cache_agrees: cuts \[2\]"):
        laws.cache_agrees(TopLeft(), torch.randn(1, 5, 4), cuts=[2])


def test_the_law_of_equivalence_catches_one_weight_that_differs():
    one, other = attention("fused", 0), attention("sdpa", 0)
    other.load_state_dict(one.state_dict())
    laws.equivalent(one, other, stream(1, 4, 0))
    with torch.no_grad():
        other.to_out.weight[0, 0] += 0.1
    with pytest.raises(LawBroken, match="equivalent: outputs"):
        laws.equivalent(one, other, stream(1, 4, 0))


def test_the_law_of_equivalence_catches_a_gradient_that_is_lost():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(4, 4)

        def forward(self, x):
            return self.map(x) + x - x.detach()

    one, other = Detached(), nn.Module()
    other.map, other.forward = one.map, one.map.forward
    with pytest.raises(LawBroken, match="gradient of x"):
        laws.equivalent(one, other, torch.randn(1, 3, 4))


def test_the_law_of_tokenizers_catches_a_lost_letter():
    codec = Tokenizer.find("byte")().learn([])

    class Forgetful(type(codec)):
        def encode(self, text):
            return super().encode(text.replace("e", ""))

    with pytest.raises(LawBroken, match="lossless: 'here' came back"):
        laws.lossless(Forgetful(), "here")


def test_the_law_of_configs_catches_a_field_that_does_not_come_back():
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Rounding:
        rate: float = 0.0

        def __post_init__(self):
            object.__setattr__(self, "rate", self.rate + 1.0)

    with pytest.raises(LawBroken, match="config_round_trip: through a table"):
        laws.config_round_trip(Rounding(rate=0.5))


def test_a_past_forgets_nothing_and_mixes_no_children():
    past = Past()
    first, second = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    past.child(0).extend(first, first)
    past.child(1).extend(second, second)
    keys, _ = past.child(0).extend(second, second)
    assert torch.equal(keys, torch.cat([first, second], dim=2))
    assert (past.child(0).length, past.child(1).length, past.length) == (8, 5, 0)
