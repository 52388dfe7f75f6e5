"""Linear attention: the softmax's exponential is replaced by a product of positive features.

    weight of s for t = phi(q_t) . phi(k_s), phi(x) = elu(x) + 1; divided by their sum up to t

The state of all keys so far is then one matrix per head, the sum of phi(k_s) v_s^T, whatever their number: time and
memory are linear in the length of the text. Within a chunk the weights are computed directly; across chunks they go
through that matrix. There are no scores that a position could add to; a rotary position acts before phi. A `KVCache`
keeps keys and values, as for every attention, and the matrix is recomputed from them.
Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equations 7 and 9; in chunks as in Hua et al.
2022, https://arxiv.org/abs/2202.10447, section 3.2
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.config.schema import check_min
from nanotx.errors import ConfigError
from nanotx.nn.attention.base import Attention, Bias, MultiHead, MultiHeadAttention
from nanotx.nn.shapes import Keys, Queries, Values

Features = Float[Tensor, "n s k"]
"""Features of keys, or values, of all heads of all texts."""
LEAST = 1e-12
"""Lower bound of the sum of weights; where all weights vanish, the output is zero."""


@Attention.register("linear")
@dataclass(frozen=True, kw_only=True)
class LinearKernel(MultiHead):
    """Attention with positive features in place of the softmax; it has no dropout."""

    supports_bias: ClassVar[bool] = False
    cost_only: ClassVar[tuple[str, ...]] = ("chunk",)

    chunk: int = 64  # number of positions per chunk

    def __post_init__(self) -> None:
        super().__post_init__()
        check_min(self, 1, "chunk")
        if self.dropout:
            raise ConfigError(
                f"dropout: linear never computes its weights, so it cannot drop {self.dropout:g} of them; "
                f"try 0.0, or dropout in the block: --attention.dropout 0 --block.dropout {self.dropout:g}."
            )

    def build(self, dim: int) -> nn.Module:
        return LinearKernelAttention(self, dim)


class LinearKernelAttention(MultiHeadAttention):
    """Linear attention chunk by chunk: the weights within the chunk, and the state of all chunks before it."""

    config: LinearKernel

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        if bias is not None:
            raise ConfigError("linear: has no scores for a position to add to; try --position rope or --position none.")
        texts, old = q.shape[0], k.shape[2] - q.shape[2]
        q, k = (
            phi(q).type_as(v) / q.shape[-1],
            phi(k).type_as(v),
        )  # a mean instead of a sum, within the range of float16
        q, k, v = (rearrange(x, "b h t k -> (b h) t k") for x in (q, k, v))
        state, total = key_value_state(k[:, :old], v[:, :old])
        chunks, outputs = (x.split(self.config.chunk, dim=1) for x in (q, k[:, old:], v[:, old:])), []
        for q, k, v in zip(*chunks, strict=True):
            weights = torch.bmm(q, rearrange(k, "n s k -> n k s")).tril()
            y = torch.baddbmm(torch.bmm(weights, v), q, state.type_as(q))
            sums = weights.sum(dim=-1, keepdim=True) + torch.bmm(q, total.type_as(q))
            y = (y / sums.to(total.dtype).clamp(min=LEAST)).type_as(v)
            outputs.append(rearrange(y, "(b h) t k -> b t h k", b=texts))
            chunk_state, chunk_total = key_value_state(k, v)
            state, total = state + chunk_state, total + chunk_total
        return rearrange(torch.cat(outputs, dim=1), "b t h k -> b h t k")


def phi(x: Tensor) -> Tensor:
    """Return elu(x) + 1, in float32 or wider: in bfloat16 small features would round to zero."""
    return F.elu(at_least_float32(x)) + 1


def key_value_state(k: Features, v: Features) -> tuple[Tensor, Tensor]:
    """Return the sums over some positions of phi(k) v^T, and of phi(k)."""
    outer = torch.bmm(rearrange(k, "n s k -> n k s"), v)
    return at_least_float32(outer), at_least_float32(reduce(k, "n s k -> n k 1", "sum"))


def at_least_float32(x: Tensor) -> Tensor:
    """Cast to float32 or wider, which sums over a whole text need."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
