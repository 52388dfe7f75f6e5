"""Each attention is its definition, written slowly; and what one is to another."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nanotx import laws
from nanotx.config.schema import from_table
from nanotx.errors import ConfigError
from nanotx.nn.attention import SOFTMAX, Attention, kernel
from nanotx.nn.attention.flex import causal_blocks
from nanotx.nn.attention.kernel import LONG, has_slow_gradient
from nanotx.nn.attention.linear import LEAST, phi
from nanotx.nn.canonical import from_canonical
from nanotx.nn.dropout import named_dropouts, row_seeded
from nanotx.nn.position import NO_POSITION, Position, PositionalEncoding
from nanotx.nn.transformer import Model

ROOT = Path(__file__).resolve().parents[2]
DIM = 24
EQUIVALENTS = [name for name in Attention.names() if Attention.find(name).equivalent_to == SOFTMAX]
small = st.integers(1, 8)
seeds = st.integers(0, 2**16)
sizes = {"batch": st.integers(1, 3), "time": st.integers(1, 80), "seed": seeds}
short = {"batch": st.integers(1, 2), "time": st.integers(1, 14), "seed": seeds}
scales = st.sampled_from([1.0, 1e-3, 1e-1, 1e2, 1e4])
placings = st.sampled_from(["none", "rope", "alibi", "table"])


class Placed(nn.Module):
    """A layer that is told where its tokens stand."""

    def __init__(self, layer, position=NO_POSITION):
        super().__init__()
        self.layer, self.position = layer, position

    def forward(self, x, cache=None):
        return self.layer(x, self.position, cache)


class Table(PositionalEncoding):
    """A bias with no pattern, so that none can be taken for it."""

    biased = True

    def __init__(self, heads):
        super().__init__()
        self.table = torch.randn(heads, 99, 99, generator=torch.Generator().manual_seed(heads)) * 3

    def bias(self, q_pos, k_pos):
        return self.table[:, q_pos][:, :, k_pos]


def attention(name, seed=0, **fields):
    torch.manual_seed(seed)
    return Attention.find(name)(**fields).build(DIM).eval()


def same_weights(name, first, **fields):
    """Another implementation of `one`, with its weights."""
    other = attention(name, 1, **fields)
    other.load_state_dict(from_canonical(other, dict(first.named_parameters())))
    return other


def position(name, heads=4):
    return Table(heads) if name == "table" else Position.find(name)().build(DIM, heads, 99)


def stream(batch, time, seed, scale=1.0):
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(seed)) * scale


def small_fields(name, draw):
    """A part's own sizes, drawn so small that short texts cross them."""
    own = {
        "blockwise": ["block"],
        "online_softmax": ["block"],
        "sliding_window": ["window", "block"],
        "sliding_gqa": ["window", "block"],
        "linear": ["chunk"],
    }
    fields = {field: draw(small) for field in own.get(name, [])}
    return fields | ({"kv_heads": draw(st.sampled_from([1, 2, 4]))} if name in ("gqa", "sliding_gqa") else {})


def cuts(data, time):
    return sorted(data.draw(st.sets(st.integers(1, time - 1), max_size=6))) if time > 1 else []


# The definitions, by hand.


def by_hand(layer, x, heads, kv_heads, weigh):
    """What a layer should make of a stream: for each query, `weigh(h, t, q, keys)` gives the weight of each key."""
    width = DIM // heads
    y = torch.zeros_like(x)
    for b in range(x.shape[0]):
        rows = (x[b] @ layer.to_qkv.weight.T).split(width, dim=1)
        for h in range(heads):
            group = h * kv_heads // heads
            q, k, v = rows[h], rows[heads + group], rows[heads + kv_heads + group]
            for t in range(x.shape[1]):
                weights = weigh(h, t, q[t], k[: t + 1])
                y[b, t, h * width : (h + 1) * width] = sum(w * v[s] for s, w in enumerate(weights))
    return y @ layer.to_out.weight.T


