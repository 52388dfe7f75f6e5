"""Batches: windows of the context's length, chosen by a pure function of seed and step.

Windows are adjacent. Each epoch cuts the text at another place and visits every window once, in an order of its own.
The rows of a step are the next windows in that order, so the order does not depend on micro-batches, and the state of
the data is one integer. The order is a keyed permutation that is computed on demand and never stored, so a text of any
length takes the same memory.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from nanotx.data.stored_ids import DiskIds
from nanotx.errors import DataError
from nanotx.nn.shapes import Tokens

Order = NDArray[np.int64]

HELD = 2**30
"""Up to so many bytes, all ids are kept on an accelerator, so that a step copies only the starts of its windows."""

ROUNDS = 32
"""Rounds of `permute`: two neighbours stay neighbours in all of them with probability 2**-32."""

BLOCK = 2**12
"""Windows whose starts are computed together, so that a step computes little more than its own."""

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """A text as training examples."""

    ids: NDArray[np.integer] | DiskIds
    context: int
    seed: int
    device: torch.device = CPU  # where batches are

    masked = False
    """Every target is learned; see `nanotx/data/documents.py` for texts of which some are not."""

    def __post_init__(self) -> None:
        if len(self.ids) <= self.context:
            raise DataError(
                f"data: a text of {len(self.ids)} tokens has no window of model.context={self.context} "
                f"and a token to predict after it; try --model.context {max(1, len(self.ids) // 4)} or a longer text."
            )

    @property
    def per_epoch(self) -> int:
        """Return the number of windows in an epoch, which is the same wherever the text is cut."""
        return max(1, (len(self.ids) - self.context) // self.context)

    def starts(self, step: int, batch: int) -> Order:
        """Return where the windows of a step begin, for `batch` windows per step."""
        first, end = step * batch, (step + 1) * batch
        blocks = [window_starts(len(self.ids), self.context, self.seed, number) for number in covering(first, end)]
        low = first // BLOCK * BLOCK
        return np.concatenate(blocks)[first - low : end - low]

    def batch(self, step: int, batch: int, rows: range | None = None) -> tuple[Tokens, Tokens]:
        """Return the inputs of a step, and the next token of each; of some of its rows alone, if they are given."""
        starts = self.starts(step, batch)
        if rows is not None:
            starts = starts[rows.start : rows.stop]
        if self.device == CPU or 4 * len(self.ids) > HELD:
            ids = torch.from_numpy(self.rows(starts).astype(np.int64)).to(self.device)
        else:
            first = rearrange(torch.from_numpy(starts).to(self.device), "b -> b 1")
            ids = self._held[first + torch.arange(self.context + 1, device=self.device)].long()
        return ids[:, :-1], ids[:, 1:]

    def documents(self, step: int, batch: int, rows: range | None = None) -> Tokens | None:
        """Return None: a window is one text; see `PackedWindows`."""
        return None

    def learned(self, step: int, batch: int) -> int | None:
        """Return None: all targets are learned; see `PackedWindows`."""
        return None

    def rows(self, starts: Order) -> NDArray[np.integer]:
        """Return the ids of each window and the one after it."""
        if isinstance(self.ids, DiskIds):
            return self.ids.rows(starts.tolist(), self.context + 1)
        return self.ids[np.add.outer(starts, np.arange(self.context + 1))]

    @cached_property
    def _held(self) -> Tensor:
        return torch.from_numpy(np.asarray(self.ids).astype(np.int32)).to(self.device)


def covering(first: int, end: int) -> range:
    """Return the numbers of the blocks that hold the indices from `first` to `end`."""
    return range(first // BLOCK, -(-end // BLOCK))


@lru_cache(maxsize=64)
def window_starts(length: int, context: int, seed: int, number: int) -> Order:
    """Return where the windows of one block begin: those with the indices `number * BLOCK` and following.

    An epoch leaves `length - per_epoch * context` places for its first cut, all of which it draws alike: so the last
    token of the text is a target in as many epochs as the second.

    Args:
        length: tokens of the text.
        context: tokens of a window.
        seed: of the order.
        number: of the block.
    """
    per_epoch = max(1, (length - context) // context)
    index = np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.int64)
    epochs, places = index // per_epoch, index % per_epoch
    cuts = mix(epochs.astype(np.uint64), seed) % np.uint64(length - per_epoch * context)
    starts = cuts.astype(np.int64) + permute(places, per_epoch, seed, epochs) * context
    starts.setflags(write=False)
    return starts


def permute(places: Order, count: int, seed: int, epochs: Order) -> Order:
    """Permute places: for each epoch by one permutation of the numbers below `count`, drawn from seed and epoch.

    In each round the place x is paired with K - x modulo count, with K drawn from the epoch and the round. A hash of
    the larger of the two, so the same for both, decides whether they are swapped. Any count is allowed, the memory is
    that of `places`, and the order is the same on every machine.

    Args:
        places: numbers below `count`.
        count: how many there are to permute.
        seed: of the run.
        epochs: the epoch of each place, ascending.

    Source: Hoang, Morris & Rogaway 2012, An Enciphering Scheme Based on a Card Shuffle ("swap or not"),
    https://arxiv.org/abs/1208.1176, figure 1
    """
    first = epochs[0]
    rounds = (np.arange(first, epochs[-1] + 1) + 1) * ROUNDS
    for number in range(ROUNDS):
        keys = mix((rounds + number).astype(np.uint64) + FOR_ORDER, seed)[epochs - first]
        partners = (keys % np.uint64(count)).astype(np.int64) - places
        partners += count * (partners < 0)
        larger = np.maximum(places, partners).astype(np.uint64)
        places = np.where(mix(larger + keys, seed) >> TOP_BIT, partners, places)
    return places


FOR_ORDER, TOP_BIT = np.uint64(1 << 62), np.uint64(63)  # distinct from the numbers that cuts and steps are drawn from


def mix(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Hash keys into random-looking numbers. Source: Steele et al. 2014, SplitMix64, doi:10.1145/2660193.2660195."""
    z = keys + np.uint64((seed * 0xD1342543DE82EF95 + 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def step_seed(seed: int, step: int) -> int:
    """Return a seed for the other randomness of a step, such as dropout."""
    return int(mix(np.array([step], dtype=np.uint64) + (np.uint64(1) << np.uint64(63)), seed)[0] >> np.uint64(1))
