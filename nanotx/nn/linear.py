"""`nn.Linear`, computed by the faster of PyTorch's two matrix libraries on AMD processors.

In float32 PyTorch calls MKL, which does not use AVX-512 on them; oneDNN, which PyTorch also includes, does.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanotx.hardware.onednn import onednn_is_faster, onednn_matmul

FEW = 32
"""Rows below which oneDNN's setup costs more than it saves, as when sampling."""


class Product(torch.autograd.Function):
    """`product` with its gradients, which are products too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_matmul(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        rows, inputs = g.flatten(0, -2), x.flatten(0, -2)
        return (
            onednn_matmul(g, weight.t()) if ctx.needs_input_grad[0] else None,
            onednn_matmul(rows.t(), inputs.t()) if ctx.needs_input_grad[1] else None,
            rows.sum(0) if ctx.needs_input_grad[2] else None,
        )


class Linear(nn.Linear):
    """`nn.Linear`, through oneDNN where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        if is_compiled_row(x):
            return compiled_row(x, self.weight, self.bias)
        plain = x.dtype is torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        many = x.numel() >= FEW * self.in_features
        if plain and many and not torch.compiler.is_compiling() and onednn_is_faster():
            y: Tensor = Product.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return y
        return F.linear(x, self.weight, self.bias)


def is_compiled_row(x: Tensor) -> bool:
    """Return whether code is being compiled for a product with a single row on the CPU, as of a sampled token."""
    return torch.compiler.is_compiling() and x.device.type == "cpu" and x.ndim > 1 and x.shape[:-1].numel() == 1


def compiled_row(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias for a single row, as sums that the compiler writes a loop for.

    The loop reads the weights as fast as memory gives them, and converts those of fewer bits on the way; the libraries'
    kernels for one row reach less than half of that rate (docs/log.md). `as_strided` keeps the compiler from computing
    the row anew for every output.
    """
    row = x.reshape(-1).as_strided((x.shape[-1],), (1,))
    y = (weight.float() * row.float()).sum(dim=-1).to(x.dtype)
    y = y if bias is None else y + bias
    return y.as_strided((weight.shape[0],), (1,)).reshape(*x.shape[:-1], weight.shape[0])
