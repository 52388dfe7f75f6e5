"""Dropout that costs almost nothing on a CPU: one random byte decides about each element, eight bytes per draw.

The bytes come from PyTorch's default generator, so that a seeded step drops the same elements again.
Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, scaled while training
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256


class Dropout(nn.Module):
    """Zero a fraction of the elements during training, and scale up the rest so that their mean is kept."""

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, self.fraction) if self.training else x


def drop(x: Tensor, fraction: float) -> Tensor:
    """Zero about `fraction` of the elements, and scale up the rest.

    Args:
        x: any floating-point tensor.
        fraction: which fraction to zero, in [0, 1); on a CPU it is rounded to a multiple of 1/256, from 1/256 to
            255/256, and the rest is scaled by the rounded fraction.
    """
    if not fraction:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, fraction)
    dropped = min(max(round(fraction * LEVELS), 1), LEVELS - 1)
    kept = (torch.ops.nanotx.random_bytes(x.detach()) >= dropped).to(x.dtype)
    return x * (kept * (LEVELS / (LEVELS - dropped)))


# Defined step by step, because an operation made by `custom_op` imports PyTorch's compiler at its first call.
OPERATION = "nanotx::random_bytes"
torch.library.define(OPERATION, "(Tensor like) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))


def random_bytes(like: Tensor) -> Tensor:
    """Return a random byte for each element of a tensor; it stays one operation inside compiled code."""
    words = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    return words.view(torch.uint8)[: like.numel()].reshape(like.shape)


torch.library.impl(OPERATION, "CPU", random_bytes)


@torch.library.register_fake(OPERATION)  # type: ignore[untyped-decorator]
def _(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=torch.uint8, device=like.device)
