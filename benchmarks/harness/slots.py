"""What `attn.py` and `layers.py` compare: the parts of a slot, each in the same setting, with peers from outside."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

import harness.layer_peers  # noqa: F401  its parts register themselves
from harness.shapes import Shape, attention_flops, block_flops, ffn_flops
from nanotx.nn.attention import SOFTMAX, Attention, positions
from nanotx.nn.attention.sdpa import Sdpa
from nanotx.nn.block import Block
from nanotx.nn.ffn import Ffn
from nanotx.nn.ffn.mlp import Mlp
from nanotx.nn.kv_cache import KVCache
from nanotx.nn.norm import Norm
from nanotx.nn.norm.layernorm import LayerNorm
from nanotx.nn.position import Position, PositionalEncoding
from nanotx.nn.shapes import Stream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """The parts of one slot, and what they are compared in."""

    slot: type[Any]
    setting: Callable[[type[Any], Shape], nn.Module]  # from a part to the module that is timed
    baselines: tuple[str, ...]  # whose times the others are divided by, nanotx's own first
    peers: Mapping[str, str]  # the parts from outside, and which of ours each is equivalent to
    mixes_positions: bool = True  # whether an output depends on other positions
    flops: Callable[[Shape], int] | None = None  # of a forward pass; None where products are not what takes time

    def equivalent(self, name: str) -> str | None:
        """Return the part that is the same function, weights and all; None for none, or for the part itself."""
        is_softmax = getattr(self.slot.find(name), "equivalent_to", "") == SOFTMAX and name != "fused"
        return "fused" if is_softmax else self.peers.get(name)

    def build(self, name: str, shape: Shape) -> nn.Module:
        """Build the module that is timed."""
        return self.setting(self.slot.find(name), shape)


def with_fields(part: type[Any], **values: Any) -> Any:
    """Return a config with these values, as far as the part has such fields."""
    known = {field.name for field in dataclasses.fields(part)}
    return part(**{name: value for name, value in values.items() if name in known})


def attention(part: type[Any], shape: Shape) -> nn.Module:
    """Build an attention with the shape's heads."""
    layer: nn.Module = with_fields(part, heads=shape.heads, dropout=0.0).build(shape.dim)
    return layer


def alone(part: type[Any], shape: Shape) -> nn.Module:
    """Build a part with its defaults."""
    layer: nn.Module = part().build(shape.dim)
    return layer


def block(part: type[Any], shape: Shape) -> nn.Module:
    """Build a block around what GPT-2 has, without biases."""
    parts = {"attention": Sdpa(heads=shape.heads), "ffn": Mlp(), "norm": LayerNorm(bias=False)}
    layer: nn.Module = with_fields(part, heads=shape.heads, dropout=0.0, **parts).build(shape.dim)
    return layer


def position(part: type[Any], shape: Shape) -> nn.Module:
    """Build a position within an `sdpa`."""
    return Positioned(part().build(shape.dim, shape.heads, shape.time), Sdpa(heads=shape.heads).build(shape.dim))


class Positioned(nn.Module):
    """An attention with a positional encoding."""

    def __init__(self, position: PositionalEncoding, attention: nn.Module) -> None:
        super().__init__()
        self.position, self.attention = position, attention

    def forward(self, x: Stream, cache: KVCache | None = None) -> Stream:
        y: Tensor = self.attention(self.position.embed(x, positions(x, cache)[0]), self.position, cache)
        return y


SLOTS = {
    "attention": Compared(
        slot=Attention,
        setting=attention,
        baselines=("sdpa", "raw_torch", "torch_mha"),
        peers={"raw_torch": "fused", "torch_mha": "fused"},
        flops=attention_flops,
    ),
    "ffn": Compared(
        slot=Ffn,
        setting=alone,
        baselines=("mlp", "raw_mlp", "raw_swiglu"),
        peers={"raw_mlp": "mlp", "raw_swiglu": "swiglu"},
        mixes_positions=False,
        flops=ffn_flops,
    ),
    "block": Compared(
        slot=Block,
        setting=block,
        baselines=("prenorm", "torch_encoder"),
        peers={"torch_encoder": "prenorm"},
        flops=block_flops,
    ),
    "norm": Compared(
        slot=Norm,
        setting=alone,
        baselines=("layernorm", "raw_layernorm", "raw_rmsnorm"),
        peers={"raw_layernorm": "layernorm", "raw_rmsnorm": "rmsnorm"},
        mixes_positions=False,
    ),
    "position": Compared(
        slot=Position,
        setting=position,
        baselines=("none", "rope", "raw_rope"),
        peers={"raw_rope": "rope"},
        flops=attention_flops,
    ),
}
