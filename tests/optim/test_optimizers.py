"""Muon against its definition, and the schedule `wsd` against its own."""

import math

import pytest
import torch
from torch import nn

from nanotx.errors import ConfigError
from nanotx.nn.transformer import Model
from nanotx.optim.adamw import AdamW
from nanotx.optim.muon import Muon, by_matrix, by_square, orthogonal
from nanotx.optim.schedules.wsd import Wsd


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 12, 5), (2, 5, 12), (2, 3, 6, 4)])
def test_what_is_made_orthogonal_keeps_its_directions_and_loses_its_sizes(shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    y = orthogonal(x, iterations=5).float()
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    sizes = torch.einsum("...ir,...ij,...rj->...r", u, y, v)
    assert ((sizes > 0.6) & (sizes < 1.3)).all()
    assert torch.dist(torch.einsum("...ir,...r,...rj->...ij", u, sizes, v), y) < 0.1 * y.norm()
    assert not orthogonal(torch.zeros(shape), iterations=5).any()


def test_matrix_takes_an_orthogonal_step_and_a_vector_that_of_adamw():
    torch.manual_seed(0)
    matrix, vector, embedding = (nn.Parameter(torch.randn(shape)) for shape in [(12, 5), (5,), (7, 5)])
    before = {"matrix": matrix.detach().clone(), "vector": vector.detach().clone(), "e": embedding.detach().clone()}
    named = [("blocks.0.to_out.weight", matrix), ("norm.weight", vector), ("embedding.weight", embedding)]
    optimizer = Muon(lr=0.1, weight_decay=0.5, adamw_lr=0.01).build(named)
    assert [group["kind"] for group in optimizer.param_groups] == ["matrices", "tables", "vectors"]
    other = AdamW(lr=0.01, weight_decay=0.5).build([("v", twin := nn.Parameter(before["vector"].clone()))])
    for item in (matrix, vector, embedding):
        item.grad = torch.randn_like(item)
    twin.grad = vector.grad.clone()
    optimizer.step()
    other.step()
    torch.testing.assert_close(vector, twin)
    step = orthogonal(matrix.grad, 5).float() * math.sqrt(12 / 5)
    torch.testing.assert_close(matrix.detach(), before["matrix"] * 0.95 - 0.1 * step, rtol=0.02, atol=2e-3)
    shrunk = before["e"] * (1 - 0.01 * 0.5)
    torch.testing.assert_close(embedding.detach(), shrunk - 0.01 * embedding.grad.sign(), rtol=1e-3, atol=1e-4)


def test_every_matrix_of_a_model_but_its_table_goes_by_muon():
    model = Model(layers=2, dim=24).build(65)
    groups = {group["kind"]: group["params"] for group in Muon().build(model.named_parameters()).param_groups}
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert [names[table] for table in groups["tables"]] == ["embedding.weight"]
    assert {names[matrix].split(".")[-2] for matrix in groups["matrices"]} == {"to_qkv", "to_out", "to_hidden"}
    assert all(vector.ndim == 1 for vector in groups["vectors"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lr": -1.0}, "lr: expected a number of at least 0"),
        ({"iterations": 0}, "iterations: expected a number of at least 1"),
        ({"momentum": 1.0}, "momentum: expected a fraction"),
        ({"betas": (0.9, 1.0)}, "betas: expected two shares"),
    ],
)
def test_invalid_muon_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        Muon(**fields)


def test_wsd_rises_stays_and_falls_to_its_end():
    schedule = Wsd(warmup=3, decay=0.5, final=0.2)
    results = [schedule.factor(step, 10) for step in range(11)]
    assert results == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.84, 0.68, 0.52, 0.36, 0.2])
    assert Wsd(warmup=0, decay=0.0).factor(9, 10) == 1.0
    for name in ("decay", "final"):
        with pytest.raises(ConfigError, match=f"{name}: expected a number from 0 to 1, got 2.0"):
            Wsd(**{name: 2.0})


def test_rows_alone_are_stepped_by_their_own_mean_square_and_the_others_wait():
    torch.manual_seed(0)
    table = nn.Parameter(torch.ones(9, 3))
    config = Muon(adamw_lr=0.1, weight_decay=0.5)
    layer, ids = config.build([("embedding.grams.0", table)]), torch.tensor([4, 2, 4, 7])
    want, square = torch.ones(9, 3), torch.zeros(9, 3)
    for step in range(1, 4):
        goal = torch.randn(4, 3)
        loss = (nn.functional.embedding(ids, table, sparse=True) * goal).sum()
        table.grad = torch.autograd.grad(loss, table)[0]
        assert table.grad.is_sparse
        layer.step()
        for row, gradient in ((2, goal[1]), (4, goal[0] + goal[2]), (7, goal[3])):
            square[row] = 0.99 * square[row] + 0.01 * gradient**2
            root = (square[row] / (1 - 0.99**step)).sqrt() + 1e-8
            want[row] = want[row] * (1 - 0.1 * 0.5) - 0.1 * gradient / root
        torch.testing.assert_close(table.detach(), want)


@pytest.mark.parametrize("shape", [(3, 8, 16), (2, 5, 40), (1, 32, 128)])
@pytest.mark.parametrize("iterations", [1, 4, 5])
def test_two_orders_of_newton_schulz_are_one_function(shape, iterations):
    torch.manual_seed(0)
    x = torch.randn(shape) * torch.logspace(0, -3, shape[1])[:, None]  # ill-conditioned
    x /= torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    torch.testing.assert_close(by_square(x, iterations), by_matrix(x, iterations), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("config", [Muon(), AdamW()], ids=["muon", "adamw"])
def test_optimizer_in_float16_does_not_move_where_a_gradient_overflowed(config):
    shapes = {"blocks.0.to_out.weight": (4, 4), "embedding.weight": (5, 4), "norm.weight": (4,)}
    named = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    optimizer, scaler = config.build(named.items()), torch.amp.GradScaler("cpu", init_scale=4.0)
    for overflowed, factor in ((True, 0.5), (False, 0.5)):
        scaler.scale(sum(value.sum() for value in named.values())).backward()
        if overflowed:
            named["norm.weight"].grad[0] = math.inf
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert all(bool((value == 1).all()) for value in named.values()) == overflowed
        assert all(bool(value.isfinite().all()) for value in named.values())
        assert scaler.get_scale() == 4.0 * factor
