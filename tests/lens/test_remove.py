"""Removing a part is what it says, and its worth is a difference with an interval; heads are scored where they look."""

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from nanotx.errors import ConfigError
from nanotx.evaluation.loss import EvalText
from nanotx.lens.capture import capture
from nanotx.lens.induction import head_scores, repeated_tokens, repetition_losses, scores
from nanotx.lens.remove import removable, removals
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.transformer import Model

CONFIG = Model(dim=16, layers=2, context=8, block=PreNorm(attention=Sdpa(heads=2)))
TEXT = EvalText(ids=np.arange(61) * 7 % 11, start=0, size=61)


def model():
    return CONFIG.build(11, seed=1).eval()


def loss(value):
    losses = [
        F.cross_entropy(rearrange(value(x), "b t v -> (b t) v"), rearrange(y, "b t -> (b t)"), reduction="sum").item()
        for x, y in TEXT.batches(8, 2)
    ]
    return sum(losses) / TEXT.tokens


def by_hand(name):
    built = model()
    with torch.no_grad():
        if name == "1.attention.head1":
            built.blocks[1].attention.to_out.weight[:, 8:] = 0
        if name in ("1.attention", "1"):
            built.blocks[1].attention.to_out.weight.zero_()
        if name in ("1.ffn", "1"):
            built.blocks[1].ffn.to_out.weight.zero_()
    return loss(built)


@pytest.mark.parametrize("name", ["1.attention.head1", "1.attention", "1.ffn", "1"])
def test_removing_a_branch_equals_zeroing_its_last_weights(name):
    built = model()
    [(whole, result)] = removals(built, TEXT, [name])
    assert whole == pytest.approx(loss(model()), abs=1e-5)
    assert result.loss == pytest.approx(by_hand(name), abs=1e-5)
    assert result.difference != 0
    assert loss(built) == loss(model())


def test_every_part_is_removed_once_and_the_interval_holds_the_difference():
    names = removable(model())
    assert len(names) == len(set(names)) == 10
    for _, actual in removals(model(), TEXT, names):
        low, high = actual.interval
        assert low < actual.difference < high
        assert actual.difference == pytest.approx((low + high) / 2)


def test_branch_that_does_nothing_makes_no_difference():
    built = model()
    torch.nn.init.zeros_(built.blocks[0].attention.to_out.weight)
    [(_, result)] = removals(built, TEXT, ["0.attention.head0"])
    assert result.difference == 0 and result.interval == (0, 0)
    [(_, single)] = removals(built, EvalText(ids=TEXT.ids[:5], start=0, size=5), ["0.ffn"])
    assert single.interval is None


def test_unknown_part_is_refused_before_anything_is_computed():
    with pytest.raises(ConfigError, match=r"'2\.ffn' is no part of this model"):
        next(removals(model(), TEXT, ["2.ffn"]))


def test_head_that_looks_at_the_token_after_the_first_occurrence_scores_one():
    weights = torch.zeros(1, 8, 8)
    for query in range(4, 8):
        weights[0, query, query - 3] = 1.0
    assert scores(weights, 4) == (1.0, 0.0)
    assert scores(torch.diag(torch.ones(7), -1).expand(2, 8, 8), 4) == (0.0, 1.0)
    result = head_scores(model())
    assert [item.head for item in result] != [] and {item.head for item in result} == {"0.0", "0.1", "1.0", "1.1"}
    assert all(0 < item.induction < 1 and 0 < item.previous < 1 for item in result)


def test_loss_without_a_head_is_that_of_the_repetition_alone():
    built, ids = model(), repeated_tokens(model())
    assert ids.shape == (16, 8) and torch.equal(ids[:, :4], ids[:, 4:])
    log_probs = built(ids).detach().log_softmax(dim=-1)
    losses = -log_probs[:, :-1].gather(2, rearrange(ids[:, 1:], "b t -> b t 1"))[..., 0]
    first, again = repetition_losses(built, ids)
    assert first == pytest.approx(float(losses[:, :3].mean()), abs=1e-5)
    assert again == pytest.approx(float(losses[:, 4:].mean()), abs=1e-5)
    differences = {score.head: score.difference for score in head_scores(built)}
    with torch.no_grad():
        built.blocks[1].attention.to_out.weight[:, 8:] = 0
    assert differences["1.1"] == pytest.approx(repetition_losses(built, ids)[1] - again, abs=1e-5) != 0


def test_previous_token_score_is_measured_on_a_text_where_there_is_one():
    built, on_text = model(), {}
    with capture(built, next(TEXT.batches(8, 7))[0]) as c:
        for site, head in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weights = c[f"blocks.{site}.attention.weights"][:, head]
            on_text[f"{site}.{head}"] = float(weights.diagonal(-1, 1, 2).mean())
    whole = EvalText(ids=TEXT.ids[:56], start=0, size=56)
    actual, random = head_scores(built, text=whole), {score.head: score for score in head_scores(built)}
    assert {score.head: score.previous for score in actual} == pytest.approx(on_text, abs=1e-6)
    assert all(score.induction == random[score.head].induction for score in actual)
    assert any(abs(score.previous - random[score.head].previous) > 1e-4 for score in actual)
