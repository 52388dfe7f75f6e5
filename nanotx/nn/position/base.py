"""Positional encodings: how a model knows where in the text a token is.

The whole model has one. The model calls `embed`; each attention calls `rotate` and `bias`. By default each of them does
nothing.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from nanotx.config.registry import Slot
from nanotx.nn.exact import Exact
from nanotx.nn.shapes import KeyPositions, Positions, Stream

Rotated = Float[Tensor, "... t k"]


class Position(
    Slot, ABC, slot="position", package="nanotx.nn.position", group="nanotx.position", shared=("base", "rope_base")
):
    """The position slot. A part is a frozen dataclass that builds a `PositionalEncoding`."""

    adds_bias: ClassVar[bool] = False  # whether it adds a bias to the scores
    relative: ClassVar[bool] = False  # whether everything depends on distances only, at any position of any text

    @abstractmethod
    def build(self, dim: int, heads: int, context: int) -> "PositionalEncoding":
        """Build the module.

        Args:
            dim: width of the stream.
            heads: number of heads; `rotate` gets queries and keys of width dim // heads.
            context: maximum number of positions.

        Raises:
            ConfigError: the part does not support these sizes.
        """


class PositionalEncoding(Exact):
    """A positional encoding that encodes nothing; parts override its methods. Casting keeps its buffers exact."""

    attention_scale: float = 1.0
    """Factor by which `rotate` scales queries and keys."""

    def embed(self, x: Stream, positions: Positions) -> Stream:
        """Add the encoding of `positions` to the embedded tokens."""
        return x

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        """Rotate queries and keys by their `positions`."""
        return q, k

    def bias(self, q_pos: Positions, k_pos: KeyPositions) -> Float[Tensor, "h t s"] | None:
        """Return what to add to the scores of each head, or None for nothing."""
        return None


NO_POSITION = PositionalEncoding()
"""The default of attentions and blocks: no positional encoding."""
