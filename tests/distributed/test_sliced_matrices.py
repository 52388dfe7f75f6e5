"""Whole matrices of slices: each is computed from by one rank, and all get their rows of the result."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks_helper import together
from torch import nn

from nanotx.distributed import matrices, rows_of
from nanotx.distributed.matrices import SlicedMatrices
from nanotx.optim.matrices import Matrices
from nanotx.optim.muon import Muon

SHAPES = [(5, 3), (2, 7), (1, 4), (5, 3), (3, 2, 4), (8, 8), (2, 3, 3), (5, 3), (64, 1), (2, 4, 4)]


def sliced(shapes, ranks, costs=None):
    """A rank's slices of drawn matrices, the matrices, and what computes from them whole."""
    torch.manual_seed(1)
    wholes = [torch.randn(shape) for shape in shapes]
    own = [nn.Parameter(whole[rows_of(len(whole), ranks.rank, ranks.size)].clone()) for whole in wholes]
    costs = costs or [float(whole.numel()) for whole in wholes]
    return (
        own,
        wholes,
        SlicedMatrices(
            {param: whole.shape for param, whole in zip(own, wholes, strict=True)},
            dict(zip(own, costs, strict=True)),
            ranks.rank,
            ranks.size,
        ),
    )


def inverted(wholes):
    """A function of each matrix, or of each of a stack, that its rows alone do not give."""
    return [torch.linalg.pinv(whole).mT.contiguous() for whole in wholes]


def computed(ranks):
    """How far the rows of the results are from those of the whole; how many matrices this rank computed from."""
    own, wholes, made = sliced(SHAPES, ranks)
    found = []

    def counted(matrices):
        found.extend(matrices)
        return inverted(matrices)

    worst = 0.0
    for group in made.groups(own):
        results = made.apply(counted, group, [param.detach() for param in group])
        for param, result in zip(group, results, strict=True):
            [index] = [index for index, other in enumerate(own) if other is param]
            expected = inverted(wholes[index : index + 1])[0][rows_of(len(wholes[index]), ranks.rank, ranks.size)]
            assert result.shape == expected.shape, (result.shape, expected.shape)
            worst = max(worst, *(result - expected).abs().flatten().tolist(), 0.0)
    return [worst, sum(matrix.ndim == 2 for matrix in found)]


def test_ranks_get_their_rows_of_what_is_computed_from_whole_matrices(tmp_path):
    for size in (2, 3):
        results = together(tmp_path / str(size), size, computed)
        assert all(isinstance(result, list) for result in results), results
        assert all(worst < 1e-5 for worst, _ in results), results
        assert sum(count for _, count in results) == sum(len(shape) == 2 for shape in SHAPES)
        assert all(count for _, count in results)


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12),
    ranks=st.integers(1, 5),
    limit=st.integers(1, 400),
)
def test_rounds_hold_every_matrix_once_and_little_at_a_time(sizes, ranks, limit):
    own = [nn.Parameter(torch.empty(shape)) for shape in sizes]
    costs = {param: float(param.numel()) for param in own}
    made = SlicedMatrices({param: param.shape for param in own}, costs, 0, ranks)
    before, matrices.ROUND = matrices.ROUND, limit
    try:
        rounds = made.groups(own)
    finally:
        matrices.ROUND = before
    assert sorted(id(param) for group in rounds for param in group) == sorted(map(id, own))
    for group in rounds:
        assert len(group) <= ranks or sum(param.nbytes for param in group) <= limit * ranks
    for group, later in pairwise(rounds):
        assert len(group) >= ranks
        assert min(costs[param] for param in group) >= max(costs[param] for param in later)


def test_matrices_of_one_process_are_grouped_by_shape_and_kept():
    params = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    groups = Matrices().groups(params)
    assert [[tuple(param.shape) for param in group] for group in groups] == [
        [(5, 3)] * 3, [(2, 7)], [(1, 4)], [(3, 2, 4)], [(8, 8)], [(2, 3, 3)], [(64, 1)], [(2, 4, 4)],
    ]  # fmt: skip
    assert Matrices().apply(lambda matrices: matrices, groups[0], params) is params


def stepped(ranks, steps=3):
    """How far Muon's steps of slices are from the rows of its steps of whole matrices."""
    own, wholes, made = sliced(SHAPES, ranks)
    whole = [nn.Parameter(matrix.clone()) for matrix in wholes]
    ours, theirs = (
        Muon(lr=0.1).build([(f"m{index}", param) for index, param in enumerate(params)]) for params in (own, whole)
    )
    ours.matrices = made
    for _ in range(steps):
        for mine, param in zip(own, whole, strict=True):
            param.grad = torch.randn_like(param)
            mine.grad = param.grad[rows_of(len(param), ranks.rank, ranks.size)].clone()
        ours.step()
        theirs.step()
    return [
        max([0.0, *(mine - param[rows_of(len(param), ranks.rank, ranks.size)]).abs().flatten().tolist()])
        for mine, param in zip(own, whole, strict=True)
    ]


def test_muon_steps_slices_as_it_steps_whole_matrices(tmp_path, monkeypatch):
    monkeypatch.setattr("nanotx.optim.muon.has_bfloat16", lambda device: False)
    for results in together(tmp_path / "ranks", 3, stepped):
        assert isinstance(results, list), results
        assert max(results) < 1e-5, results
