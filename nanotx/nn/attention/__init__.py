"""Attention: how a position attends to those before it."""

from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, MultiHead, MultiHeadAttention, causal_mask, positions

__all__ = ["SOFTMAX", "Attention", "Bias", "MultiHead", "MultiHeadAttention", "causal_mask", "positions"]
