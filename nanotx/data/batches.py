"""Batches: ids cut into windows of the context's length; which ones is a pure function of seed and step.

Windows lie side by side. Each epoch draws its first cut anew and shows every window once. The rows of a step
are the next windows in that order, so the order knows nothing of micro-batches, and the state of the data is
one integer.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from nanotx.errors import DataError
from nanotx.nn.shapes import Tokens

Order = NDArray[np.int64]

HELD = 2**30
"""Bytes of ids that are kept on an accelerator whole, so that a step copies nothing but where its windows begin."""


CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """A text as training examples."""

    ids: NDArray[np.integer]
    context: int
    seed: int
    device: torch.device = CPU  # where batches are

    def __post_init__(self) -> None:
        if len(self.ids) <= self.context:
            raise DataError(
                f"data: a text of {len(self.ids)} tokens has no window of model.context={self.context} "
                f"and a token to predict after it; try --model.context {max(1, len(self.ids) // 4)} or a longer text."
            )

    @property
    def per_epoch(self) -> int:
        """How many windows an epoch has, wherever its first cut falls."""
        return max(1, (len(self.ids) - self.context) // self.context)

    def starts(self, step: int, batch: int) -> Order:
        """Where the windows of a step begin, for `batch` windows a step."""
        index = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
        epochs, places = index // self.per_epoch, index % self.per_epoch
        slack = min(self.context, len(self.ids) - self.per_epoch * self.context)
        starts = np.empty_like(index)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            cut = int(mix(np.array([epoch], dtype=np.uint64), self.seed)[0] % np.uint64(slack))
            starts[here] = cut + shuffled(self.per_epoch, self.seed, int(epoch))[places[here]] * self.context
        return starts

    def batch(self, step: int, batch: int) -> tuple[Tokens, Tokens]:
        """The inputs of a step, and for each its next token."""
        starts = self.starts(step, batch)
        if self.device == CPU or 4 * len(self.ids) > HELD:
            rows = np.add.outer(starts, np.arange(self.context + 1))
            ids = torch.from_numpy(self.ids[rows].astype(np.int64)).to(self.device)
        else:
            first = rearrange(torch.from_numpy(starts).to(self.device), "b -> b 1")
            ids = self._held[first + torch.arange(self.context + 1, device=self.device)].long()
        return ids[:, :-1], ids[:, 1:]

    @cached_property
    def _held(self) -> Tensor:
        return torch.from_numpy(self.ids.astype(np.int32)).to(self.device)


@lru_cache(maxsize=2)
def shuffled(count: int, seed: int, epoch: int) -> Order:
    """The numbers below `count` in an order drawn from seed and epoch, the same on every machine."""
    keys = mix(np.arange(count, dtype=np.uint64) + (np.uint64(epoch + 1) << np.uint64(40)), seed)
    return np.argsort(keys, kind="stable")


def mix(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Keys turned into random-looking numbers. Source: Steele et al. 2014, SplitMix64, doi:10.1145/2660193.2660195."""
    z = keys + np.uint64((seed * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def step_seed(seed: int, step: int) -> int:
    """A seed for what else is random in a step, such as dropout."""
    return int(mix(np.array([step], dtype=np.uint64) + (np.uint64(1) << np.uint64(63)), seed)[0] >> np.uint64(1))
