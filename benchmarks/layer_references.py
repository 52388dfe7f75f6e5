"""Layers from outside the house, which ours are compared with; they bear names, and obey the same laws.

Each is one of ours as most code has it, in plain torch: what it is faster by is what einops and the house cost.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float
from references import TorchMha
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.attention import Attention, seen
from nanotx.block import Block
from nanotx.ffn import Ffn
from nanotx.layout import OwnLayout, Tensors
from nanotx.linear import Linear
from nanotx.norm import Norm
from nanotx.past import Past
from nanotx.position import NOWHERE, Position, Positioning, Turned
from nanotx.shapes import Stream, Times


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

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.to_hidden = Linear(dim, 2 * width, bias=False)
        self.to_out = Linear(width, dim, bias=False)

    def forward(self, x: Stream) -> Stream:
        gate, hidden = self.to_hidden(x).chunk(2, dim=-1)
        return self.to_out(F.silu(gate) * hidden)


@Norm.register("raw_layer")
@dataclass(frozen=True, kw_only=True)
class RawLayer(Norm):
    """`layer`, by the library's function."""

    def build(self, dim: int) -> nn.Module:
        return RawLayerNorm(dim)


class RawLayerNorm(nn.Module):
    """Mean and deviation."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Stream) -> Stream:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


@Norm.register("raw_rms")
@dataclass(frozen=True, kw_only=True)
class RawRms(Norm):
    """`rms`, written out."""

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

    def build(self, dim: int, heads: int, context: int) -> Positioning:
        return RawRopePosition()


class RawRopePosition(Positioning):
    """Turns heads of any even width, at any position."""

    def turn(self, q: Turned, k: Turned, at: Times) -> tuple[Turned, Turned]:
        rate = 10_000.0 ** -(torch.arange(0, q.shape[-1], 2, device=q.device) / q.shape[-1])
        angle = torch.outer(at.float(), rate)
        return half_turned(q, angle), half_turned(k, angle)


def half_turned(x: Turned, angle: Float[Tensor, "t f"]) -> Turned:
    """Each axis of the first half, with its fellow of the second."""
    (left, right), cos, sin = x.chunk(2, dim=-1), angle.cos(), angle.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).type_as(x)


@Block.register("torch_encoder")
@dataclass(frozen=True, kw_only=True)
class TorchEncoder(Block):
    """`torch.nn.TransformerEncoderLayer`, told to look back only: a `prenorm` as GPT-2 has it."""

    heads: int = 4  # of its attention

    @property
    def attentions(self) -> tuple[Attention, ...]:
        return (TorchMha(heads=self.heads),)

    def build(self, dim: int) -> nn.Module:
        TorchMha(heads=self.heads).check_width(dim)
        return TorchEncoderBlock(self.heads, dim)


class TorchEncoderBlock(OwnLayout):
    """The library's layer. It keeps no keys, so the past keeps inputs, and all are read again."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=False
        )

    def forward(self, x: Stream, position: Positioning = NOWHERE, past: Past | None = None) -> Stream:
        known = x if past is None else past.extend(x, x)[0]
        length = known.shape[1]
        y: Tensor = self.layer(known, src_mask=~seen(length, length, x.device), is_causal=True)
        return y[:, length - x.shape[1] :]

    def shared(self, own: Tensors) -> Tensors:
        return {THEIRS.get(name, name): tensor for name, tensor in own.items()}

    def own(self, shared: Tensors) -> Tensors:
        return {OURS.get(name, name): tensor for name, tensor in shared.items()}


THEIRS = {
    "layer.self_attn.in_proj_weight": "attention.to_qkv.weight",
    "layer.self_attn.out_proj.weight": "attention.to_out.weight",
    "layer.linear1.weight": "ffn.to_hidden.weight",
    "layer.linear2.weight": "ffn.to_out.weight",
    "layer.norm1.weight": "attention_norm.weight",
    "layer.norm2.weight": "ffn_norm.weight",
}
"""The library's names of the weights, and ours."""
OURS = {ours: theirs for theirs, ours in THEIRS.items()}
"""The other way about."""
