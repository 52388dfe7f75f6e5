"""Curves are thinned without losing a spike, and read from logs that are not in order."""

import json
import math
import random
from itertools import pairwise

import numpy as np
import pytest

from nanotx.report.curves import bucket_count, clock_of, curve, event_rows, read_log, thin, window_means


def values(count, seed=0):
    draw = random.Random(seed)
    return [draw.gauss(0, 1) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, 99, 100, 101, 1234])
def test_extremes_of_every_bucket_stay(count):
    steps, numbers = list(range(1, count + 1)), values(count)
    thinned = thin(steps, numbers, 100)
    edges = [0, *thinned.steps]
    buckets = [numbers[first:end] for first, end in zip(edges, thinned.steps, strict=False)]
    assert thinned.steps[-1] == count and len(thinned.steps) == min(count, 100)
    assert thinned.low == [pytest.approx(min(bucket), rel=1e-4) for bucket in buckets]
    assert thinned.high == [pytest.approx(max(bucket), rel=1e-4) for bucket in buckets]


def test_single_spike_among_a_hundred_thousand_steps_is_seen():
    numbers = [1.0] * 100_000
    numbers[77_777] = 50.0
    thinned = thin(list(range(100_000)), numbers, 500)
    assert max(thinned.high) == 50.0 and thinned.high.count(50.0) == 1 and len(thinned.steps) == 500


def test_buckets_without_a_finite_number_are_gaps_and_others_leave_them_out():
    numbers = [1.0, math.nan, math.nan, math.nan, 5.0, 7.0]
    thinned = thin(list(range(6)), numbers, 3, smooth=False)
    assert (thinned.low, thinned.high) == ([1.0, None, 5.0], [1.0, None, 7.0])
    assert thinned.mean == [1.0, None, 6.0]


def test_means_are_those_of_centred_windows_written_slowly():
    numbers, edges = np.array(values(41)), np.array([0, 1, 4, 6, 20, 21, 38, 41])
    for window in (1, 2, 5, 9, 100):
        slow = []
        for first, end in pairwise(edges.tolist()):
            reach = min(max(0, window - (end - first)) // 2, first, 41 - end)
            slow.append(numbers[first - reach : end + reach].mean())
        assert window_means(numbers, edges, window).tolist() == pytest.approx(slow)


def log(tmp_path, rows):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_log(path)


def step(number, **others):
    row = {
        "event": "step",
        "step": number,
        "loss": 1.0 / number,
        "grad_norm": 1.0,
        "lr": 0.1,
        "tokens_per_second": 50.0,
    }
    return row | others


START = {"event": "start", "step": 0, "steps": 9, "tokens_per_step": 100, "title": "t", "floor": None}


def test_tokens_and_seconds_add_up_also_where_the_beginning_of_the_log_is_lost(tmp_path):
    clock = clock_of(log(tmp_path, [START, step(1), step(2), step(3, tokens_per_second=0)]))
    assert clock.at([2, 3]) == {"step": [2.0, 3.0], "tokens": [200.0, 300.0], "seconds": [4.0, 4.0]}
    assert clock_of(log(tmp_path, [START, step(5), step(6)])).at([5, 6])["tokens"] == [500.0, 600.0]


def test_rows_out_of_order_are_left_out_and_metrics_may_be_sparse(tmp_path):
    rows = log(tmp_path, [START, step(1), step(2, mine=3), step(1), step(3, word="x"), step(4, mine=None)])
    assert rows.step == [1, 2, 3, 4] and rows.texts == {"word": "x"}
    mine = curve(rows, "mine", 10)
    assert mine.steps == [2, 4] and mine.mean == [3.0, None]


def test_events_that_repeat_are_one_with_the_steps_that_it_spans(tmp_path):
    lost = [step(number, loss=None, nonfinite=["loss"]) for number in (2, 3, 4, 7)]
    events = event_rows(log(tmp_path, [START, step(1), *lost, {"event": "warning", "step": 8, "text": "a reset"}]))
    assert [(row["step"], row["until"]) for row in events] == [(2, 4), (7, 7), (8, 8)]
    assert events[0]["text"] == "not finite: loss"


def test_many_curves_have_fewer_buckets():
    assert bucket_count(1) == 500 and bucket_count(10_000) == 60
    assert 4 * 64 * bucket_count(64) <= 60_000
