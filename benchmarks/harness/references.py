"""Attentions from outside nanotx, which ours are compared with; they bear names, and obey the same laws.

`raw_torch` is `sdpa` with its axes moved by `view`, `transpose` and `unbind`, as most code has it, and nothing else
changed: what it is faster by is what einops and nanotx cost. `torch_mha` is the library's own layer.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from nanotx.errors import ConfigError
from nanotx.nn.attention import SOFTMAX, Attention, causal_mask
from nanotx.nn.canonical import CustomLayout, Tensors
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.linear import Linear
from nanotx.nn.position import NO_POSITION, Position, PositionalEncoding
from nanotx.nn.shapes import Stream

NAMES = ("raw_torch", "torch_mha")


@dataclass(frozen=True, kw_only=True)
class Outside(Attention):
    """The fields of an attention that knows of no position."""

    equivalent_to: ClassVar[str] = SOFTMAX
    supports_bias: ClassVar[bool] = False
    heads: int = 4  # how many; each has dim // heads of the width

    def check_position(self, position: Position) -> None:
        """Raise ConfigError for every position but none."""
        if position.part != "none":
            raise ConfigError(f"{self.part}: cannot be told of position {position.part!r}; try none.")

    def check_width(self, dim: int) -> None:
        """Raise ConfigError where the heads do not divide the width of the stream."""
        if dim % self.heads:
            fit = [heads for heads in range(1, dim + 1) if dim % heads == 0]
            raise ConfigError(f"{self.part}: heads={self.heads} do not divide dim={dim}; try heads from {fit}.")


@Attention.register("raw_torch")
@dataclass(frozen=True, kw_only=True)
class RawTorch(Outside):
    """`sdpa` without einops."""

    def build(self, dim: int) -> nn.Module:
        self.check_width(dim)
        return RawTorchAttention(self.heads, dim)


class RawTorchAttention(nn.Module):
    """The same maps and the same kernel as `sdpa`, its weights in the same layout."""

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
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=t == k.shape[2])
        return self.to_out(y.transpose(1, 2).reshape(b, t, d))


@Attention.register("torch_mha")
@dataclass(frozen=True, kw_only=True)
class TorchMha(Outside):
    """`torch.nn.MultiheadAttention`."""

    def build(self, dim: int) -> nn.Module:
        self.check_width(dim)
        return TorchMhaAttention(self.heads, dim)


class TorchMhaAttention(CustomLayout):
    """The library's layer, told to look back only. It keeps no keys, so the cache keeps inputs, read again."""

    def __init__(self, heads: int, dim: int) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(dim, heads, bias=False, batch_first=True)

    def forward(self, x: Stream, position: PositionalEncoding = NO_POSITION, cache: KVCache | None = None) -> Stream:
        known = x if cache is None else cache.append(x, x)[0]
        t, s = x.shape[1], known.shape[1]
        y, _ = self.layer(x, known, known, attn_mask=~causal_mask(t, s, x.device), need_weights=False, is_causal=t == s)
        return y

    def to_canonical(self, tensors: Tensors) -> Tensors:
        return {THEIRS.get(name, name): tensor for name, tensor in tensors.items()}

    def from_canonical(self, canonical: Tensors) -> Tensors:
        return {OURS.get(name, name): tensor for name, tensor in canonical.items()}


THEIRS = {"layer.in_proj_weight": "to_qkv.weight", "layer.out_proj.weight": "to_out.weight"}
"""The library's names of the weights, and ours."""
OURS = {ours: theirs for theirs, ours in THEIRS.items()}
"""The other way about."""
