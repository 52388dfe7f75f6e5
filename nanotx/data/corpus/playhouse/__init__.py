"""The playhouse: an endless play that nanotx generates, with known entropy."""

from nanotx.data.corpus.playhouse.corpus import Playhouse

__all__ = ["Playhouse"]
