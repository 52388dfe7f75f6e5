"""Layers from outside nanotx that ours are compared with; they are registered parts, and obey the same laws.

`raw_...` is one of ours as most code has it, in plain torch with its axes moved by `view`, `transpose` and `chunk`:
what it is faster by is what einops and nanotx cost. `torch_...` is PyTorch's own layer.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nanotx.errors import ConfigError
from nanotx.nn.attention import SOFTMAX, Attention, causal_mask
from nanotx.nn.block import Block
from nanotx.nn.canonical import CustomLayout, Tensors
from nanotx.nn.ffn import Ffn
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.linear import Linear
from nanotx.nn.norm import Norm
from nanotx.nn.position import NO_POSITION, Position, PositionalEncoding
from nanotx.nn.position.base import Rotated
from nanotx.nn.shapes import Positions, Stream


class Renamed(CustomLayout):
    """A module whose weights differ from the canonical layout by their names alone."""

    names: ClassVar[Mapping[str, str]]  # from its own to the canonical ones

    def to_canonical(self, tensors: Tensors) -> Tensors:
        return {self.names.get(name, name): tensor for name, tensor in tensors.items()}

    def from_canonical(self, canonical: Tensors) -> Tensors:
        own = {theirs: name for name, theirs in self.names.items()}
        return {own.get(name, name): tensor for name, tensor in canonical.items()}


# Attention.


@dataclass(frozen=True, kw_only=True)
class Outside(Attention):
    """The config of an attention without positions."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_bias: ClassVar[bool] = False
    heads: int = 4

    def check_position(self, position: Position) -> None:
        """Raise ConfigError for every position but none."""
        if position.part != "none":
            raise ConfigError(f"{self.part}: does not support position {position.part!r}; try none.")

    def check_width(self, dim: int) -> None:
        """Raise ConfigError where dim is not a multiple of the heads."""
        if dim % self.heads:
            divisors = [heads for heads in range(1, dim + 1) if dim % heads == 0]
            raise ConfigError(f"{self.part}: heads={self.heads} do not divide dim={dim}; try heads from {divisors}.")


@Attention.register("raw_torch")
@dataclass(frozen=True, kw_only=True)
class RawTorch(Outside):
    """`sdpa` without einops."""

    def build(self, dim: int) -> nn.Module:
        self.check_width(dim)
        return RawTorchAttention(self.heads, dim)


class RawTorchAttention(nn.Module):
    """The same maps and kernel as `sdpa`, its weights in the same layout."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = Linear(dim, 3 * dim, bias=False)
        self.to_out = Linear(dim, dim, bias=False)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        b, t, d = x.shape
        q, k, v = self.to_qkv(x).view(b, t, 3, self.heads, d // self.heads).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = causal_mask(t, k.shape[2], x.device) if 1 < t < k.shape[2] else None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=t == k.shape[2])
        return self.to_out(y.transpose(1, 2).reshape(b, t, d))


@Attention.register("torch_mha")
@dataclass(frozen=True, kw_only=True)
class TorchMha(Outside):
    """`torch.nn.MultiheadAttention`."""

    def build(self, dim: int) -> nn.Module:
        self.check_width(dim)
        return TorchMhaAttention(self.heads, dim)


class TorchMhaAttention(Renamed):
    """PyTorch's layer, made causal. It keeps no keys, so its cache keeps inputs, which are read again."""

    names: ClassVar[Mapping[str, str]] = {
        "layer.in_proj_weight": "to_qkv.weight",
        "layer.out_proj.weight": "to_out.weight",
    }

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(dim, heads, bias=False, batch_first=True)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        known = x if cache is None else cache.append(x, x)[0]
        t, s = x.shape[1], known.shape[1]
        y, _ = self.layer(x, known, known, attn_mask=~causal_mask(t, s, x.device), need_weights=False, is_causal=t == s)
        return y


# Block.


@Block.register("torch_encoder")
@dataclass(frozen=True, kw_only=True)
class TorchEncoder(Block):
    """`torch.nn.TransformerEncoderLayer`, made causal: a `prenorm` as GPT-2 has it."""

    heads: int = 4  # of its attention

    @property
    def attentions(self) -> tuple[Attention, ...]:
        return (TorchMha(heads=self.heads),)

    def build(self, dim: int) -> nn.Module:
        TorchMha(heads=self.heads).check_width(dim)
        return TorchEncoderBlock(self.heads, dim)


class TorchEncoderBlock(Renamed):
    """PyTorch's layer. It keeps no keys, so its cache keeps inputs, which are read again."""

    names: ClassVar[Mapping[str, str]] = {
        "layer.self_attn.in_proj_weight": "attention.to_qkv.weight",
        "layer.self_attn.out_proj.weight": "attention.to_out.weight",
        "layer.linear1.weight": "ffn.to_hidden.weight",
        "layer.linear2.weight": "ffn.to_out.weight",
        "layer.norm1.weight": "attention_norm.weight",
        "layer.norm2.weight": "ffn_norm.weight",
    }

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True, bias=False
        )

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        known = x if cache is None else cache.append(x, x)[0]
        length = known.shape[1]
        y: Tensor = self.layer(known, src_mask=~causal_mask(length, length, x.device), is_causal=True)
        return y[:, length - x.shape[1] :]


# Feed-forward.


@Ffn.register("raw_mlp")
@dataclass(frozen=True, kw_only=True)
class RawMlp(Ffn):
    """`mlp`, a chain of PyTorch's layers."""

    def build(self, dim: int) -> nn.Module:
        wide, narrow = Linear(dim, 4 * dim, bias=False), Linear(4 * dim, dim, bias=False)
        return nn.Sequential(OrderedDict(to_hidden=wide, activation=nn.GELU(), to_out=narrow))


@Ffn.register("raw_swiglu")
@dataclass(frozen=True, kw_only=True)
class RawSwiGlu(Ffn):
    """`swiglu`, its halves cut by `chunk`."""

    def build(self, dim: int) -> nn.Module:
        return RawSwiGluFfn(dim, -(-dim // 3) * 8)


class RawSwiGluFfn(nn.Module):
    """A gated hidden layer."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.to_hidden = Linear(dim, 2 * hidden_dim, bias=False)
        self.to_out = Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Stream) -> Stream:
        gate, hidden = self.to_hidden(x).chunk(2, dim=-1)
        return self.to_out(F.silu(gate) * hidden)


# Norm.


@Norm.register("raw_layernorm")
@dataclass(frozen=True, kw_only=True)
class RawLayer(Norm):
    """`layernorm`, by PyTorch's function."""

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
    """Root mean square."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Stream) -> Stream:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


# Position.


@Position.register("raw_rope")
@dataclass(frozen=True, kw_only=True)
class RawRope(Position):
    """`rope`, its halves cut by `chunk`."""

    def build(self, dim: int, heads: int, context: int) -> PositionalEncoding:
        return RawRopePosition()


class RawRopePosition(PositionalEncoding):
    """Rotates heads of any even width."""

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        rate = 10_000.0 ** -(torch.arange(0, q.shape[-1], 2, device=q.device) / q.shape[-1])
        angle = torch.outer(positions.float(), rate)
        return rotate_halves(q, angle), rotate_halves(k, angle)


def rotate_halves(x: Rotated, angle: Float[Tensor, "t f"]) -> Rotated:
    """Rotate each axis of the first half with its counterpart of the second."""
    (left, right), cos, sin = x.chunk(2, dim=-1), angle.cos(), angle.sin()
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).type_as(x)
