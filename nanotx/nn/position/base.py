"""Positional encodings: how a model knows where in the text a token is.

The whole model has one. The model calls `embed`; each attention calls `rotate` and `bias`. By default each of them does
nothing.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from nanotx.config.registry import Slot
from nanotx.errors import ConfigError
from nanotx.nn.exact import Exact
from nanotx.nn.shapes import KeyPositions, Positions, Stream, Tokens

Rotated = Float[Tensor, "... t k"]


class Position(
    Slot, ABC, slot="position", package="nanotx.nn.position", group="nanotx.position", shared=("base", "rope_base")
):
    """The position slot. A part is a frozen dataclass that builds a `PositionalEncoding`."""

    adds_bias: ClassVar[bool] = False  # whether it adds a bias to the scores
    relative: ClassVar[bool] = False  # whether everything depends on distances only, at any position of any text
    rotates: ClassVar[bool] = False  # whether it rotates heads; `build` then gets heads times their width as `dim`

    @property
    def least_width(self) -> int:
        """Width of the narrowest head that has a place for it; laws draw none that is narrower."""
        return 2

    @abstractmethod
    def build(self, dim: int, heads: int, context: int) -> "PositionalEncoding":
        """Build the module.

        Args:
            dim: width of the stream; of all heads together for a part that `rotates`, where heads have a width of their
                own.
            heads: number of heads; `rotate` gets queries and keys of width dim // heads.
            context: maximum number of positions.

        Raises:
            ConfigError: the part does not support these sizes.
        """


class PositionalEncoding(Exact):
    """A positional encoding that encodes nothing; parts override its methods. Casting keeps its buffers exact."""

    attention_scale: float = 1.0
    """Factor by which `rotate` scales queries and keys."""
    within: Tokens | None = None
    """Positions of tokens in their documents, where rows hold several; see `nanotx/nn/documents.py`."""

    def embed(self, x: Stream, positions: Positions) -> Stream:
        """Add the encoding of `positions` to the embedded tokens."""
        return x

    def rotate(self, q: Rotated, k: Rotated, positions: Positions) -> tuple[Rotated, Rotated]:
        """Rotate queries and keys by their `positions`."""
        return q, k

    def bias(self, q_pos: Positions, k_pos: KeyPositions) -> Float[Tensor, "*texts #h t s"] | None:
        """Return what to add to the scores of each head, or None for nothing."""
        return None


NO_POSITION = PositionalEncoding()
"""The default of attentions and blocks: no positional encoding."""


def check_table(position: PositionalEncoding, x: Tensor, positions: Tensor, context: int, dim: int) -> None:
    """Check that a table with a row for each position has the rows that a stream needs.

    Args:
        position: the encoding that has the table.
        x: the stream.
        positions: those of its tokens.
        context: rows of the table.
        dim: width of the table.

    Raises:
        ConfigError: the stream has another width, or other positions than tokens.
        IndexError: a position is beyond the table; on a GPU this is left to the lookup, which need not wait for it.
    """
    if torch.compiler.is_compiling():
        return
    name = type(position).__name__
    if x.shape[-1] != dim:
        raise ConfigError(f"{name}: built for a stream of width {dim}, and this one has {x.shape[-1]}; build it anew.")
    if positions.shape[-1] != x.shape[-2]:
        raise ConfigError(
            f"{name}: {x.shape[-2]} tokens have {positions.shape[-1]} positions; try torch.arange({x.shape[-2]})."
        )
    readable = type(positions) is Tensor and positions.device.type == "cpu"  # a plan's have a shape and no numbers
    if readable and len(positions) and int(positions.max()) >= context:
        raise IndexError(
            f"{name}: position {int(positions.max())} is beyond its context={context}, whose last is {context - 1}; "
            "build it with a larger context."
        )
