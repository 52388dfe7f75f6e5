"""Feed-forward layers against their definitions written slowly, and the mixture's router, load and layout."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nanotx import laws
from nanotx.errors import ConfigError
from nanotx.nn.block.prenorm import PreNorm
from nanotx.nn.canonical import from_canonical, to_canonical
from nanotx.nn.ffn import Ffn
from nanotx.nn.ffn.moe import imbalance
from nanotx.nn.init import draw_weights
from nanotx.nn.transformer import Model

DIM = 16
MIXED = {"experts": 5, "top_k": 2, "hidden_dim": 7}


def stream(seed=0, batch=2, time=6):
    return torch.randn(batch, time, DIM, generator=torch.Generator().manual_seed(seed))


def built(name, seed=0, **fields):
    torch.manual_seed(seed)
    return Ffn.find(name)(**fields).build(DIM)


# Two maps and a bend.


@pytest.mark.parametrize("bias", [False, True])
def test_relu2_is_its_definition(bias):
    layer, x = built("relu2", bias=bias), stream()
    b, c = (layer.to_hidden.bias, layer.to_out.bias) if bias else (0.0, 0.0)
    hidden = x @ layer.to_hidden.weight.T + b
    bent = torch.where(hidden > 0, hidden * hidden, torch.zeros(()))
    torch.testing.assert_close(layer(x), bent @ layer.to_out.weight.T + c)
    assert layer.to_hidden.out_features == 4 * DIM


@pytest.mark.parametrize("bias", [False, True])
def test_geglu_is_its_definition(bias):
    layer, x = built("geglu", bias=bias), stream()
    b, c = (layer.to_hidden.bias, layer.to_out.bias) if bias else (0.0, 0.0)
    gate, hidden = (x @ layer.to_hidden.weight.T + b).chunk(2, dim=-1)
    opened = gate * (1 + torch.erf(gate / 2**0.5)) / 2
    torch.testing.assert_close(layer(x), (opened * hidden) @ layer.to_out.weight.T + c)
    assert layer.to_out.in_features == 48  # 8/3 of 16, in eights


@pytest.mark.parametrize("name", ["mlp", "relu2", "swiglu", "geglu", "moe"])
def test_ffn_refuses_a_hidden_dim_of_zero(name):
    with pytest.raises(ConfigError, match="hidden_dim: expected a number of at least 1, got 0"):
        Ffn.find(name)(hidden_dim=0)


@pytest.mark.parametrize("name", ["mlp", "relu2", "swiglu", "geglu"])
def test_given_hidden_dim_is_the_width_of_the_hidden_layer(name):
    assert built(name, hidden_dim=5).to_out.in_features == 5


# The mixture.


@pytest.mark.parametrize("bias", [False, True])
@given(top_k=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_mixture_is_its_definition(bias, top_k, seed):
    layer, x = built("moe", seed, **MIXED | {"top_k": top_k}, bias=bias), stream(seed)
    want = torch.zeros_like(x)
    for b in range(x.shape[0]):
        for t in range(x.shape[1]):
            token = x[b, t]
            scores = [(row @ token).item() for row in layer.router.weight]
            p = torch.tensor(scores).exp() / torch.tensor(scores).exp().sum()
            for index in sorted(range(5), key=lambda index: scores[index])[-top_k:]:
                want[b, t] += p[index] * layer.experts[index](token[None])[0]
    torch.testing.assert_close(layer(x), want)


def test_expert_is_its_definition():
    expert = built("moe", **MIXED, bias=True).experts[3]
    x = stream()[0]
    hidden = x @ expert.to_hidden.weight.T + expert.to_hidden.bias
    bent = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    torch.testing.assert_close(expert(x), bent @ expert.to_out.weight.T + expert.to_out.bias)


def test_where_all_are_chosen_and_alike_the_mixture_is_one_expert():
    layer, x = built("moe", **MIXED | {"top_k": 5}), stream()
    for expert in layer.experts:
        expert.load_state_dict(layer.experts[0].state_dict())
    torch.testing.assert_close(layer(x), torch.stack([layer.experts[0](row) for row in x]))


def test_experts_that_are_chosen_do_the_work_of_an_mlp():
    result = built("moe").experts[0].to_hidden
    assert built("moe").config.top_k * result.out_features == 4 * DIM
    assert built("moe", top_k=3).experts[0].to_hidden.out_features == 22


def test_only_the_chosen_experts_and_the_router_have_a_gradient():
    layer = built("moe", **MIXED).eval()
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[[1, 4]] = stream()[0, :2]
    token = stream()[0, :1] + stream()[0, 1:2]
    layer(token[None]).square().sum().backward()
    felt = [expert.to_out.weight.grad.abs().sum() > 0 for expert in layer.experts]
    assert felt == [False, True, False, False, True] and layer.router.weight.grad.abs().sum() > 0


def test_router_of_one_expert_learns_from_its_choice():
    layer = built("moe", top_k=1).eval()
    layer(stream()).sum().backward()
    assert layer.router.weight.grad.abs().sum() > 0


@given(seed=st.integers(0, 2**16))
def test_who_is_chosen_does_not_hang_on_the_dtype(seed):
    layer, rows = built("moe", seed, **MIXED), stream(seed)[0]
    plain = layer.route(rows)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer.route(rows)
    assert plain[0].dtype is mixed[0].dtype is torch.float32
    assert torch.equal(plain[0], mixed[0]) and torch.equal(plain[1], mixed[1])


def test_mixture_in_bfloat16_is_near_the_one_in_float32():
    layer, x = built("moe", **MIXED), stream()
    with torch.autocast("cpu", torch.bfloat16):
        near = layer(x)
    assert near.dtype is torch.float32
    torch.testing.assert_close(near, layer(x), atol=0.02, rtol=0.05)


@pytest.mark.parametrize("fields", [{"experts": 3, "top_k": 4}, {"top_k": 5}])
def test_more_chosen_than_there_are_is_refused(fields):
    with pytest.raises(
        ConfigError, match=r"top_k: expected at most experts=\d, got \d; try --ffn\.top-k \d, or --ffn\.experts \d"
    ):
        Ffn.find("moe")(**fields)


def test_negative_aux_loss_weight_is_refused():
    with pytest.raises(ConfigError, match="aux_loss_weight: expected a number of at least 0"):
        Ffn.find("moe")(aux_loss_weight=-0.1)


# Its load.


@given(top_k=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_auxiliary_loss_is_the_papers_formula(top_k, seed):
    layer, x = built("moe", seed, **MIXED | {"top_k": top_k}, aux_loss_weight=0.3), stream(seed)
    layer(x)
    p, choice = layer.route(x.reshape(-1, DIM))
    want = 0.0
    for expert in range(5):
        share = sum(bool(item[expert]) for item in choice) / (len(choice) * top_k)
        want += share * sum(probability[expert].item() for probability in p) / len(p)
    assert layer.aux_loss().item() == pytest.approx(0.3 * 5 * want, rel=1e-5)


def test_even_load_costs_one_and_a_collapsed_load_the_number_of_experts():
    everybody, x = torch.eye(4).repeat(2, 1), torch.eye(4)[[2] * 8]
    assert imbalance(everybody, everybody.bool()).item() == pytest.approx(1.0)
    assert imbalance(torch.full((8, 4), 0.25), x.bool()).item() == pytest.approx(1.0)
    assert imbalance(x, x.bool()).item() == pytest.approx(4.0)


def test_only_training_leaves_evaluations_pending():
    layer = built("moe")
    assert layer.aux_loss().item() == 0.0
    layer(stream())
    assert layer.aux_loss().item() > 0 and layer.aux_loss().requires_grad
    layer.eval()(stream())
    assert layer.aux_loss().item() == 0.0 and not layer.aux_loss().requires_grad
    copy.deepcopy(layer)  # which a tensor with a history would forbid


def test_balance_lowers_the_imbalance_of_a_biased_router():
    torch.manual_seed(0)
    layer, x = built("moe", experts=4, top_k=1, aux_loss_weight=1.0), stream(batch=8) + 1.0
    with torch.no_grad():
        layer.router.weight[2] += 0.2  # everybody's favourite
    optimizer = torch.optim.SGD([layer.router.weight], lr=0.1)
    owed = []
    for _ in range(30):
        layer(x)
        layer.aux_loss().backward()
        optimizer.step()
        optimizer.zero_grad()
        owed.append(layer.aux_loss().item())
    assert owed[0] > 2.0 and owed[-1] < 1.1
    loads = layer.route(x.reshape(-1, DIM))[1].float().mean(dim=0)
    assert loads.max() < 0.5


# Its layout and its initial weights.


@pytest.mark.parametrize("bias", [False, True])
def test_experts_side_by_side_are_one_wide_mlp(bias):
    layer, x = built("moe", **MIXED, bias=bias), stream()[0]
    weights = dict(layer.named_parameters())
    shared = to_canonical(layer, weights)
    names = ["router.weight", "to_hidden.weight", "to_out.weight"]
    assert sorted(shared) == sorted([*names, *(["to_hidden.bias", "to_out.bias"] if bias else [])])
    back = from_canonical(layer, shared)
    assert back.keys() == weights.keys() and all(torch.equal(back[name], weights[name]) for name in weights)
    hidden = torch.nn.functional.gelu(x @ shared["to_hidden.weight"].T + shared.get("to_hidden.bias", torch.zeros(())))
    answers = sum(expert(x) for expert in layer.experts)
    offsets = shared["to_out.bias"].reshape(5, DIM).sum(dim=0) if bias else 0.0
    torch.testing.assert_close(hidden @ shared["to_out.weight"].T + offsets, answers)


def test_mixture_counts_as_one_projection_into_the_stream_and_experts_differ():
    block = PreNorm(ffn=Ffn.find("moe")(experts=4, hidden_dim=32))
    model = Model(dim=64, layers=2, context=8, block=block).build(11, seed=3)
    experts = model.blocks[1].ffn.experts
    for expert in experts:
        assert expert.to_hidden.weight.std().item() == pytest.approx(0.02, rel=0.1)
        assert expert.to_out.weight.std().item() == pytest.approx(0.02 / 4**0.5, rel=0.1)
    assert not any(torch.equal(a.to_out.weight, b.to_out.weight) for a, b in pairwise(experts))
    again = Model(dim=64, layers=2, context=8, block=block).build(11, seed=3)
    other = Model(dim=64, layers=2, context=8, block=block).build(11, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert not torch.equal(model.blocks[0].ffn.router.weight, other.blocks[0].ffn.router.weight)


@pytest.mark.parametrize("name", Ffn.names())
def test_one_seed_draws_the_same_ffn_again(name):
    first, other = built(name, seed=1), built(name, seed=2)
    draw_weights(first, seed=5)
    draw_weights(other, seed=5)
    weights = dict(other.named_parameters())
    assert all(torch.equal(weights[key], weight) for key, weight in first.named_parameters())
    assert {module.weight.std().item() > 0 for module in first.modules() if isinstance(module, torch.nn.Linear)} == {
        True
    }


def test_operations_of_experts_that_a_token_skips_are_not_counted():
    def flops(**fields):
        block = PreNorm(ffn=Ffn.find("moe")(hidden_dim=5, **fields))
        return Model(dim=DIM, layers=2, context=8, block=block).build(11).flops_per_token

    expert, router = 6 * 2 * 2 * DIM * 5, 6 * 2 * DIM
    assert flops(experts=6) - flops(experts=5) == router
    assert flops(experts=6, top_k=3) - flops(experts=6) == expert


@pytest.mark.parametrize("name", ["relu2", "geglu", "moe"])
def test_model_with_any_ffn_is_causal_and_reads_in_pieces(name):
    model = Model(dim=DIM, layers=2, context=9, block=PreNorm(ffn=Ffn.find(name)())).build(11, 1).eval()
    ids = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(2))
    laws.time_prefix(model, ids, cut=4)
    laws.cache_agrees(model, ids, cuts=[1, 5])
