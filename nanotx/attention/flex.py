"""Attention through FlexAttention: the library writes a kernel for whatever mask and bias it is told.

It trains on CUDA alone: elsewhere the library has no backward pass, and its forward pass, good for sampling, holds
all the scores. On CUDA the kernel is compiled when it is first called.
Source: Dong et al. 2024, https://arxiv.org/abs/2412.05496;
https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from nanotx.attention import SOFTMAX, Attention, Bias, Headed, HeadedAttention
from nanotx.errors import ConfigError
from nanotx.shapes import Keys, Queries, Values

NARROWEST = 16
"""The least width of a head that the kernel takes; narrower heads are filled up with zeros."""


@Attention.register("flex")
@dataclass(frozen=True, kw_only=True)
class Flex(Headed):
    """The library's kernel for masks and biases of any kind; none for dropout."""

    function: ClassVar[str] = SOFTMAX
    trains_on: ClassVar[tuple[str, ...]] = ("cuda",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout:
            raise ConfigError(
                f"dropout: flex has no kernel that drops a share of {self.dropout:g} of the weights; "
                "try 0.0, --attention sdpa, or dropout in the block."
            )

    def build(self, dim: int) -> nn.Module:
        return FlexAttention(self, dim)


class FlexAttention(HeadedAttention):
    """The same function as `SdpaAttention`."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        t, s, width = q.shape[2], k.shape[2], q.shape[-1]
        old = torch.tensor(s - t, device=q.device)  # a tensor, since a number would be compiled into the kernel

        def causal(b: Tensor, h: Tensor, at_q: Tensor, at_k: Tensor) -> Tensor:
            return at_q + old >= at_k

        def biased(score: Tensor, b: Tensor, h: Tensor, at_q: Tensor, at_k: Tensor) -> Tensor:
            return score + bias[h, at_q, at_k]

        blocks = create_block_mask(causal, B=None, H=None, Q_LEN=t, KV_LEN=s, device=q.device)
        q, k, v = (F.pad(x.type_as(v), (0, max(0, NARROWEST - width))) for x in (q, k, v))
        kernel = compiled() if q.is_cuda else plain
        y = kernel(q, k, v, score_mod=None if bias is None else biased, block_mask=blocks, scale=width**-0.5)
        return y[..., :width]


@cache
def compiled() -> Callable[..., Tensor]:
    """The kernel, compiled anew for each kind of mask and bias."""
    return torch.compile(flex_attention)


def plain(*inputs: Any, **fields: Any) -> Tensor:
    ...
