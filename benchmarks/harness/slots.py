"""What `attn.py` and `layers.py` compare: parts of a slot, each in the same setting and size, some from outside."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import harness.layer_peers  # noqa: F401  its parts register themselves
from harness.report import known_names
from nanotx.hardware.device import Machine
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

# Sizes.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of one input, and the number of heads."""

    batch: int
    time: int
    dim: int
    heads: int

    @property
    def tokens(self) -> int:
        """Return the number of tokens."""
        return self.batch * self.time

    def draw(self, machine: Machine) -> Tensor:
        """Draw an input of ordinary scale."""
        return torch.randn(self.batch, self.time, self.dim, device=machine.device)


def baby(batch: int, time: int) -> Shape:
    """Return a shape with the width of nanoGPT's baby GPT."""
    return Shape(batch=batch, time=time, dim=384, heads=6)


LAPTOP = Shape(batch=12, time=64, dim=128, heads=4)
QUICK = {"quick": Shape(batch=2, time=16, dim=32, heads=2)}
SHAPES = {
    "cpu": {
        "laptop": LAPTOP,
        "baby": baby(16, 256),
        "baby_64": baby(64, 256),
        "1k": baby(1, 1024),
        "2k": baby(1, 2048),
        "4k": baby(1, 4096),
        "8k": baby(1, 8192),
    },
    "cuda": {
        "laptop": LAPTOP,
        "baby": baby(64, 256),
        "1k": baby(16, 1024),
        "2k": baby(8, 2048),
        "4k": baby(4, 4096),
        "8k": baby(2, 8192),
        "16k": baby(1, 16384),
        "32k": baby(1, 32768),
    },
}
"""The recipes `macbook` and `baby_gpt`, then longer contexts: one text on a CPU, equally many tokens on a GPU."""
DEFAULT = ("laptop", "baby", "1k", "2k", "4k")


def choose_shapes(device: str, words: str) -> dict[str, Shape]:
    """Return the shapes with these names, separated by commas; the default ones for no name, and "all".

    Raises:
        ConfigError: an unknown name.
    """
    known = SHAPES["cpu" if device == "cpu" else "cuda"]
    names = known_names("--shapes", words or ",".join(DEFAULT), [*known, "all"])
    return {name: shape for name, shape in known.items() if name in names or "all" in names}


# Operations of a forward pass that the definition needs; a multiply-add counts as two. What a part computes in addition
# (the masked half of the scores, say) is not counted, and what it omits is: with one number for all parts of a slot,
# operations per second compare as times do.


def attention_flops(shape: Shape) -> int:
    """Count four maps of the stream, and a score and a weighted value for each query and each key up to its own."""
    maps = 8 * shape.tokens * shape.dim**2
    pairs = shape.batch * shape.time * (shape.time + 1) // 2
    return maps + 4 * pairs * shape.dim


def ffn_flops(shape: Shape) -> int:
    """Count a map to four times the width and one back; gated ones have as many weights."""
    return 16 * shape.tokens * shape.dim**2


def block_flops(shape: Shape) -> int:
    """Count the attention and the feed-forward."""
    return attention_flops(shape) + ffn_flops(shape)


# Slots.


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
