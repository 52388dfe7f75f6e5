"""Reference lines are the losses of count models, as their definitions say."""

import math
from itertools import pairwise

import numpy as np
import pytest

from nanotx.report import references
from nanotx.report.references import count_losses


def slow(train, pieces, size):
    """The definitions, written out: add one, and Witten-Bell."""
    single = {token: (train.count(token) + 1) / (len(train) + size) for token in range(size)}
    pairs = list(pairwise(train))
    unigram, bigram = [], []
    for before, token in (pair for piece in pieces for pair in pairwise(piece)):
        after = [second for first, second in pairs if first == before]
        kinds = len(set(after))
        unigram.append(-math.log(single[token]))
        share = (after.count(token) + kinds * single[token]) / (len(after) + kinds) if after else single[token]
        bigram.append(-math.log(share))
    return {"uniform": math.log(size), "unigram": np.mean(unigram), "bigram": np.mean(bigram)}


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_losses_are_those_of_the_definitions(monkeypatch, dense, seed):
    monkeypatch.setattr(references, "DENSE", 10**9 if dense else 0)
    draw = np.random.default_rng(seed)
    size = int(draw.integers(2, 9))
    train, pieces = draw.integers(0, size, 60), [draw.integers(0, size, 20), draw.integers(0, size, 7)]
    losses = count_losses(train, pieces, size)
    assert losses == pytest.approx(slow(train.tolist(), [piece.tolist() for piece in pieces], size))


def test_tokens_that_training_never_saw_are_improbable_and_not_impossible():
    losses = count_losses(np.zeros(50, int), [np.array([2, 3, 2])], 4)
    assert losses["uniform"] < losses["unigram"] == pytest.approx(math.log(54)) == losses["bigram"]


def test_text_of_one_token_has_the_uniform_line_alone():
    assert count_losses(np.array([0, 1]), [np.array([1])], 2) == {"uniform": math.log(2)}
