"""Batches are a pure function of seed and step, and an epoch shows every window once."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx.data.batches import Windows, shuffled, step_seed
from nanotx.errors import DataError

texts = st.tuples(st.integers(1, 9), st.integers(0, 60)).map(lambda pair: (pair[0], pair[0] + 1 + pair[1]))
seeds = st.integers(0, 2**63)


@given(text=texts, batch=st.integers(1, 7), seed=seeds)
def test_each_window_comes_once_an_epoch_whatever_the_batch(text, batch, seed):
    context, length = text
    windows = Windows(ids=np.arange(length), context=context, seed=seed)
    steps = -(-2 * windows.per_epoch // batch)
    starts = np.concatenate([windows.starts(step, batch) for step in range(steps)])
    for epoch in range(2):
        mine = np.sort(starts[epoch * windows.per_epoch : (epoch + 1) * windows.per_epoch])
        assert 0 <= mine[0] < context
        assert (np.diff(mine) == context).all()
        assert mine[-1] + context + 1 <= length


@given(text=texts, seed=seeds, step=st.integers(0, 50))
def test_a_large_batch_is_the_small_ones_one_after_another(text, seed, step):
    windows = Windows(ids=np.arange(text[1]), context=text[0], seed=seed)
    parts = np.concatenate([windows.starts(2 * step + half, 3) for half in range(2)])
    assert np.array_equal(windows.starts(step, 6), parts)


@given(text=texts, seed=seeds, step=st.integers(0, 50))
def test_each_target_is_the_next_token(text, seed, step):
    windows = Windows(ids=np.arange(text[1]), context=text[0], seed=seed)
    x, y = windows.batch(step, 2)
    assert x.shape == y.shape == (2, text[0])
    assert (y == x + 1).all()


def test_another_seed_or_epoch_is_another_order_and_cut():
    windows = [Windows(ids=np.arange(1000), context=10, seed=seed) for seed in (1, 2)]
    assert not np.array_equal(windows[0].starts(0, 99), windows[1].starts(0, 99))
    assert not np.array_equal(windows[0].starts(0, 99), windows[0].starts(1, 99))
    assert len({int(windows[0].starts(step, 98)[0] % 10) for step in range(30)}) > 5


@given(count=st.integers(1, 300), seed=seeds, epoch=st.integers(0, 2**20))
def test_an_order_is_a_permutation(count, seed, epoch):
    assert sorted(shuffled(count, seed, epoch).tolist()) == list(range(count))


def test_the_order_is_the_same_on_every_machine():
    assert shuffled(8, 1337, 0).tolist() == [1, 0, 5, 4, 6, 3, 2, 7]
    assert step_seed(1337, 0) != step_seed(1337, 1) != step_seed(1338, 1)


def test_a_text_shorter_than_the_context_is_refused_with_what_to_try():
    with pytest.raises(
        DataError, match=r"a text of 8 tokens has no window of model\.context=8 .* try --model\.context 2"
    ):
        Windows(ids=np.arange(8), context=8, seed=0)


@given(
    text=st.tuples(st.integers(1, 12), st.integers(2, 90)), seed=seeds, step=st.integers(0, 20), batch=st.integers(1, 5)
)
def test_batches_gathered_where_an_accelerator_keeps_the_ids_are_those_gathered_by_numpy(text, seed, step, batch):
    ids = np.arange(sum(text), dtype=np.uint16)
    plain = Windows(ids=ids, context=text[0], seed=seed)
    there = Windows(ids=ids, context=text[0], seed=seed, device=torch.device("cpu", 0))  # not the plain "cpu"
    for one, other in zip(plain.batch(step, batch), there.batch(step, batch), strict=True):
        assert one.equal(other) and one.dtype == other.dtype == torch.long
