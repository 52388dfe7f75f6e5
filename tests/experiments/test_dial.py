"""The dial: a recipe at another size obeys the rules that are stated, and is a recipe that can be built."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.experiments.dial import flops_per_token, resized, resized_model, sizes
from nanotx.nn.attention.gqa import GroupedQuery
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon
from nanotx.optim.schedules.cosine import Cosine
from nanotx.recipe import Recipe, Train


@st.composite
def models(draw):
    heads, width = draw(st.integers(1, 8)), draw(st.sampled_from([2, 4, 6, 16]))
    kv_heads = draw(st.sampled_from([count for count in range(1, heads + 1) if not heads % count]))
    attention = draw(st.sampled_from([Sdpa(heads=heads), GroupedQuery(heads=heads, kv_heads=kv_heads)]))
    block = draw(st.sampled_from([PreNorm(attention=attention), TokenShift(block=PreNorm(attention=attention))]))
    layers, share = draw(st.integers(1, 6)), draw(st.integers(1, 2))
    return Model(dim=heads * width, layers=layers * share, share=share, context=8, block=block)


@given(model=models(), share=st.floats(0.1, 4.0))
def test_model_at_any_share_can_be_built_and_keeps_the_width_of_its_heads(model, share):
    other = resized_model(model, share)
    other.build_meta(vocab_size=3)
    (before,), (after,) = {a.heads for a in model.attentions()}, {a.heads for a in other.attentions()}
    if before > 1:
        assert other.dim * before == model.dim * after
        assert abs(other.dim - share * model.dim) <= model.dim / before  # in whole heads
    assert other.layers % model.share == 0
    ratio = other.dim / model.dim
    assert abs(other.layers - ratio * model.layers) <= model.share
    assert replace(other, dim=1, layers=1, share=1, block=None) == replace(model, dim=1, layers=1, share=1, block=None)


@given(model=models())
def test_share_of_one_is_the_recipe_itself(model):
    recipe = Recipe(model=model, train=Train(steps=50), optimizer=AdamW(lr=1e-3), schedule=Cosine(warmup=7))
    assert resized(recipe, 1.0, 5) == recipe


@given(share=st.sampled_from([0.25, 0.5, 2.0]))
def test_tokens_warm_up_and_rate_follow_the_rules(share):
    model = Model(dim=64, layers=4, context=16, block=PreNorm(attention=Sdpa(heads=4)))
    recipe = Recipe(model=model, train=Train(steps=1000), optimizer=AdamW(lr=2e-3), schedule=Cosine(warmup=100))
    other = resized(recipe, share, 5)
    work = flops_per_token(other.model, 5) / flops_per_token(model, 5)
    assert other.train.steps == round(1000 * work)
    assert other.schedule.warmup == round(100 * other.train.steps / 1000)
    assert other.optimizer.lr == pytest.approx(2e-3 / share, rel=1e-3)
    muon = replace(recipe, optimizer=Muon(lr=0.02, adamw_lr=1e-3))
    assert resized(muon, share, 5).optimizer == muon.optimizer


def test_sizes_grow_and_those_that_cannot_be_told_apart_are_refused():
    model = Model(dim=64, layers=4, context=16, block=PreNorm(attention=Sdpa(heads=4)))
    recipe = Recipe(model=model, train=Train(steps=400, batch_size=3))
    ladder = sizes(recipe, 0.25, 1.0, 3, vocab_size=5)
    assert [size.name for size in ladder] == ["16x1", "32x2", "64x4"]
    assert ladder[-1].recipe == recipe
    assert ladder[-1].flops == flops_per_token(model, 5) * 400 * 3 * 16
    assert [size.flops for size in ladder] == sorted(size.flops for size in ladder)
    with pytest.raises(ConfigError, match=r"--sizes 9: .* in whole heads of 16, .* \[16, 32, 48, 64\]; try --sizes 4"):
        sizes(recipe, 0.25, 1.0, 9, vocab_size=5)