def softly(heads, window=None, bias=None):
    """The softmax of the scores, and what is added to them, of the keys in the window."""

    def weigh(h, t, q, keys):
        scores = [q @ k / math.sqrt(DIM // heads) for k in keys]
        if bias is not None:
            scores = [score + bias[h, t, s] for s, score in enumerate(scores)]
        grown = [score.exp() if window is None or t - s < window else 0.0 for s, score in enumerate(scores)]
        return [item / sum(grown) for item in grown]

    return weigh


def by_features(h, t, q, keys):
    """Products of features: x + 1 where x is positive, and its exponential where not."""

    def features(x):
        return torch.stack([tensor + 1 if tensor > 0 else tensor.exp() for tensor in x])

    products = [features(q) @ features(k) for k in keys]
    return [product / sum(products) for product in products]


@pytest.mark.parametrize("name", ["blockwise", "online_softmax", "gqa", "sliding_window", "sliding_gqa"])
@given(**short, data=st.data(), heads=st.sampled_from([1, 2, 4]), biased=st.booleans())
def test_softmax_attention_is_its_definition_computed_by_hand(name, batch, time, seed, data, heads, biased):
    fields = small_fields(name, data.draw)
    kv_heads = data.draw(st.sampled_from([n for n in (1, 2, 4) if heads % n == 0])) if "gqa" in name else heads
    fields |= {"kv_heads": kv_heads} if "gqa" in name else {}
    layer, x = attention(name, seed, heads=heads, **fields).double(), stream(batch, time, seed).double()
    place = position("table", heads) if biased else NO_POSITION
    want = by_hand(layer, x, heads, kv_heads, softly(heads, fields.get("window"), place.table if biased else None))
    torch.testing.assert_close(layer(x, place), want, atol=1e-7, rtol=1e-6)


@given(**short, heads=st.sampled_from([1, 2, 4]))
def test_flex_is_its_definition_computed_by_hand(batch, time, seed, heads):
    layer, x = attention("flex", seed, heads=heads).double(), stream(batch, time, seed).double()
    with torch.no_grad():
        torch.testing.assert_close(layer(x), by_hand(layer, x, heads, heads, softly(heads)), atol=1e-6, rtol=1e-5)


@given(**short, chunk=small, heads=st.sampled_from([1, 2, 4]))
def test_linear_is_its_definition_computed_by_hand(batch, time, seed, chunk, heads):
    layer, x = attention("linear", seed, heads=heads, chunk=chunk).double(), stream(batch, time, seed).double()
    torch.testing.assert_close(layer(x), by_hand(layer, x, heads, heads, by_features))


# What one is to another.


@given(**sizes, place=placings, qk_norm=st.booleans())
def test_gqa_with_as_many_groups_as_heads_is_sdpa(batch, time, seed, place, qk_norm):
    first = attention("sdpa", seed, qk_norm=qk_norm)
    other = same_weights("gqa", first, kv_heads=4, qk_norm=qk_norm)
    laws.equivalent(Placed(first, position(place)), Placed(other, position(place)), stream(batch, time, seed))


@given(**sizes, kv_heads=st.sampled_from([1, 2]))
def test_gqa_is_sdpa_with_the_rows_of_its_keys_and_values_repeated(batch, time, seed, kv_heads):
    few, all_, x = attention("gqa", seed, kv_heads=kv_heads), attention("sdpa"), stream(batch, time, seed)
    width, shared = DIM // 4, 4 // kv_heads

    def repeated(rows):  # of all heads, from those of the kv_heads
        return rows.unflatten(0, (kv_heads, 1, width)).expand(-1, shared, -1, -1).flatten(0, 2)

    q, k, v = few.to_qkv.weight.detach().split([DIM, kv_heads * width, kv_heads * width])
    all_.to_qkv.weight.data = torch.cat([q, repeated(k), repeated(v)])
    all_.to_out.weight.data = few.to_out.weight.detach()
    (y, gradients), (want, wanted) = (outcome(layer, x, seed) for layer in (few, all_))
    torch.testing.assert_close(y, want)
    q, *kv = wanted["to_qkv.weight"].split(DIM)
    summed = [rows.unflatten(0, (kv_heads, shared, width)).sum(1).flatten(0, 1) for rows in kv]
    close(gradients["to_qkv.weight"], torch.cat([q, *summed]))
    close(gradients["to_out.weight"], wanted["to_out.weight"])
    close(gradients["x"], wanted["x"])


def outcome(layer, x, seed):
    x = x.clone().requires_grad_()
    y = layer(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))).sum().backward()
    return y.detach(), {"x": x.grad} | {name: param.grad for name, param in layer.named_parameters()}


