"""A linear map is `nn.Linear`, whichever library multiplies."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nanotx.hardware import onednn as onednn_module
from nanotx.nn import linear
from nanotx.nn.linear import FEW, Linear


@pytest.fixture
def onednn(monkeypatch):
    """As on a processor where oneDNN is the faster one; counts its products."""
    if not onednn_module.has_onednn():
        pytest.skip("this torch has no oneDNN")
    calls, matmul = [], linear.onednn_matmul
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "onednn_matmul", lambda *args: calls.append(1) or matmul(*args))
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


def missing(*arguments):
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")


def another(*arguments):
    raise RuntimeError("mkldnn::_linear_pointwise() expected at most 5 arguments but received 6 arguments")


def wrong(x, weight, bias=None):
    return x @ weight.t()


@pytest.mark.parametrize("matmul", [missing, another, wrong])
def test_without_onednn_pytorch_multiplies(matmul, monkeypatch):
    monkeypatch.setattr(onednn_module, "is_amd", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(onednn_module, "onednn_matmul", matmul)
    monkeypatch.setattr(linear, "onednn_matmul", matmul)
    monkeypatch.setattr(linear, "onednn_is_faster", onednn_module.onednn_is_faster.__wrapped__)
    assert not linear.onednn_is_faster()
    same()
