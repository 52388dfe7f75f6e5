"""Attention through PyTorch's FlexAttention, which generates a kernel for any mask and bias.

It trains on CUDA only: elsewhere it has no backward pass, and its forward pass, good for sampling, materialises all
the scores. On CUDA the kernel is compiled at its first call.
Source: Dong et al. 2024, https://arxiv.org/abs/2412.05496;
https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from nanotx.errors import ConfigError
from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention
from nanotx.nn.shapes import Keys, Queries, Values

Added = Callable[..., Tensor]
"""From a score and its indices to the changed score."""
KINDS = 64
"""Maximum number of compiled kernels; beyond it all scores are materialised, as on other devices."""
NARROWEST = 16
"""Minimum width of a head in the kernel; narrower heads are padded with zeros."""


@Attention.register("flex")
@dataclass(frozen=True, kw_only=True)
class Flex(MultiHead):
    """PyTorch's kernel for masks and biases of any kind; it has no dropout."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_documents: ClassVar[bool] = True
    trains_on: ClassVar[tuple[str, ...]] = ("cuda",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout:
            raise ConfigError(
                f"dropout: flex has no kernel that drops a share of {self.dropout:g} of the weights; try 0.0, "
                "--attention sdpa, or dropout in the block: --attention.dropout 0 --block.dropout "
                f"{self.dropout:g}."
            )

    def build(self, dim: int) -> nn.Module:
        return FlexAttention(self, dim)


class FlexAttention(MultiHeadAttention):
    """Equivalent to `SdpaAttention`."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        width, scale = q.shape[-1], 1 / math.sqrt(q.shape[-1])
        q, k = q.type_as(v), k.type_as(v)
        if width < NARROWEST:
            q, k, v = (F.pad(x, (0, NARROWEST - width)) for x in (q, k, v))
        added = None if bias is None else adding(bias)
        y = kernel(q.device)(q, k, v, added, causal_blocks(q.shape[2], k.shape[2], q.device), scale)
        return y[..., :width]


def adding(bias: Bias) -> Added:
    """Return the function that adds the bias to a score."""
    if bias.ndim == 3:
        return lambda score, b, h, q_index, k_index: score + bias[h, q_index, k_index]
    heads = bias.shape[1]  # 1 where all heads share it
    return lambda score, b, h, q_index, k_index: score + bias[b, h % heads, q_index, k_index]


@lru_cache(maxsize=8)
def causal_blocks(t: int, s: int, device: torch.device) -> BlockMask:
    """Return the causal mask of the last `t` positions over `s` keys, in blocks; every layer and step shares it."""
    with torch.inference_mode(False):  # made while sampling, it must also work in training
        # It grows during sampling; as a number it would be a constant of the kernel, recompiled at each token.
        old = torch.tensor(s - t, device=device) if s > t else 0
        return create_block_mask(lambda b, h, q_index, k_index: q_index + old >= k_index, None, None, t, s, device)


def kernel(device: torch.device) -> Callable[..., Tensor]:
    """Return how to call FlexAttention: as it is inside compiled code, compiled on CUDA, plain elsewhere."""
    if torch.compiler.is_compiling():
        return flex_attention
    return compiled() if device.type == "cuda" else plain


@cache
def compiled() -> Callable[..., Tensor]:
    """Return the compiled kernel; PyTorch recompiles it for each kind of head, bias and pass, beyond its own limit."""
    patch = torch._dynamo.config.patch(recompile_limit=KINDS)
    kernel: Callable[..., Tensor] = patch(torch.compile(flex_attention))
    return kernel


def plain(q: Queries, k: Keys, v: Values, added: Added | None, blocks: BlockMask, scale: float) -> Queries:
    """Call FlexAttention without compiling it, and without its warning about that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        y: Tensor = flex_attention(q, k, v, added, blocks, scale)
    return y
