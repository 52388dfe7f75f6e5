"""Folders that `transformers` opens: which of its classes computes a model, how it names the weights, and the proof."""
