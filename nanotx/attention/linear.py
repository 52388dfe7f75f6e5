"""Linear attention: the softmax's exponential is replaced by a product of positive features.

    weight of s for t = phi(q_t) . phi(k_s), phi(x) = elu(x) + 1; divided by their sum up to t

What all keys so far hold is then one matrix a head, the sum of phi(k_s) v_s^T, whatever their number: time and
memory grow with the length of the text. Within a chunk the weights are written out; across chunks they go through
that matrix. There are no scores that a position could add to; one that turns queries and keys does so before phi.
A `Past` keeps keys and values, as for every attention, and the matrix is made anew from them.
Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equations 7 and 9; in chunks as in Hua et al.
2022, https://arxiv.org/abs/2202.10447, section 3.2
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.attention import Attention, Bias, Headed, HeadedAttention
from nanotx.config import at_least
from nanotx.errors import ConfigError
from nanotx.shapes import Keys, Queries, Values

LEAST = 1e-12
"""What the sum of weights counts as where it is less, as where all of them vanish; a query then reads nothing."""


@Attention.register("linear")
@dataclass(frozen=True, kw_only=True)
class LinearKernel(Headed):
    """Features in place of the softmax; no weights are ever dropped."""

    takes_bias: ClassVar[bool] = False

    chunk: int = 128  # how many positions are read at once

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "chunk")
        if self.dropout:
            raise ConfigError(
                f"dropout: linear never holds its weights, so it cannot drop a share of {self.dropout:g} of them; "
                "try 0.0, or dropout in the block."
            )

    def build(self, dim: int) -> nn.Module:
        return LinearKernelAttention(self, dim)


class LinearKernelAttention(HeadedAttention):
    """Chunk by chunk: the weights within it, and the state of all chunks before."""

    def attend(self, q: Queries, k: Keys, v: Values, bias: Bias | None) -> Queries:
        if bias is not None:
            raise ConfigError("linear: has no scores for a position to add to; try rope or none.")
        texts, old, exact = q.shape[0], k.shape[2] - q.shape[2], torch.promote_types(v.dtype, torch.float32)
        q, k = phi(q).type_as(v) / q.shape[-1], phi(k).type_as(v)  # a mean in place of a sum, for float16's sake
        v = F.pad(v, (0, 1), value=1.0)  # one value more, always 1: what is read of it is the sum of the weights
        q, k, v = (rearrange(x, "b h t k -> (b h) t k") for x in (q, k, v))
        state = torch.bmm(k[:, :old].mT, v[:, :old]).to(exact)
        read, chunk = [], self.config.chunk
        for rows, keys, values in zip(
            q.split(chunk, dim=1), k[:, old:].split(chunk, dim=1), v[:, old:].split(chunk, dim=1), strict=True
        ):
            weights = torch.bmm(rows, keys.mT).tril()
            read.append(torch.bmm(weights, values).to(exact) + torch.bmm(rows, state.type_as(rows)))
            state = state + torch.bmm(keys.mT, values)
        y = rearrange(torch.cat(read, dim=1), "(b h) t k -> b h t k", b=texts)
        return (y[..., :-1] / y[..., -1:].clamp(min=LEAST)).type_as(v)


def phi(x: Tensor) -> Tensor:
    """elu(x) + 1, without first adding the 1 to take it away again, which would lose what is small."""
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())
