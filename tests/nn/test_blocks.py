"""Blocks against their definitions written slowly, with any attention and ffn in them; and patterns of blocks."""

import tomllib
from dataclasses import replace

import pytest
import torch
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from nanotx import laws
from nanotx.cli.main import run as nanotx_command
from nanotx.config.schema import from_table, to_table
from nanotx.config.toml import merge
from nanotx.errors import ConfigError
from nanotx.generation import Sampling, generate
from nanotx.nn.attention import Attention
from nanotx.nn.block import Block, TwoBranches
from nanotx.nn.ffn import Ffn
from nanotx.nn.norm import Norm
from nanotx.nn.transformer import Model
from nanotx.recipe import Recipe
from nanotx.recipes.shakespeare_bpe import recipe as shakespeare_bpe
from nanotx.recipes.shakespeare_char import recipe as shakespeare_char
from nanotx.tokenizers.char import Char

DIM = 24
BRANCHED = [name for name in Block.names() if issubclass(Block.find(name), TwoBranches)]
"""Those of an attention and a feed-forward; the others wrap one of these."""


def stream(seed=0, batch=2, time=5):
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(seed))


def built(name, seed=0, **fields):
    torch.manual_seed(seed)
    layer = Block.find(name)(**fields).build(DIM).eval()
    with torch.no_grad():  # norms that differ, so that one cannot stand in for another
        for parameter in layer.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand(parameter.shape))
    return layer


def rms(x, weight):
    return torch.stack([row / (row.square().mean() + 1e-6).sqrt() for row in x.flatten(0, 1)]).view_as(x) * weight


def test_parallel_block_is_its_definition():
    layer, x = built("parallel"), stream()
    y = rms(x, layer.norm.weight)
    torch.testing.assert_close(layer(x), x + layer.attention(y) + layer.ffn(y))
    assert sum(parameter.ndim == 1 for parameter in layer.parameters()) == 1


def test_sandwich_is_its_definition():
    layer, x = built("sandwich"), stream()
    read = layer.attention(rms(x, layer.attention_norm.weight))
    after = x + rms(read, layer.attention_out_norm.weight)
    thought = layer.ffn(rms(after, layer.ffn_norm.weight))
    torch.testing.assert_close(layer(x), after + rms(thought, layer.ffn_out_norm.weight))
    assert sum(parameter.ndim == 1 for parameter in layer.parameters()) == 4


def test_what_a_sandwich_adds_does_not_grow_with_its_branch():
    layer, x = built("sandwich"), stream()
    before = layer(x)
    with torch.no_grad():
        layer.attention.to_out.weight *= 1000
        layer.ffn.to_out.weight *= 1000
    torch.testing.assert_close(layer(x), before, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("block", BRANCHED)
@pytest.mark.parametrize("ffn", Ffn.names())
@given(time=st.integers(1, 9), seed=st.integers(0, 2**16), data=st.data())
def test_block_takes_any_ffn(block, ffn, time, seed, data):
    layer, x = built(block, seed, ffn=Ffn.find(ffn)()), stream(seed, time=time)
    cut = data.draw(st.integers(0, time - 1))
    laws.causal(layer, x, cut=cut, seed=seed)
    laws.time_prefix(layer, x, cut=cut)


@pytest.mark.parametrize("block", BRANCHED)
def test_norm_of_a_block_is_the_one_that_is_named(block):
    layer = built(block, norm=Norm.find("layernorm")())
    assert not any(isinstance(module, torch.nn.RMSNorm) for module in layer.modules())
    assert any(isinstance(module, torch.nn.LayerNorm) for module in layer.modules())


@pytest.mark.parametrize("block", BRANCHED)
def test_dropout_falls_on_what_each_branch_adds(block):
    """With the other branch silent, what training changes is what the one adds."""
    for silent in ("attention", "ffn"):
        layer, x = built(block, dropout=0.5, norm=Norm.find("none")()), stream()
        with torch.no_grad():
            getattr(layer, silent).to_out.weight.zero_()
        added = layer(x) - x
        torch.manual_seed(1)
        kept = (layer.train()(x) - x) / added
        dropped = kept.abs() < 1e-3
        assert 0.3 < dropped.float().mean() < 0.7
        torch.testing.assert_close(kept[~dropped], torch.full_like(kept[~dropped], 2.0), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("block", BRANCHED)
def test_invalid_dropout_is_refused(block):
    with pytest.raises(ConfigError, match="dropout: expected a fraction"):
        Block.find(block)(dropout=1.0)


@pytest.mark.parametrize("block", ["parallel", "sandwich"])
@given(time=st.integers(1, 9), seed=st.integers(0, 2**16), data=st.data())
def test_model_of_such_blocks_is_causal_and_reads_in_pieces(block, time, seed, data):
    model = Model(dim=DIM, layers=2, context=9, block=Block.find(block)()).build(11, seed).eval()
    ids = torch.randint(11, (2, time), generator=torch.Generator().manual_seed(seed))
    laws.time_prefix(model, ids, cut=data.draw(st.integers(0, time - 1)))
    laws.cache_agrees(model, ids, sorted(data.draw(st.sets(st.integers(1, time)))) if time > 1 else [])


@pytest.mark.parametrize("block", ["parallel", "sandwich"])
def test_projections_into_the_stream_are_drawn_smaller(block):
    model = Model(dim=64, layers=8, context=8, block=Block.find(block)(attention=Attention.find("sdpa")())).build(11)
    for item in model.blocks:
        for layer in (item.attention, item.ffn):
            assert layer.to_out.weight.std().item() == pytest.approx(0.02 / 16**0.5, rel=0.1)


# A pattern of blocks, repeated over the layers.

NEAR_AND_FAR = tuple(
    Block.find("prenorm")(attention=Attention.find(name)(heads=4, **fields))
    for name, fields in (("sliding_window", {"window": 32, "block": 32}), ("fused", {}))
)


def alternating(capsys, *words):
    assert nanotx_command(["train", "alternating", "--print-config", *words]) == 0
    return from_table(Recipe, tomllib.loads(capsys.readouterr().out))


def small(window):
    """Three layers: the last few positions, all, the last few."""
    near, far = (
        Block.find("prenorm")(attention=Attention.find(name)(heads=2, **fields))
        for name, fields in (("sliding_window", {"window": window, "block": 4}), ("fused", {}))
    )
    return Model(dim=DIM, layers=3, context=20, blocks=(near, far))


def test_alternating_is_the_recipe_of_pieces_but_for_blocks_and_tokens_whatever_it_is_laid_over(capsys):
    recipe = alternating(capsys)
    model = replace(shakespeare_bpe.model, block=None, blocks=NEAR_AND_FAR)
    assert recipe == replace(shakespeare_bpe, tokenizer=Char(), model=model)
    parts = [block.attention.part for block in recipe.model.pattern()]
    assert parts == ["sliding_window", "fused", "sliding_window", "fused"]
    table = tomllib.loads((ROOT / "recipes" / "alternating.toml").read_text(encoding="utf-8"))
    assert from_table(Recipe, merge(Recipe, to_table(shakespeare_char), table)) == recipe


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--attention sliding_window --attention.window 16", [("sliding_window", 16), ("sliding_window", 16)]),
        ("--attention.window 16", [("sliding_window", 16), ("fused", None)]),
        ("--attention sdpa", [("sdpa", None), ("sdpa", None)]),
    ],
)
def test_flags_reach_every_block_of_a_pattern_that_has_what_they_name(capsys, words, message):
    blocks = alternating(capsys, *words.split(), "--attention.heads", "2", "--ffn", "geglu").model.blocks
    results = [(block.attention.part, to_table(block.attention).get("window")) for block in blocks]
    assert results == message
    assert [(block.attention.heads, block.ffn.part) for block in blocks] == [(2, "geglu"), (2, "geglu")]


