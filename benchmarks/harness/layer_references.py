"""Feed-forwards, norms and a position from outside nanotx: they bear names, and obey the same laws as ours.

Each is one of ours as most code has it, in plain torch: what it is faster by is what einops and nanotx cost.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.nn.ffn import Ffn
from nanotx.nn.linear import Linear
from nanotx.nn.norm import Norm
from nanotx.nn.position import Position, PositionalEncoding
from nanotx.nn.position.base import Rotated
from nanotx.nn.shapes import Positions, Stream


@Ffn.register("raw_mlp")
@dataclass(frozen=True, kw_only=True)
class RawMlp(Ffn):
    """`mlp`, a chain of the library's layers."""

    def build(self, dim: int) -> nn.Module:
        wide, narrow = Linear(dim, 4 * dim, bias=False), Linear(4 * dim, dim, bias=False)
        return nn.Sequential(OrderedDict(to_hidden=wide, bend=nn.GELU(), to_out=narrow))


@Ffn.register("raw_swiglu")
@dataclass(frozen=True, kw_only=True)
class RawSwiGlu(Ffn):
    """`swiglu`, its halves cut by `chunk`."""

    def build(self, dim: int) -> nn.Module:
        return RawSwiGluFfn(dim, -(-dim // 3) * 8)


class RawSwiGluFfn(nn.Module):
    """A hidden layer gated by its twin."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.to_hidden = Linear(dim, 2 * hidden_dim, bias=False)
        self.to_out = Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Stream) -> Stream:
        gate, hidden = self.to_hidden(x).chunk(2, dim=-1)
        return self.to_out(F.silu(gate) * hidden)


@Norm.register("raw_layernorm")
@dataclass(frozen=True, kw_only=True)
class RawLayer(Norm):
    """`layernorm`, by the library's function."""

    def build(self, dim: int) -> nn.Module:
        return RawLayerNorm(dim)


class RawLayerNorm(nn.Module):
    """Mean and deviation."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Stream) -> Stream:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


@Norm.register("raw_rmsnorm")
@dataclass(frozen=True, kw_only=True)
class RawRms(Norm):
    """`rmsnorm`, written out."""

    def build(self, dim: int) -> nn.Module:
        return RawRmsNorm(dim)


class RawRmsNorm(nn.Module):
    """Root of the mean square."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Stream) -> Stream:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


@Position.register("raw_rope")
@dataclass(frozen=True, kw_only=True)
class RawRope(Position):
    """`rope`, its halves cut by `chunk`."""

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return RawRopePosition()


class RawRopePosition(PositionalEncoding):
    """Turns heads of any even width, at any position."""

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        rate = 10_000.0 ** -(torch.arange(0, q.shape[-1], 2, device=q.device) / q.shape[-1])
        angle = torch.outer(positions.float(), rate)
        return half_rotated(q, angle), half_rotated(k, angle)


def half_rotated(x: Rotated, angle: Float[Tensor, "t f"]) -> Rotated:
    """Each axis of the first half, with its fellow of the second."""
    (left, right), cos, sin = x.chunk(2, dim=-1), angle.cos(), angle.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).type_as(x)
