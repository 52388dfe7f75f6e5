"""Positions: how a model knows where in the text a token stands.

One for the whole model. The model calls `embed`; each attention calls `rotate` and `bias`. Each does nothing
unless the part says otherwise.
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
    Slot, ABC, slot="position", package="nanotx.nn.position", group="nanotx.position", shared=("base", "rotary")
):
    """The slot: where a token stands. A part is a frozen dataclass that builds a `PositionalEncoding`."""

    adds_bias: ClassVar[bool] = False  # whether it adds to the scores
    relative: ClassVar[bool] = False  # whether all depends on distances alone, at any place in a text of any length

    @abstractmethod
    def build(self, dim: int, heads: int, context: int) -> "PositionalEncoding":
        """The module.

        Args:
            dim: width of the stream.
            heads: how many heads share it, hence dim // heads is the width that `rotate` sees.
            context: how many positions there are.

        Raises:
            ConfigError: the part cannot honour these sizes.
        """


class PositionalEncoding(Exact):
    """The thing. As it stands it knows no position at all. Its buffers keep their digits when a model is cast."""

    attention_scale: float = 1.0
    """By what `rotate` multiplies the lengths of queries and of keys."""

    def embed(self, x: Stream, positions: Positions) -> Stream:
        """The embedded tokens, with what the part adds for their `positions`."""
        return x

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        """Queries and keys of the tokens at `positions`, turned by them."""
        return q, k

    def bias(self, q_pos: Positions, k_pos: KeyPositions) -> Float[Tensor, "h t s"] | None:
        """What is added to the scores of each head, or None for nothing."""
        return None


NO_POSITION = PositionalEncoding()
"""What an attention is given when nobody tells it where its tokens stand."""
