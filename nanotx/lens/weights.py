"""Attention weights of one call of an attention: caught where the part forms them, otherwise computed again.

Parts that form all their weights pass them through their `dropout`, where they are caught. For the others the
written-out softmax(Q K^T / sqrt(k)) is computed from the queries, keys and bias of the pass, with the causal mask and
the part's attention window. Either is shown only if its product with the values is what the part put out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from nanotx.errors import ConfigError
from nanotx.nn.attention import Attention
from nanotx.nn.attention.base import Bias, causal_mask
from nanotx.nn.attention.sliding_window import in_window
from nanotx.nn.shapes import Keys, Queries, Scores, Values

Heads = Float[Tensor, "b h t k"]
"""Output of each head, before the projection to the stream."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest difference of weights times values from the part's output, relative to the largest output."""
HALF_TOLERANCE = 3e-2
"""The same in bfloat16 and float16."""


@dataclass(kw_only=True)
class AttentionCall:
    """The tensors that were recorded of one call of an attention."""

    name: str  # of the module
    config: Attention
    dropped: list[Tensor] = field(default_factory=list)  # what went through its dropout
    inputs: tuple[Queries, Keys, Values, Bias | None] | None = None  # of `attend`
    per_head: list[Tensor] = field(default_factory=list)  # values of each head, where heads are modules
    output: Heads | None = None  # before it was replaced

    def values(self) -> Heads | None:
        """Return the values of each head, "b h s k"; None if they are unknown. Heads that share them get copies."""
        if self.inputs is not None:
            v = self.inputs[2]
            return repeat(v, "b g s k -> b (g n) s k", n=self.config.heads // v.shape[1])
        if len(self.per_head) == self.config.heads:
            return rearrange(self.per_head, "h b s k -> b h s k")
        return None

    def weights(self) -> Scores:
        """Return the attention weights in the canonical layout, one row per query.

        Raises:
            ConfigError: it has none, or those that were found do not explain its output.
        """
        for weights in self.candidates():
            if self.explains(weights):
                return weights
        if not self.config.supports_bias:
            raise ConfigError(
                f"{self.name}: {self.config.part} has no attention weights: it computes no softmax over positions."
            )
        raise ConfigError(
            f"{self.name}: the attention weights of {self.config.part} cannot be had: no weights of shape b h t s go "
            "through its `dropout`, and softmax(Q K^T / sqrt(k)) of the queries and keys of its `attend`, times the "
            "values, is not its output. Pass the weights through self.dropout in the part to see them."
        )

    def candidates(self) -> Iterator[Scores]:
        """Yield what may be the weights."""
        if self.dropped and all(mask.ndim == 4 and mask.shape[-1] == mask.shape[-2] for mask in self.dropped):
            caught = torch.cat(self.dropped, dim=1)
            if caught.shape[1] == self.config.heads:
                yield caught
        if self.inputs is not None:
            yield softmax_weights(*self.inputs, self.config.attention_window)

    def explains(self, weights: Scores) -> bool:
        """Return whether weights times values are the output; where no values are known, whether each row sums to 1."""
        values = self.values()
        if values is None or self.output is None:
            sums = weights.sum(dim=-1)
            return bool(torch.allclose(sums, torch.ones_like(sums), atol=HALF_TOLERANCE))
        if weights.shape[-1] != values.shape[2] or values.shape != self.output.shape:
            return False
        return close(weighted(weights, values), self.output)


def softmax_weights(q: Queries, k: Keys, v: Values, bias: Bias | None, window: int | None) -> Scores:
    """Return softmax(Q K^T / sqrt(k)) with a causal mask, written out; query heads share keys evenly.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, equation 1
    """
    k = repeat(k, "b g s k -> b (g n) s k", n=q.shape[1] // k.shape[1])
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = einsum(q.to(exact), k.to(exact), "b h t k, b h s k -> b h t s") / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    t, s = scores.shape[-2:]
    allowed = causal_mask(t, s, q.device) if window is None else in_window(t, s, window, q.device)
    return scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1)


def weighted(weights: Scores, values: Heads) -> Heads:
    """Return the outputs of heads with these weights."""
    return einsum(weights.type_as(values), values, "b h t s, b h s k -> b h t k")


def close(actual: Tensor, wanted: Tensor) -> bool:
    """Return whether two tensors are equal up to rounding in the second one's dtype."""
    tolerance = TOLERANCE.get(wanted.dtype, HALF_TOLERANCE)
    scale = wanted.float().abs().max().clamp(min=1e-12)
    return bool((actual.float() - wanted.float()).abs().max() <= tolerance * scale)
