"""Ratios of interleaved times and their intervals, and the memory of one call."""

import random

import pytest
import torch

from nanotx.experiments.prove import timing
from nanotx.experiments.prove.timing import MIN_ROUNDS, interleave, median_interval, peak_bytes, ratio

CPU = torch.device("cpu")


def test_interval_of_a_median_is_where_the_binomial_distribution_says():
    assert median_interval([*map(float, range(15))]) == (3, 11)  # 96.5%; one further in, 88.2%
    assert median_interval([*map(float, range(MIN_ROUNDS))]) == (0, 5)
    assert median_interval([*map(float, range(MIN_ROUNDS - 1))]) is None


def test_interval_of_a_ratio_covers_as_stated():
    draws, covered = random.Random(0), 0
    for _ in range(1000):
        rounds = [draws.lognormvariate(0, 0.5) for _ in range(15)]  # what a busy machine does to a whole round
        first = [1.3 * round * draws.lognormvariate(0, 0.05) for round in rounds]
        second = [round * draws.lognormvariate(0, 0.05) for round in rounds]
        low, high = ratio(first, second)[1]
        covered += low <= 1.3 <= high
    assert 945 <= covered <= 985  # 96.5% of 1,000 with 3.3 standard errors


def test_functions_take_turns_in_going_first(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "TURN", 0.0)
    times = interleave(lambda: calls.append("a"), lambda: calls.append("b"), 4, CPU)
    assert [len(some) for some in times] == [4, 4]
    assert "".join(calls)[-8:] == "baabbaab"


def test_time_that_is_up_leaves_as_many_rounds_as_an_interval_needs(monkeypatch):
    monkeypatch.setattr(timing, "TURN", 0.0)
    times, _ = interleave(lambda: None, lambda: None, 100, CPU, limit=0.0)
    assert len(times) == MIN_ROUNDS


@pytest.mark.slow  # the profiler takes seconds to start
def test_memory_is_the_peak_of_what_a_call_allocates(capfd):
    kept = []

    def run():
        big = torch.empty(250_000)  # a million bytes
        small = torch.empty(25_000)
        del big
        kept.append((small, torch.empty(25_000)))

    assert peak_bytes(run, CPU) == pytest.approx(1_100_000, rel=1e-3)
    assert capfd.readouterr().err == ""
