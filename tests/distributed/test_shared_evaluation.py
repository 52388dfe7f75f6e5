"""Ranks share the windows of an evaluation; the score is that of one process, to the bit."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mutated import mutated
from ranks_helper import together
from test_same_bits import ALL, DENSE, trainer

from nanotx.evaluation.loss import EvalText
from nanotx.training.callbacks.evaluation import shared_scores

IDS = np.random.default_rng(2).integers(0, 9, size=4096 * 4 + 100)
TEXTS = {
    "train": EvalText(ids=IDS, start=0, size=len(IDS)),
    "val": EvalText(ids=IDS, start=0, size=300, windows=tuple(IDS[k : k + 7] for k in range(0, 6000, 2))),
}
AVERAGED = replace(DENSE, train=replace(DENSE.train, ema_decay=0.9))


def scores(recipe, ranks=None, check=lambda: None):
    """The scores after a step, as JSON holds them, or what was raised."""
    made = trainer(recipe)
    if ranks is not None:
        made.join(ranks)
        if ranks.rank:
            ranks.next_order()
    made.train_step()
    if ranks is not None and ranks.rank:
        assert ranks.next_order() == "evaluate"
    try:
        return {name: vars(score) for name, score in shared_scores(made, TEXTS, check).items()}
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def test_score_of_several_ranks_is_that_of_one_to_the_bit(tmp_path):
    def both(ranks):
        return [scores(AVERAGED, ranks), scores(ALL, ranks)]

    results = together(tmp_path / "ranks", 2, both)
    assert results[0] == results[1] == [scores(AVERAGED), scores(ALL)]


@pytest.mark.slow
def test_score_of_four_ranks_is_that_of_one_to_the_bit(tmp_path):
    assert together(tmp_path / "ranks", 4, lambda ranks: scores(AVERAGED, ranks)) == [scores(AVERAGED)] * 4


def test_evaluation_that_one_rank_gives_up_ends_on_all_with_its_reason(tmp_path):
    def give_up(ranks):
        def check():
            raise ValueError("no more")

        return scores(DENSE, ranks, check if ranks.rank == 1 else lambda: None)

    results = together(tmp_path / "ranks", 2, give_up)
    assert results == ["RunError: rank 1: ValueError: no more", "ValueError: no more"]


@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("batch_losses", "number % ranks.size != ranks.rank", "number % ranks.size != 0"),
        ("evaluate", "shares[number % ranks.size][number // ranks.size]", "shares[ranks.rank][number // ranks.size]"),
        ("Spread.add", "self.squares += sums[2]", "self.squares = sums[2]"),
    ],
)
def test_wrong_share_of_an_evaluation_changes_its_score(place, old, new):
    """Two ranks in one process: each computes its share, and the first adds up what both have."""
    made = trainer(DENSE)

    def of(rank, others):
        made.ranks = SimpleNamespace(
            rank=rank, size=2, check=lambda: None, gather=others, order=lambda order: None, whole=nullcontext
        )
        return shared_scores(made, {"train": TEXTS["train"]})["train"]

    def together_in_turn():
        kept = []

        def first(compute):
            kept.append(compute())
            return [kept[0], kept[0]]

        of(1, first)
        return of(0, lambda compute: [compute(), kept[0]])

    alone = shared_scores(trainer(DENSE), {"train": TEXTS["train"]})["train"]
    assert together_in_turn() == alone
    with mutated(f"nanotx.evaluation.loss:{place}", old, new):
        assert together_in_turn() != alone
