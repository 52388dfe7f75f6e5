"""How many bytes a token costs to read, and how many a second this machine can read."""

import torch
from torch import nn

from harness.timing import seconds
from nanotx.nn.transformer import Transformer

SIZE = 2**28
"""Bytes of what is read to measure: more than any cache holds."""


def measured_bandwidth(device: torch.device, tries: int = 12) -> float:
    """Bytes a second of the quickest of a few sums over a long array."""
    array = torch.ones(SIZE // 4, device=device)
    return SIZE / min(seconds(array.sum, 1, device) for _ in range(tries))


def bytes_per_step(model: Transformer, batch: int, first: int, new: int) -> float:
    """What reading one more token of each of so many texts reads on the average: weights once, each text's cache.

    Args:
        model: whose heads all have keys and values of their own.
        batch: how many texts.
        first: the length of the prompts.
        new: how many tokens follow; no more than the context holds.
    """
    weights = sum(
        parameter.nbytes
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
    )
    mean = first + (new - 1) / 2  # tokens in the cache, the newest too
    return weights + batch * mean * 2 * model.config.dim * len(model.blocks) * model.head.weight.itemsize
