"""Whether a cache can roll is stated by the position, proven by a law, and the same at any context and any time."""

import pytest
import torch

from nanotx.errors import ConfigError
from nanotx.generation import Sampling
from nanotx.generation.engine import BatchEngine
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block
from nanotx.nn.position import Position
from nanotx.nn.transformer import Model

ROPES = {"rope", "rope_linear", "rope_llama3", "rope_ntk", "rope_partial", "rope_yarn"}
RELATIVE = {"alibi", "none", *ROPES}


def model(position, context):
    block = Block.find("prenorm")(attention=Attention.find("sliding_window")(heads=2, window=8))
    return Model(dim=32, layers=1, context=context, position=Position.find(position)(), block=block).build(9).eval()


def begun(position, context, seed=0):
    torch.manual_seed(seed)
    return BatchEngine(model(position, context), [[1, 2, 3]], Sampling(), max_new_tokens=2, rolling=True)


@pytest.mark.parametrize("context", [4, 64, 8192, 32_768, 131_072])
@pytest.mark.parametrize("position", sorted(RELATIVE))
def test_cache_rolls_with_a_relative_position_at_any_context(position, context):
    for seed in range(8):
        assert next(iter(begun(position, context, seed))).row == 0


@pytest.mark.parametrize("position", sorted(set(Position.names()) - RELATIVE))
def test_cache_does_not_roll_with_a_position_that_is_not_declared_relative(position):
    for context in (4, 64, 2048):
        with pytest.raises(
            ConfigError,
            match=rf"overflow: the cache cannot roll with position '{position}', .*`relative`.*try recompute",
        ):
            begun(position, context)


def test_rolling_generation_leaves_the_global_generator_unchanged():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    built = model("rope", 64)
    torch.manual_seed(3)
    BatchEngine(built, [[1, 2]], Sampling(), max_new_tokens=2, rolling=True).run()
    assert torch.equal(torch.rand(2), wanted)
