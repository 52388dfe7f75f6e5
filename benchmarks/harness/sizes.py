"""The sizes of what is timed, by name, and how much work there is in them by a formula."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nanotx.errors import ConfigError, did_you_mean
from nanotx.hardware.device import Machine


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes of one input, and the heads that read it."""

    batch: int
    time: int
    dim: int
    heads: int

    @property
    def tokens(self) -> int:
        """How many there are."""
        return self.batch * self.time

    def draw(self, machine: Machine) -> Tensor:
        """An input of ordinary scale."""
        return torch.randn(self.batch, self.time, self.dim, device=machine.device)


def baby(batch: int, time: int) -> Shape:
    """So much text in the width of nanoGPT's baby GPT."""
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
"""The recipes `macbook` and `baby_gpt`, and ever longer texts: one at a time on a CPU, equally many tokens on a GPU."""
DEFAULT = ("laptop", "baby", "1k", "2k", "4k")


def choose_shapes(device: str, words: str) -> dict[str, Shape]:
    """The shapes of these names, separated by commas, on this device; the default ones for none, and "all".

    Raises:
        ConfigError: there is none of some name; says which there are.
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


# Operations of a pass forward, those that the definition needs: two for a product that is added to a sum. What a part
# does beside them (the masked half of the scores, say) is not counted, and what it leaves out is: so the same number
# stands for every part, and operations a second compare as times do.


def attention_operations(shape: Shape) -> int:
    """Four maps of the stream, and for each query and each key up to its own a score and a share of a value."""
    maps = 8 * shape.tokens * shape.dim**2
    pairs = shape.batch * shape.time * (shape.time + 1) // 2
    return maps + 4 * pairs * shape.dim


def ffn_operations(shape: Shape) -> int:
    """A map to four times the width, and one back; gated ones have as many weights."""
    return 16 * shape.tokens * shape.dim**2


def block_operations(shape: Shape) -> int:
    """Those of its attention and of its feed-forward."""
    return attention_operations(shape) + ffn_operations(shape)
