"""Dropout by random bytes: as much as it says, the mean kept, the same again from the same seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.nn.dropout import Dropout, drop, random_bytes


@given(share=st.sampled_from([0.001, 0.05, 0.1, 0.5, 0.9, 0.999]), seed=st.integers(0, 99))
def test_a_share_is_zeroed_and_the_mean_stays(share, seed):
    torch.manual_seed(seed)
    y = drop(torch.ones(200_000), share)
    lost = min(max(round(share * 256), 1), 255) / 256
    assert (y == 0).float().mean().item() == pytest.approx(lost, abs=5e-3)
    assert y.max().item() == pytest.approx(1 / (1 - lost))
    assert y.mean().item() == pytest.approx(1.0, abs=0.1)


@given(st.integers(0, 99))
def test_the_gradient_goes_where_the_number_went(seed):
    x = torch.randn(4, 9, requires_grad=True)
    torch.manual_seed(seed)
    y = drop(x, 0.5)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x, y)


def test_a_seed_drops_the_same_and_another_call_others():
    x = torch.ones(1000)
    torch.manual_seed(3)
    one, two = drop(x, 0.5), drop(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(drop(x, 0.5), one)
    assert not torch.equal(one, two)


def test_no_share_and_no_training_change_nothing_and_draw_nothing():
    x, before = torch.randn(5), torch.random.get_rng_state()
    assert drop(x, 0.0) is x
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 11), (2, 4, 8)])
def test_bytes_are_as_many_as_numbers_and_all_equally_likely(shape):
    assert random_bytes(torch.empty(shape)).shape == shape
    torch.manual_seed(0)
    counts = torch.bincount(random_bytes(torch.empty(512_000)).long(), minlength=256)
    assert (counts - 2000).abs().max() < 300  # some seven deviations
    by_place = random_bytes(torch.empty(80_000, 8)).float().mean(dim=0)
    assert (by_place - 127.5).abs().max() < 2


def test_half_of_the_bits_stay_half():
    y = drop(torch.ones(64, dtype=torch.bfloat16), 0.5)
    assert y.dtype is torch.bfloat16
    assert set(y.tolist()) == {0.0, 2.0}
