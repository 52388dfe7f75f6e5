"""Callbacks: what watches a run, and adds to its log."""

from nanotx.training.callbacks.base import Callback

__all__ = ["Callback"]