def close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * max(1.0, float(want.abs().max())))


@given(**sizes, data=st.data(), place=placings, qk_norm=st.booleans())
def test_window_over_the_whole_text_is_sdpa(batch, time, seed, data, place, qk_norm):
    first = attention("sdpa", seed, qk_norm=qk_norm)
    window = data.draw(st.integers(time, 100))
    other = same_weights("sliding_window", first, window=window, block=data.draw(small), qk_norm=qk_norm)
    laws.equivalent(Placed(first, position(place)), Placed(other, position(place)), stream(batch, time, seed))


@pytest.mark.parametrize("name", sorted({*EQUIVALENTS} - {"flex"}))
@given(**sizes, data=st.data(), place=placings, qk_norm=st.booleans())
def test_writings_of_the_softmax_agree_at_any_block_and_position(name, batch, time, seed, data, place, qk_norm):
    first = attention("fused", seed, bias=True, out_bias=True, qk_norm=qk_norm)
    scale_norms(first, seed)
    fields = small_fields(name, data.draw)
    other = same_weights(name, first, bias=True, out_bias=True, qk_norm=qk_norm, **fields)
    laws.equivalent(Placed(first, position(place)), Placed(other, position(place)), stream(batch, time, seed))


@given(**sizes, place=placings, qk_norm=st.booleans())
def test_flex_gives_what_the_other_writings_give(batch, time, seed, place, qk_norm):
    first = attention("fused", seed, qk_norm=qk_norm)
    scale_norms(first, seed)
    other, x = same_weights("flex", first, qk_norm=qk_norm), stream(batch, time, seed)
    with torch.no_grad():
        close(other(x, position(place)), first(x, position(place)))


def scale_norms(layer, seed):
    """A learned scale for the norm of queries and keys, so that to leave it out shows."""
    draw = torch.Generator().manual_seed(seed)
    for name, weight in layer.named_parameters():
        if "_norm" in name:
            weight.data = torch.rand(weight.shape, generator=draw) + 0.5


@pytest.mark.parametrize("name", ["fused", "sdpa", "per_head"])
@given(seed=seeds, scale=st.sampled_from([1e-1, 1.0, 1e4]))
def test_qk_norm_bounds_the_attention_logits(name, seed, scale):
    layer = attention(name, seed, heads=1, qk_norm=True)
    plain = same_weights("fused", layer, heads=1, qk_norm=True) if name != "per_head" else attention("fused", heads=1)
    q, k = (norm(stream(1, 5, seed + n, scale)) for n, norm in enumerate([layer.q_norm, layer.k_norm]))
    assert (q @ k.mT).abs().max() / math.sqrt(DIM) <= math.sqrt(DIM) * 1.001
    assert name == "per_head" or torch.equal(plain.q_norm(q), layer.q_norm(q))
    assert not torch.allclose(layer(stream(1, 5, seed)), attention(name, seed, heads=1)(stream(1, 5, seed)))


# Time: the past in pieces, the future not at all, at any scale.


@pytest.mark.parametrize("name", Attention.names())
@given(**sizes, data=st.data(), place=placings)
def test_small_blocks_windows_and_chunks_read_in_pieces_what_they_read_at_once(name, batch, time, seed, data, place):
    layer = attention(name, seed, **small_fields(name, data.draw))
    place = place if Attention.find(name).supports_bias else "rope"
    laws.cache_agrees(Placed(layer, position(place)), stream(batch, time, seed), cuts(data, time))


@pytest.mark.parametrize("name", [name for name in Attention.names() if "cpu" in Attention.find(name).trains_on])
@given(**sizes, data=st.data(), place=placings, scale=scales)
def test_no_gradient_of_the_future_at_any_scale(name, batch, time, seed, data, place, scale):
    place = place if Attention.find(name).supports_bias else "rope"
    layer = Placed(attention(name, seed, **small_fields(name, data.draw)), position(place))
    x, cut = stream(batch, time, seed, scale).requires_grad_(), data.draw(st.integers(0, time - 1))
    y = layer(x)[:, : cut + 1]
    (gradient,) = torch.autograd.grad(y, x, torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)))
    assert y.isfinite().all() and gradient.isfinite().all()
    assert (gradient[:, cut + 1 :] == 0).all()


