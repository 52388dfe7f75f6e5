"""A linear map is `nn.Linear`, whichever library multiplies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nanotx import linear
from nanotx.linear import FEW, MANY, Linear


@pytest.fixture
def onednn(monkeypatch):
    """As on a processor where oneDNN is the faster one; counts its products."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    calls, product = [], linear.product
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "product", lambda *words: calls.append(1) or product(*words))
    return calls


def gradients(layer, x, cotangent):
    y = layer(x)
    return [y, *torch.autograd.grad(y, [x, *layer.parameters()], cotangent)]


@given(batch=st.integers(1, 4), time=st.integers(1, 40), sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)),
       bias=st.booleans(), strided=st.booleans(), seed=st.integers(0, 2**16))  # fmt: skip
def same(batch, time, sizes, bias, strided, seed):
    torch.manual_seed(seed)
    ours, theirs = Linear(*sizes, bias=bias), nn.Linear(*sizes, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(time, batch, sizes[0]).transpose(0, 1) if strided else torch.randn(batch, time, sizes[0])
    x.requires_grad_()
    cotangent = torch.randn(batch, time, sizes[1])
    for mine, other in zip(gradients(ours, x, cotangent), gradients(theirs, x, cotangent), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_outputs_and_gradients_are_those_of_the_library_layer_by_either_library(onednn):
    same()
    assert onednn


def test_outputs_and_gradients_are_those_of_the_library_layer_on_this_machine():
    same()


def test_few_rows_other_numbers_and_autocast_take_the_usual_way(onednn):
    layer = Linear(3, 3)
    layer(torch.randn(FEW - 1, 3))
    layer.double()(torch.randn(99, 3).double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer.float()(torch.randn(99, 3))
    assert not onednn
    layer(torch.randn(FEW, 3))
    assert onednn


@given(rows=st.sampled_from([(2,), (1, 3), (2, 1, 4), (256,), (MANY,)]),
       sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)), bias=st.booleans(), strided=st.booleans(),
       seed=st.integers(0, 2**16))  # fmt: skip
def same_for_few(rows, sizes, bias, strided, seed):
    torch.manual_seed(seed)
    layer = Linear(*sizes, bias=bias)
    x = torch.randn(sizes[0], *rows).movedim(0, -1) if strided else torch.randn(*rows, sizes[0])
    with torch.no_grad():
        torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias), atol=1e-5, rtol=1e-5)


def test_a_few_rows_come_out_the_same_with_the_long_side_first(monkeypatch):
    calls, turned = [], Linear.turned
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: False)
    monkeypatch.setattr(linear, "long_side_first", lambda: True)
    monkeypatch.setattr(Linear, "turned", lambda *words: calls.append(1) or turned(*words))
    same_for_few()
    assert calls
    calls.clear()
    layer = Linear(3, 3)
    layer(torch.randn(9, 3))  # learns: its gradients go the usual way
    with torch.no_grad():
        layer(torch.randn(1, 3))
        layer(torch.randn(MANY, 3))
        layer(torch.randn(0, 3))
    assert not calls
