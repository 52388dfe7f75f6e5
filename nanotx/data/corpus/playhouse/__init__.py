"""The playhouse: an endless play that nanotx writes itself, and whose entropy is known."""

from nanotx.data.corpus.playhouse.corpus import Playhouse

__all__ = ["Playhouse"]
