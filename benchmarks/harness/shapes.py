"""The sizes of what is timed, by name, and the number of operations in them by formula."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nanotx.errors import ConfigError, did_you_mean
from nanotx.hardware.device import Machine


@dataclass(frozen=True, kw_only=True)
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
    names = [word.strip() for word in words.split(",")] if words else list(DEFAULT)
    if names == ["all"]:
        return known
    for name in names:
        if name not in known:
            raise ConfigError(
                f"shapes: no shape {name!r} on {device}.{did_you_mean(name, [*known, 'all'])} "
                f"Known: {', '.join(known)}, all."
            )
    return {name: known[name] for name in known if name in names}


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
