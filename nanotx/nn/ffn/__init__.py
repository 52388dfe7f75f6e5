"""Feed-forward layers: what each position makes of what it has read."""

from nanotx.nn.ffn.base import Ffn, Sparse

__all__ = ["Ffn", "Sparse"]
