"""An evaluation predicts every token of a text once, whatever the windows and batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nanotx.evaluation.loss import EvalText, bits_per_byte, evaluate
from nanotx.hardware.device import choose_machine
from nanotx.nn.transformer import Model

MACHINE = choose_machine("cpu", "float32", 1)
MODEL = Model(dim=8, layers=1, context=5).build(7)


@given(ids=st.lists(st.integers(0, 6), min_size=1, max_size=40), context=st.integers(1, 9), rows=st.integers(1, 4))
def test_every_token_is_predicted_once_and_in_order(ids, context, rows):
    eval_text = EvalText(ids=np.array(ids), start=3, size=1)
    batches = list(eval_text.batches(context, rows))
    assert [item for _, y in batches for item in y.flatten().tolist()] == ids
    assert [item for x, _ in batches for item in x.flatten().tolist()] == [3, *ids[:-1]]
    assert all(x.shape == y.shape and x.shape[0] <= rows and x.shape[1] <= context for x, y in batches)


@given(ids=st.lists(st.integers(0, 6), min_size=1, max_size=30), size=st.integers(1, 99))
def test_loss_is_the_mean_over_tokens_computed_one_window_at_a_time(ids, size):
    score = evaluate(MODEL, EvalText(ids=np.array(ids), start=0, size=size), MACHINE)
    text, total = [0, *ids], 0.0
    for first in range(0, len(ids), 5):
        piece = torch.tensor(text[first : first + 6])
        total += F.cross_entropy(MODEL(piece[None, :-1])[0], piece[1:], reduction="sum").item()
    assert score.loss == pytest.approx(total / len(ids), rel=1e-5)
    assert score.bits_per_byte == pytest.approx(score.loss * len(ids) / size / math.log(2))
    assert score.perplexity == pytest.approx(math.exp(score.loss))


def test_dropout_is_off_while_scoring_and_the_model_is_left_as_it_was():
    model = Model(dim=8, layers=1, context=5, dropout=0.9).build(7)
    eval_text = EvalText(ids=np.arange(20) % 7, start=0, size=20)
    assert evaluate(model.train(), eval_text, MACHINE) == evaluate(model.eval(), eval_text, MACHINE)
    for training in (True, False):
        evaluate(model.train(training), eval_text, MACHINE)
        assert model.training is training


def test_bits_per_byte_of_a_coin_a_byte_is_one():
    assert bits_per_byte(math.log(2), tokens=8, size=8) == pytest.approx(1.0)
    assert bits_per_byte(math.log(2), tokens=8, size=16) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="an empty text has no rate"):
        bits_per_byte(1.0, tokens=0, size=0)
