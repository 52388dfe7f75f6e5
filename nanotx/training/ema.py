"""A running average of the weights, which is scored and sampled in their place: it has less of each step's noise.

Source: Polyak and Juditsky 1992, https://doi.org/10.1137/0330046; exponential, its decay growing from nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """The average of a model's weights over the steps taken."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.weights = decay, dict(model.named_parameters())
        self.averages: dict[str, Tensor] = {name: one.detach().clone() for name, one in self.weights.items()}

    def update(self, step: int) -> None:
        """Take the weights after this step in; the first steps count for more, as there are none before them."""
        decay = min(self.decay, step / (step + 9))
        weights = [one.detach() for one in self.weights.values()]
        torch._foreach_lerp_(list(self.averages.values()), weights, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages stand in the model."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self.weights.items():
            average = self.averages[name]
            kept = weight.detach().clone()
            weight.copy_(average)
            average.copy_(kept)
