"""Attention: how a position reads from those before it."""

from nanotx.nn.attention.base import SOFTMAX, Attention, Bias, Headed, HeadedAttention, causal_mask, positions

__all__ = ["SOFTMAX", "Attention", "Bias", "Headed", "HeadedAttention", "causal_mask", "positions"]