@given(seed=seeds, data=st.data(), window=small, block=small, time=st.integers(1, 40))
def test_window_reads_its_oldest_position_and_nothing_older(seed, data, window, block, time):
    layer, x = attention("sliding_window", seed, window=window, block=block), stream(1, time, seed).requires_grad_()
    at = data.draw(st.integers(0, time - 1))
    (gradient,) = torch.autograd.grad(layer(x)[:, at].square().sum(), x)
    felt = gradient.abs().amax(dim=(0, 2)) > 0
    assert felt.nonzero().flatten().tolist() == list(range(max(0, at - window + 1), at + 1))
    assert layer.config.attention_window == window


class Count(TorchDispatchMode):
    """How many numbers all results have together, and the largest of them."""

    total = largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for item in result if isinstance(result, tuple | list) else [result]:
            if isinstance(item, torch.Tensor):
                self.total, self.largest = self.total + item.numel(), max(self.largest, item.numel())
        return result


def growth(layer):
    """By how much the work and the largest tensor of both passes grow when the text grows fourfold."""
    counts = []
    for time in (256, 1024):
        with Count() as count:
            layer(stream(1, time, 0).requires_grad_()).sum().backward()
        counts.append(count)
    return counts[1].total / counts[0].total, counts[1].largest / counts[0].largest


def test_work_and_memory_of_a_window_grow_linearly_with_the_text():
    fields = {"window": 20, "block": 16}
    assert max(growth(attention("sliding_window", **fields))) < 4.2
    assert max(growth(attention("linear", chunk=16))) < 4.2
    assert min(growth(attention("fused"))) > 10


def test_blocks_leave_out_most_of_the_masked_half():
    counts = []
    for name in ("blockwise", "fused"):
        with Count() as count:
            attention(name)(stream(1, 1024, 0))
        counts.append(count)
    assert counts[0].largest * 8 == counts[1].largest
    assert counts[0].total < 0.7 * counts[1].total


# Numbers.


@pytest.mark.parametrize("name", Attention.names())
@given(**sizes, data=st.data())
def test_bfloat16_stays_near_float32(name, batch, time, seed, data):
    layer, x = attention(name, seed, **small_fields(name, data.draw)), stream(batch, time, seed)
    with torch.no_grad():
        want = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            got = layer(x)
    torch.testing.assert_close(got.float(), want, rtol=0, atol=0.03 * max(1.0, float(want.abs().max())))


@pytest.mark.parametrize("name", ["sdpa", "gqa"])
def test_bfloat16_trains_without_the_slow_gradient_of_pytorchs_kernel_on_texts_that_are_not_long(name, monkeypatch):
    q = torch.randn(1, 2, LONG, 8, dtype=torch.bfloat16)
    assert not has_slow_gradient(q)
    assert has_slow_gradient(q.requires_grad_())
    assert not has_slow_gradient(q.detach().float().requires_grad_())
    assert not has_slow_gradient(torch.cat([q, q[:, :, :1]], dim=2))
    layer, x = (
        from_table(Attention, {"part": name, "heads": 2}, "").build(DIM).bfloat16(),
        torch.randn(2, 9, DIM).bfloat16(),
    )
    with torch.no_grad():
        untrained = layer(x)
    monkeypatch.setattr(kernel, "scaled_dot_product_attention", None)
    trained = layer(x)
    trained.sum().backward()
    assert torch.allclose(trained.float(), untrained.float(), atol=2e-2)


@pytest.mark.parametrize(
    "name", ["blockwise", "online_softmax", "sliding_window", "sliding_gqa", "gqa", "fused", "sdpa"]
)
def test_dropout_drops_weights_after_the_softmax_and_keeps_their_sum_in_the_mean(name):
    layer = attention(name, dropout=0.5).train()
    ones = torch.ones(64, 4, 6, 6)
    kv_heads = ones[:, : layer.config.kv_heads]
    alone = layer.attend(ones[:, :, :1], kv_heads[:, :, :1], kv_heads[:, :, :1], None)
    assert set(alone.unique().tolist()) == {0.0, 2.0}
    assert abs(float(layer.attend(ones, kv_heads, kv_heads, None).mean()) - 1) < 0.1


