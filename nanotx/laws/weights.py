"""Weights for laws: random ones without special values, or those shared by two implementations of one function."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from nanotx.nn.canonical import from_canonical, to_canonical


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch on the CPU inside this context, without `manual_seed`, which records the stack for every GPU."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@torch.no_grad()
def redraw(layer: nn.Module, seed: int) -> nn.Module:
    """Return the layer with parameters that start at one or zero (norms, biases) moved a little, so they matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in layer.parameters():
        if parameter.ndim < 2 or not parameter.any():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return layer


@torch.no_grad()
def share_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the weights of one implementation of a function into another (`nanotx.nn.canonical`)."""
    weights = from_canonical(target, to_canonical(source, dict(source.named_parameters())))
    for name, parameter in target.named_parameters():
        parameter.copy_(weights[name])
