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
        plain = x.dtype is torch.float32 and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
        many = x.numel() >= FEW * self.in_features
        if plain and many and not torch.compiler.is_compiling() and onednn_is_faster():
            y: Tensor = Product.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return y
        return F.linear(x, self.weight, self.bias)
