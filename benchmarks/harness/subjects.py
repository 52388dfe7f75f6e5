"""What is compared: the parts of a slot, each in the same setting, beside references from outside."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

import harness.block_references
import harness.layer_references  # noqa: F401
from harness import references
from harness.sizes import Shape, attention_operations, block_operations, ffn_operations
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

Setting = Callable[[type[Any], Shape], nn.Module]
"""From a part to a module for this shape, with nothing random in it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """The parts of one slot, and what they are compared in."""

    slot: type[Any]
    setting: Setting
    references: tuple[str, ...]  # whose times are the measure, nanotx's own first
    twins: Mapping[str, str]  # those from outside, and which of ours each is
    reads: bool = True  # whether a position reads others
    operations: Callable[[Shape], int] | None = None  # of a pass forward; None where products are not what takes time

    def twin(self, name: str) -> str | None:
        """The part that is the same function as this one, weights and all; None for none, or for itself."""
        written_out = getattr(self.slot.find(name), "equivalent_to", "") == SOFTMAX and name != "fused"
        return "fused" if written_out else self.twins.get(name)

    def build(self, name: str, shape: Shape) -> nn.Module:
        """The module of a part."""
        return self.setting(self.slot.find(name), shape)


def with_fields(part: type[Any], **wishes: Any) -> Any:
    """A config with these fields, as far as the part has them."""
    known = {field.name for field in dataclasses.fields(part)}
    return part(**{name: value for name, value in wishes.items() if name in known})


def attention(part: type[Any], shape: Shape) -> nn.Module:
    """The part, with the shape's heads."""
    layer: nn.Module = with_fields(part, heads=shape.heads, dropout=0.0).build(shape.dim)
    return layer


def alone(part: type[Any], shape: Shape) -> nn.Module:
    """The part as it stands."""
    layer: nn.Module = part().build(shape.dim)
    return layer


def block(part: type[Any], shape: Shape) -> nn.Module:
    """Around what GPT-2 has, without biases."""
    parts = {"attention": Sdpa(heads=shape.heads), "ffn": Mlp(), "norm": LayerNorm(bias=False)}
    layer: nn.Module = with_fields(part, heads=shape.heads, dropout=0.0, **parts).build(shape.dim)
    return layer


def position(part: type[Any], shape: Shape) -> nn.Module:
    """Within an `sdpa`."""
    return Standing(part().build(shape.dim, shape.heads, shape.time), Sdpa(heads=shape.heads).build(shape.dim))


class Standing(nn.Module):
    """A stream embedded, and read by an attention that knows where its tokens stand."""

    def __init__(self, position: PositionalEncoding, attention: nn.Module) -> None:
        super().__init__()
        self.position, self.attention = position, attention

    def forward(self, x: Stream, cache: KVCache | None = None) -> Stream:
        y: Tensor = self.attention(self.position.embed(x, positions(x, cache)[0]), self.position, cache)
        return y


SUBJECTS = {
    "attention": Subject(
        slot=Attention,
        setting=attention,
        references=("sdpa", *references.NAMES),
        twins=dict.fromkeys(references.NAMES, "fused"),
        operations=attention_operations,
    ),
    "ffn": Subject(
        slot=Ffn,
        setting=alone,
        references=("mlp", "raw_mlp", "raw_swiglu"),
        twins={"raw_mlp": "mlp", "raw_swiglu": "swiglu"},
        reads=False,
        operations=ffn_operations,
    ),
    "block": Subject(
        slot=Block,
        setting=block,
        references=("prenorm", "torch_encoder"),
        twins={"torch_encoder": "prenorm"},
        operations=block_operations,
    ),
    "norm": Subject(
        slot=Norm,
        setting=alone,
        references=("layernorm", "raw_layernorm", "raw_rmsnorm"),
        twins={"raw_layernorm": "layernorm", "raw_rmsnorm": "rmsnorm"},
        reads=False,
    ),
    "position": Subject(
        slot=Position,
        setting=position,
        references=("none", "rope", "raw_rope"),
        twins={"raw_rope": "rope"},
        operations=attention_operations,
    ),
}