@given(time=st.integers(1, 20), window=st.integers(1, 9), seed=st.integers(0, 2**16), data=st.data())
def test_model_of_alternating_blocks_is_causal_and_reads_in_pieces(time, window, seed, data):
    model = small(window).build(11, seed).eval()
    ids = torch.randint(11, (2, time), generator=torch.Generator().manual_seed(seed))
    laws.time_prefix(model, ids, cut=data.draw(st.integers(0, time - 1)))
    laws.cache_agrees(model, ids, sorted(data.draw(st.sets(st.integers(1, time - 1)))) if time > 1 else [])


def test_model_of_alternating_blocks_generates_alike_with_and_without_cache():
    model = small(window=3).build(11, seed=1).eval()
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0)  # so that the logits are far apart
        while ids.shape[1] < 18:
            ids = torch.cat([ids, model(ids)[:, -1:].argmax(dim=-1)], dim=1)
    written = generate(model, ids[:, :5], max_new_tokens=13, sampling=Sampling(temperature=0.0))
    assert written.tolist() == ids.tolist() and len(set(written[0, 5:].tolist())) > 1


def test_in_a_pattern_a_full_attention_sees_past_the_window_and_a_sliding_one_does_not():
    near, far = (small(window=3).build(11).eval().blocks[layer].attention for layer in (0, 1))
    x = stream(time=12)
    other = torch.cat([x[:, :1] + 1.0, x[:, 1:]], dim=1)
    assert torch.equal(near(x)[:, 3:], near(other)[:, 3:]) and not torch.allclose(far(x)[:, -1], far(other)[:, -1])


def test_operations_of_a_short_window_are_counted_as_such():
    difference = small(window=5).build(11).flops_per_token - small(window=4).build(11).flops_per_token
    assert difference == 12 * DIM * 2  # two of the three layers look at one position more
    assert small(window=20).build(11).flops_per_token == small(window=99).build(11).flops_per_token


def test_parallel_block_drops_as_all_other_blocks_do():
    block = Block.find("parallel")(dropout=0.3).build(DIM).train()
    x = stream()
    with torch.no_grad():
        block.attention.to_out.weight.zero_()  # so that the feed-forward alone is added
        added = block(x) - x
        whole = block.eval()(x) - x
    kept = (added / whole)[added.abs() > 1e-6]
    assert 0 < len(kept) < whole.numel()
    torch.testing.assert_close(
        kept, torch.full_like(kept, 256 / (256 - 77)), rtol=1e-3, atol=0
    )  # 77 of 256 are dropped
