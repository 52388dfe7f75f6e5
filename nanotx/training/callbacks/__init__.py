"""Callbacks: what watches a run, and adds to its log."""

from nanotx.training.loop import Callback

__all__ = ["Callback"]
