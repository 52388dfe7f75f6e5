"""Ranks share the windows of an evaluation; the score is that of one process, to the bit."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from mutated import mutated
from ranks_helper import together
from test_same_bits import ALL, DENSE, MACHINE, trainer

from nanotx.evaluation.loss import EvalText, batch_losses
from nanotx.training.callbacks.evaluation import shared_scores

IDS = np.random.default_rng(2).integers(0, 9, size=4096 * 4 + 100)
TEXTS = {
    "train": EvalText(ids=IDS, start=0, size=len(IDS)),
    "val": EvalText(ids=IDS, start=0, size=300, windows=tuple(IDS[k : k + 7] for k in range(0, 6000, 2))),
}
AVERAGED = replace(DENSE, train=replace(DENSE.train, ema_decay=0.9))


def scores(recipe, ranks=None, check=lambda: None, steps=1):
    """The scores after a step, as JSON holds them, or what was raised."""
    made = trainer(recipe)
    if ranks is not None:
        made.join(ranks)
    for _ in range(steps):
        if ranks is not None and ranks.rank:
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


def in_slices(ranks, **others):
    """The scores of a model in slices, before a step: after it the order of sums would show."""
    ranks.parallel, ranks.reduce = "fsdp", "fast"
    return scores(replace(DENSE, reduce="fast"), ranks, steps=0, **others)


def test_score_of_a_model_in_slices_is_that_of_one_process_to_the_bit(tmp_path):
    results = together(tmp_path / "ranks", 2, in_slices)
    assert results == [scores(DENSE, steps=0)] * 2


@pytest.mark.slow
def test_score_of_a_model_in_three_slices_is_that_of_one_process_to_the_bit(tmp_path):
    assert together(tmp_path / "ranks", 3, in_slices) == [scores(DENSE, steps=0)] * 3


def passes(rank, in_step):
    """How often one of four ranks calls the model, and how many batches are its share."""
    calls, model = [], trainer(DENSE).model
    compute = model.hidden_states
    model.hidden_states = lambda *inputs: calls.append(rank) or compute(*inputs)
    sharing = SimpleNamespace(rank=rank, size=4, in_step=in_step, between=lambda act: act(), gather=list)
    own = batch_losses(model, TEXTS["train"], MACHINE, "sum", sharing=sharing)
    return [len(calls), len(own)]


def test_ranks_whose_slices_the_others_gather_call_the_model_equally_often():
    assert [passes(rank, in_step=False) for rank in range(4)] == [[2, 2], [2, 2], [1, 1], [1, 1]]
    assert [passes(rank, in_step=True) for rank in range(4)] == [[2, 2], [2, 2], [2, 1], [2, 1]]


@pytest.mark.parametrize("parallel", ["replicas", "fsdp"])
def test_evaluation_that_one_rank_gives_up_ends_on_all_with_its_reason(tmp_path, parallel):
    def give_up(ranks):
        def check():
            raise ValueError("no more")

        own = check if ranks.rank == 1 else lambda: None
        return in_slices(ranks, check=own) if parallel == "fsdp" else scores(DENSE, ranks, own)

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
            rank=rank, size=2, in_step=False, between=lambda act: act(), gather=others, order=lambda order: None
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
