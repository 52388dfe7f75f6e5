"""Parts that models of other libraries are made of, each beside its definition written slowly."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.parallel_norms import ParallelNorms
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import from_canonical, to_canonical
from nanotx.nn.position.rope import Rope
from nanotx.nn.position.rope_llama3 import RopeLlama3
from nanotx.nn.position.rope_partial import RopePartial
from nanotx.nn.transformer import Model


@given(
    theta=st.floats(1, 1e6),
    factor=st.floats(1, 64),
    original=st.none() | st.integers(1, 10_000),
    pairs=st.integers(1, 8),
    context=st.integers(1, 10_000),
)
def test_rope_llama3_slows_each_pair_by_how_often_it_turns(theta, factor, original, pairs, context):
    rates = RopeLlama3(theta=theta, factor=factor, original=original).build(2 * pairs, 1, context).rates
    for pair, rate in enumerate(rates.tolist()):
        plain = theta ** -(pair / pairs)
        turns = (original or context / factor) / (2 * math.pi / plain)
        if turns <= 1:
            want = plain / factor
        elif turns >= 4:
            want = plain
        else:
            smooth = (turns - 1) / (4 - 1)
            want = (1 - smooth) * plain / factor + smooth * plain
        assert rate == pytest.approx(want, rel=1e-4)


@given(width=st.integers(2, 16), fraction=st.floats(1 / 64, 1), seed=st.integers(0, 99))
def test_rope_partial_is_rope_of_the_first_channels(width, fraction, seed):
    rotated = max(2, math.floor(width * fraction) - math.floor(width * fraction) % 2)
    q, k = torch.randn(2, 1, 2, 5, width, generator=torch.Generator().manual_seed(seed))
    places = torch.arange(5)
    got = RopePartial(theta=50.0, fraction=fraction).build(2 * width, 2, 9).rotate(q, k, places)
    rope = Rope(theta=50.0).build(2 * rotated, 2, 9)
    want = rope.rotate(q[..., :rotated], k[..., :rotated], places)
    for x, turned, whole in zip(got, want, (q, k), strict=True):
        assert torch.equal(x[..., :rotated], turned)
        assert torch.equal(x[..., rotated:], whole[..., rotated:])


def test_parallel_norms_adds_two_branches_that_have_a_norm_each():
    block, x = ParallelNorms(attention=Sdpa(heads=2)).build(8).eval(), torch.randn(1, 5, 8)
    with torch.no_grad():
        block.attention_norm.weight.mul_(2)
    want = x + block.attention(block.attention_norm(x)) + block.ffn(block.ffn_norm(x))
    torch.testing.assert_close(block(x), want)
    assert not torch.allclose(block.attention_norm(x), block.ffn_norm(x))


OTHERS = ["fused", "per_head", "blockwise", "online_softmax", "gqa", "sliding_window", "sliding_gqa"]


@pytest.mark.parametrize("name", OTHERS)
def test_attentions_whose_heads_have_a_width_of_their_own_agree(name):
    def built(attention):
        return Model(dim=12, layers=1, context=16, block=PreNorm(attention=attention)).build(7, seed=2).eval()

    fields = {"kv_heads": 4} if "gqa" in name else {}
    first, other = built(Sdpa(head_dim=6)), built(Attention.find(name)(head_dim=6, **fields))
    other.load_state_dict(from_canonical(other, to_canonical(first, dict(first.state_dict()))))
    ids = torch.arange(16)[None] % 7
    torch.testing.assert_close(first(ids), other(ids))
    assert first.blocks[0].attention.to_out.weight.shape == (12, 24)
    narrow = built(Sdpa(heads=6))
    assert first.flops_per_token - narrow.flops_per_token == 6 * 4 * 12 * 12 + 12 * 12 * 16


def test_heads_that_share_one_position_have_one_width():
    blocks = (PreNorm(attention=Sdpa(head_dim=6)), PreNorm(attention=Sdpa(head_dim=4)))
    config = Model(dim=12, layers=2, context=16, blocks=blocks)
    with pytest.raises(ConfigError, match="heads of different widths cannot share one position; give all the same"):
        config.build(7)
    blocks = (blocks[1], PreNorm(attention=Sdpa(head_dim=None)))
    assert replace(config, dim=16, blocks=blocks).build(7)  # 16 / 4 is 4


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sdpa(head_dim=0), "head_dim: expected a number of at least 1, got 0"),
        (lambda: Sdpa(head_dim=2**17), "head_dim: expected a number of at most 65,536, got 131072"),
        (lambda: Attention.find("sliding_gqa")(heads=4, kv_heads=3), r"sliding_gqa: heads=4 cannot share kv_heads=3"),
        (lambda: Attention.find("sliding_gqa")(window=0), "window: expected a number of at least 1, got 0"),
        (lambda: RopeLlama3(factor=0.5), "factor: expected a number of at least 1, got 0.5"),
        (lambda: RopeLlama3(original=0), "original: expected a number of at least 1, got 0"),
        (lambda: RopePartial(fraction=0.0), "fraction: expected a number of at least 0.015625, got 0"),
        (lambda: RopePartial(fraction=1.5), "fraction: expected a number of at most 1, got 1.5"),
        (lambda: RopePartial().build(4, 4, 8), "rope_partial: heads of width 1 have no pairs of channels"),
        (
            lambda: Model(dim=8, block=PreNorm(attention=Sdpa(head_dim=5))).build(3),
            "head_dim=5 leaves a channel without a pair, and position 'rope' rotates pairs; try --attention.head-dim 6",
        ),
    ],
)
def test_sizes_that_no_part_has_are_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()
