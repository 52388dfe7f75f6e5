"""1, 2 and 4 ranks train the same weights, to the bit; the classic errors of data parallelism break that."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from mutated import mutated
from ranks_helper import together

from nanotx.data.batches import Windows
from nanotx.distributed.buckets import Buckets
from nanotx.distributed.tree import tree_sum
from nanotx.errors import ConfigError
from nanotx.hardware.device import Machine
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.embedding.ngrams import Ngrams
from nanotx.nn.ffn.moe import MixtureOfExperts
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon
from nanotx.recipe import Recipe, Train
from nanotx.training.trainer import Trainer

MACHINE = Machine(device=torch.device("cpu"), dtype=torch.float32, threads=1)
DENSE = Recipe(
    model=Model(dim=8, layers=1, context=6, block=PreNorm(attention=Sdpa(heads=2, dropout=0.2), dropout=0.1)),
    optimizer=AdamW(lr=0.01),
    train=Train(steps=40, batch_size=8, micro_batch_size=1, grad_clip=0.5),
    seed=3,
)
MOE = MixtureOfExperts(experts=3, top_k=1, hidden_dim=8, aux_loss_weight=0.1)
ALL = replace(
    DENSE,
    model=replace(
        DENSE.model,
        embedding=Ngrams(max_n=3, buckets=16, dropout=0.2, resets=2),
        block=replace(DENSE.model.block, ffn=MOE),
    ),
    optimizer=Muon(lr=0.02),
)
CASES = {
    "dense": DENSE,
    "moe": replace(ALL, optimizer=AdamW(lr=0.01)),
    "all": ALL,
    "six micro-batches": replace(ALL, train=replace(ALL.train, batch_size=12, micro_batch_size=2)),
}


def trainer(recipe):
    ids = np.random.default_rng(1).integers(0, 9, size=400)
    windows = Windows(ids=ids, context=recipe.model.context, seed=recipe.seed)
    return Trainer(recipe, recipe.model.build(9, recipe.seed), windows, MACHINE)


def trained(recipe, steps, ranks=None):
    """The rows of some steps, and the digest of all weights and optimizer state after them."""
    made, rows = trainer(recipe), []
    if ranks is not None:
        ranks.reduce, ranks.dense = recipe.reduce, []
        made.join(ranks)
    for _ in range(steps):
        if ranks is not None and ranks.rank:
            ranks.next_order()
        row = made.train_step()
        rows.append({key: value for key, value in row.items() if key != "tokens_per_second"})
    digest = hashlib.sha256()
    for _, tensor in sorted({**made.weights(), **made.optimizer_state()[0]}.items()):
        digest.update(tensor.contiguous().numpy().tobytes())
    return [rows, digest.hexdigest()]


def shared(folder, size, cases, steps):
    """What each case is trained to by some ranks, of which all must have the same."""
    results = together(folder / str(size), size, lambda ranks: [trained(case, steps, ranks) for case in cases])
    assert all(isinstance(result, list) for result in results), results
    assert all(result == results[0] for result in results[1:])
    return results[0]


def test_two_ranks_train_the_weights_of_one(tmp_path):
    cases = [ALL, DENSE]
    assert shared(tmp_path, 2, cases, 3) == [trained(case, 3) for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_train_the_weights_of_one_over_twenty_steps(tmp_path, size):
    cases = [case for case in CASES.values() if case.train.num_micro_batches % size == 0]
    assert shared(tmp_path, size, cases, 20) == [trained(case, 20) for case in cases]


TRAINER, GROUP, BUCKETS = "nanotx.training.trainer:Trainer", "nanotx.distributed.group", "nanotx.distributed.buckets"
ERRORS = {
    "ranks see the same data": (
        "nanotx.data.batches:Windows.batch",
        "starts[rows.start : rows.stop]",
        "starts[: len(rows)]",
    ),
    "dropout is drawn by rank": (f"{TRAINER}.row_randomness", "seed, rows, self", "seed + self.ranks.rank, rows, self"),
    "every rank draws the dropout of the first rows": (
        f"{TRAINER}.row_randomness",
        "seed, rows, self",
        "seed, range(len(rows)), self",
    ),
    "averages of averages: the loss is divided by the micro-batches of a rank": (
        f"{TRAINER}.backward",
        "total / parts",
        "total / len(self.ranks.share(parts))",
    ),
    "the loss is of one rank": (
        f"{GROUP}:Group.reduced",
        "dict(zip(total.losses, losses.vector.unbind(), strict=True))",
        "total.losses",
    ),
    "each rank clips what it has": (
        f"{BUCKETS}:PairwiseSum.exchange",
        "self.received = torch.empty_like(self.vector)",
        "self.vector *= 0.5; self.received = torch.empty_like(self.vector)",
    ),
    "a rank adds its partner in the first round alone": (
        f"{BUCKETS}:PairwiseSum.exchange",
        "partner = self.rank ^ self.distance",
        "partner = self.rank ^ 1",
    ),
    "a gradient is sent before the micro-batches before it are added": (
        f"{GROUP}:Group.compute",
        "own.add_(gradient)",
        "gradient",
    ),
    "rows of tables are those of one rank": (
        f"{GROUP}:Group.gather_rows",
        "end = int(counts[rank])",
        "rank = self.rank; end = int(counts[rank])",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", ERRORS)
def test_classic_error_of_several_ranks_changes_the_weights(tmp_path, bug):
    with mutated(*ERRORS[bug]):
        results = together(tmp_path / "ranks", 4, lambda ranks: trained(ALL, 3, ranks))
    assert all(isinstance(result, list) for result in results), results
    assert any(result != trained(ALL, 3) for result in results)


@pytest.mark.parametrize("share", range(1, 7))
@pytest.mark.parametrize("size", [2, 4, 8])
def test_subtrees_of_ranks_add_up_to_the_tree_of_one(size, share):
    whole = tree_sum(range(size * share), str, lambda a, b: f"({a} {b})")
    parts = [tree_sum(range(r * share, (r + 1) * share), str, lambda a, b: f"({a} {b})") for r in range(size)]
    assert tree_sum(range(size), parts.__getitem__, lambda a, b: f"({a} {b})") == whole


def test_bucket_adds_what_changes_no_bit_where_a_rank_has_no_gradient():
    sent = []
    buckets = Buckets([torch.ones(2), torch.ones(3), torch.ones(1)], [True, True, False], sent.append)
    buckets.put(0, torch.tensor([-0.0, 2.0]))
    assert not sent
    buckets.flush()
    ((*absent, _, _),) = sent
    for theirs in (-0.0, 0.0, 5.0):
        assert [torch.signbit(number + theirs).item() for number in absent] == [np.signbit(theirs)] * 3
    with pytest.raises(ConfigError, match=r"a parameter of shape \(2,\) got its gradient in two pieces"):
        buckets.put(0, torch.ones(2))


def test_sum_of_fast_ranks_is_near_that_of_one(tmp_path):
    fast = replace(ALL, reduce="fast")
    ((rows, _),) = shared(tmp_path, 2, [fast], 2)
    for row, alone in zip(rows, trained(ALL, 2)[0], strict=True):
        assert row["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        assert row["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)


ANOTHER_ORDER = (
    "nanotx.distributed.tree:middle_of",
    "len(numbers) // 2 if len(numbers) % 2 == 0 else len(numbers) - 1",
    "len(numbers) - 1",
)
"""Micro-batches are added from left to right."""

BACKWARDS = (*ANOTHER_ORDER[:2], "1")
"""From right to left."""


def distance(rows, others):
    return max(abs(row["loss"] - other["loss"]) for row, other in zip(rows, others, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dense", "moe"])
def test_losses_of_fast_ranks_are_no_further_apart_than_another_order_of_one_process(tmp_path, case):
    recipe = CASES[case]
    alone = trained(recipe, 20)[0]
    with mutated(*ANOTHER_ORDER):
        other = distance(trained(recipe, 20)[0], alone)
    ((rows, _),) = shared(tmp_path, 4, [replace(recipe, reduce="fast")], 20)
    assert 0 < distance(rows, alone) < 4 * other < 1e-4
