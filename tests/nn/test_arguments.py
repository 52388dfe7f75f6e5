"""A layer that is used alone says in one sentence what is wrong with its arguments, and what would do."""

import re

import pytest
import torch

from nanotx.errors import ConfigError
from nanotx.nn import (
    NO_POSITION,
    Alibi,
    Block,
    KVCache,
    Learned,
    LinearKernel,
    Mlp,
    PerHead,
    PreNorm,
    Rope,
    Sdpa,
    Sinusoidal,
    SwiGlu,
)
from nanotx.nn.arguments import cache_problem, check_arguments, position_problem, stream_problem
from nanotx.nn.position.base import check_table

X = torch.randn(2, 5, 16)


@pytest.mark.parametrize("name", Block.names())
def test_every_block_names_the_width_that_it_was_built_for(name):
    with pytest.raises(ConfigError, match=r"Block: expected .* b t d \(batch, time, width 24\), got float32 .* dim=16"):
        Block.find(name)().build(24)(X)


@pytest.mark.parametrize("config", [Sdpa(heads=2), PerHead(heads=2), LinearKernel(heads=2), Mlp(), SwiGlu()])
def test_attentions_and_feed_forwards_name_the_width_that_they_were_built_for(config):
    with pytest.raises(ConfigError, match=r"expected .* width 24\), got float32 of shape \(2, 5, 16\); .* dim=16"):
        config.build(24)(X)


@pytest.mark.parametrize(
    ("x", "remedy"),
    [
        (torch.zeros(2, 5, dtype=torch.int64), r"got int64 .* embedded first, .*Embedding\(vocab_size, 16"),
        (X[0], r"got float32 of shape \(5, 16\); a single text is a batch of one: x\[None\]"),
        (X[None], r"shape \(1, 2, 5, 16\); bring it to three axes"),
        (X.numpy(), r"got ndarray; make it a tensor"),
        (X, "^$"),
    ],
)
def test_wrong_stream_is_named_with_what_would_do(x, remedy):
    assert re.search(remedy, stream_problem(x, 16))


def test_wrong_position_is_named_with_what_would_do():
    assert "got the config Rope, which is built first" in position_problem(Rope())
    assert "third argument: layer(x, NO_POSITION, cache)" in position_problem(KVCache())
    assert "or NO_POSITION, got NoneType" in position_problem(None)
    assert position_problem(NO_POSITION) == "" == position_problem(Alibi().build(16, 2, 8))
    with pytest.raises(ConfigError, match="position: got the config Learned"):
        check_arguments(torch.nn.Identity(), X, 16, Learned())


def test_wrong_cache_is_named_with_what_would_do():
    assert cache_problem(KVCache).endswith("got the class KVCache.")
    with pytest.raises(ConfigError, match=r"cache: expected KVCache\(\), or its layer\(index\) .* got dict"):
        check_arguments(torch.nn.Identity(), X, 16, NO_POSITION, {})
    check_arguments(torch.nn.Identity(), X, 16, NO_POSITION, KVCache())
    layer, cache = Sdpa(heads=2).build(16).eval(), KVCache()
    layer(X, NO_POSITION, cache)
    with pytest.raises(ConfigError, match="it holds 2 texts, and now there are 1; begin a new cache"):
        layer(X[:1], NO_POSITION, cache)
    with pytest.raises(ConfigError, match=r"other heads .*cache\.layer\(index\)"):
        Sdpa(heads=4).build(16).eval()(X, NO_POSITION, cache)


def test_position_that_was_built_for_another_model_is_named():
    layer = Sdpa(heads=2).build(16)
    with pytest.raises(ConfigError, match=r"heads of width 4 \(dim // heads\), and those of the attention have 8"):
        layer(X, Rope().build(16, 4, 8))
    with pytest.raises(ConfigError, match=r"its position was built for 4 heads, and it has 2; build .* heads=2"):
        layer(X, Alibi().build(16, 4, 8))


@pytest.mark.parametrize("config", [Learned(), Sinusoidal()])
def test_table_of_positions_that_does_not_fit_is_named(config):
    with pytest.raises(ConfigError, match="built for a stream of width 24, and this one has 16"):
        config.build(24, 2, 8).embed(X, torch.arange(5))
    with pytest.raises(ConfigError, match=r"5 tokens have 4 positions; try torch\.arange\(5\)"):
        check_table(config.build(16, 2, 8), X, torch.arange(4), context=8, dim=16)
    with pytest.raises(IndexError, match="position 4 is beyond its context=4, whose last is 3"):
        config.build(16, 2, 4).embed(X, torch.arange(5))


@pytest.mark.parametrize(
    ("part", "got"), [("sdpa", "'sdpa'"), (Sdpa, "the class Sdpa"), (Sdpa(heads=2).build(16), "Sdpa")]
)
def test_part_of_a_block_that_is_no_config_is_named(part, got):
    with pytest.raises(ConfigError, match=rf"attention: expected a config such as Sdpa\(\), got {got}"):
        PreNorm.__post_init__(_with(part))


def _with(part):
    block = PreNorm()
    object.__setattr__(block, "attention", part)
    return block