@pytest.mark.parametrize("name", sorted({*EQUIVALENTS, "gqa", "sliding_window"} - {"flex", "fused"}))
@given(**sizes, data=st.data())
def test_equivalent_attentions_drop_the_same_weights(name, batch, time, seed, data):
    first = attention("fused", seed, dropout=0.4).train()
    whole = {"gqa": {"kv_heads": 4}, "sliding_window": {"window": 80}}.get(name, {})
    other = same_weights(name, first, dropout=0.4, **small_fields(name, data.draw) | whole).train()
    rows = range(seed, seed + batch)
    with (
        row_seeded(named_dropouts(first), seed, rows, torch.device("cpu")),
        row_seeded(named_dropouts(other), seed, rows, torch.device("cpu")),
    ):
        laws.equivalent(other, first, stream(batch, time, seed))


def test_features_are_those_of_the_paper_and_keep_what_is_small_in_bfloat16():
    x = torch.linspace(-9, 9, 50)
    torch.testing.assert_close(phi(x), nn.functional.elu(x) + 1)
    torch.testing.assert_close(phi(x.bfloat16()), phi(x.bfloat16().float()))


def test_linear_query_whose_weights_all_vanish_reads_nothing():
    layer = attention("linear", chunk=2)
    q, v = torch.full((1, 4, 5, 6), -1e4, requires_grad=True), torch.ones(1, 4, 5, 6)
    y = layer.attend(q, q, v, None)
    assert (y == 0).all() and LEAST > 0
    assert torch.autograd.grad(y.sum(), q)[0].isfinite().all()


def test_online_bears_a_block_that_a_bias_hides_altogether():
    layer, x = attention("online_softmax", block=2), stream(1, 6, 0)
    q = k = v = x[:, None].expand(1, 4, 6, DIM)[..., :6]
    bias = torch.zeros(4, 6, 6)
    bias[:, 3:, :3] = -torch.inf
    torch.testing.assert_close(layer.attend(q, k, v, bias), attention("fused").attend(q, k, v, bias))


# Compiled.


TRACED = """
import copy
import warnings

import torch
from nanotx import laws
from nanotx.nn.attention import Attention

fields = {"gqa": {}, "sliding_window": {"window": 4, "block": 4}, "blockwise": {"block": 4}, "linear": {"chunk": 4}}
for name, sizes in (fields | {"online_softmax": {"block": 4}}).items():
    layer, x = Attention.find(name)(**sizes).build(24), torch.randn(2, 9, 24)
    traced = copy.deepcopy(layer)
    traced.compile(backend="eager", fullgraph=True)
    laws.equivalent(traced, layer, x)
flex, x = Attention.find("flex")().build(24), torch.randn(2, 9, 24)
with torch.no_grad():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the library would warn once in a process
        want = flex(x)
    torch.testing.assert_close(torch.compile(flex, backend="eager", fullgraph=True)(x), want)
"""


