"""Batches are a pure function of seed and step, and an epoch visits every window once."""

import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotx.data import batches
from nanotx.data.batches import BLOCK, Windows, permute, step_seed
from nanotx.errors import DataError
from nanotx.laws.windows import batch_invariant_order, covers_both_ends, each_window_once

texts = st.tuples(st.integers(1, 9), st.integers(0, 60)).map(lambda pair: (pair[0], pair[0] + 1 + pair[1]))
seeds = st.integers(0, 2**63)


def endless(length: int) -> np.ndarray:
    """Ids of any number that take no memory: all of them are one number."""
    return np.broadcast_to(np.uint16(0), (length,))


def order(count: int, seed: int, epoch: int) -> list[int]:
    return permute(np.arange(count), count, seed, np.full(count, epoch)).tolist()


@given(text=texts, batch=st.integers(1, 7), seed=seeds)
def test_each_window_comes_once_per_epoch_whatever_the_batch(text, batch, seed):
    context, length = text
    windows = Windows(ids=np.arange(length), context=context, seed=seed)
    steps = -(-2 * windows.per_epoch // batch)
    starts = np.concatenate([windows.starts(step, batch) for step in range(steps)])
    for epoch in range(2):
        mine = np.sort(starts[epoch * windows.per_epoch : (epoch + 1) * windows.per_epoch])
        assert mine[0] >= 0
        assert (np.diff(mine) == context).all()
        assert mine[-1] + context + 1 <= length


@given(text=texts, seed=seeds, step=st.integers(0, 50))
def test_large_batch_is_the_small_ones_one_after_another(text, seed, step):
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
def test_order_is_a_permutation(count, seed, epoch):
    assert sorted(order(count, seed, epoch)) == list(range(count))


@given(
    count=st.integers(2**32, 2**50), seed=seeds, epoch=st.integers(0, 2**20), places=st.sets(st.integers(0, 2**32 - 1))
)
def test_order_of_more_than_four_billion_windows_has_no_collision(count, seed, epoch, places):
    if not places:
        return
    result = permute(np.array(sorted(places)), count, seed, np.full(len(places), epoch))
    assert len(set(result.tolist())) == len(places) and result.min() >= 0 and result.max() < count


def far(standard_errors: float, counts: np.ndarray, expected: float) -> bool:
    """Whether counts are further from their expectation than chance allows, by Pearson's chi-squared statistic."""
    df = counts.size - 1
    return bool(((counts - expected) ** 2 / expected).sum() > df + standard_errors * math.sqrt(2 * df))


def test_each_order_of_a_few_windows_is_equally_likely():
    for count, epochs in ((2, 4000), (3, 6000), (4, 12000)):
        places, numbers = np.tile(np.arange(count), epochs), np.repeat(np.arange(epochs), count)
        orders = Counter(map(tuple, permute(places, count, 7, numbers).reshape(epochs, count).tolist()))
        assert len(orders) == math.factorial(count)
        assert not far(5, np.array(list(orders.values())), epochs / len(orders))


def neighbours_and_places(count: int = 64, epochs: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """How often each place takes each number, and how often each difference is that of two neighbours."""
    places, numbers = np.tile(np.arange(count), epochs), np.repeat(np.arange(epochs), count)
    orders = permute(places, count, 11, numbers).reshape(epochs, count)
    taken = np.zeros((count, count))
    np.add.at(taken, (np.tile(np.arange(count), (epochs, 1)), orders), 1)
    return taken, np.bincount(((orders[:, 1:] - orders[:, :-1]) % count).ravel(), minlength=count)[1:]


def test_each_window_is_equally_likely_at_each_place_and_after_each_other(monkeypatch):
    taken, differences = neighbours_and_places()
    assert not far(5, taken, 500 / 64) and not far(5, differences, differences.mean())
    monkeypatch.setattr(batches, "ROUNDS", 6)  # so few that the test sees it
    _, differences = neighbours_and_places()
    assert far(5, differences, differences.mean())


def test_order_is_the_same_on_every_machine():
    assert order(8, 1337, 0) == [3, 0, 1, 4, 2, 7, 5, 6]
    assert step_seed(1337, 0) != step_seed(1337, 1) != step_seed(1338, 1)


@given(
    context=st.integers(1, 2**12), length=st.integers(2**33, 2**52), seed=seeds, step=st.integers(0, 2**30),
    batch=st.integers(1, 9),
)  # fmt: skip
def test_windows_of_a_text_far_larger_than_memory_have_one_order_and_stay_inside(context, length, seed, step, batch):
    windows = Windows(ids=endless(length), context=context, seed=seed)
    starts = windows.starts(step, batch)
    assert starts.min() >= 0 and starts.max() + context < length
    batch_invariant_order(windows, [step], batch)


def test_order_of_a_terabyte_takes_constant_memory():
    tracemalloc.start()
    windows = Windows(ids=endless(2**40), context=1024, seed=1)
    for step in (0, 1, 10**6):
        windows.starts(step, 64)
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_steps_that_lie_in_two_blocks_or_span_several_are_whole():
    windows = Windows(ids=np.arange(50_000), context=3, seed=5)
    rows = np.concatenate([windows.starts(step, 1000) for step in range(12)])
    assert np.array_equal(windows.starts(0, 12_000), rows) and len(rows) > 2 * BLOCK
    assert np.array_equal(windows.starts(4, 3000), windows.starts(1, 12_000)[:3000])


@settings(max_examples=15)
@given(text=texts, seed=seeds)
def test_laws_of_the_data_hold_for_any_text_and_for_several_blocks(text, seed):
    context, length = text
    for windows in (
        Windows(ids=np.arange(length), context=context, seed=seed),
        Windows(ids=np.arange(BLOCK * context + length), context=context, seed=seed),
    ):
        each_window_once(windows, 100, 2)
    covers_both_ends(Windows(ids=np.arange(length), context=context, seed=seed), 60 * context)


def test_text_shorter_than_the_context_is_refused_with_what_to_try():
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
    for item, other in zip(plain.batch(step, batch), there.batch(step, batch), strict=True):
        assert item.equal(other) and item.dtype == other.dtype == torch.long
