"""Dropout that costs almost nothing on a CPU: a random byte decides over a number, eight bytes to each draw.

The bytes are torch's own, from its default generator, so a step that is seeded drops the same numbers again.
Source: Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html, scaled while training
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 256


class Dropout(nn.Module):
    """While training, zeroes a share of the numbers and scales the rest up, so that their mean stays."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return drop(x, self.share) if self.training else x


def drop(x: Tensor, share: float) -> Tensor:
    """Zero about this share of the numbers, and scale the rest up.

    Args:
        x: any tensor of floating-point numbers.
        share: how many are zeroed, from 0 up to but not including 1; on a CPU it is rounded to a 256th, to one at
            least and to 255 at most, and the scale is that of the rounded share.
    """
    if not share:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, share)
    lost = min(max(round(share * LEVELS), 1), LEVELS - 1)
    kept = (torch.ops.nanotx.random_bytes(x.detach()) >= lost).to(x.dtype)
    return x * (kept * (LEVELS / (LEVELS - lost)))


# Defined piece by piece: what `custom_op` makes imports torch's compiler when it first runs.
OPERATION = "nanotx::random_bytes"
torch.library.define(OPERATION, "(Tensor like) -> Tensor", tags=(torch.Tag.nondeterministic_seeded,))


def random_bytes(like: Tensor) -> Tensor:
    """A random byte for each number of a tensor; one operation also where the code around it is compiled."""
    words = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    return words.view(torch.uint8)[: like.numel()].reshape(like.shape)


torch.library.impl(OPERATION, "CPU", random_bytes)


@torch.library.register_fake(OPERATION)  # type: ignore[untyped-decorator]
def _(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=torch.uint8, device=like.device)
