"""What simpler models reach on the same text: reference lines for a loss."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotx.data.stored_ids import DiskIds
from nanotx.training.dataset import Dataset

Ids = NDArray[np.integer[Any]]

MOST_IDS = 2_000_000
"""Tokens of the training text that are counted, from its beginning."""

DENSE = 2**22
"""Pairs of tokens up to which all are counted in a table, which is faster than to sort them."""


def reference_losses(dataset: Dataset) -> dict[str, float]:
    """Return the loss of the validation text, in nats per token, without any model: uniform, unigram and bigram.

    The counts are those of the training text. What the evaluation reads is what is scored.
    """
    if dataset.windows.masked:  # some tokens are not scored, and the counts are of all
        return {"uniform": math.log(dataset.codec.vocab_size)}
    train = beginning(dataset.windows.ids, MOST_IDS)
    held_out = dataset.eval_texts["val"]
    pieces = held_out.windows or (beginning(held_out.ids, MOST_IDS),)
    return count_losses(train, [np.asarray(piece) for piece in pieces], dataset.codec.vocab_size)


def beginning(ids: Any, count: int) -> Ids:
    """Return the first ids of an array, also of one that is on the disk."""
    return np.asarray(ids[: min(len(ids), count)] if isinstance(ids, DiskIds) else ids[:count])


def count_losses(train: Ids, pieces: list[Ids], vocab_size: int) -> dict[str, float]:
    """Return the losses of count models of a training text on pieces of another one, in nats per token.

    `unigram` is the frequency of each token, smoothed by one count for each of the vocabulary. `bigram` is the
    frequency of each token after the one before it, interpolated with the unigram by as many counts as there were
    different successors.
    Source: Witten and Bell 1991, The zero-frequency problem, method C
    """
    counts = np.bincount(train, minlength=vocab_size).astype(float)
    unigram = (counts + 1) / (counts.sum() + vocab_size)
    scored = np.concatenate([piece[1:] for piece in pieces])
    if not len(scored):
        return {"uniform": math.log(vocab_size)}
    before = np.concatenate([piece[:-1] for piece in pieces])
    base = unigram[scored]
    seen, times = counted(train[:-1].astype(np.int64) * vocab_size + train[1:], vocab_size**2)
    successors = np.bincount(seen // vocab_size, minlength=vocab_size).astype(float)
    totals = np.bincount(train[:-1], minlength=vocab_size).astype(float)
    keys = before.astype(np.int64) * vocab_size + scored
    place = np.minimum(np.searchsorted(seen, keys), max(0, len(seen) - 1))
    pair = np.where(seen[place] == keys, times[place], 0) if len(seen) else np.zeros(len(keys))
    weight = successors[before]
    known = totals[before] + weight
    smoothed = np.divide(pair + weight * base, known, out=base.copy(), where=known > 0)
    return {
        "uniform": math.log(vocab_size),
        "unigram": float(-np.log(base).mean()),
        "bigram": float(-np.log(smoothed).mean()),
    }


def counted(keys: Ids, size: int) -> tuple[Ids, Ids]:
    """Return the different keys below `size`, ascending, and how often each occurs."""
    if size > DENSE:
        return np.unique(keys, return_counts=True)
    counts = np.bincount(keys, minlength=size)
    seen = np.flatnonzero(counts)
    return seen, counts[seen]
