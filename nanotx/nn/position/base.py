"""Positions: how a model knows where in the text a token stands.

One for the whole model. The model calls `embed`; each attention calls `turn` and `bias`. Each does nothing
unless the part says otherwise.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from nanotx.config.registry import Slot
from nanotx.nn.exact import Exact
from nanotx.nn.shapes import KeyTimes, Stream, Times

Turned = Float[Tensor, "... t k"]


class Position(
    Slot, ABC, slot="position", package="nanotx.nn.position", group="nanotx.position", shared=("base", "rotary")
):
    """The slot: where a token stands. A part is a frozen dataclass that builds a `Positioning`."""

    biased: ClassVar[bool] = False  # whether it adds to the scores
    relative: ClassVar[bool] = False  # whether all depends on distances alone, at any place in a text of any length

    @abstractmethod
    def build(self, dim: int, heads: int, context: int) -> "Positioning":
        """The module.

        Args:
            dim: width of the stream.
            heads: how many heads share it, hence dim // heads is the width that `turn` sees.
            context: how many positions there are.

        Raises:
            ConfigError: the part cannot honour these sizes.
        """


class Positioning(Exact):
    """The thing. As it stands it knows no position at all. Its buffers keep their digits when a model is cast."""

    gain: float = 1.0
    """By what `turn` multiplies the lengths of queries and of keys."""

    def embed(self, x: Stream, at: Times) -> Stream:
        """The embedded tokens, with what the part adds for their positions `at`."""
        return x

    def turn(self, q: Turned, k: Turned, at: Times) -> tuple[Turned, Turned]:
        """Queries and keys of the tokens at positions `at`, turned by them."""
        return q, k

    def bias(self, at_q: Times, at_k: KeyTimes) -> Float[Tensor, "h t s"] | None:
        """What is added to the scores of each head, or None for nothing."""
        return None


NOWHERE = Positioning()
"""What an attention is given when nobody tells it where its tokens stand."""
