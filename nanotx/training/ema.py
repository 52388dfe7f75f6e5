"""Exponential moving average (EMA) of the weights, used to evaluate and sample: it averages out the noise of steps.

Source: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046; exponential, its decay growing from nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Exponential moving average of a model's weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.weights = decay, dict(model.named_parameters())
        self.averages: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in self.weights.items()}

    def update(self, step: int) -> None:
        """Include the weights after `step`; the decay grows from nothing, so early steps count for more."""
        decay = min(self.decay, step / (step + 9))
        weights = [weight.detach() for weight in self.weights.values()]
        torch._foreach_lerp_(list(self.averages.values()), weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Return a context in which the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self.weights.items():
            average = self.averages[name]
            original = weight.detach().clone()
            weight.copy_(average)
            average.copy_(original)
