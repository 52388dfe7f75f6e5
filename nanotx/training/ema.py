"""Exponential moving average (EMA) of the weights, used to evaluate and sample: it averages out the noise of steps.

Source: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046; exponential, its decay growing from nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class EMA:
    """Exponential moving average of weights: of a model's, or of a rank's slices of them."""

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        """Begin with the weights as they are.

        Args:
            weights: by name; those that training changes in place.
            decay: that the average approaches.
        """
        self.decay, self.weights = decay, dict(weights)
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
