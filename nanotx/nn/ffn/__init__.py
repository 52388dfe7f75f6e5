"""Feed-forward layers, which act on each position separately."""

from nanotx.nn.ffn.base import Ffn, Sparse

__all__ = ["Ffn", "Sparse"]
