"""The optimizer's state divided among ranks: the same bits, and each rank has a part of it alone."""

import hashlib
from dataclasses import replace

import pytest
import torch
from mutated import mutated
from ranks_helper import together
from test_faults import steps_until_error
from test_same_bits import ALL, CASES, DENSE, trainer
from torch.optim import SGD

from nanotx.distributed import check_parallel, divide
from nanotx.errors import ConfigError
from nanotx.optim.base import Optimizer
from nanotx.recipe import Recipe


def digest(tensors):
    whole = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        whole.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def owned(recipe, steps, ranks=None):
    """The rows of some steps; of the weights, and on rank 0 of the whole state, the digest; the state's own numbers."""
    made = trainer(recipe)
    if ranks is not None:
        ranks.parallel, ranks.dense = "owner", []
        made.join(ranks)
    rows = []
    for _ in range(steps):
        if ranks is not None and ranks.rank:
            ranks.next_order()
        rows.append({key: value for key, value in made.train_step().items() if key != "tokens_per_second"})
    numbers = sum(tensor.numel() for state in made.optimizer.state.values() for tensor in state.values())
    if ranks is not None and ranks.rank:
        assert ranks.next_order() == "state"
        ranks.send_state()
        state = None
    else:
        state = digest(made.optimizer_state()[0])
    assert numbers == sum(tensor.numel() for state in made.optimizer.state.values() for tensor in state.values())
    return [rows, digest(made.weights()), state, numbers]


def shared(folder, size, recipes, steps):
    results = together(folder, size, lambda ranks: [owned(recipe, steps, ranks) for recipe in recipes])
    assert all(isinstance(result, list) for result in results), results
    return results


def test_two_ranks_that_divide_the_state_train_the_weights_of_one(tmp_path):
    recipes = [ALL, DENSE]
    results = shared(tmp_path / "ranks", 2, recipes, 3)
    for index, recipe in enumerate(recipes):
        rows, weights, state, numbers = owned(recipe, 3)
        first, second = results[0][index], results[1][index]
        assert first[:3] == [rows, weights, state] and second[:2] == [rows, weights]
        assert first[3] + second[3] == numbers and max(first[3], second[3]) < 0.8 * numbers


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_that_divide_the_state_train_the_weights_of_one_over_twenty_steps(tmp_path, size):
    recipes = [case for case in CASES.values() if case.train.num_micro_batches % size == 0]
    results = shared(tmp_path / "ranks", size, recipes, 20)
    for index, recipe in enumerate(recipes):
        assert results[0][index][:3] == owned(recipe, 20)[:3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "old", "new"),
    [
        ("Owners.share_weights", "broadcast(vector, owner,", "broadcast(vector, 0,"),
        ("Owners.alone", "if owner != self.rank", "if owner == self.rank"),
        ("Stepped.put", "self.parameter.detach()[self.rows] = shaped", "pass"),
        ("receive_state", "state[index, key]", "state[0, key]"),
    ],
)  # fmt: skip
def test_wrong_owner_changes_weights_or_state(tmp_path, place, old, new):
    with mutated(f"nanotx.distributed.owners:{place}", old, new):
        results = together(tmp_path / "ranks", 2, lambda ranks: owned(ALL, 3, ranks))
    alone = owned(ALL, 3)
    assert results[0][:3] != alone[:3] or results[1][:2] != alone[:2]


def test_error_in_the_step_of_one_owner_is_known_to_all(tmp_path):
    def failing(ranks):
        ranks.parallel = "owner"
        if ranks.rank == 1:
            ranks.update = lambda step, update=ranks.update: update(lambda: (_ for _ in ()).throw(ValueError("a bug")))
        return steps_until_error(ranks)

    results = together(tmp_path / "ranks", 2, failing)
    assert results == [[0, "RunError: rank 1: ValueError: a bug"], [0, "ValueError: a bug"]]


def test_costs_are_divided_evenly_and_the_greatest_come_first():
    assert divide([1.0, 5.0, 1.0, 3.0, 2.0], 2) == [0, 0, 1, 1, 1]
    assert divide([1.0], 4) == [0]
    assert divide([], 2) == []


def test_optimizer_whose_parameters_depend_on_each_other_is_not_divided():
    class Whole(Optimizer):
        part = "whole"

        def build(self, parameters):
            return SGD([parameter for _, parameter in parameters])

    with pytest.raises(ConfigError, match=r"--parallel owner: optimizer whole does not say .* leave the flag out"):
        check_parallel(replace(Recipe(), optimizer=Whole()), "owner")
    check_parallel(Recipe(), "owner")
    check_parallel(replace(Recipe(), optimizer=Whole()), "replicas")


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16), (3, 8, 16), (128, 384)])
def test_orthogonal_step_of_a_matrix_does_not_depend_on_those_that_are_multiplied_with_it(count, shape):
    from nanotx.optim.muon import orthogonal

    matrices = torch.randn(6, *shape, generator=torch.Generator().manual_seed(count))
    assert torch.equal(orthogonal(matrices[:count], 5), orthogonal(matrices, 5)[:count])