@pytest.mark.slow
def test_attentions_are_traced_whole_and_stay_themselves_and_flex_makes_no_noise():
    # In a process of its own: what checks annotations here cannot be traced.
    done = subprocess.run([sys.executable, "-c", TRACED], capture_output=True, encoding="utf-8", check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


# Alibi.


@pytest.mark.parametrize("heads", range(1, 17))
def test_alibis_slopes_are_the_papers(heads):
    table = {
        1: [8],
        2: [4, 8],
        4: [2, 4, 6, 8],
        8: [1, 2, 3, 4, 5, 6, 7, 8],
        16: [0.5 * n for n in range(1, 17)],
        32: [0.25 * n for n in range(1, 33)],
    }
    lower = max(n for n in table if n <= heads)
    exponents = table[lower] + table[2 * lower][::2][: heads - lower]
    slopes = position("alibi", heads).slopes
    torch.testing.assert_close(slopes, torch.tensor([2.0**-exponent for exponent in exponents]))
    assert len(set(slopes.tolist())) == heads


def test_alibi_penalises_each_step_back_at_any_offset():
    alibi = position("alibi", 2)
    assert alibi.bias(torch.arange(3, 5), torch.arange(5)).shape == (2, 2, 5)
    want = [[-slope * (t - s) for s in range(5)] for slope in (2**-4, 2**-8) for t in (3, 4)]
    torch.testing.assert_close(alibi.bias(torch.arange(3, 5), torch.arange(5)).flatten(0, 1), torch.tensor(want))
    far = alibi.bias(torch.arange(9003, 9005), torch.arange(9000, 9005))
    torch.testing.assert_close(far, alibi.bias(torch.arange(3, 5), torch.arange(5)))
    assert not list(alibi.parameters()) and not alibi.state_dict()


@given(**sizes, qk_norm=st.booleans())
def test_per_head_takes_alibi(batch, time, seed, qk_norm):
    first = attention("fused", seed, qk_norm=qk_norm)
    other = same_weights("per_head", first, qk_norm=qk_norm)
    laws.equivalent(Placed(first, position("alibi")), Placed(other, position("alibi")), stream(batch, time, seed))


# Flex.


def test_blocks_of_flex_made_while_sampling_serve_training_too():
    causal_blocks.cache_clear()
    with torch.inference_mode():
        attention("flex")(stream(1, 5, 0))
    assert causal_blocks.cache_info().currsize == 1
    blocks = causal_blocks(5, 5, torch.device("cpu"))
    assert causal_blocks.cache_info().hits == 1
    assert not any(tensor.is_inference() for tensor in blocks.as_tuple() if isinstance(tensor, torch.Tensor))


# Errors.


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("gqa", {"kv_heads": 3}, r"gqa: heads=4 cannot share kv_heads=3; try kv_heads from \[1, 2, 4\]"),
        ("gqa", {"heads": 6, "kv_heads": 4}, r"gqa: heads=6 cannot share kv_heads=4; try kv_heads from \[1, 2, 3, 6\]"),
        ("gqa", {"kv_heads": 0}, "kv_heads: expected a number of at least 1, got 0"),
        ("sliding_window", {"window": 0}, "window: expected a number of at least 1, got 0"),
        ("sliding_window", {"block": 0}, "block: expected a number of at least 1, got 0"),
        ("blockwise", {"block": 0}, "block: expected a number of at least 1, got 0"),
        ("online_softmax", {"block": -1}, "block: expected a number of at least 1, got -1"),
        ("linear", {"chunk": 0}, "chunk: expected a number of at least 1, got 0"),
        ("linear", {"dropout": 0.1}, r"dropout: linear .* cannot drop 0\.1 of them; try 0\.0, or dropout in the block"),
        ("flex", {"dropout": 0.1}, r"dropout: flex .* a share of 0\.1 of the weights; try 0\.0, --attention sdpa"),
    ],
)
def test_fields_that_do_not_fit_are_refused_with_what_would(name, fields, message):
    with pytest.raises(ConfigError, match=message):
        Attention.find(name)(**fields)


@pytest.mark.parametrize("name", Attention.names())
@pytest.mark.parametrize("fields", [{"heads": 0}, {"dropout": -0.1}, {"dropout": 1.0}])
def test_what_all_attentions_refuse_each_refuses(name, fields):
    with pytest.raises(ConfigError, match=f"{next(iter(fields))}: expected"):
        Attention.find(name)(**fields)


def test_field_of_a_recipe_that_does_not_fit_is_named_by_its_place():
    with pytest.raises(ConfigError, match=r"block\.attention\.window: expected a number of at least 1, got 0"):
        from_table(Attention, {"part": "sliding_window", "window": 0}, "block.attention")


def test_linear_refuses_a_bias_when_the_model_is_built_and_when_it_is_called():
    model = from_table(Model, {"position": "alibi", "block": {"part": "prenorm", "attention": "linear"}})
    with pytest.raises(ConfigError, match="linear: has no scores for position 'alibi' to add to; try --position rope"):
        model.build(9)
    with pytest.raises(
        ConfigError, match="linear: has no scores for a position to add to; try --position rope or --position none"
    ):
        attention("linear")(stream(1, 3, 0), position("alibi"))


def test_flex_says_where_it_trains():
    model = from_table(Model, {"block": {"part": "prenorm", "attention": "flex"}})
    with pytest.raises(ConfigError, match="flex: does not train on cpu, but on cuda; try --attention sdpa"):
        model.check("cpu")
