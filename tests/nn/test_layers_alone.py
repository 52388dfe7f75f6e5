"""Layers in a module of one's own, as docs/layers_alone.md shows them, which tests/house/test_docs.py runs."""

import ast

import pytest
import torch
from helpers import ROOT
from torch import nn

import nanotx.nn
from nanotx.nn import (
    NO_POSITION,
    Alibi,
    Attention,
    Block,
    Ffn,
    KVCache,
    Learned,
    LinearKernel,
    Norm,
    Position,
    PreNorm,
    RollingKVCache,
    Rope,
    Sinusoidal,
    SlidingWindow,
)

DIM, HEADS, TIME = 16, 4, 6


class Stack(nn.Module):
    """Two layers between maps from and to numbers, without anything else of nanotx."""

    def __init__(self, block: Block, position: Position) -> None:
        super().__init__()
        self.to_stream, self.head = nn.Linear(3, DIM), nn.Linear(DIM, 3)
        self.blocks = nn.ModuleList(block.build(DIM) for _ in range(2))
        self.position = position.build(DIM, HEADS, context=TIME)

    def forward(self, values, cache=None):
        start = cache.length + cache.evicted if cache is not None else 0
        x = self.position.embed(self.to_stream(values), torch.arange(start, start + values.shape[1]))
        for index, block in enumerate(self.blocks):
            x = block(x, self.position, cache.layer(index) if cache is not None else None)
        if cache is not None:
            cache.advance(values.shape[1])
        return self.head(x)


def every(slot):
    return [slot.find(name)() for name in sorted(slot.shipped())]


def attentions():
    return [part for part in every(Attention) if part.part != "flex"]  # which compiles a kernel


def test_public_names_are_those_that_type_checkers_see():
    tree = ast.parse((ROOT / "nanotx" / "nn" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {alias.asname: node.module for node in block.body for alias in node.names}
    assert imported == nanotx.nn.FROM
    assert sorted(nanotx.nn.__all__) == dir(nanotx.nn)


def test_every_part_that_a_layer_is_made_of_is_public():
    parts = {type(part) for slot in (Attention, Block, Ffn, Norm, Position) for part in every(slot)} - {
        Position.find("none")  # as a value: NO_POSITION
    }
    assert {getattr(nanotx.nn, part.__name__) for part in parts} == parts


def test_unknown_name_is_answered_with_the_one_that_was_meant():
    with pytest.raises(AttributeError, match=r"no attribute 'Swiglu'\. Did you mean 'SwiGlu'\? It has: "):
        nanotx.nn.Swiglu  # noqa: B018


@pytest.mark.parametrize("block", [*every(Block), *(PreNorm(attention=part) for part in attentions())], ids=str)
def test_users_stack_gives_piece_by_piece_what_it_gives_at_once(block):
    torch.manual_seed(0)
    stack, values = Stack(block, Rope()).eval(), torch.randn(2, TIME, 3)
    whole, cache = stack(values), KVCache()
    pieces = [stack(values[:, start:end], cache) for start, end in ((0, 3), (3, 4), (4, TIME))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert cache.length == TIME


@pytest.mark.parametrize("position", [Learned(), Sinusoidal(), Alibi(), Rope()], ids=str)
def test_every_position_serves_a_users_stack(position):
    torch.manual_seed(0)
    stack, values, cache = Stack(PreNorm(), position).eval(), torch.randn(2, TIME, 3), KVCache()
    pieces = [stack(values[:, time : time + 1], cache) for time in range(TIME)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), stack(values), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [*every(Block), *(PreNorm(ffn=ffn) for ffn in every(Ffn))], ids=str)
def test_every_weight_of_a_users_stack_gets_a_gradient(block):
    torch.manual_seed(0)
    stack = Stack(block, Rope())
    stack(torch.randn(4, TIME, 3)).square().mean().backward()
    assert [name for name, weight in stack.named_parameters() if weight.grad is None] == []


def test_rolling_cache_by_hand_is_a_sliding_window():
    torch.manual_seed(0)
    layer = PreNorm(attention=SlidingWindow(heads=HEADS, window=3)).build(DIM).eval()
    all_of_it = PreNorm().build(DIM).eval()
    all_of_it.load_state_dict(layer.state_dict())
    x, cache = torch.randn(1, 9, DIM), RollingKVCache(window=3)
    pieces = [all_of_it(x[:, time : time + 1], NO_POSITION, cache) for time in range(9)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), layer(x), atol=1e-5, rtol=1e-5)
    assert (cache.length, cache.evicted) == (2, 7)


def test_linear_attention_is_built_alone_too():
    assert LinearKernel(heads=HEADS).build(DIM)(torch.randn(1, TIME, DIM)).shape == (1, TIME, DIM)
