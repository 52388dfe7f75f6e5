"""The token shift against its definition, written slowly."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.errors import ConfigError
from nanotx.nn.attention.sliding_window import SlidingWindow
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.block.token_shift import TokenShift


@given(shifts=st.integers(1, 3), time=st.integers(1, 6), seed=st.integers(0, 99))
def test_block_reads_each_position_with_those_before_it_mixed_in(shifts, time, seed):
    torch.manual_seed(seed)
    layer = TokenShift(shifts=shifts).build(8)
    for weight in layer.weights:
        torch.nn.init.normal_(weight)
    x = torch.randn(2, time, 8)
    mixed = x.clone()
    for t in range(time):
        for back in range(1, min(shifts, t) + 1):
            mixed[:, t] += layer.weights[back - 1] * x[:, t - back]
    torch.testing.assert_close(layer(x), layer.block(mixed))


def test_it_begins_as_the_block_that_it_wraps():
    layer = TokenShift().build(8)
    x = torch.randn(2, 5, 8)
    assert torch.equal(layer(x), layer.block(x))


def test_it_looks_as_many_positions_further_as_it_has_taps():
    assert TokenShift().attention_window is None
    assert TokenShift(shifts=2, block=PreNorm(attention=SlidingWindow(window=5))).attention_window == 7


def test_its_weights_are_vectors_so_that_no_optimizer_takes_them_for_a_map():
    assert {weight.ndim for weight in TokenShift(shifts=3).build(8).weights} == {1}


def test_token_shift_without_shifts_is_refused():
    with pytest.raises(ConfigError, match="shifts: expected a number of at least 1, got 0"):
        TokenShift(shifts=0)


def test_named_block_replaces_the_wrapper_and_what_it_wraps():
    from nanotx.recipe_flags import read_recipe
    from nanotx.recipes.shakespeare_ngrams import recipe

    named, _ = read_recipe(recipe, ["--block", "parallel", "--block.dropout", "0.3"], "nanotx")
    assert named.model.block.part == "parallel" and named.model.block.dropout == 0.3
    again, _ = read_recipe(recipe, ["--block", "token_shift"], "nanotx")
    assert again == recipe
