"""Evaluation: loss and bits per byte of a text, by script, by position, and in longer contexts."""
